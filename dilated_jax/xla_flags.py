"""What XLA must be told for these networks to run fast; told when the package is imported.

On CPUs, XLA's fusions by YNNPACK more than double the time of a training step of the large context
module (docs/performance.md has the times). `jax.jit` could be told to leave them out, but only one
function at a time, and neither `jax.pmap` nor what users compile themselves would be reached. So
the whole process is told, by the environment variable XLA_FLAGS. This file must not import JAX.
"""

import importlib.util
import os
import sys
import warnings

import jaxlib.version

_YNN_FUSIONS = '--xla_cpu_experimental_ynn_fusion_type'


def set_defaults() -> None:
  """Adds to XLA_FLAGS what the user has not set there.

  XLA reads the variable once, when JAX makes its first array or lists its devices. If that has
  happened already, and on a CPU, this warns that it came too late.
  """
  flags = os.environ.get('XLA_FLAGS', '')
  if _YNN_FUSIONS in flags or not _known():
    return
  os.environ['XLA_FLAGS'] = f'{flags} {_YNN_FUSIONS}='.strip()
  if _started_on_cpu():
    warnings.warn(
      'JAX was in use before dilated_jax was imported, so XLA did not see the flag '
      f'{_YNN_FUSIONS}=: large context modules will take more than twice as long to train; import '
      'dilated_jax before the first array is made',
      stacklevel=3,
    )


def _known() -> bool:
  """Whether this XLA knows the flag; one that doesn't would end the process.

  jaxlib 0.10.2, 0.11.2 and 0.12.0.1 know it. The XLA that drives TPUs was not tried.
  """
  version = tuple(int(part) for part in jaxlib.version.__version__.split('.')[:2])
  return (0, 10) <= version <= (0, 12) and not importlib.util.find_spec('libtpu')


def _started_on_cpu() -> bool:
  """Whether JAX has set up its devices, and computes on the CPU."""
  bridge = sys.modules.get('jax._src.xla_bridge')
  started = getattr(bridge, 'backends_are_initialized', lambda: False)
  return started() and sys.modules['jax'].default_backend() == 'cpu'

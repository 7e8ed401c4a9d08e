"""Versions, devices and settings, as text for a report of a problem.

dilated-jax about
dilated-jax about --json
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re

from absl import flags

from . import cli

PACKAGES = (
  'dilated_jax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy',
  'tensorflow-datasets', 'pillow',
)  # fmt: skip
SETTINGS = (
  'jax_platforms', 'jax_enable_x64', 'jax_default_matmul_precision', 'jax_numpy_dtype_promotion',
  'jax_default_prng_impl', 'jax_disable_jit', 'jax_debug_nans', 'jax_compilation_cache_dir',
)  # fmt: skip
VARIABLES = r'(JAX|XLA|LIBTPU|TPU|CUDA|NVIDIA)_\w+|TFDS_DATA_DIR'


def define_flags(values=flags.FLAGS):
  flags.DEFINE_bool('json', False, 'Print JSON.', flag_values=values)


def main(values=flags.FLAGS):
  found = about()
  if values.json:
    print(json.dumps(found, indent=2))
    return
  for part, entries in found.items():
    print(f'{part}:')
    for name, value in entries.items():
      print(f'  {name}: {value}')


def about() -> dict[str, dict]:
  """What this process runs on: {part: {name: value}}."""
  import jax

  import dilated_jax  # Sets XLA's flags, where they are not set.

  return {
    'versions': {'python': platform.python_version(), **{name: version(name) for name in PACKAGES}},
    'machine': {'platform': platform.platform(), 'cpu': cpu(), 'cpus': os.cpu_count()},
    'devices': {
      f'{device.platform} {device.id}': device.device_kind for device in jax.devices()
    } | {'process': f'{jax.process_index()} of {jax.process_count()}'},
    'settings': {name: getattr(jax.config, name) for name in SETTINGS},
    'environment': {
      name: value for name, value in sorted(os.environ.items()) if re.fullmatch(VARIABLES, name)
    },
    'installed in': {'dilated_jax': os.path.dirname(dilated_jax.__file__)},
  }  # fmt: skip


def made(*, by_devices: bool = True) -> dict:
  """What made a result: date, machine and versions, ready for JSON.

  Args:
    by_devices: whether JAX's devices did; else they are left alone, since others may hold them.
  """
  result = {'date': f'{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC'}
  if by_devices:
    import jax

    result |= {'machine': machine()}
    result |= {'devices': f'{jax.device_count()} {jax.devices()[0].device_kind}'}
  else:
    result |= {'machine': cpu()}
  return result | {
    'versions': {'python': platform.python_version(), **{name: version(name) for name in PACKAGES}},
  }


def machine() -> str:
  """In one line what figures were measured on: device, number of cores, version of JAX."""
  import jax

  device = jax.devices()[0]
  allowed = hasattr(os, 'sched_getaffinity')
  cores = len(os.sched_getaffinity(0)) if allowed else os.cpu_count()
  kind = cpu() if device.platform == 'cpu' else device.device_kind
  return f'{kind}, {cores} cores, jax {jax.__version__}'


def version(package: str) -> str:
  """The version of an installed package."""
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'not installed'


def cpu() -> str:
  """The name of the processor."""
  try:
    with open('/proc/cpuinfo') as file:
      return next(line.partition(':')[2].strip() for line in file if line.startswith('model name'))
  except (OSError, StopIteration):  # Not Linux, or not x86.
    return platform.processor() or platform.machine()


if __name__ == '__main__':
  define_flags()
  cli.run(main)

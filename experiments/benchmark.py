"""Measures speed beside what one would use instead, in turn (A B A B ...).

  dilated-jax benchmark --list
  dilated-jax benchmark --suite=conv,train --output=speed.json,speed.md --plot=roofline.png
  dilated-jax benchmark --suite=train --torch_python=OTHER_VENV/bin/python
  dilated-jax benchmark --suite=gpu --output=gpu.json

Times are medians and, in parentheses, quartiles; quote the ratios, and leave the machine alone
while it runs. Compilation is not counted. PyTorch and pydensecrf2 run in a process of their own,
which may be of another Python; where one is not found, ours is timed alone.
"""

import importlib
import json
import os
import shutil

from absl import flags

from dilated_jax import data, files
from dilated_jax.errors import InputError

from . import about, cli, path_flags
from .benchmarks import report

# Each is a file of benchmarks/ with `run(values)`, which yields rows as they are measured.
SUITES = {
  'peaks': 'a large matrix product and a sum of long arrays: the peaks of this machine',
  'conv': '`ops.dilated_conv` and its gradients, beside `lax.conv_general_dilated` as it is',
  'pool': '`ops.max_pool` and its gradient, beside `lax.reduce_window`',
  'context': 'the context modules, beside PyTorch and, on CPUs, the YNN fusions of XLA',
  'train': 'a training step of the full-width front end, beside PyTorch',
  'memory': 'training steps at the settings of the paper: by geometry, beside the plan of XLA',
  'presets': 'whole training steps of presets that are for CPUs, beside PyTorch',
  'crf': 'the dense CRF, and the peak memory of a process, beside pydensecrf2',
  'crf_rnn': 'gradients through the CRF-RNN: lattices made on the host, or in the program',
  'input': 'training pictures made ready by threads, beside the DataLoader of PyTorch',
  'export': 'ONNX and StableHLO files of all networks beside JAX: differences, sizes, speed',
  'curves': 'time and memory against image size, classes, batch and dilation, beside PyTorch',
  'scaling': 'what limits training on 8, 64 and 256 devices, from compiled programs, and what the '
    'runs of the paper cost in device hours',
  'gpu': 'agreement with float64, dilations, networks, CRFs and presets on a GPU, beside PyTorch '
    'there, in 8 minutes; needs jax, flax, optax, orbax and torch; rehearses on a CPU',
}  # fmt: skip

# Parts of suite gpu, for who has a GPU for less than 8 minutes.
GPU_PARTS = ('agreement', 'convolutions', 'networks', 'crf', 'presets')


def define_flags(values=flags.FLAGS):
  flags.DEFINE_list('suite', ['conv'], 'What is measured: suites, see --list.', flag_values=values)
  flags.DEFINE_bool('list', False, 'List the suites.', flag_values=values)
  path_flags.define_list(
    'output', [], 'Files for the figures: .json, .md or both.', flag_values=values
  )
  path_flags.define(
    'plot',
    None,
    'Picture: speed beside the peaks of this machine (a roofline).',
    flag_values=values,
  )
  flags.DEFINE_integer('repeats', 7, 'Turns of each side.', lower_bound=1, flag_values=values)
  path_flags.define(
    'torch_python', None, 'Python interpreter that has PyTorch; it need not have JAX.',
    flag_values=values,
  )  # fmt: skip
  path_flags.define(
    'pydensecrf_python', None, 'Python interpreter that has pydensecrf2.', flag_values=values
  )
  flags.DEFINE_enum('dataset', 'scenes', data.NAMES, 'Of suite input.', flag_values=values)
  path_flags.define('data_dir', None, 'Folder of prepared data sets.', flag_values=values)
  into = dict(lower_bound=0.0, flag_values=values)
  flags.DEFINE_list(
    'gpu_parts', list(GPU_PARTS), 'Of suite gpu: what is measured.', flag_values=values
  )
  flags.DEFINE_list(
    'scaling_devices', ['h100', 'v4', 'v5e', 'v5p'], 'Of suite scaling: devices (also h200).',
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_float(
    'scaling_share', None, 'Share of its peak that a device reaches, instead of what this machine '
    'does.', upper_bound=1.0, **into,
  )  # fmt: skip
  flags.DEFINE_float('scaling_tflops', None, 'Peak, instead of the published one.', **into)
  flags.DEFINE_float('scaling_link', None, 'GB/s from device to device, likewise.', **into)
  flags.DEFINE_float('scaling_latency', None, 'Microseconds of a message, likewise.', **into)


def main(values=flags.FLAGS):
  if values.list:
    for name, what in SUITES.items():
      print(f'{name:8} {what}')
    return
  check(values)
  if 'gpu' in values.suite:  # PyTorch needs memory of the same device, in the same process.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  from .benchmarks import peers  # Only now, because JAX takes longer than to print help.

  content = {'machine': about.machine(), 'repeats': values.repeats, 'rows': []}
  print(content['machine'], flush=True)
  for row in rows_of(values):  # Told as they come: a run that is cut has measured what it has.
    print(report.line(row), flush=True)
    content['rows'].append(row)
    content['beside'] = list(peers.versions)
    write(values, content)
  if values.plot:
    report.plot(values.plot, content)


def check(values) -> None:
  """Refuses what could only fail after everything is measured."""
  cli.check_choices('suite', values.suite, SUITES)
  cli.check_choices('gpu_parts', values.gpu_parts, GPU_PARTS)
  for path in values.output:
    if not path.endswith(('.json', '.md')):
      raise InputError(f'--output={path}: the name must end in .json or .md')
  path_flags.check_file(values, 'output')
  for flag in ('torch_python', 'pydensecrf_python'):
    python = values[flag].value
    if python and not shutil.which(python):
      raise InputError(f'--{flag}={python}: no such program; name a Python interpreter')
  if values.plot:
    report.check_plot(values.plot)


def rows_of(values):
  """The rows of all suites, then how to get what was not there to compare with."""
  from .benchmarks import peers

  missing = set()
  for name in dict.fromkeys([*['peaks'] * bool(values.plot), *values.suite]):
    suite = importlib.import_module(f'.benchmarks.{name}', __package__)
    for row in suite.run(values):
      # The peaks are those of this machine, whoever reaches them.
      if 'theirs' in row and 'theirs_ms' not in row and name != 'peaks':
        missing.add(row['theirs'])
      yield {'suite': name, 'unit': 'ms'} | row
  for name in sorted(missing):
    yield {'what': f'{name} was not found; {peers.HOW_TO_GET[name]}'}


def write(values, content: dict) -> None:
  """Writes all that was measured so far."""
  for path in values.output:
    text = json.dumps(content, indent=2) if path.endswith('.json') else report.markdown(content)
    files.write_atomic(path, text.encode() + b'\n')


if __name__ == '__main__':
  define_flags()
  cli.run(main)

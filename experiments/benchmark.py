"""Measures speed beside what one would use instead, in turn (A B A B ...) in one process.

  dilated-jax benchmark --suite=conv --output=conv.json
  dilated-jax benchmark --suite=train

conv: `ops.dilated_conv` and its gradients against `lax.conv_general_dilated` as it is.
pool: `ops.max_pool` and its gradient against `lax.reduce_window`.
context: the context modules against the same with XLA's YNN fusions, on CPUs.
train: one training step of the full-width front end against PyTorch, where that is installed.
crf: the dense CRF against pydensecrf2 (pip install pydensecrf2; needs a C++ compiler), lattices
  built each time, compilation apart; and the peak memory of a process of each.
crf_rnn: gradients through the CRF-RNN, lattices built each time: on the host, or in the program.
gpu: agreement with float64, dilations, networks, CRFs and presets on a GPU, beside PyTorch there,
  in 8 minutes; needs jax, flax, optax, orbax and torch. On a CPU it rehearses at small sizes.
input: training pictures, decoded, zoomed, cropped and mirrored, by threads of ours and by worker
  processes of PyTorch's DataLoader that run the same transform.

Times are medians; quote the ratios, and leave the machine alone while it runs.
"""

import importlib
import json

from absl import flags

from dilated_jax import data, files

from . import about, cli, path_flags

SUITES = ('conv', 'pool', 'context', 'train', 'crf', 'crf_rnn', 'gpu', 'input')


def define_flags(values=flags.FLAGS):
  flags.DEFINE_enum('suite', 'conv', SUITES, 'What is measured.', flag_values=values)
  path_flags.define('output', None, 'JSON file for the figures.', flag_values=values)
  flags.DEFINE_integer('repeats', 7, 'Runs of each.', lower_bound=1, flag_values=values)
  flags.DEFINE_enum('dataset', 'scenes', data.NAMES, 'Of suite input.', flag_values=values)
  path_flags.define('data_dir', None, 'Folder of prepared data sets.', flag_values=values)


def main(values=flags.FLAGS):
  suite = importlib.import_module(f'.benchmarks.{values.suite}', __package__)
  machine, rows = about.machine(), []
  print(machine, flush=True)
  for row in suite.run(values):  # Told as they come: a run that is cut has measured what it has.
    print(line_of(row), flush=True)
    rows.append(row)
    if values.output:
      content = {'machine': machine, 'repeats': values.repeats, 'rows': rows}
      files.write_atomic(values.output, json.dumps(content, indent=2).encode() + b'\n')


def line_of(row: dict) -> str:
  """A row as it is printed: two times and their ratio, and what else there is."""
  row.setdefault('unit', 'ms')
  text, left = f'{row["what"]:60}', dict(row)
  if 'theirs' in row:
    text += ' {ours_ms:9.2f} {unit}  {theirs}: {theirs_ms:9.2f} {unit}  x{ratio:.2f}'.format(**row)
    left = {name: left[name] for name in left if name not in _TIMES}
  rest = {name: value for name, value in left.items() if name not in ('what', 'unit', 'part')}
  return '  '.join([text, *(f'{name} {_short(value)}' for name, value in rest.items())])


_TIMES = ('ours_ms', 'theirs', 'theirs_ms', 'ratio')


def _short(value) -> str:
  return f'{value:.3g}' if isinstance(value, float) else f'{value}'


if __name__ == '__main__':
  define_flags()
  cli.run(main)

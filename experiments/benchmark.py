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
input: training pictures, decoded, zoomed, cropped and mirrored, by threads of ours and by worker
  processes of PyTorch's DataLoader that run the same transform.

Times are medians; quote the ratios, and leave the machine alone while it runs.
"""

import importlib
import json

from absl import flags

from dilated_jax import data, files

from . import about, cli

SUITES = ('conv', 'pool', 'context', 'train', 'crf', 'crf_rnn', 'input')


def define_flags(values=flags.FLAGS):
  flags.DEFINE_enum('suite', 'conv', SUITES, 'What is measured.', flag_values=values)
  flags.DEFINE_string('output', None, 'JSON file for the figures.', flag_values=values)
  flags.DEFINE_integer('repeats', 7, 'Runs of each.', lower_bound=1, flag_values=values)
  flags.DEFINE_enum('dataset', 'scenes', data.NAMES, 'Of suite input.', flag_values=values)
  flags.DEFINE_string('data_dir', None, 'Folder of prepared data sets.', flag_values=values)


def main(values=flags.FLAGS):
  suite = importlib.import_module(f'.benchmarks.{values.suite}', __package__)
  rows = suite.run(values)
  machine = about.machine()
  print(machine)
  for row in rows:
    row.setdefault('unit', 'ms')
    line = '{what:52} {ours_ms:9.1f} {unit}  {theirs}: {theirs_ms:9.1f} {unit}  x{ratio:.2f}'
    print(line.format(**row))
  if values.output:
    content = {'machine': machine, 'repeats': values.repeats, 'rows': rows}
    files.write_atomic(values.output, json.dumps(content, indent=2).encode() + b'\n')


if __name__ == '__main__':
  define_flags()
  cli.run(main)

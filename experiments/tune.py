"""Searches the dense CRF that suits a network best, on a validation split.

  dilated-jax tune --weights=DIR --output=tuned --sxy=40,80,160 --srgb=3,5,13
  dilated-jax evaluate --weights=DIR --split=test --flagfile=tuned/best.flags

Every combination of the values given is tried on all pictures of the split; a picture's network and
lattices are computed once for all. A weight of 0 leaves a kernel out: smoothness costs thin things,
so that --gaussian_compat=0,1,3 is worth a try. The CRF suits what it was searched behind: --scales,
--flip, --tile and --window are those of evaluate, and what is given of them is part of the result.
The output holds best.flags (for predict and evaluate), table.md (all trials, the best first) and
counts.json, from which a search that was interrupted goes on. Test splits are refused: a score is
worth nothing on the pictures that it was chosen by.
"""

import pathlib

from absl import flags, logging

from dilated_jax import data, evaluation, models
from dilated_jax.errors import InputError
from dilated_jax.files import write_atomic

from . import cli, path_flags, prediction_flags
from .tables import markdown

# Flag, default, what it is.
_VALUES = (
  ('gaussian_sxy', '3', 'Deviations of the smoothness kernel, in pixels.'),
  ('gaussian_compat', '3', 'Weights of the smoothness kernel.'),
  ('sxy', '40,80,160', 'Deviations of the appearance kernel, in pixels.'),
  ('srgb', '3,5,10', 'Deviations of the appearance kernel, in color, 0..255.'),
  ('compat', '1,3,5', 'Weights of the appearance kernel.'),
  ('iterations', '5,10', 'Iterations of the mean field.'),
)


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}
  path_flags.define('weights', None, 'Weights folder.', required=True, **into)
  path_flags.define('output', None, 'Folder of the results.', required=True, **into)
  flags.DEFINE_enum(
    'dataset', None, data.NAMES, 'Data set; that of the weights if not given.', **into
  )
  path_flags.define('data_dir', None, 'Folder of prepared data sets.', **into)
  path_flags.define('manual_dir', None, 'Folder of the raw data set, to prepare it.', **into)
  flags.DEFINE_string('split', 'val', 'Split to choose by; no test split.', **into)
  flags.DEFINE_integer(
    'limit', None, 'Take this many pictures, spread evenly.', lower_bound=1, **into
  )
  for name, default, what in _VALUES:
    flags.DEFINE_list(name, default.split(','), what, **into)
  prediction_flags.define_passes(values)


def main(values=flags.FLAGS):
  path_flags.check_folder(values, 'output')
  if 'test' in values.split.lower():
    raise InputError(f'--split={values.split}: choose by val, or by a part of train, never by test')
  trials = evaluation.crf_search.grid(*(numbers(values, name) for name, _, _ in _VALUES))
  if not trials:
    raise InputError('--gaussian_compat=0 --compat=0 leaves no CRF to try: give a weight above 0')
  output = pathlib.Path(values.output)
  segmenter = models.load_weights(values.weights).on_device()
  name = values.dataset or segmenter.spec.dataset
  if not name:
    raise InputError(f'--dataset is missing: {values.weights} does not say whose classes it has')
  classes = data.classes(name, values.data_dir, values.manual_dir)
  classes.class_order(segmenter.spec.classes, 'the weights')  # Before data is prepared for nothing.
  source = data.load(name, values.split, values.data_dir, values.manual_dir)
  source = data.sequences.take_evenly(source, values.limit)
  logging.info('%d trials on %d pictures of %s %s', len(trials), len(source), name, values.split)
  passes = prediction_flags.passes(values)
  ranked = evaluation.crf_search.search(
    segmenter, source, classes, trials, output / 'counts.json', **passes
  )
  lines = table(ranked)
  given = [values[flag].serialize() for flag in prediction_flags.PASSES if values[flag].present]
  note = ' '.join([f'{name} {values.split}, {len(source)} pictures, {values.weights}', *given])
  write_atomic(output / 'table.md', '\n'.join([*lines, '', note, '']).encode())
  alone = next(scores['mean_iou'] for trial, scores in ranked if not trial)
  if alone is None:
    raise InputError(f'{name} {values.split}: no pixel of these pictures has a class')
  best, reached = next((trial, scores['mean_iou']) for trial, scores in ranked if trial)
  write_atomic(output / 'best.flags', ('\n'.join([*given, *as_flags(best)]) + '\n').encode())
  print('\n'.join(lines[:12]))
  print(f'{note}: the best dense CRF changes mean IoU by {100 * (reached - alone):+.1f}')
  print(f'written to {output}: best.flags, table.md')


def numbers(values, name) -> list[float]:
  """The values of a flag."""
  convert = cli.count if name == 'iterations' else weight if 'compat' in name else positive
  found = [cli.parsed(name, text, convert) for text in values[name].value]
  if not found:
    raise InputError(f'--{name} names no value')
  return found


def positive(text: str) -> float:
  """Parses a number above 0.

  Raises:
    ValueError: it is none.
  """
  value = cli.number(text)
  if not 0 < value < float('inf'):
    raise ValueError('must be above 0')
  return value


def weight(text: str) -> float:
  """Parses a number of 0 or more.

  Raises:
    ValueError: it is none.
  """
  value = cli.number(text)
  if not 0 <= value < float('inf'):
    raise ValueError('must be 0 or more')
  return value


def as_flags(trial) -> list[str]:
  """The flags of predict and evaluate that make a trial."""
  terms = {'crf_gaussian': trial.gaussian, 'crf_bilateral': trial.bilateral}
  listed = [f'--{name}={joined(term, ",")}' for name, term in terms.items()]
  return ['--crf=dense', *listed, f'--crf_iterations={trial.iterations}']


def joined(term, between: str) -> str:
  """The numbers of a term, or that it is left out."""
  return between.join(f'{value:g}' for value in term) if term else 'none'


def table(ranked) -> list[str]:
  """All trials in Markdown."""
  head = [
    'smoothness sxy, weight',
    'appearance sxy, srgb, weight',
    'iterations',
    'mean IoU',
    'accuracy',
  ]
  rows = []
  for trial, scores in ranked:
    what = ('network alone', '', '')
    if trial:
      terms = (trial.gaussian, trial.bilateral)
      what = (*(joined(term, ', ') for term in terms), f'{trial.iterations}')
    figures = (scores['mean_iou'], scores['pixel_accuracy'])
    shown = ['-' if value is None else f'{100 * value:.2f}' for value in figures]
    rows.append((what[0], [*what[1:], *shown]))
  return markdown(head, rows)


if __name__ == '__main__':
  define_flags()
  cli.run(main)

"""Scores a network on a split of a data set, or label pictures against label pictures.

  python -m experiments.evaluate --weights=DIR --dataset=camvid --split=test --output=scores.json
  python -m experiments.evaluate --predictions=DIR --labels=DIR --dataset=camvid

One confusion matrix is summed over all pictures at the full size of their labels; pixels to ignore
(255 and the data set's void value) don't count. Predictions are class ids in 8-bit grey or palette
PNG, as `experiments.predict` writes them; they are paired with labels by file name, and official
suffixes (_leftImg8bit, _gtFine_labelIds, _L, ...) are understood.
"""

import json
import os
import time

from absl import flags, logging
import jax
import numpy as np

from dilated_jax import (
  checkpoints,
  datasets,
  files,
  inference,
  metrics,
  pictures,
  progress,
)
from dilated_jax.errors import InputError
from dilated_jax.input import Subset
from experiments import cli, predict


def define_flags(values=flags.FLAGS):
  string = {'flag_values': values}
  flags.DEFINE_string('weights', None, 'Weights folder to score.', **string)
  flags.DEFINE_enum(
    'dataset', None, datasets.NAMES,
    'Data set; the one that the weights were trained on if not given.', **string,
  )  # fmt: skip
  flags.DEFINE_string('data_dir', None, 'Folder of prepared data sets.', **string)
  flags.DEFINE_string('manual_dir', None, 'Folder of the raw data set, to prepare it.', **string)
  flags.DEFINE_string('split', 'val', 'Split to score.', **string)
  flags.DEFINE_string('predictions', None, 'Folder of predicted label pictures to score.', **string)
  flags.DEFINE_string('labels', None, 'Folder of the true label pictures.', **string)
  flags.DEFINE_string('output', None, 'JSON file for the scores.', **string)
  flags.DEFINE_enum('protocol', 'default', ['default'], 'How scores are made.', **string)
  flags.DEFINE_integer(
    'limit', None, 'Score this many pictures only, the first.', lower_bound=1, **string
  )
  flags.DEFINE_integer(
    'batch_size', 8, 'Pictures of one size that are labelled together.', lower_bound=1, **string
  )
  predict.define_passes(values)
  for flag in ('scales', 'flip'):  # Defined elsewhere, but --help is to tell of them here.
    flags.declare_key_flag(flag, values)


def main(values=flags.FLAGS):
  if values.output and os.path.isdir(values.output):
    raise InputError(f'--output={values.output}: is a folder; name a JSON file')
  if values.weights and not (values.predictions or values.labels):
    report = from_weights(values)
  elif values.predictions and values.labels and not values.weights:
    report = from_pictures(values)
  else:
    raise InputError('give --weights=DIR, or both --predictions=DIR and --labels=DIR')
  print(metrics.table(report))
  where = f'{report["dataset"]} {report["split"]}' if report['split'] else values.labels
  print(f'{where}: {report["pictures"]} pictures, protocol {report["protocol"]}')
  if values.output:
    content = json.dumps(report, indent=2, allow_nan=False) + '\n'
    files.write_atomic(values.output, content.encode())
    print(f'written to {values.output}')


def from_weights(values) -> dict:
  """Scores a network on a split."""
  card, variables = checkpoints.load_weights(values.weights)
  model = card.create()
  name = values.dataset or card.dataset
  classes = datasets.classes(name)
  inference.class_order(card, classes)  # Before a data set is prepared for nothing.
  source = datasets.load(name, values.split, values.data_dir, values.manual_dir)
  if values.limit:
    source = Subset(source, range(min(values.limit, len(source))))
  logging.info('scoring %s on %s %s: %d pictures', card.model, name, values.split, len(source))
  start = time.monotonic()
  result = inference.evaluate(
    model,
    jax.device_put(variables),
    card,
    source,
    classes,
    batch_size=values.batch_size,
    scales=predict.scales(values),
    flip=values.flip,
  )
  logging.info('%.2f pictures/s', len(source) / (time.monotonic() - start))
  return report(values, result, name, values.split, len(source))


def from_pictures(values) -> dict:
  """Scores label pictures against label pictures."""
  for flag in ('split', 'data_dir', 'manual_dir', 'scales', 'flip', 'batch_size'):
    if values[flag].present:
      raise InputError(f'--{flag} has no meaning with --predictions: the pictures say it all')
  if not values.dataset:
    raise InputError(f'--dataset is missing: whose classes are these ({", ".join(datasets.NAMES)})')
  classes = datasets.classes(values.dataset)
  pairs = pictures.pairs(values.predictions, values.labels)[: values.limit]
  total = np.zeros((classes.num_classes, classes.num_classes), np.int64)
  for predicted, label in progress.track(pairs, what='pictures'):
    truth = classes.to_train_ids(pictures.read_label(label), label)
    ids = pictures.read_label(predicted)
    if ids.shape != truth.shape:
      raise InputError(
        f'{predicted}: is {ids.shape[0]} x {ids.shape[1]} (height x width) and {label} is '
        f'{truth.shape[0]} x {truth.shape[1]}; scores need predictions at the size of the labels'
      )
    try:
      total += metrics.confusion(truth, ids, classes.num_classes)
    except InputError as error:
      raise InputError(f'{predicted}: {error}') from None
  return report(values, metrics.scores(total, classes.names), values.dataset, None, len(pairs))


def report(values, scores, dataset, split, count) -> dict:
  """The scores and what made them."""
  return scores | {
    'dataset': dataset,
    'split': split,
    'pictures': count,
    'protocol': values.protocol,
    'weights': values.weights,
    'flags': {flag: values[flag].value for flag in FLAGS_OF_A_REPORT},
  }


FLAGS_OF_A_REPORT = (
  'weights', 'dataset', 'data_dir', 'manual_dir', 'split', 'predictions', 'labels', 'protocol',
  'limit', 'batch_size', 'scales', 'flip',
)  # fmt: skip


if __name__ == '__main__':
  define_flags()
  cli.run(main)

"""Scores a network on a split of a data set, or label pictures against label pictures.

  dilated-jax evaluate --weights=DIR --dataset=camvid --split=test --output=scores.json
  dilated-jax evaluate --predictions=DIR --labels=DIR --dataset=camvid

Counts are summed over all pictures at the full size of their labels (--score_size=network: at that
at which the network sees pictures, as the paper's on CamVid); pixels to ignore (255 and the data
set's void values) don't count. --protocol makes the numbers of an official tool: voc (devkit),
cityscapes (19 classes, 7 categories, and iIoU where there are instance maps: *_instanceIds.png
beside the labels, or prepared with the split), segnet. --boundaries adds boundary IoU, boundary F1
and the mean IoU of bands along boundaries. Beside the JSON file of --output a page of the same name
has all of it, and the pictures that are labeled best and worst.

Predictions are paired with labels by file name, and official suffixes (_leftImg8bit,
_gtFine_labelIds, _L, ...) are understood. Label pictures hold class ids (8-bit gray or palette
PNG), colors of the data set, or official ids of Cityscapes: file names, predictions.json (which
predict leaves behind) and the content of the folder decide, and a line says how they were read.
"""

import json
import os
import pathlib
import time

from absl import flags, logging

from dilated_jax import data, evaluation, files, images, models, progress
from dilated_jax.errors import InputError
from dilated_jax.evaluation import label_files, metrics, protocols
from dilated_jax.label_spec import IGNORE

from . import about, cli, path_flags, prediction_flags
from .reports import single, source as source_files


def define_flags(values=flags.FLAGS):
  string = {'flag_values': values}
  path_flags.define('weights', None, 'Weights folder to score.', **string)
  flags.DEFINE_enum(
    'dataset', None, data.NAMES,
    'Data set; the one that the weights were trained on if not given.', **string,
  )  # fmt: skip
  path_flags.define(
    'data_dir', None,
    'Folder of prepared data sets, or for --dataset=folder that of your own.', **string,
  )  # fmt: skip
  path_flags.define('manual_dir', None, 'Folder of the raw data set, to prepare it.', **string)
  flags.DEFINE_string('split', 'val', 'Split to score.', **string)
  path_flags.define('predictions', None, 'Folder of predicted label pictures to score.', **string)
  path_flags.define('labels', None, 'Folder of the true label pictures.', **string)
  for whose in ('predictions', 'labels'):
    flags.DEFINE_enum(
      f'{whose}_are', None, label_files.KINDS,
      f'What the pictures of --{whose} hold, where names and content leave that open: ids of the '
      'label files of the data set, train_ids (class ids) or colors.', **string,
    )  # fmt: skip
  flags.DEFINE_enum(
    'prediction_order', None, data.ORDERS,
    'Whose order of classes the ids in --predictions have; classes are matched by name.', **string,
  )  # fmt: skip
  path_flags.define('output', None, 'JSON file for the scores.', **string)
  flags.DEFINE_enum(
    'protocol', 'default', protocols.NAMES, 'Whose rules make the scores.', **string
  )
  flags.DEFINE_bool('boundaries', False, 'Also score what lies near boundaries.', **string)
  flags.DEFINE_integer(
    'limit', None, 'Take this many pictures, spread evenly.', lower_bound=1, **string
  )
  flags.DEFINE_integer(
    'batch_size', 8, 'Pictures of one size that are labeled together.', lower_bound=1, **string
  )
  flags.DEFINE_enum(
    'score_size', 'labels', ('labels', 'network'),
    'Size of the scores: of the labels, or at which the network sees pictures.', **string,
  )  # fmt: skip
  prediction_flags.define_flags(values)


def main(values=flags.FLAGS):
  path_flags.check_file(values, 'output')
  if values.weights and not (values.predictions or values.labels):
    report, extremes, classes = from_weights(values)
  elif values.predictions and values.labels and not values.weights:
    report, extremes, classes = from_pictures(values)
  else:
    raise InputError('give --weights=DIR, or both --predictions=DIR and --labels=DIR')
  print(metrics.format_table(report))
  for line in report.get('notes', []):
    print(cli.as_typed(f'note: {line}'))
  where = f'{report["dataset"]} {report["split"]}' if report['split'] else values.labels
  print(f'{where}: {report["pictures"]} pictures, protocol {report["protocol"]}')
  if values.output:
    content = json.dumps(report, indent=2, allow_nan=False) + '\n'
    files.write_atomic(values.output, content.encode())
    print(f'written to {values.output}')
    write_page(values.output, report, extremes, classes)


def write_page(output, report: dict, extremes, classes) -> None:
  """Writes a page of the scores beside their file."""
  page = pathlib.Path(output).with_suffix('.html')
  palette = dict(zip(classes.names, classes.palette, strict=True))
  kept = extremes.best, extremes.worst
  if single.write(page, source_files.of_scores(output, report, kept, palette)):
    print(f'as a page: {page}')


def from_weights(values) -> tuple:
  """Scores a network on a split: a report, the best and worst pictures, and the classes."""
  for flag in OF_FOLDERS:
    if values[flag].present:
      raise InputError(f'--{flag} has no meaning with --weights: it is about --predictions')
  segmenter = models.load_weights(values.weights)
  spec = segmenter.spec
  name = values.dataset or spec.dataset
  if not name:
    raise InputError(f'--dataset is missing: {values.weights} does not say whose classes it has')
  classes = data.classes(name, values.data_dir, values.manual_dir)
  classes.class_order(spec.classes, 'the weights')  # Before a data set is prepared for nothing.
  measures = started(values, classes)
  source = data.load(
    name,
    values.split,
    values.data_dir,
    values.manual_dir,
    instances=values.protocol == 'cityscapes',
  )
  source = data.sequences.take_evenly(source, values.limit)
  logging.info('scoring %s on %s %s: %d pictures', spec.model, name, values.split, len(source))
  extremes = evaluation.extremes.Extremes(classes.num_classes)
  start = time.monotonic()
  result = evaluation.evaluate(
    segmenter.on_device(),
    source,
    classes,
    measures=measures,
    batch_size=values.batch_size,
    score_size=values.score_size,
    watch=extremes.add,
    **prediction_flags.options(values),
  )
  logging.info('%.2f pictures/s', len(source) / (time.monotonic() - start))
  return report(values, result, name, values.split, len(source)), extremes, classes


def from_pictures(values) -> tuple:
  """Scores label pictures against label pictures; as `from_weights`."""
  about_weights = ('split', 'batch_size', 'score_size', *prediction_flags.NAMES)
  for flag in about_weights:
    if values[flag].present:
      raise InputError(f'--{flag} has no meaning with --predictions: the pictures say it all')
  name, classes = classes_of_pictures(values)
  protocol, *others = started(values, classes)
  pairs = images.matching.pair_by_name(values.predictions, values.labels)
  predictions, labels = readers(values, classes, pairs)
  print(labels.description, predictions.description, sep='\n')
  pairs = data.sequences.take_evenly(pairs, values.limit)
  extremes, ignored = evaluation.extremes.Extremes(classes.num_classes), False
  for predicted, label in progress.track(pairs, unit='pictures'):
    truth, said = labels.read(label), predictions.read(predicted)
    ignored |= bool((truth == IGNORE).any())
    if said.shape != truth.shape:
      raise InputError(
        f'{predicted}: is {said.shape[0]} x {said.shape[1]} (height x width) and {label} is '
        f'{truth.shape[0]} x {truth.shape[1]}; scores need predictions at the size of the labels'
      )
    class_ids = classes.to_train_ids(truth, label), classes.to_train_ids(said, predicted)
    try:
      if isinstance(protocol, protocols.Cityscapes):
        protocol.add_ids(truth, said, instances(label))
      else:
        protocol.add(*class_ids)
    except InputError as error:
      raise InputError(f'{predicted} against {label}: {error}') from None
    for measure in others:
      measure.add(*class_ids)
    extremes.add({'name': os.path.basename(predicted), 'label': class_ids[0]}, class_ids[1])
  result = {key: value for each in (protocol, *others) for key, value in each.scores().items()}
  absent = [name for name, row in zip(classes.names, result['confusion']) if not sum(row)]
  if name == 'predictions.json' and ignored and absent:
    raise InputError(
      f'{values.labels}: no pixel is {absent[0]}, and 255 occurs, which may stand for it; give '
      '--dataset=folder and --data_dir, the folder of your images and labels, which tells'
    )
  result |= {'read_as': [labels.description, predictions.description]}
  return report(values, result, name, None, len(pairs)), extremes, classes


def classes_of_pictures(values) -> tuple:
  """Whose classes label pictures have, and the classes; said by flags or by predictions.json."""
  order = label_files.read_class_order(values.predictions)
  name = values.dataset or (order and label_files.read_dataset(values.predictions))
  places = [flag for flag in ('data_dir', 'manual_dir') if values[flag].present]
  if places and name != 'folder':
    raise InputError(
      f'--{places[0]} has no meaning with --predictions, but for --dataset=folder: its labels say '
      'which classes there are'
    )
  if places or name in data.ORDERS:
    return name, data.classes(name, values.data_dir, values.manual_dir)
  if order:  # The network's own words for class ids.
    return 'predictions.json', order
  if name == 'folder':
    raise InputError('--dataset=folder: give --data_dir too, the folder of your images and labels')
  raise InputError(
    f'--dataset is missing: whose classes are these ({", ".join(data.NAMES)})? Of your own images '
    'and labels: --dataset=folder --data_dir=FOLDER'
  )


def started(values, classes) -> list:
  """What is to be counted: the protocol, then the rest."""
  measures = [protocols.create(values.protocol, classes)]
  return measures + [evaluation.boundaries.BoundaryMetrics(classes)] * values.boundaries


def readers(values, classes, pairs):
  """How predictions and labels are to be read."""
  order = label_files.read_class_order(values.predictions)
  if values.prediction_order:
    if order:
      raise InputError(f'{order.name}: says the order of the classes; drop --prediction_order')
    order = data.classes(values.prediction_order)
  predicted, true = zip(*pairs, strict=True)
  return (
    detect_reader(predicted, classes, 'predictions', values.predictions_are, order),
    detect_reader(true, classes, 'labels', values.labels_are),
  )


def detect_reader(paths, classes, role, kind, order=None):
  """The reader of a folder; its messages name the flag of the folder."""
  try:
    return label_files.detect_reader(paths, classes, role, kind=kind, order=order)
  except InputError as error:
    raise InputError(str(error).replace('`kind=', f'`{role}_are=')) from None


def instances(label):
  """The instance map beside a label picture, if there is one."""
  path = images.matching.instance_file(label)
  return path and images.files.read_instances(path)


def report(values, scores, dataset, split, count) -> dict:
  """The scores and what made them."""
  return scores | {
    'dataset': dataset,
    'split': split,
    'pictures': count,
    'protocol': values.protocol,
    'weights': values.weights,
    'flags': {flag: values[flag].value for flag in FLAGS_OF_A_REPORT},
    'made': about.made(by_devices=bool(values.weights)),
  }


OF_FOLDERS = ('predictions_are', 'labels_are', 'prediction_order')
FLAGS_OF_A_REPORT = (
  'weights', 'dataset', 'data_dir', 'manual_dir', 'split', 'predictions', 'labels', *OF_FOLDERS,
  'protocol', 'boundaries', 'limit', 'batch_size', 'score_size', *prediction_flags.NAMES,
)  # fmt: skip


if __name__ == '__main__':
  define_flags()
  cli.run(main)

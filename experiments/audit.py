"""Checks every picture and label of a data set: what is wrong, and what to do about it.

  dilated-jax audit --images=DIR --labels=DIR --num_classes=11 --output=REPORT
  dilated-jax audit --images=DIR --labels=DIR --dataset=cityscapes
  dilated-jax audit --dataset=folder --data_dir=FOLDER
  dilated-jax audit --dataset=camvid --data_dir=PREPARED

Without --dataset and --num_classes the classes are found from the labels. Splits are subfolders
called train, val and test, or lists: --split_files=train.txt,val.txt, with one name or "picture
label" a line. A data set in FOLDER is laid out as for training; one in PREPARED is looked at as it
was written, by splits. Errors end with exit status 1, warnings and notes do not. REPORT gets
audit.json with every file that was found, and audit.png with the worst cases.
"""

import json
import pathlib
import time

from absl import flags, logging

from dilated_jax import data, files
from dilated_jax.data import audit, folder
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files

from . import cli, path_flags


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}
  path_flags.define('images', None, 'Folder of pictures.', **into)
  path_flags.define('labels', None, 'Folder of label pictures of the same names.', **into)
  flags.DEFINE_enum('dataset', None, data.NAMES, 'Whose classes the labels have.', **into)
  flags.DEFINE_integer(
    'num_classes', None, 'Number of classes; labels hold 0 to that less 1, and 255.', **into
  )
  path_flags.define(
    'data_dir', None,
    'Folder of prepared data sets, or for --dataset=folder that of your own.', **into,
  )  # fmt: skip
  path_flags.define_list(
    'split_files', None, 'Lists of pictures, each named after its split.', **into
  )
  path_flags.define('output', None, 'Folder for audit.json and audit.png.', **into)
  flags.DEFINE_integer('threads', 4, 'That read pictures.', lower_bound=1, **into)


def main(values=flags.FLAGS):
  output = values.output and pathlib.Path(values.output)
  path_flags.check_folder(values, 'output')
  start = time.monotonic()
  report = audited(values)
  seconds = time.monotonic() - start
  logging.info('%d pairs in %.1f s, %.0f a second', len(report.pairs), seconds,
               len(report.pairs) / seconds)  # fmt: skip
  print(cli.as_typed(audit.format_table(report)))
  if output:
    write(report, values, output)
  wrong = [finding for finding in report.findings if finding.severity == 'error']
  if wrong:
    counts = ', '.join(f'{finding.kind} ({len(finding.issues)})' for finding in wrong)
    raise InputError(f'this data set is invalid: {counts}; see above')


def audited(values):
  """Looks at what the flags name; returns an `audit.Report`."""
  if bool(values.images) != bool(values.labels):
    raise InputError('--images and --labels go together: give both, or --dataset and --data_dir')
  if values.num_classes is not None and values.dataset:
    raise InputError(
      f'--num_classes: --dataset={values.dataset} says the classes; drop one of them'
    )
  if values.images:
    if values.data_dir and values.dataset != 'folder':
      raise InputError('--data_dir has no meaning with --images: the pictures are there')
    classes = expected(values)
    pairing = folder.pair_folders(values.images, values.labels, values.split_files or ())
    return audit.audit_files(pairing, threads=values.threads, **classes)
  if values.split_files:
    raise InputError('--split_files is for --images and --labels; a data set has its splits')
  if not values.dataset:
    raise InputError('give --images=DIR and --labels=DIR, or --dataset=NAME and --data_dir=DIR')
  ready = data.is_prepared(values.dataset, values.data_dir)
  if values.dataset == 'folder' and not ready:
    if not values.data_dir:
      raise InputError('--dataset=folder: give --data_dir=DIR, the folder of pictures and labels')
    pairing = folder.find_pairs(values.data_dir)
    return audit.audit_files(pairing, threads=values.threads, **expected(values))
  if not ready:
    raise InputError(
      f'{values.dataset}: not prepared in {values.data_dir or data.default_dir()}; run '
      f'dilated-jax prepare --dataset={values.dataset}, or give --images and --labels'
    )
  place = values.dataset, values.data_dir
  sources = {split: data.load(place[0], split, place[1]) for split in data.splits(*place)}
  return audit.audit_prepared(sources, data.classes(*place), threads=values.threads)


def expected(values) -> dict:
  """What the flags say of the classes, for `audit.audit_files`."""
  if values.num_classes is not None:
    return {'classes': audit.numbered_classes(values.num_classes)}
  if values.dataset == 'folder':
    root = pathlib.Path(values.data_dir or values.images)
    return {'stated': folder.read_classes_file(root / folder.CLASSES_FILE), 'root': root}
  return {'classes': data.classes(values.dataset)} if values.dataset else {}


def write(report, values, output):
  """Writes audit.json and audit.png."""
  settings = {name: values[name].value for name in FLAGS if values[name].value is not None}
  content = json.dumps({'flags': settings} | audit.to_json(report), indent=1, allow_nan=False)
  files.write_atomic(output / 'audit.json', content.encode() + b'\n')
  print(f'written to {output / "audit.json"}')
  examples = audit.draw_examples(report)
  if examples is not None:
    files.write_atomic(output / 'audit.png', image_files.encode_png(examples))
    print(f'examples of what was found: {output / "audit.png"}')


FLAGS = ('images', 'labels', 'dataset', 'num_classes', 'data_dir', 'split_files')


if __name__ == '__main__':
  define_flags()
  cli.run(main)

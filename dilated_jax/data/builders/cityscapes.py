"""Cityscapes with fine labels: 19 classes, 2048x1024, 2,975 + 500 + 1,525 images.

Read in place from the two archives of www.cityscapes-dataset.com, or from what was unpacked from
them. The publisher keeps the labels of the test images: all their pixels are ignored.
"""

import dataclasses
import functools
import re

import numpy as np

from dilated_jax.data import archives
from dilated_jax.data.builders import base, raw_images
from dilated_jax.data.label_specs import CITYSCAPES
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE

SPLITS = {'train': 2975, 'val': 500, 'test': 1525}
FILES = {
  'folders': ('leftImg8bit', 'gtFine'),
  'archives': ('leftImg8bit_trainvaltest.zip', 'gtFine_trainvaltest.zip'),
}
SOURCE = 'www.cityscapes-dataset.com'
TRAIN_IDS = dataclasses.replace(CITYSCAPES, raw_ids=(), void=())  # For *_labelTrainIds.png.

# .../SPLIT/CITY/CITY_SEQUENCE_FRAME_KIND.png
_FILE_NAME = re.compile(
  r'(?:leftImg8bit|gtFine)/(?P<split>\w+)/(?:.*/)?(?P<name>[^/.][^/]*)'
  r'_(?P<kind>leftImg8bit|gtFine_labelIds|gtFine_labelTrainIds|gtFine_instanceIds)\.png'
)

has_raw_files = functools.partial(archives.exists, **FILES)


class Cityscapes(base.PairBuilder):
  """Street scenes of 50 cities, 19 classes, with instances; the test images have no labels."""

  HAS_INSTANCES = True
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, or the folders leftImg8bit and '
    f'gtFine, from {SOURCE}'
  )

  def check_raw(self, folder):
    tree = archives.open_tree(folder, **FILES, name='Cityscapes', source=SOURCE)
    return tree, base.check_splits(tree, find_pairs(tree), read_label, SPLITS)


def find_pairs(tree) -> dict[str, list[base.FilePair]]:
  """Pairs the files of each split by their names.

  Args:
    tree: tree of the raw data set.

  Returns:
    pairs by split; without label files if the test split has none.

  Raises:
    InputError: a file has no partner.
  """
  files = {}
  for file in tree.names():
    if parts := _FILE_NAME.fullmatch(file):
      files.setdefault((parts['split'], parts['kind']), []).append((parts['name'], file))
  splits = {}
  for split in SPLITS:
    images, ids, train_ids, instances = (
      base.by_name(files.get((split, kind), []))
      for kind in (
        'leftImg8bit', 'gtFine_labelIds', 'gtFine_labelTrainIds', 'gtFine_instanceIds',
      )
    )  # fmt: skip
    labels = ids or train_ids or (dict.fromkeys(images, '') if split == 'test' else {})
    splits[split] = [
      pair._replace(instances=instances.get(pair.name, ''))
      for pair in base.match_files(tree, images, labels)
    ]
  return splits


def read_label(tree, pair: base.FilePair, size: tuple[int, int]) -> tuple[np.ndarray, bytes | None]:
  """Reads the class ids and the instance PNG of a pair, for `base.check_splits`."""
  if not pair.label:
    return np.full(size, IGNORE, np.uint8), None
  spec = TRAIN_IDS if pair.label.endswith('_labelTrainIds.png') else CITYSCAPES
  ids = spec.to_train_ids(raw_images.read_ids(tree, pair.label), tree.locate(pair.label))
  if not pair.instances:
    return ids, None
  _check_instances(raw_images.read_ids(tree, pair.instances), ids, tree.locate(pair.instances))
  return ids, tree.read(pair.instances)


def _check_instances(instances, ids, path):
  """Checks that every instance, 1000 * label + number, lies on pixels of its label."""
  if instances.shape != ids.shape or not np.issubdtype(instances.dtype, np.integer):
    raise InputError(
      f'{path}: instances of shape {instances.shape} ({instances.dtype}) for labels of shape '
      f'{ids.shape}; get both files again'
    )
  raw_ids = np.zeros(256, np.int64)
  raw_ids[: CITYSCAPES.num_classes] = CITYSCAPES.raw_ids
  labels = np.where(instances >= 1000, instances // 1000, instances)
  wrong = (labels != raw_ids[ids]) & (ids != IGNORE)
  if wrong.any():
    row, column = np.argwhere(wrong)[0].tolist()
    raise InputError(
      f'{path}: has {instances[row, column]} at row {row}, column {column}, where the label is '
      f'{CITYSCAPES.names[ids[row, column]]} ({raw_ids[ids[row, column]]}); get both files again'
    )

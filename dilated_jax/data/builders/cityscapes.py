"""Cityscapes with fine labels: 19 classes, 2048x1024, 2,975 + 500 + 1,525 pictures.

Read in place from the two archives of www.cityscapes-dataset.com, or from what was unpacked from
them. The labels of the test pictures are kept by the publisher: all their pixels are ignored.
"""

import dataclasses
import functools
import re

import numpy as np

from dilated_jax.data import archives, pairs
from dilated_jax.errors import InputError
from dilated_jax.label_spec import CITYSCAPES, IGNORE

SPLITS = {'train': 2975, 'val': 500, 'test': 1525}
FILES = {
  'folders': ('leftImg8bit', 'gtFine'),
  'archives': ('leftImg8bit_trainvaltest.zip', 'gtFine_trainvaltest.zip'),
}
TRAIN_IDS = dataclasses.replace(CITYSCAPES, raw_ids=(), void=())  # Of *_labelTrainIds.png.

# SPLIT/CITY/CITY_SEQUENCE_FRAME and what the file holds.
_FILE = re.compile(
  r'(?:leftImg8bit|gtFine)/(?P<split>\w+)/(?:.*/)?(?P<name>[^/.][^/]*)'
  r'_(?P<kind>leftImg8bit|gtFine_labelIds|gtFine_labelTrainIds|gtFine_instanceIds)\.png'
)


find = functools.partial(archives.within, **FILES)


def paired(tree) -> dict[str, list[pairs.Pair]]:
  """Pairs the files of each split by their names.

  Args:
    tree: of the raw data set.

  Returns:
    Pairs by split; without labels in a test split that has none.

  Raises:
    InputError: a file has no partner.
  """
  files = {}
  for file in tree.names():
    if parts := _FILE.fullmatch(file):
      files.setdefault((parts['split'], parts['kind']), []).append((parts['name'], file))
  splits = {}
  for split in SPLITS:
    pictures, ids, train_ids, instances = (
      pairs.by_name(files.get((split, kind), []))
      for kind in (
        'leftImg8bit', 'gtFine_labelIds', 'gtFine_labelTrainIds', 'gtFine_instanceIds',
      )
    )  # fmt: skip
    labels = ids or train_ids or (dict.fromkeys(pictures, '') if split == 'test' else {})
    splits[split] = [
      pair._replace(instances=instances.get(pair.name, ''))
      for pair in pairs.match(tree, pictures, labels)
    ]
  return splits


def read(tree, pair: pairs.Pair, size: tuple[int, int]) -> tuple[np.ndarray, bytes | None]:
  """Returns the class ids of a pair, and the file of its instances; for `pairs.check`."""
  if not pair.label:
    return np.full(size, IGNORE, np.uint8), None
  classes = TRAIN_IDS if pair.label.endswith('_labelTrainIds.png') else CITYSCAPES
  ids = classes.to_train_ids(pairs.read_ids(tree, pair.label), tree.where(pair.label))
  if not pair.instances:
    return ids, None
  _check_instances(pairs.read_ids(tree, pair.instances), ids, tree.where(pair.instances))
  return ids, tree.read(pair.instances)


def _check_instances(instances, ids, path):
  """Sees to it that each instance, 1000 * label + number, is one of the label that is there."""
  if instances.shape != ids.shape or not np.issubdtype(instances.dtype, np.integer):
    raise InputError(
      f'{path}: instances of shape {instances.shape} ({instances.dtype}) for labels of shape '
      f'{ids.shape}'
    )
  official = np.zeros(256, np.int64)
  official[: CITYSCAPES.num_classes] = CITYSCAPES.raw_ids
  owners = np.where(instances >= 1000, instances // 1000, instances)
  wrong = (owners != official[ids]) & (ids != IGNORE)
  if wrong.any():
    row, column = np.argwhere(wrong)[0].tolist()
    raise InputError(
      f'{path}: has {instances[row, column]} at row {row}, column {column}, where the label is '
      f'{CITYSCAPES.names[ids[row, column]]} ({official[ids[row, column]]}); get both files again'
    )


class Cityscapes(pairs.Builder):
  """Street scenes of 50 cities, 19 classes, with instances; the test pictures have no labels."""

  INSTANCES = True
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, or the folders leftImg8bit and '
    'gtFine, from www.cityscapes-dataset.com'
  )

  def checked(self, folder):
    tree = archives.find(folder, **FILES, name='Cityscapes', where='www.cityscapes-dataset.com')
    return tree, pairs.check(tree, paired(tree), read, SPLITS)

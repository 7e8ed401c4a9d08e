"""KITTI's semantic benchmark of 2015: classes of Cityscapes, about 1242x375, 200 + 200 pictures.

Read in place from data_semantics.zip of www.cvlibs.net, or from what was unpacked from it. The
publisher keeps the labels of the test pictures, and there is no validation split: take a slice,
--train_split='train[:160]' --val_split='train[160:]'. Not the data set of the paper: see kitti.py.
"""

import numpy as np
import tensorflow_datasets as tfds

from dilated_jax.datasets import archives, pairs, records
from dilated_jax.datasets.classes import CITYSCAPES, IGNORE

SPLITS = {'train': 200, 'test': 200}
PICTURES, LABELS, TEST = 'training/image_2', 'training/semantic', 'testing/image_2'
FILES = {'folders': (PICTURES, LABELS, TEST), 'archives': ('data_semantics.zip',)}


def find(folder):
  """Returns `folder` if the raw data set is there, else None."""
  return folder if archives.exists(folder, **FILES) else None


def paired(tree) -> dict[str, list[pairs.Pair]]:
  """Pairs the training files by their names; the test pictures have no labels."""
  pictures, labels, test = (pairs.pngs(tree, folder) for folder in (PICTURES, LABELS, TEST))
  return {
    'train': pairs.match(tree, pictures, labels),
    'test': [pairs.Pair(name, test[name]) for name in sorted(test)],
  }


def read(tree, pair: pairs.Pair, size: tuple[int, int]) -> tuple[np.ndarray, None]:
  """Returns the class ids of a pair; for `pairs.check`."""
  if not pair.label:
    return np.full(size, IGNORE, np.uint8), None
  return CITYSCAPES.to_train_ids(pairs.read_ids(tree, pair.label), tree.where(pair.label)), None


class Kitti2015(tfds.core.ShardBasedBuilder):
  """Street scenes of Karlsruhe, the 19 classes of Cityscapes; the test pictures have no labels."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'data_semantics.zip, or its folders training and testing, from '
    'www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015'
  )

  def _info(self):
    return records.info(self)

  def _shard_iterators_per_split(self, dl_manager):
    tree = archives.find(
      dl_manager.manual_dir, **FILES, name='KITTI 2015 semantics', where='www.cvlibs.net'
    )
    examples = pairs.check(tree, paired(tree), read, SPLITS)
    return {split: pairs.shards(tree, found) for split, found in examples.items()}

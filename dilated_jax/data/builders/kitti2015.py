"""KITTI's semantic benchmark of 2015: classes of Cityscapes, about 1242x375, 200 + 200 pictures.

Read in place from data_semantics.zip of www.cvlibs.net, or from what was unpacked from it. The
publisher keeps the labels of the test pictures, and there is no validation split: take a slice,
--train_split='train[:160]' --val_split='train[160:]'. Not the data set of the paper: see kitti.py.
"""

import functools

import numpy as np

from dilated_jax.data import archives, pairs
from dilated_jax.label_spec import CITYSCAPES, IGNORE

SPLITS = {'train': 200, 'test': 200}
PICTURES, LABELS, TEST = 'training/image_2', 'training/semantic', 'testing/image_2'
FILES = {'folders': (PICTURES, LABELS, TEST), 'archives': ('data_semantics.zip',)}


find = functools.partial(archives.within, **FILES)


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


class Kitti2015(pairs.Builder):
  """Street scenes of Karlsruhe, the 19 classes of Cityscapes; the test pictures have no labels."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'data_semantics.zip, or its folders training and testing, from '
    'www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015'
  )

  def checked(self, folder):
    tree = archives.find(folder, **FILES, name='KITTI 2015 semantics', where='www.cvlibs.net')
    return tree, pairs.check(tree, paired(tree), read, SPLITS)

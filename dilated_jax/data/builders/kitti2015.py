"""KITTI's semantic benchmark of 2015: Cityscapes classes, about 1242x375, 200 + 200 images.

Read in place from data_semantics.zip of www.cvlibs.net, or from what was unpacked from it. The
publisher keeps the labels of the test images, and there is no validation split; slices of train can
serve as both, 'train[:160]' and 'train[160:]'. The paper uses another data set, see `kitti`.
"""

import functools

import numpy as np

from dilated_jax.data import archives
from dilated_jax.data.builders import base, raw_images
from dilated_jax.data.label_specs import CITYSCAPES
from dilated_jax.label_spec import IGNORE

SPLITS = {'train': 200, 'test': 200}
IMAGES, LABELS, TEST = 'training/image_2', 'training/semantic', 'testing/image_2'
FILES = {'folders': (IMAGES, LABELS, TEST), 'archives': ('data_semantics.zip',)}

has_raw_files = functools.partial(archives.exists, **FILES)


class Kitti2015(base.PairBuilder):
  """Street scenes of Karlsruhe, the 19 classes of Cityscapes; the test images have no labels."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'data_semantics.zip, or its folders training and testing, from '
    'www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015'
  )

  def check_raw(self, folder):
    tree = archives.open_tree(folder, **FILES, name='KITTI 2015 semantics', source='www.cvlibs.net')
    return tree, base.check_splits(tree, find_pairs(tree), read_label, SPLITS)


def find_pairs(tree) -> dict[str, list[base.FilePair]]:
  """Pairs the training files by their names; the test images have no labels."""
  images, labels, test = (base.png_files(tree, folder) for folder in (IMAGES, LABELS, TEST))
  return {
    'train': base.match_files(tree, images, labels),
    'test': [base.FilePair(name, test[name]) for name in sorted(test)],
  }


def read_label(tree, pair: base.FilePair, size: tuple[int, int]) -> tuple[np.ndarray, None]:
  """Reads the class ids of a pair, for `base.check_splits`."""
  if not pair.label:
    return np.full(size, IGNORE, np.uint8), None
  return CITYSCAPES.to_train_ids(
    raw_images.read_ids(tree, pair.label), tree.locate(pair.label)
  ), None

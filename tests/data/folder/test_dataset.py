"""A folder is read without changing it; wrong files are named."""

import json

import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.data import folder
from dilated_jax.errors import InputError
from tests.data.folder.folders import COLORS, RNG, files_of, ids, load, make, picture, refused, save


def test_pictures_come_back_exactly_and_nothing_is_written(tmp_path):
  pixels = {}
  for number, name in enumerate(['a', 'b2', 'b10', 'c']):
    size = (12, 20) if number % 2 else (16, 10)
    pixels[name] = picture(size), RNG.integers(0, 3, size, np.uint8)
    save(pixels[name][0], tmp_path / 'images' / f'{name}.png')
    save(pixels[name][1], tmp_path / 'labels' / f'{name}.png')
  before = files_of(tmp_path)
  assert data.splits('folder', tmp_path) == ('train', 'val')
  found = [example for split in ('train', 'val') for example in load(tmp_path, split)]
  assert sorted(example['name'] for example in found) == sorted(pixels)
  for example in found:
    np.testing.assert_array_equal(example['image'], pixels[example['name']][0])
    np.testing.assert_array_equal(example['label'], pixels[example['name']][1])
  classes = data.classes('folder', tmp_path)
  assert classes.names == ('class 0', 'class 1', 'class 2') and len(set(classes.palette)) == 3
  train = [pixels[example['name']][0].reshape(-1, 3) for example in load(tmp_path)]
  np.testing.assert_allclose(classes.mean, np.concatenate(train).mean(0), atol=0.006)
  assert data.prepare('folder', tmp_path) == tmp_path
  assert files_of(tmp_path) == before


def test_pictures_without_labels_are_left_out_and_told(tmp_path):
  make(tmp_path)
  save(picture(), tmp_path / 'images' / 'new.jpg')
  found = folder.scan(tmp_path)
  assert '1 image without a label, not used: new.jpg' in found.notes
  assert sum(map(len, found.splits.values())) == 8


def test_the_first_wrong_files_are_named_and_the_rest_counted(tmp_path):
  make(tmp_path)
  for name in 'abcde':
    (tmp_path / 'images' / f'{name}.png').write_bytes(b'')
  refused(tmp_path, r'a\.png: is an empty file.*b\.png.*c\.png.*and 2 more \(of 8 pairs.*audit')


def test_sizes_must_agree(tmp_path):
  make(tmp_path)
  save(ids(0, 1, size=(9, 20)), tmp_path / 'labels' / 'c.png')
  refused(tmp_path, r'c\.png: 20x9 for an image of 20x12 \(width x height\) \(of')
  save(ids(0, 1, size=(20, 12)), tmp_path / 'labels' / 'c.png')
  refused(tmp_path, r'rotated by 90 degrees')


def test_slices(tmp_path):
  make(tmp_path, [f'{index}x' for index in range(20)])
  names = [example['name'] for example in load(tmp_path)]
  assert [example['name'] for example in load(tmp_path, 'train[:50%]')] == names[:8]
  assert [example['name'] for example in load(tmp_path, 'train[3:5]+val')][:2] == names[3:5]
  for split, words in (
    ('trian', "no split 'trian': choose one of train, val"),
    ('train[3', 'is not a slice'), ('train[:0]', 'has no images'), ('train[99:]', 'is not a slice'),
  ):  # fmt: skip
    with pytest.raises(InputError, match=words):
      load(tmp_path, split)


@pytest.mark.parametrize(
  'label',
  [ids(0, 1, 2), ids(0, 255), ids(1, 2), COLORS[ids(0, 1, 2)], COLORS[ids(0, 1)],
   np.repeat(ids(0, 4, 2)[..., None], 3, -1)],
)  # fmt: skip
def test_what_is_found_serves_as_classes_json(tmp_path, label):
  make(tmp_path, label=label)
  before = folder.scan(tmp_path)
  expected = [example['label'] for example in load(tmp_path)]
  (tmp_path / 'classes.json').write_text(json.dumps(before.to_json()))
  after = folder.scan(tmp_path)
  assert after.spec == before.spec and after.encoding == before.encoding
  for example, wanted in zip(load(tmp_path), expected, strict=True):
    np.testing.assert_array_equal(example['label'], wanted)


def test_camvid_as_it_is(camvid_dir):
  """The release of SegNet is such a folder: its lists name the files of another machine."""
  found = folder.scan(camvid_dir)
  assert {split: len(pairs) for split, pairs in found.splits.items()} == {
    'train': 367, 'val': 101, 'test': 233
  }  # fmt: skip
  assert found.spec.num_classes == 12  # Nothing says that 11 is to be ignored.
  np.testing.assert_allclose(found.spec.mean, (105.03, 108.41, 110.33), atol=0.01)

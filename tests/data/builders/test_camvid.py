"""camvid.py: every wrong file is named before anything is written, and pixels come back exactly."""

import logging

import numpy as np
import PIL.Image
import pytest

from dilated_jax import data
from dilated_jax.data import sequences, statistics
from dilated_jax.data.builders import camvid
from dilated_jax.errors import InputError

NAMES = {'train': ['a_1', 'b_2', 'c_3'], 'val': ['d_4'], 'test': ['e_5', 'f_6']}


def save(path, array, mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(array, mode).save(path) if mode else PIL.Image.fromarray(array).save(path)


@pytest.fixture
def raw(tmp_path):
  """A small data set with the layout of the release; pictures of two sizes."""
  rng = np.random.default_rng(0)
  root = tmp_path / 'raw' / 'CamVid'
  for split, names in NAMES.items():
    for i, name in enumerate(names):
      size = (24, 32) if i % 2 else (20, 28)
      save(root / split / f'{name}.png', rng.integers(0, 256, (*size, 3), np.uint8))
      save(root / f'{split}annot' / f'{name}.png', rng.integers(0, 12, size, np.uint8))
  return root


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / 'prepared'


def read(path):
  return np.asarray(PIL.Image.open(path))


def expect(raw, data_dir, message):
  with pytest.raises(InputError, match=message) as error:
    data.prepare('camvid', data_dir, raw.parent)
  assert '\n' not in str(error.value)
  assert not [path for path in data_dir.rglob('*') if path.is_file()]


@pytest.mark.parametrize('deep', [False, True])
def test_pixels_come_back_exactly(raw, data_dir, deep, caplog):
  with caplog.at_level(logging.WARNING):
    data.prepare('camvid', data_dir, raw if deep else raw.parent)
  assert '3 train images' in caplog.text and '367' in caplog.text
  for split, names in NAMES.items():
    source = data.load('camvid', split, data_dir)
    assert [example['name'] for example in source] == names
    for example in source:
      np.testing.assert_array_equal(example['image'], read(raw / split / f'{example["name"]}.png'))
      stored = read(raw / f'{split}annot' / f'{example["name"]}.png')
      np.testing.assert_array_equal(example['label'], np.where(stored == 11, 255, stored))


def test_load_finds_the_raw_folder_beside_the_prepared_one(raw):
  assert len(data.load('camvid', 'train', raw.parent)) == 3


def test_palette_labels_are_read_as_ids_and_other_pictures_as_rgb(raw, data_dir):
  ids = read(raw / 'valannot' / 'd_4.png')
  label = PIL.Image.fromarray(ids)
  label.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
  label.save(raw / 'valannot' / 'd_4.png')
  gray = np.random.default_rng(2).integers(0, 256, ids.shape, np.uint8)
  save(raw / 'val' / 'd_4.png', gray)
  example = data.load('camvid', 'val', data_dir, raw.parent)[0]
  np.testing.assert_array_equal(example['label'], np.where(ids == 11, 255, ids))
  np.testing.assert_array_equal(example['image'], np.repeat(gray[..., None], 3, 2))


def test_missing_folder(raw, data_dir):
  (raw / 'testannot').rename(raw / 'labels')
  expect(raw, data_dir, r'not complete: .* no [\w/-]*CamVid/testannot;')


def test_empty_folder(raw, data_dir):
  for path in [*(raw / 'val').iterdir(), *(raw / 'valannot').iterdir()]:
    path.unlink()
  expect(raw, data_dir, r'no val images here')


def test_picture_without_label_and_label_without_picture(raw, data_dir):
  hidden = (raw / 'trainannot' / 'b_2.png').rename(raw / 'b_2.png')
  expect(raw, data_dir, r'no label for 1 of 3 files: .*CamVid/train/b_2\.png')
  hidden.rename(raw / 'trainannot' / 'b_2.png')
  (raw / 'test' / 'f_6.png').unlink()
  expect(raw, data_dir, r'no image for 1 of 2 files: .*CamVid/testannot/f_6\.png')


@pytest.mark.parametrize('folder', ['test', 'testannot'])
@pytest.mark.parametrize('share', [0, 0.1, 0.5, 0.9, 0.95])
def test_truncated_file(raw, data_dir, folder, share):
  path = raw / folder / 'e_5.png'
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  expect(raw, data_dir, rf'{folder}/e_5\.png: is not a complete image')


@pytest.mark.parametrize('folder', ['train', 'trainannot'])
def test_flipped_bits(raw, data_dir, folder):
  path = raw / folder / 'c_3.png'
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0xFF
  path.write_bytes(content)
  expect(raw, data_dir, rf'{folder}/c_3\.png: ')


def test_size_mismatch(raw, data_dir):
  save(raw / 'trainannot' / 'a_1.png', np.zeros((28, 20), np.uint8))
  expect(raw, data_dir, r'a_1\.png: label of 20x28 for an image of 28x20')


def test_illegal_values(raw, data_dir):
  mask = np.zeros((20, 28), np.uint8)
  mask[3, 4:6] = 12, 77
  save(raw / 'testannot' / 'e_5.png', mask)
  expect(raw, data_dir, r'e_5\.png: invalid label values 12, 77; camvid has classes 0\.\.10')


def test_color_masks(raw, data_dir):
  save(raw / 'testannot' / 'e_5.png', np.zeros((20, 28, 3), np.uint8))
  expect(raw, data_dir, r'e_5\.png: a label image .* one channel')


@pytest.mark.slow
def test_release(camvid_dir, tmp_path):
  """The counts, frequencies and weights that are known of the release."""
  source = sequences.cache_in_memory(data.load('camvid', 'train', tmp_path, camvid_dir))
  sizes = {split: len(data.load('camvid', split, tmp_path)) for split in camvid.SPLITS}
  assert sizes == camvid.SPLITS
  table = data.classes('camvid')
  np.testing.assert_allclose(statistics.mean_color(source), table.mean, atol=0.01)
  # Median-frequency weights as SegNet defines them.
  known = [0.279, 0.202, 4.787, 0.149, 1, 0.422, 3.847, 1.974, 0.789, 6.375, 8.859]
  np.testing.assert_allclose(statistics.class_weights(source, 11), known, atol=5e-4)
  for split, count in camvid.SPLITS.items():
    source = source if split == 'train' else data.load('camvid', split, tmp_path)
    names = sorted(path.name for path in (camvid_dir / split).glob('*.png'))
    assert len(names) == count
    for name, example in zip(names, source, strict=True):
      assert name == f'{example["name"]}.png'
      np.testing.assert_array_equal(example['image'], read(camvid_dir / split / name))
      stored = read(camvid_dir / f'{split}annot' / name)
      np.testing.assert_array_equal(example['label'], np.where(stored == 11, 255, stored))

"""Data sets by name: splits are joined, and unknown names are refused."""

import json

import numpy as np
import PIL.Image
import pytest

from dilated_jax import data
from dilated_jax.data import prepared
from dilated_jax.errors import InputError

COUNTS = {'train': 5, 'val': 2, 'test': 3}


def test_splits_are_joined_by_plus(tmp_path):
  data.prepare('scenes', tmp_path, counts=COUNTS)
  joined = data.load('scenes', 'val+train[2:4]+scenes:test', tmp_path)
  single = [
    example['name']
    for split in ('val', 'train[2:4]', 'test')
    for example in data.load('scenes', split, tmp_path)
  ]
  assert len(joined) == len(single) == 7
  assert [example['name'] for example in joined] == single
  assert joined[-1]['name'] == single[-1] and joined[-7]['name'] == single[0]
  for index in (7, -8):
    with pytest.raises(IndexError):
      joined[index]


def test_own_images_are_joined_with_a_data_set(tmp_path):
  """Each of them is found in the same folder, whichever is the data set."""
  data.prepare('scenes', tmp_path, counts=COUNTS)
  write_own(tmp_path)
  names = list(data.classes('scenes').names)
  (tmp_path / 'classes.json').write_text(json.dumps({'names': names}))
  for name, split in (('folder', 'train+scenes:val'), ('scenes', 'val+folder:train')):
    joined = data.load(name, split, str(tmp_path))
    found = [example['name'] for example in joined]
    own = [example for example in found if example.startswith('own')]
    assert 1 <= len(own) <= 3 and len(found) == len(own) + COUNTS['val']
  (tmp_path / 'classes.json').write_text(json.dumps({'names': names[:3]}))
  with pytest.raises(InputError, match="'scenes:val' has other classes than folder"):
    data.load('folder', 'train+scenes:val', str(tmp_path))


def write_own(folder):
  """Three images, each of a class of its own."""
  (folder / 'images').mkdir()
  (folder / 'labels').mkdir()
  for index in range(3):
    ids = np.full((16, 16), index, np.uint8)
    PIL.Image.fromarray(np.stack([ids] * 3, -1)).save(folder / f'images/own{index}.png')
    PIL.Image.fromarray(ids).save(folder / f'labels/own{index}.png')


def test_own_images_are_read_without_tensorflow_datasets(tmp_path, monkeypatch):
  """Machines that others set up for JAX have none."""
  monkeypatch.setattr(prepared, '_builder_module', None)  # It would import it.
  write_own(tmp_path)
  names = data.classes('folder', tmp_path).names
  assert data.describe_folder('folder', tmp_path)['names'] == names
  assert 'train' in data.splits('folder', tmp_path) and data.load('folder', 'train', tmp_path)


@pytest.mark.parametrize(
  ('split', 'message'),
  [
    ('train+trian', "no split 'trian'"),
    ('train+', "no split ''"),
    ('train+camvid:train', "'camvid:train' has other classes than scenes"),
    ('train+cats:train', "no data set 'cats'"),
    ('train+camvid_dilation8:train', "'camvid_dilation8:train' has other classes"),
  ],
)
def test_what_cannot_be_joined_is_named(tmp_path, split, message):
  data.prepare('scenes', tmp_path, counts=COUNTS)
  with pytest.raises(InputError, match=message):
    data.load('scenes', split, tmp_path)


def test_unknown_split_and_missing_raw_data_are_clear(tmp_path):
  data.prepare('scenes', tmp_path, counts=COUNTS)
  with pytest.raises(InputError, match=r"no split 'trian': choose one of train, val, test"):
    data.load('scenes', 'trian', tmp_path)
  message = r'call `data\.prepare` for camvid with its folder as `manual_dir`'
  with pytest.raises(InputError, match=message):
    data.load('camvid', 'train', tmp_path)
  with pytest.raises(InputError, match='nowhere'):
    data.load('camvid', 'train', tmp_path, tmp_path / 'nowhere')


def test_names_of_data_sets_and_orders():
  assert data.NAMES == (
    'scenes', 'camvid', 'voc', 'kitti', 'cityscapes', 'camvid_full', 'kitti2015', 'coco',
    'folder',
  )  # fmt: skip
  assert set(data.ORDERS) - set(data.NAMES) == {'camvid_dilation8'}


def test_unknown_name_lists_the_known_ones():
  with pytest.raises(InputError, match=r"'camvit'.*scenes, camvid"):
    data.classes('camvit')


@pytest.mark.parametrize('call', [data.load, data.prepare])
def test_an_order_of_classes_is_no_data_set(tmp_path, call):
  with pytest.raises(InputError, match=r"^no data set 'camvid_dilation8': choose .* camvid,"):
    call('camvid_dilation8', 'val', tmp_path)

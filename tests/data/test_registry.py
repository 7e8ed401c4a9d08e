"""datasets: prepared whole or not at all, read back exactly, and clear about damage."""

import multiprocessing
import os

import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.data.builders import scenes
from dilated_jax.errors import InputError

COUNTS = {'train': 5, 'val': 2, 'test': 3}


def files(folder):
  return sorted(path for path in folder.rglob('*') if path.is_file())


def test_pictures_come_back_exactly(tmp_path):
  folder = data.prepare('scenes', tmp_path, counts=COUNTS)
  assert folder.is_dir()
  assert data.splits('scenes', tmp_path) == ('train', 'val', 'test')
  for split, count in COUNTS.items():
    source = data.load('scenes', split, tmp_path)
    assert len(source) == count
    for i, example in enumerate(source):
      image, label = scenes.draw(scenes.FIRST_SEED[split] + i)
      np.testing.assert_array_equal(example['image'], image)
      np.testing.assert_array_equal(example['label'], label)
      assert example['name'] == f'{scenes.FIRST_SEED[split] + i:07}'
    assert source[-1]['name'] == source[count - 1]['name']
    with pytest.raises(IndexError):
      source[count]
  assert len(data.load('scenes', 'train[:40%]', tmp_path)) == 2


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


def test_preparing_again_writes_nothing(tmp_path):
  data.prepare('scenes', tmp_path, counts=COUNTS)
  before = [(path, path.stat().st_mtime_ns) for path in files(tmp_path)]
  data.prepare('scenes', tmp_path)
  assert [(path, path.stat().st_mtime_ns) for path in files(tmp_path)] == before


def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
  def interrupted(seed):
    if seed == 3:
      raise KeyboardInterrupt
    return scenes_draw(seed)

  scenes_draw = scenes.draw
  monkeypatch.setattr(scenes, 'draw', interrupted)
  with pytest.raises(KeyboardInterrupt):
    data.prepare('scenes', tmp_path, counts=COUNTS)
  assert files(tmp_path) == []
  monkeypatch.undo()
  data.prepare('scenes', tmp_path, counts=COUNTS)
  assert len(data.load('scenes', 'train', tmp_path)) == 5


def test_a_process_that_lost_the_race_uses_the_folder_of_the_winner(tmp_path, monkeypatch):
  def overtaken(seed):
    if seed == 1:
      monkeypatch.undo()
      data.prepare('scenes', tmp_path, counts=COUNTS)
    return scenes_draw(seed)

  scenes_draw = scenes.draw
  monkeypatch.setattr(scenes, 'draw', overtaken)
  folder = data.prepare('scenes', tmp_path, counts=COUNTS)
  assert len(data.load('scenes', 'train', tmp_path)) == 5
  assert [path.name for path in folder.parent.iterdir()] == ['1.0.0']


def _damage(folder, how):
  record = folder / 'scenes-train.array_record-00000-of-00001'
  content = record.read_bytes()
  if how == 'missing':
    record.unlink()
  elif how == 'empty':
    record.write_bytes(b'')
  elif how == 'truncated':
    record.write_bytes(content[: len(content) // 2])
  elif how == 'garbled':
    record.write_bytes(content[:200] + os.urandom(len(content) - 400) + content[-200:])
  elif how == 'no info':
    (folder / 'dataset_info.json').unlink()
  elif how == 'half an info':
    text = (folder / 'dataset_info.json').read_text()
    (folder / 'dataset_info.json').write_text(text[: len(text) // 2])


@pytest.mark.parametrize(
  'how', ['missing', 'empty', 'truncated', 'garbled', 'no info', 'half an info']
)
def test_damage_is_named(tmp_path, how):
  folder = data.prepare('scenes', tmp_path, counts=COUNTS)
  _damage(folder, how)
  with pytest.raises(InputError, match=r'scenes/1\.0\.0: .*damaged.*delete'):
    data.load('scenes', 'train', tmp_path)


def test_unknown_split_and_missing_raw_data_are_clear(tmp_path):
  data.prepare('scenes', tmp_path, counts=COUNTS)
  with pytest.raises(InputError, match=r"no split 'trian': choose one of train, val, test"):
    data.load('scenes', 'trian', tmp_path)
  with pytest.raises(InputError, match=r'experiments\.prepare --dataset=camvid --manual_dir'):
    data.load('camvid', 'train', tmp_path)
  with pytest.raises(InputError, match='nowhere'):
    data.load('camvid', 'train', tmp_path, tmp_path / 'nowhere')


def test_default_folder_follows_tfds(monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', '/data/here')
  assert data.default_dir() == '/data/here'
  monkeypatch.delenv('TFDS_DATA_DIR')
  assert data.default_dir() == os.path.expanduser('~/tensorflow_datasets')


def test_source_pickles(tmp_path):
  data.prepare('scenes', tmp_path, counts=COUNTS)
  source = data.load('scenes', 'val', tmp_path)
  copy = multiprocessing.reduction.ForkingPickler.loads(
    multiprocessing.reduction.ForkingPickler.dumps(source)
  )
  np.testing.assert_array_equal(copy[1]['image'], source[1]['image'])


@pytest.mark.parametrize('split', ['train[:10%', 'train[5:5]', 'train[:0]', 'train[99999:]'])
def test_a_wrong_slice_is_not_called_damage(tmp_path, split):
  data.prepare('scenes', tmp_path, counts={'train': 3, 'val': 1, 'test': 1})
  with pytest.raises(InputError, match='slice') as raised:
    data.load('scenes', split, tmp_path)
  assert 'damaged' not in str(raised.value)

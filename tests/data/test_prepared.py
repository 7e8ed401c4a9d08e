"""Data sets are prepared completely or not at all, and read back exactly; damage is named."""

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
  assert list(tmp_path.iterdir()) == []
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
  with pytest.raises(InputError, match=r'scenes/1\.0\.0.*: .*(damaged|missing).*delete'):
    data.load('scenes', 'train', tmp_path)


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

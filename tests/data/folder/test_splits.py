"""Splits, and the choice of validation images."""

import shutil

import pytest

from dilated_jax.data import folder
from dilated_jax.data.folder.splits import choose_validation
from tests.data.folder.folders import make, refused


def test_held_out_pictures_are_always_the_same(tmp_path):
  make(tmp_path, [f'{word}x' for word in map(str, range(40))])
  val = {pair.name for pair in folder.scan(tmp_path).splits['val']}
  assert len(val) == 6
  moved = shutil.copytree(tmp_path, tmp_path.with_name('moved'))
  found = folder.scan(moved)
  assert {pair.name for pair in found.splits['val']} == val
  assert '6 images, chosen by a hash of the names' in ' '.join(found.notes)
  assert found.fingerprint == folder.scan(tmp_path).fingerprint
  # One more picture moves at most one that was held out, never one that was learnt into val.
  make(moved, ['new'])
  assert len({pair.name for pair in folder.scan(moved).splits['val']} ^ val) <= 2


def test_whole_sequences_are_held_out():
  names = [f'{film}_{frame:05}' for film in ('a1', 'b2', 'c3', 'd4', 'e5') for frame in range(8)]
  val, how = choose_validation(names)
  assert val == {name for name in names if name[:2] in {name[:2] for name in val}}
  assert len(val) == 8 and 'all of' in how
  # One film, or one that is far too large, leaves single pictures.
  for others in ([f'a1_{i}' for i in range(20)], [f'a{i % 2}_{i}' for i in range(20)]):
    val, how = choose_validation(others)
    assert len(val) == 3 and 'hash' in how


@pytest.mark.parametrize('count, held', [(1, 0), (2, 1), (3, 1), (10, 2), (100, 15)])
def test_how_many_are_held_out(count, held):
  val, _ = choose_validation([f'{index}x' for index in range(count)])
  assert len(val) == held


def test_train_without_val_and_test_without_train(tmp_path):
  for split in ('train', 'test'):
    make(tmp_path, images=f'images/{split}', masks=f'labels/{split}')
  found = folder.scan(tmp_path)
  assert {split: len(pairs) for split, pairs in found.splits.items()} == {
    'train': 7, 'val': 1, 'test': 8
  }  # fmt: skip
  shutil.rmtree(tmp_path / 'images' / 'train')
  shutil.rmtree(tmp_path / 'labels' / 'train')
  refused(tmp_path, 'no train split')

"""A flipped bit anywhere in what is written here is found, or makes no difference."""

import pathlib
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax import data, models
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.training import checkpoints, feature_cache

OPTIONS = {
  'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4,
  'dilations': [1, 2, 1],
}  # fmt: skip


def flipped(folder: pathlib.Path, count: int):
  """Flips bits of the files below a folder, one after the other; yields each file meanwhile."""
  draw = random.Random(0)
  paths = sorted(path for path in folder.rglob('*') if path.is_file() and path.stat().st_size)
  for index in range(count):
    path = paths[index % len(paths)]  # Small ones as often as large ones.
    before = path.read_bytes()
    content = bytearray(before)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    yield path
    path.write_bytes(before)


def found_in(path: pathlib.Path, folder: pathlib.Path, error) -> None:
  """The message names the file, or where the checksums are damaged, one of the folder."""
  assert '\n' not in str(error.value)
  named = folder if path.name == 'checksums.json' else path
  assert str(named) in str(error.value)


@pytest.fixture(scope='module')
def spec():
  return models.ModelSpec(
    'dilation8', OPTIONS, ('a', 'b'), ((0, 0, 0), (255, 0, 0)), (1.0, 2.0, 3.0)
  )


@pytest.fixture(scope='module')
def variables(spec):
  draw = np.random.default_rng(0)
  shapes = weights_folder.abstract_variables(spec.create())
  return jax.tree.map(lambda x: draw.standard_normal(x.shape).astype(x.dtype), shapes)


def test_weights(spec, variables, tmp_path, attempts):
  folder = tmp_path / 'weights'
  weights_folder.save_weights(folder, spec, variables)
  for path in flipped(folder, attempts(5, 600)):
    with pytest.raises(InputError) as error:
      weights_folder.load_weights(folder)
    found_in(path, folder, error)
  weights_folder.load_weights(folder)


# Times and paths that Orbax writes last, and that nobody reads.
UNREAD = {'_CHECKPOINT_METADATA', 'commit_success.txt'}


def test_checkpoints(tmp_path, attempts):
  state = {'a': jnp.arange(1000.0), 'b': jnp.ones((3, 4))}
  with checkpoints.manager(tmp_path) as manager:
    checkpoints.save(manager, 4, state, 0.5)
  for path in flipped(tmp_path / '4', attempts(16, 400)):
    try:
      with checkpoints.manager(tmp_path) as manager:
        restored = checkpoints.restore(manager, 4, state)
        score = manager.metrics(4)['mean_iou']
    except InputError as error:
      assert '\n' not in str(error)
      named = tmp_path if path.name in {*UNREAD, 'checksums.json'} else path
      assert str(named) in str(error)
    else:
      assert path.name in UNREAD
      assert score == 0.5
      jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_feature_caches(spec, variables, tmp_path, attempts, caplog):
  model, draw = spec.create(), np.random.default_rng(0)
  images = draw.integers(0, 255, (2, 16, 16, 3)).astype(np.uint8)
  source = [{'image': image, 'label': np.zeros((16, 16), np.uint8)} for image in images]

  def features():
    cached = feature_cache.cached_features(model, variables, spec.mean, source, tmp_path)
    return [np.array(each['features']) for each in cached]

  expected = features()
  for path in flipped(tmp_path, attempts(4, 200)):
    caplog.clear()
    np.testing.assert_array_equal(features(), expected)
    assert 'damaged or incomplete' in caplog.text
    assert path.stem in caplog.text


@pytest.fixture
def prepared(tmp_path):
  folder = tmp_path / 'data'
  data.prepare('scenes', folder, counts={'train': 2, 'val': 1, 'test': 1})
  return folder


def test_prepared_data_sets(prepared, attempts):
  """Records are checked as they are read; room between them may change unseen."""

  def examples():
    return [
      (each['image'].tobytes(), each['label'].tobytes(), each['name'])
      for split in ('train', 'val', 'test')
      for each in data.load('scenes', split, data_dir=prepared)
    ]

  expected = examples()
  for path in flipped(prepared, attempts(12, 400)):
    try:
      assert examples() == expected
      assert '.array_record' in path.name
    except InputError as error:
      assert '\n' not in str(error)
      assert str(prepared) in str(error)
  shutil.rmtree(prepared)

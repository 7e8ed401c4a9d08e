"""features.py: the front end's maps, computed once for each set of weights."""

import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.images import preprocessing
from dilated_jax.models import weights_folder
from dilated_jax.training import feature_cache

MEAN = (100.0, 110.0, 120.0)
MODEL = models.create(
  'front_end', 3, blocks=(1,), width=1 / 16, stride=2, fc_kernel=3, fc_channels=4
)


def variables_of(seed=0):
  rng = np.random.default_rng(seed)
  shapes = weights_folder.abstract_variables(MODEL)
  return jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)


def pictures(seed=0, sizes=((5, 8), (6, 7), (6, 8))):
  rng = np.random.default_rng(seed)
  return [
    {'image': rng.integers(0, 256, (*size, 3), dtype=np.uint8),
     'label': rng.integers(0, 3, size).astype(np.uint8)}
    for size in sizes
  ]  # fmt: skip


def files(folder):
  return {path.name: path.stat().st_mtime_ns for path in folder.glob('*.npy')}


def test_maps_are_the_front_ends_scores_on_one_canvas(tmp_path):
  variables, given = variables_of(), pictures()
  source = feature_cache.cached_features(MODEL, variables, MEAN, given, tmp_path, batch_size=2)
  assert len(source) == 3
  margin = MODEL.margin
  for example, found in zip(given, source):
    height, width = example['label'].shape
    # Where there is a picture, what prediction would compute; further cells are void.
    image = preprocessing.reflect_pad(example['image'][None], margin, MODEL.stride)
    scores = MODEL.apply(variables, image - np.array(MEAN, np.float32))[0]
    assert found['features'].shape == (3, 4, 3) and found['features'].dtype == np.float32
    inside = found['features'][: scores.shape[0], : scores.shape[1]]
    np.testing.assert_allclose(inside, scores, rtol=1e-4, atol=1e-4)
    assert found['label'].shape == (6, 8) and found['label'].dtype == np.uint8
    np.testing.assert_array_equal(found['label'][:height, :width], example['label'])
    assert (found['label'][height:] == 255).all() and (found['label'][:, width:] == 255).all()


def test_maps_are_reused_until_something_changes(tmp_path, monkeypatch):
  calls = []
  compute = feature_cache._compute
  monkeypatch.setattr(feature_cache, '_compute', lambda *a: (calls.append(1), compute(*a)))
  variables, given = variables_of(), pictures()
  feature_cache.cached_features(MODEL, variables, MEAN, given, tmp_path)
  first = files(tmp_path)
  assert len(first) == len(calls) == 1
  feature_cache.cached_features(MODEL, variables, MEAN, given, tmp_path)
  assert files(tmp_path) == first and len(calls) == 1

  changed = jax.tree.map(np.copy, variables)
  changed['params']['front_end']['final']['bias'][0] += 1
  for arguments in (
    (changed, MEAN, given),
    (variables, (1.0, 2.0, 3.0), given),
    (variables, MEAN, pictures(1)),
    (variables, MEAN, given[:2]),
  ):
    before = files(tmp_path)
    feature_cache.cached_features(MODEL, *arguments, tmp_path)
    assert len(files(tmp_path)) == len(before) + 1
  assert len(calls) == 5


def test_features_are_as_precise_as_predictions(tmp_path, monkeypatch):
  seen, apply = set(), type(MODEL).apply

  def watched(model, *arguments, **options):
    seen.add(jax.config.jax_default_matmul_precision)
    return apply(model, *arguments, **options)

  monkeypatch.setattr(type(MODEL), 'apply', watched)
  feature_cache.cached_features(MODEL, variables_of(), MEAN, pictures(), tmp_path)
  assert seen == {'float32'}


def test_interrupted_work_leaves_no_maps(tmp_path):
  class Torn(list):
    reads = 0

    def __getitem__(self, index):
      self.reads += 1
      if self.reads > 4:
        raise KeyboardInterrupt
      return super().__getitem__(index)

  variables, given = variables_of(), pictures()
  with pytest.raises(KeyboardInterrupt):
    feature_cache.cached_features(MODEL, variables, MEAN, Torn(given), tmp_path, batch_size=1)
  assert not list(tmp_path.glob('*.npy'))
  source = feature_cache.cached_features(MODEL, variables, MEAN, given, tmp_path, batch_size=1)
  assert len(files(tmp_path)) == 1 and all(example['features'].any() for example in source)


@pytest.mark.parametrize('damage', ['flip', 'cut', 'checksum', 'no checksum'])
def test_damaged_maps_are_computed_again(damage, tmp_path, caplog):
  variables, given = variables_of(), pictures()
  whole = maps_of(variables, given, tmp_path)
  (path,) = tmp_path.glob('*.npy')
  content = path.read_bytes()
  if damage == 'flip':
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
  elif damage == 'cut':
    path.write_bytes(content[:-100])
  elif damage == 'checksum':
    path.with_suffix('.sha256').write_bytes(b'\xb9' * 64)
  else:
    path.with_suffix('.sha256').unlink()
  np.testing.assert_array_equal(maps_of(variables, given, tmp_path), whole)
  assert 'computed again' in caplog.text


def maps_of(variables, given, folder):
  source = feature_cache.cached_features(MODEL, variables, MEAN, given, folder, batch_size=2)
  return [np.copy(example['features']) for example in source]


def test_other_files_in_the_folder_are_left_alone(tmp_path):
  np.save(tmp_path / 'my_own.npy', np.arange(3))
  feature_cache.cached_features(MODEL, variables_of(), MEAN, pictures(), tmp_path)
  assert (np.load(tmp_path / 'my_own.npy') == np.arange(3)).all()

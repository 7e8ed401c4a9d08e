"""Tiles against whole pictures, and against the authors' procedure written out as loops."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax import inference, models
from dilated_jax.errors import InputError
from dilated_jax.images import preprocessing
from dilated_jax.inference import (
  prediction as prediction_lib,
  tiling,
  upsampling as upsampling_lib,
)
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter

MEAN = np.array([100.0, 110.0, 120.0], np.float32)
SMALL = dict(blocks=(1, 1), width=1 / 16, fc_kernel=3, stride=4)
NETWORKS = {
  'front end': ('front_end', {}),
  'basic': ('dilation7', {}),
  'large': ('dilation8', dict(context='large')),
  'upsampling': ('dilation7', dict(dilations=(1, 2, 1))),
}


def network(name='basic', seed=0, **more):
  kind, options = NETWORKS[name]
  kind = 'dilation10' if name == 'upsampling' else kind
  model = models.create(kind, 3, **SMALL, **options, **more)
  shapes = weights_folder.abstract_variables(model)
  rng = np.random.default_rng(seed)

  def random(shape):
    # Wide enough for the zeros of the padding to matter, and biases for them not to stay zeros.
    spread = np.sqrt(2 / np.prod(shape.shape[:-1])) if len(shape.shape) > 1 else 0.3
    return jnp.asarray(rng.normal(0, spread, shape.shape), jnp.float32)

  variables = jax.tree.map(random, shapes)
  first = variables['params']['front_end']['conv1_1']
  first['kernel'] = first['kernel'] / 64  # Pictures are of 0..255.
  return model, variables


def picture(height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


def spec_of(**more):
  return types.SimpleNamespace(
    **dict(upsampling='corner', image_scale=1.0, mean=MEAN, input=None) | more
  )


@pytest.mark.parametrize('name', NETWORKS)
def test_pieces_make_up_the_whole(name):
  model, variables = network(name)
  images = picture(150, 203)
  padded = preprocessing.reflect_pad(images, model.margin, model.stride).astype(np.float32) - MEAN
  whole = np.asarray(jax.jit(model.apply)(variables, padded))
  assert whole.std() > 0.05
  for tile in ((300, 300), (100, 300), (61, 77), (47, 200)):
    logits = tiling.overlapping(Segmenter(model, variables, spec_of()), images, tile)
    np.testing.assert_allclose(logits, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('size', [(1, 1), (53, 61), (90, 17)])
@pytest.mark.parametrize('tile', [(40, 40), (41, 130)])
def test_probabilities_do_not_depend_on_the_tile(size, tile):
  model, variables = network('basic')
  image = picture(*size)[0]
  whole = inference.predict(Segmenter(model, variables, spec_of()), image, tile='whole')
  tiled = inference.predict(Segmenter(model, variables, spec_of()), image, tile=tile)
  np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-5)
  np.testing.assert_allclose(tiled.logits, whole.logits, atol=1e-4)


def test_context_in_pieces(monkeypatch):
  model, variables = network('large', dilations=(1, 1, 2, 1))
  images = picture(301, 290)
  whole = tiling.overlapping(Segmenter(model, variables, spec_of()), images, (400, 400))
  shapes = set()
  compiled = tiling._compiled
  monkeypatch.setattr(
    tiling,
    '_compiled',
    lambda m, name, shape: shapes.add((name, shape[1:3])) or compiled(m, name, shape),
  )
  pieces = tiling.overlapping(Segmenter(model, variables, spec_of()), images, (60, 60))
  contexts = [shape for name, shape in shapes if name == 'apply_context']
  assert contexts and all(max(shape) < 76 for shape in contexts)  # Of 76 x 73 cells.
  np.testing.assert_allclose(pieces, whole, rtol=1e-5, atol=1e-5)


def mirrored(array, before, after):
  """OpenCV's BORDER_REFLECT_101, one pixel at a time."""
  height, width = array.shape[:2]

  def fold(i, n):
    while n > 1 and not 0 <= i < n:
      i = -i if i < 0 else 2 * (n - 1) - i
    return i if n > 1 else 0

  rows = [fold(i, height) for i in range(-before[0], height + after[0])]
  columns = [fold(i, width) for i in range(-before[1], width + after[1])]
  return array[np.ix_(rows, columns)]


@pytest.mark.parametrize('name', ['basic', 'upsampling'])
@pytest.mark.parametrize('size', [(37, 61), (70, 130), (5, 3)])
def test_published_manner(name, size):
  model, variables = network(name)
  tile = (76, 92)
  image = picture(*size)[0]
  margin, apply = model.margin, jax.jit(model.apply)
  padded = mirrored(image, (margin, margin), (margin, margin))
  labels = [tile[0] - 2 * margin, tile[1] - 2 * margin]
  rows = []
  for top in range(0, size[0], labels[0]):
    row = []
    for left in range(0, size[1], labels[1]):
      cut = padded[top : top + tile[0], left : left + tile[1]]
      cut = mirrored(cut, (0, 0), (tile[0] - cut.shape[0], tile[1] - cut.shape[1]))
      logits = apply(variables, cut[None].astype(np.float32) - MEAN)[0]
      row.append(np.asarray(logits))
    rows.append(np.concatenate(row, 1))
  expected = np.concatenate(rows, 0)
  spec = spec_of(input=tile)
  prediction = inference.predict(Segmenter(model, variables, spec), image)
  if model.full_size:
    expected = expected[: size[0], : size[1]]
  np.testing.assert_allclose(prediction.logits, expected, rtol=1e-4, atol=1e-5)
  assert prediction.labels.shape == size


@pytest.mark.parametrize('name', ['basic', 'large', 'upsampling'])
@pytest.mark.parametrize('published', [(100, 120), (103, 117)])  # The second is cut by pooling.
def test_smaller_tiles_answer_as_the_published_input(name, published):
  model, variables = network(name)
  image = picture(60, 70)[0]
  spec = spec_of(input=published)
  whole = inference.predict(Segmenter(model, variables, spec), image)
  for tile in ((40, 40), (61, 200)):
    tiled = inference.predict(Segmenter(model, variables, spec), image, tile=tile)
    assert tiled.logits.shape == whole.logits.shape
    np.testing.assert_allclose(tiled.logits, whole.logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-5)


def test_published_input_counts_for_pictures_that_fit():
  model, variables = network('basic')
  image = picture(30, 40)[0]
  small, large = (
    inference.predict(Segmenter(model, variables, spec_of(input=(80, 80))), image, tile=tile).logits
    for tile in (None, (120, 120))
  )
  assert small.shape[:2] != large.shape[:2]
  assert np.abs(small - large[: small.shape[0], : small.shape[1]]).max() > 1e-3


@pytest.mark.parametrize('name', ['basic', 'upsampling'])
@pytest.mark.parametrize('upsampling', ['corner', 'deconvolution'])
def test_rows_make_up_the_whole(name, upsampling, monkeypatch):
  model, variables = network(name)
  spec, image = spec_of(upsampling=upsampling), picture(75, 83)[0]
  whole = inference.predict(Segmenter(model, variables, spec), image)
  monkeypatch.setattr(upsampling_lib, '_ROWS_BYTES', 30_000)
  tiled = inference.predict(Segmenter(model, variables, spec), image, tile=(60, 60))
  np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-5)
  assert (tiled.labels != whole.labels).mean() < 1e-3


def test_tile_from_memory(monkeypatch):
  model, variables = network('basic')
  image = picture(200, 260)[0]
  asked = []
  exact = tiling.overlapping
  monkeypatch.setattr(
    tiling, 'overlapping', lambda *args, tile: asked.append(tile) or exact(*args, tile)
  )
  whole = inference.predict(Segmenter(model, variables, spec_of()), image)
  assert not asked
  monkeypatch.setattr(prediction_lib, 'memory', lambda: 300_000)
  pieces = inference.predict(Segmenter(model, variables, spec_of()), image)
  assert asked and max(asked[0]) < 200
  np.testing.assert_allclose(pieces.probabilities, whole.probabilities, atol=1e-5)


def test_free_memory_is_plausible():
  assert 1 << 26 < inference.memory() < 1 << 44


def test_too_small_a_tile():
  model, variables = network('basic')
  with pytest.raises(InputError, match='tile of 10x90 is too small; it needs'):
    inference.predict(Segmenter(model, variables, spec_of()), picture(50, 60)[0], tile=(10, 90))

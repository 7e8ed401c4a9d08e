"""Canvases: many sizes, few programs, the same answers."""

import itertools

import jax
import numpy as np
import pytest

from dilated_jax import inference
from dilated_jax.inference import prediction
from dilated_jax.inference.canvases import WASTE, Canvases
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn import table as tables
from dilated_jax.nn.stack import Stack
from dilated_jax.nn.table import Layer
from experiments import compilation_cache
from tests.models.random_inputs import variables_of

VGG = {'blocks': (1, 1, 1, 1, 1), 'width': 1 / 32, 'fc_channels': 4, 'fc_kernel': 3}
SHORT = {'dilations': (1, 2, 1)}


def segmenter_of(name, options, upsampling='deconvolution', image_scale=1.0):
  spec = ModelSpec(
    name, options, ('a', 'b', 'c'), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), (100.0, 110.0, 120.0),
    upsampling=upsampling, image_scale=image_scale,
  )  # fmt: skip
  model = spec.create()
  return Segmenter(model, variables_of(model), spec)


def pictures(*sizes):
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


# Every kind of layer that depends on where its input ends, and those that lie between them.
TABLE = (
  Layer('strided', stride=2, padding=1, channels=16, norm='group', activation='relu'),
  Layer('maxima', 'max_pool', stride=2, padding=1),
  Layer('means', 'avg_pool', stride=2, padding=1),
  Layer('dilated', dilation=2, padding=2, channels=4),
  Layer('bins', 'adaptive_avg_pool', kernel=2),
  tables.merge('bins_up', 'resize', 'bins', 'dilated'),
  tables.merge('both', 'concat', 'dilated', 'bins_up'),
  Layer('scores', kernel=1, channels=16),
  Layer('upsampled', 'deconv', kernel=4, stride=2, padding=1),
  Layer('clipped', 'max_pool', kernel=2, stride=2, inputs=('strided',)),
  tables.merge('cropped', 'crop', 'clipped', padding=-1),
  tables.merge('sum', 'sum', 'upsampled', 'cropped'),
)


def test_every_kind_of_layer():
  """One program for all sizes, each of which gives what the map alone gives."""
  rng, canvas = np.random.default_rng(0), (45, 52)
  stack, x = Stack(TABLE), rng.standard_normal((1, *canvas, 3), np.float32)
  variables = jax.jit(stack.init)(jax.random.key(0), x)
  on_canvas = jax.jit(lambda own, x: stack.apply(variables, x, own=own))
  for rows, columns in ((39, 46), (45, 33)):
    expected = jax.jit(stack.apply)(variables, x[:, :rows, :columns])
    beyond = x.copy()
    beyond[:, rows:] = 1e3
    beyond[:, :, columns:] = -1e3
    found = on_canvas(np.array([rows, columns], np.int32), beyond)
    found = found[:, : expected.shape[1], : expected.shape[2]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected) > 0.1
  assert on_canvas._cache_size() == 1


def test_the_answer_is_that_of_the_image_alone():
  assert_same(segmenter_of('dilation8', VGG | SHORT, 'corner'))


def assert_same(segmenter):
  """The program of another image labels one as its own program does."""
  canvases, (first, image) = Canvases(), pictures((72, 88), (60, 75))
  with compilation_cache.counted() as programs:
    inference.predict(segmenter, first, canvases=canvases)
    compiled = programs.total
    found = inference.predict(segmenter, image, canvases=canvases)
  assert len(canvases) == 1 and programs.total == compiled
  expected = inference.predict(segmenter, image)
  assert found.labels.shape == expected.labels.shape == image.shape[:2]
  for ours, theirs in zip(found[1:], expected[1:], strict=True):
    np.testing.assert_allclose(ours, theirs, atol=5e-5 * max(1, abs(theirs).max()))
  assert found.probabilities.std() > 1e-3, 'the network says something'


def test_scaled_images_share_programs():
  segmenter = segmenter_of('dilation8', VGG | SHORT, 'corner', image_scale=0.5)
  canvases, images = Canvases(), pictures((60, 83), (57, 80), (53, 79))
  passes = dict(scales=(1.0, 1.3), flip=True)
  with compilation_cache.counted() as programs:
    inference.predict(segmenter, images[0], canvases=canvases, **passes)
    compiled = programs.total
    found = [inference.predict(segmenter, image, canvases=canvases, **passes) for image in images]
  assert programs.total == compiled == 2
  expected = inference.predict(segmenter, images[1], **passes)
  np.testing.assert_allclose(found[1].probabilities, expected.probabilities, atol=2e-5)


def test_tiles_of_a_canvas(monkeypatch):
  """What does not fit into memory is fed in pieces, whose programs are those of the canvas too."""
  segmenter = segmenter_of('dilation8', VGG | SHORT | {'context': 'large'})
  first, image = pictures((160, 208), (141, 190))
  expected = inference.predict(segmenter, image, tile='whole')
  monkeypatch.setattr(prediction, 'memory', lambda: 300_000)
  monkeypatch.setattr(prediction.upsampling, '_ROWS_BYTES', 40_000)
  canvases = Canvases()
  with compilation_cache.counted() as programs:
    inference.predict(segmenter, first, canvases=canvases)
    compiled = programs.total
    found = inference.predict(segmenter, image, canvases=canvases)
  assert len(canvases) == 1 and compiled > 3
  assert programs.total - compiled <= 2  # The context module knows that there is an outside.
  np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)
  np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-5)


def test_no_program_more_than_a_canvas():
  """Pictures of twenty sizes: as many compilations as canvases, whoever counts."""
  segmenter = segmenter_of('front_end', VGG)
  rng, canvases = np.random.default_rng(3), Canvases()
  sizes = [tuple(map(int, size)) for size in rng.integers(100, 180, (20, 2))]
  assert len(set(sizes)) == 20
  with compilation_cache.counted() as programs:
    for image in pictures(*sizes):
      assert (
        inference.label_maps(segmenter, image[None], canvases=canvases).shape[1:]
        == (image.shape[:2])
      )
  assert programs.total == len(canvases) < 9


@pytest.mark.parametrize('stride,margin', [(8, 186), (8, 0), (32, 0), (1, 0)])
def test_waste_and_number_are_bounded(stride, margin):
  rng, canvases, largest = np.random.default_rng(0), Canvases(), 1000
  for size in np.concatenate([rng.integers(1, largest + 1, (3000, 2)), [[1, 1], [1, largest]]]):
    canvas = canvases.of(tuple(map(int, size)), stride, margin)
    rounded = size + -size % stride
    assert (canvas >= rounded).all() and not any(side % stride for side in canvas)
    assert np.prod(np.add(canvas, 2 * margin)) <= WASTE * np.prod(rounded + 2 * margin)
  grid = np.log((largest + 2 * margin + stride) / (2 * margin + stride)) / np.log(WASTE**0.5)
  assert len(canvases) <= (grid + 2) ** 2 + 4


def test_few_sizes_waste_nothing():
  sizes = [(360, 480), (480, 360), (720, 960), (333, 500)]
  canvases = Canvases()
  for _, size in itertools.product(range(2), sizes):
    canvas = canvases.of(size, 8)
    assert all(0 <= larger - side < 8 for larger, side in zip(canvas, size, strict=True))
  assert len(canvases) == 4

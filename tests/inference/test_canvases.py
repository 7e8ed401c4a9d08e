"""Canvases: many sizes, few programs, the same answers."""

import itertools

import numpy as np
import pytest

from dilated_jax import inference
from dilated_jax.inference import prediction
from dilated_jax.inference.canvases import WASTE, Canvases
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from experiments import compilation_cache
from tests.models.random_inputs import variables_of

VGG = {'blocks': (1, 1, 1, 1, 1), 'width': 1 / 32, 'fc_channels': 4, 'fc_kernel': 3}
RESNET = {'blocks': (1, 1, 1, 1), 'width': 1 / 32}
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


# Every way in which a network depends on the border: zeros in all layers or in one, clipped
# windows, averages that count the padding, averages of the map, group statistics, other scales.
NETWORKS = {
  'nothing padded': ('front_end', VGG, 'corner'),
  'zeros in every layer': ('dilation8', VGG | SHORT, 'corner'),
  'zeros in the first layer': ('dilation8', VGG | SHORT | {'context': 'large'}, 'deconvolution'),
  'its own upsampling': ('dilation10', VGG | SHORT, 'deconvolution'),
  'cropped skips': ('fcn8s', VGG | SHORT | {'fc_kernel': 7, 'context': 'basic'}, 'deconvolution'),
  'padded poolings': ('deeplab_msc', VGG, 'corner_logits'),
  'several sizes': ('deeplab_v2', VGG | {'multi_scale': True}, 'corner_logits'),
  'mean and groups': ('deeplab_v3', RESNET | {'norm': 'group', 'width': 1 / 4}, 'corner_logits'),
  'pyramid of means': ('pspnet', RESNET | SHORT | {'context': 'basic'}, 'corner_logits'),
  'CRF-RNN on cells': ('dilation8', VGG | SHORT | {'crf': 'rnn'}, 'corner'),
}


@pytest.mark.parametrize('kind', NETWORKS)
def test_the_answer_is_that_of_the_image_alone(kind):
  name, options, upsampling = NETWORKS[kind]
  segmenter = segmenter_of(name, options, upsampling)
  large, small, first = pictures((60, 83), (44, 71), (64, 88))
  canvases = Canvases()
  with compilation_cache.counted() as programs:
    inference.predict(segmenter, first, canvases=canvases)
    compiled = programs.total
    found = [inference.predict(segmenter, image, canvases=canvases) for image in (large, small)]
  assert len(canvases) == (1 if segmenter.model.margin else 2)
  assert programs.total - compiled == len(canvases) - 1
  for image, one in zip((large, small), found, strict=True):
    expected = inference.predict(segmenter, image)
    assert one.labels.shape == expected.labels.shape == image.shape[:2]
    for ours, theirs in zip(one[1:], expected[1:], strict=True):
      np.testing.assert_allclose(ours, theirs, atol=2e-5 * max(1, abs(theirs).max()))
    assert one.probabilities.std() > 1e-3, 'the network says something'


def test_scaled_images_share_programs():
  segmenter = segmenter_of('dilation8', VGG | SHORT, 'corner', image_scale=0.5)
  canvases, images = Canvases(), pictures((60, 83), (57, 90), (53, 79))
  passes = dict(scales=(1.0, 0.7, 1.3), flip=True)
  with compilation_cache.counted() as programs:
    inference.predict(segmenter, images[0], canvases=canvases, **passes)
    compiled = programs.total
    found = [inference.predict(segmenter, image, canvases=canvases, **passes) for image in images]
  assert programs.total == compiled <= 3
  for image, one in zip(images, found, strict=True):
    expected = inference.predict(segmenter, image, **passes)
    np.testing.assert_allclose(one.probabilities, expected.probabilities, atol=2e-5)


@pytest.mark.parametrize('kind', ['zeros in every layer', 'zeros in the first layer'])
def test_tiles_of_a_canvas(kind, monkeypatch):
  """What does not fit into memory is fed in pieces, whose programs are those of the canvas too."""
  name, options, upsampling = NETWORKS[kind]
  segmenter = segmenter_of(name, options, upsampling)
  first, large, small = pictures((160, 208), (153, 199), (141, 190))
  expected = [inference.predict(segmenter, image, tile='whole') for image in (large, small)]
  monkeypatch.setattr(prediction, 'memory', lambda: 300_000)
  monkeypatch.setattr(prediction.upsampling, '_ROWS_BYTES', 40_000)
  canvases = Canvases()
  with compilation_cache.counted() as programs:
    inference.predict(segmenter, first, canvases=canvases)
    compiled = programs.total
    found = [inference.predict(segmenter, image, canvases=canvases) for image in (large, small)]
  assert len(canvases) == 1 and compiled > 3
  assert programs.total - compiled <= 2  # The context module knows that there is an outside.
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-4)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=2e-5)


def test_no_program_more_than_a_canvas():
  """Pictures of forty sizes: as many compilations as canvases, whoever counts."""
  segmenter = segmenter_of('front_end', VGG)
  rng, canvases = np.random.default_rng(3), Canvases()
  sizes = [tuple(map(int, size)) for size in rng.integers(20, 200, (40, 2))]
  assert len(set(sizes)) > 38
  with compilation_cache.counted() as programs:
    for image in pictures(*sizes):
      assert (
        inference.label_maps(segmenter, image[None], canvases=canvases).shape[1:]
        == (image.shape[:2])
      )
  assert programs.total == len(canvases) < 10


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

"""stablehlo.py: programs that JAX alone runs, beside `predict`."""

import jax
import jax.export
import numpy as np
import pytest

from dilated_jax import inference
from dilated_jax.export import stablehlo
from tests.export.test_onnx import VGG, segmenter


@pytest.mark.parametrize('options', [dict(), dict(crf='rnn', crf_rnn_grid='pixels')], ids=str)
def test_labels_as_those_of_predict(options):
  network = segmenter('front_end', **(VGG | dict(fc_kernel=3) | options))
  program = jax.export.deserialize(bytearray(stablehlo.export(network, (21, 30))))
  assert program.platforms == stablehlo.PLATFORMS
  images = np.random.default_rng(0).integers(0, 256, (3, 21, 30, 3)).astype(np.uint8)
  labels, probabilities = program.call(images)
  for index in (0, 2):
    expected = inference.predict(network, images[index], tile='whole')
    np.testing.assert_allclose(probabilities[index], expected.probabilities, atol=1e-5)
    assert (np.asarray(labels[index]) == expected.labels).mean() > 0.999


def test_logits_of_any_batch():
  network = segmenter('dilation8', context='basic', **VGG)
  side = 8 * 3 + 2 * network.model.margin
  program = jax.export.deserialize(bytearray(stablehlo.export(network, (side, side), 'network')))
  images = np.random.default_rng(0).normal(0, 60, (2, side, side, 3)).astype(np.float32)
  expected = network.model.apply(network.variables, images)
  np.testing.assert_allclose(program.call(images), expected, rtol=1e-4, atol=1e-4)

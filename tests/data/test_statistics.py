"""Class weights and mean colors follow their definitions."""

import numpy as np
import pytest

from dilated_jax.data import statistics
from dilated_jax.errors import InputError


def coded(height, width, rng=None):
  """A picture of large patches whose red value is its label times 20."""
  rng = rng or np.random.default_rng(0)
  label = np.kron(
    rng.integers(0, 11, (-(-height // 8), -(-width // 8))), np.ones((8, 8), int)
  ).astype(np.uint8)[:height, :width]
  rest = rng.integers(0, 256, (height, width, 2))
  return {'image': np.dstack([20 * label, *np.moveaxis(rest, -1, 0)]).astype(np.uint8),
          'label': label}  # fmt: skip


def test_class_weights_follow_their_definitions():
  labels = [
    np.array([[0, 0, 0, 1], [0, 0, 1, 255]], np.uint8),
    np.array([[0, 0, 2, 2], [2, 2, 0, 0]], np.uint8),
  ]
  source = [{'label': label} for label in labels]
  # 0: 9 of 16 pixels; 1: 2 of the 8 of the first picture; 2: 4 of the 8 of the second.
  frequency = np.array([9 / 16, 2 / 8, 4 / 8])
  weights = statistics.class_weights(source, 4)
  assert weights.dtype == np.float32
  np.testing.assert_allclose(weights, [*(0.5 / frequency), 0], rtol=1e-6)
  shares = np.array([9, 2, 4]) / 15
  expected = [*(1 / np.log(1.02 + shares)), 0]
  np.testing.assert_allclose(statistics.class_weights(source, 4, 'log'), expected, rtol=1e-6)
  milder = statistics.class_weights(source, 4, 'sqrt_log')
  np.testing.assert_allclose(milder, np.sqrt(expected), rtol=1e-6)
  with pytest.raises(InputError, match='label 2, and there are only 2 classes'):
    statistics.class_weights(source, 2)
  with pytest.raises(InputError, match='median, log, sqrt_log'):
    statistics.class_weights(source, 4, 'mean')
  nothing = [{'label': np.full((2, 2), 255, np.uint8)}]
  assert statistics.class_weights(nothing, 3).tolist() == [0, 0, 0]


def test_mean_color_weighs_pixels_not_pictures():
  source = [coded(4, 6), coded(16, 10)]
  pixels = np.concatenate([example['image'].reshape(-1, 3) for example in source])
  np.testing.assert_allclose(statistics.mean_color(source), pixels.mean(0))

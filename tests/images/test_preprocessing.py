"""Padding by reflection, compared with OpenCV's rule."""

import hypothesis
from hypothesis import strategies as st
import numpy as np

from dilated_jax.images import preprocessing


@hypothesis.given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 40), st.integers(1, 9))
def test_reflect_is_opencvs_border_reflect_101(height, width, margin, stride):
  def fold(place, size):  # OpenCV's borderInterpolate
    if size == 1:
      return 0
    while not 0 <= place < size:
      place = -place if place < 0 else 2 * size - 2 - place
    return place

  def places(size):
    once = [fold(place, size) for place in range(-margin, size + margin)]
    return [once[fold(place, len(once))] for place in range(len(once) + -size % stride)]

  image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
  expected = image[0][np.array(places(height))][:, np.array(places(width))]
  np.testing.assert_array_equal(preprocessing.reflect_pad(image, margin, stride)[0], expected)

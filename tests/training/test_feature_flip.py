"""feature_flip.py: maps of a frozen network are mirrored with the pixels of their cells."""

from fractions import Fraction

import jax
import numpy as np
import pytest

from dilated_jax.training.feature_flip import FeatureFlip


@pytest.mark.parametrize('twice_offset', [0, 1, -5, 3])
def test_mirroring_turns_cells_and_the_pixels_that_belong_to_them(twice_offset):
  cells, stride = 4, 2
  rng = np.random.default_rng(0)
  example = {
    'features': rng.random((2, cells, 3)),
    'inside': rng.random((2, cells)) < 0.5,
    'label': np.arange(32, dtype=np.uint8).reshape(4, 8),
    'image': rng.integers(0, 256, (4, 8, 3), dtype=np.uint8),
  }
  seen, offset = set(), Fraction(twice_offset, 2)
  flip = FeatureFlip(stride, offset, offset)
  for seed in range(8):
    found = flip(example, np.random.default_rng(seed))
    turned = bool((found['features'] != example['features']).any())
    seen.add(turned)
    if not turned:
      assert found is example
      continue
    np.testing.assert_array_equal(found['features'], example['features'][:, ::-1])
    np.testing.assert_array_equal(found['inside'], example['inside'][:, ::-1])
    # A pixel at any distance from cell j is found at that distance on the other side of the cell
    # that took its place.
    for x in range(8):
      cell, distance = 1, x - (stride + offset)
      source = stride * (cells - 1 - cell) + offset - distance
      if 0 <= source < 8:
        np.testing.assert_array_equal(found['label'][:, x], example['label'][:, int(source)])
        np.testing.assert_array_equal(found['image'][:, x], example['image'][:, int(source)])
      else:
        border = 0 if source < 0 else 7
        assert (found['label'][:, x] == 255).all() and found['label'].dtype == np.uint8
        np.testing.assert_array_equal(found['image'][:, x], example['image'][:, border])
  assert seen == {True, False}
  still = FeatureFlip(random=False)
  assert all(still(example, np.random.default_rng(seed)) is example for seed in range(4))


@pytest.mark.parametrize('random', [True, False])
def test_a_compiled_program_mirrors_the_same(random):
  rng = np.random.default_rng(0)
  stored = {
    'features': rng.random((5, 2, 4, 3), np.float32),
    'inside': rng.random((5, 2, 4)) < 0.5,
    'label': rng.integers(0, 3, (5, 4, 8)).astype(np.uint8),
    'image': rng.integers(0, 256, (5, 4, 8, 3), dtype=np.uint8),
  }
  flip = FeatureFlip(2, Fraction(0), Fraction(1, 2), random)
  index = np.array([4, 0, 4, 2, 1, 3], np.int32)
  mirror = np.array([flip.draw(np.random.default_rng(seed)) for seed in range(6)])
  assert len(set(mirror.tolist())) == 1 + random
  found = jax.jit(flip.render)(stored, {'index': index, 'mirror': mirror})
  for place, chosen in enumerate(index):
    example = {name: array[chosen] for name, array in stored.items()}
    expected = flip(example, np.random.default_rng(place))
    for name in stored:
      np.testing.assert_array_equal(found[name][place], expected[name])

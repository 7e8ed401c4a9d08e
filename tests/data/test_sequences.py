"""Downscaled examples, and examples cached in memory."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from dilated_jax.data import sequences
from dilated_jax.errors import InputError
from dilated_jax.images import preprocessing


def coded(height, width, rng=None):
  """A picture of large patches whose red value is its label times 20."""
  rng = rng or np.random.default_rng(0)
  label = np.kron(
    rng.integers(0, 11, (-(-height // 8), -(-width // 8))), np.ones((8, 8), int)
  ).astype(np.uint8)[:height, :width]
  rest = rng.integers(0, 256, (height, width, 2))
  return {'image': np.dstack([20 * label, *np.moveaxis(rest, -1, 0)]).astype(np.uint8),
          'label': label}  # fmt: skip


def test_half_size_averages_pixels_and_keeps_labels():
  example = {**coded(12, 16), 'name': 'a'}
  half = sequences.downscale([example], 0.5)
  assert len(half) == 1 and half[0]['name'] == 'a'
  means = example['image'].reshape(6, 2, 8, 2, 3).mean((1, 3))
  np.testing.assert_allclose(half[0]['image'], means, atol=0.51)
  cells = example['label'].reshape(6, 2, 8, 2)
  np.testing.assert_array_equal(half[0]['label'], cells[:, 0, :, 0])  # Patches are 8 wide.
  source = [example]
  assert sequences.downscale(source, 1.0) is source
  for scale in (0, -1, 1.5):
    with pytest.raises(InputError, match=r'image_scale=.* must be above 0'):
      sequences.downscale(source, scale)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 1))
@settings(max_examples=30)
def test_shrunk_pictures_and_labels_have_one_size(height, width, scale):
  example = sequences.downscale([coded(height, width)], scale)[0]
  assert example['image'].shape[:2] == example['label'].shape
  assert preprocessing.downscale_image(coded(height, width)['image'], scale).shape[:2] == (
    max(1, round(height * scale)),
    max(1, round(width * scale)),
  )


def test_in_memory_decodes_once_where_it_fits():
  class Counting(list):
    reads = 0

    def __getitem__(self, index):
      Counting.reads += 1
      return list.__getitem__(self, index)

  source = Counting(coded(8, 8) for _ in range(150))
  kept = sequences.cache_in_memory(source)
  assert Counting.reads == 150 and len(kept) == 150
  for a, b in zip(kept, list(source)):
    assert a is b
  size = 150 * (8 * 8 * 4)
  assert sequences.cache_in_memory(source, size) is not source
  assert sequences.cache_in_memory(source, size - 1) is source

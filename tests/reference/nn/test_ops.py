"""Poolings and resizing that related networks need, against PyTorch."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from dilated_jax.models import upsampling
from dilated_jax.nn import geometry, ops, table as tables


def as_torch(function, x, *arguments, **options):
  x = torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2)
  return function(x, *arguments, **options).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize('size, stride, padding', [(3, 2, 1), (3, 1, 1), (2, 2, 0), (3, 2, 0)])
@pytest.mark.parametrize('round_up', [True, False])
def test_padded_pooling(size, stride, padding, round_up):
  options = dict(stride=stride, padding=padding, ceil_mode=round_up)
  table = (tables.Layer('pool', 'max_pool', size, stride, padding=padding, round_up=round_up),)
  for height, width in ((8, 11), (9, 7), (3, 4)):
    x = np.random.default_rng(0).standard_normal((2, height, width, 3)).astype(np.float32)
    found = ops.max_pool(x, size, stride, padding, round_up)
    expected = as_torch(functional.max_pool2d, x, size, **options)
    np.testing.assert_array_equal(found, expected)
    assert geometry.output_size(table, width) == expected.shape[2]
    found = ops.avg_pool(x, size, stride, padding, round_up)
    expected = as_torch(functional.avg_pool2d, x, size, **options)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('height, width', [(12, 7), (5, 3), (1, 6)])
def test_means_over_bins_and_resizing(height, width):
  x = np.random.default_rng(0).standard_normal((2, height, width, 3)).astype(np.float32)
  for count in (1, 2, 3, 6):
    expected = as_torch(functional.adaptive_avg_pool2d, x, count)
    np.testing.assert_allclose(ops.adaptive_avg_pool(x, count), expected, atol=1e-6)
  for corners in (True, False):
    for size in ((9, 14), (4, 5), (1, 1)):
      options = dict(mode='bilinear', align_corners=corners)
      expected = as_torch(functional.interpolate, x, size, **options)
      np.testing.assert_allclose(ops.resize(x, size, align_corners=corners), expected, atol=1e-6)


@pytest.mark.parametrize('stride', [2, 8, 16])
def test_cells_at_corners_are_aligned_as_in_pytorch(stride):
  """8 n + 1 pixels for n + 1 cells, as DeepLab and PSPNet interpolate."""
  x = np.random.default_rng(0).standard_normal((1, 5, 4, 3)).astype(np.float32)
  size = [stride * (side - 1) + 1 for side in x.shape[1:3]]
  expected = as_torch(functional.interpolate, x, size, mode='bilinear', align_corners=True)
  found = upsampling.upsample(x, stride, 'corner_logits')
  np.testing.assert_allclose(found[:, : size[0], : size[1]], expected, atol=1e-6)
  # Half a cell further, inside, it is PyTorch's other way.
  size = [stride * side for side in x.shape[1:3]]
  expected = as_torch(functional.interpolate, x, size, mode='bilinear', align_corners=False)
  found = upsampling.upsample(x, stride, 'deconvolution')
  inside = slice(stride // 2, -(stride // 2))
  np.testing.assert_allclose(found[:, inside, inside], expected[:, inside, inside], atol=1e-6)

"""The layers in NumPy that other tests compare with are those of PyTorch."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests import numpy_layers


def drawn(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape)


def planes(x):
  return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def images(tensor):
  return tensor.detach().numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize('taps, padding, dilation', [(3, 0, 1), (3, 33, 1), (3, 4, 4), (7, 0, 4)])
def test_convolution_and_its_gradients(taps, padding, dilation):
  x, kernel, bias = drawn(0, 2, 27, 30, 4), drawn(1, taps, taps, 4, 5), drawn(2, 5)
  given = planes(x).requires_grad_()
  weights = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).requires_grad_()
  offset = torch.from_numpy(bias).requires_grad_()
  expected = functional.conv2d(given, weights, offset, padding=padding, dilation=dilation)
  found = numpy_layers.conv(x, kernel, bias, padding, dilation)
  np.testing.assert_allclose(found, images(expected), atol=1e-12)
  direction = drawn(3, *found.shape)
  expected.backward(planes(direction))
  to_x, to_kernel, to_bias = numpy_layers.conv_gradients(x, kernel, direction, padding, dilation)
  np.testing.assert_allclose(to_x, images(given.grad), atol=1e-11)
  np.testing.assert_allclose(to_kernel, weights.grad.numpy().transpose(2, 3, 1, 0), atol=1e-11)
  np.testing.assert_allclose(to_bias, offset.grad.numpy(), atol=1e-11)


def test_pooling_and_deconvolution():
  x = drawn(0, 2, 7, 10, 3)
  expected = functional.max_pool2d(planes(x), 2, 2, ceil_mode=True)
  np.testing.assert_array_equal(numpy_layers.max_pool(x), images(expected))
  kernel = drawn(1, 16, 16, 3)
  taps = torch.from_numpy(kernel.transpose(2, 0, 1)[:, None].copy())
  expected = functional.conv_transpose2d(planes(x), taps, stride=8, padding=4, groups=3)
  found = numpy_layers.deconv(x, kernel, 8, 4)
  np.testing.assert_allclose(found, images(expected), atol=1e-12)

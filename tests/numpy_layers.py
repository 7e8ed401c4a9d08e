"""Layers written down once more in NumPy, in float64; images are N x H x W x C."""

import numpy as np


def conv(x, kernel, bias=0.0, padding=0, dilation=1):
  """A dilated convolution; the kernel is (height, width, in, out)."""
  x, kernel = _padded(x, padding), np.ascontiguousarray(kernel, np.float64)
  return sum(part @ kernel[tap] for tap, part in _taps(x, kernel.shape, dilation)) + bias


def conv_gradients(x, kernel, out_gradient, padding=0, dilation=1):
  """The gradients to the input, to the kernel and to the bias."""
  x, kernel = _padded(x, padding), np.ascontiguousarray(kernel, np.float64)
  to_x, to_kernel = np.zeros_like(x), np.zeros_like(kernel)
  for tap, part in _taps(x, kernel.shape, dilation):
    to_kernel[tap] = np.einsum('nhwi,nhwo->io', part, out_gradient, optimize=True)
  for tap, part in _taps(to_x, kernel.shape, dilation):
    part += out_gradient @ np.ascontiguousarray(kernel[tap].T)  # A view of to_x.
  rows, columns = (slice(padding, side - padding) for side in x.shape[1:3])
  return to_x[:, rows, columns], to_kernel, out_gradient.sum((0, 1, 2))


def max_pool(x):
  """2x2 at stride 2; windows at the edge may overhang."""
  n, height, width, channels = x.shape
  overhang = (0, 0), (0, height % 2), (0, width % 2), (0, 0)
  x = np.pad(x, overhang, constant_values=-np.inf)
  return x.reshape(n, -(-height // 2), 2, -(-width // 2), 2, channels).max((2, 4))


def deconv(x, kernel, stride, padding):
  """A transposed convolution of each channel by itself; the kernel is (height, width, channels)."""
  n, height, width, channels = x.shape
  rows, columns = (height - 1) * stride + 1, (width - 1) * stride + 1
  out = np.zeros((n, rows + len(kernel) - 1, columns + kernel.shape[1] - 1, channels))
  for i, j in np.ndindex(kernel.shape[:2]):
    out[:, i : i + rows : stride, j : j + columns : stride] += x * kernel[i, j]
  return out[:, padding : out.shape[1] - padding, padding : out.shape[2] - padding]


def _padded(x, padding):
  return np.pad(np.asarray(x, np.float64), ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))


def _taps(x, kernel_shape, dilation):
  """Each tap of the kernel with the part of the padded input that it is multiplied with."""
  rows, columns = (
    side - dilation * (taps - 1) for side, taps in zip(x.shape[1:3], kernel_shape[:2], strict=True)
  )
  for i, j in np.ndindex(kernel_shape[:2]):
    top, left = i * dilation, j * dilation
    yield (i, j), x[:, top : top + rows, left : left + columns]

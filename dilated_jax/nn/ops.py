"""Pure array functions: the dilated convolution and what surrounds it. Arrays are N x H x W x C."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')
_INTEGER = (int, np.integer)


def dilated_conv(x, kernel, dilation=1, padding=0, stride=1):
  """Dilated convolution, as deep-learning frameworks mean it.

  out[n, p, q, o] = sum over i, j, c of x[n, p + dilation i, q + dilation j, c] kernel[i, j, c, o]

  This is a cross-correlation: it reads x at p + l t. The paper (section 2, equation 2) defines the
  true convolution, which reads F at p - l t; the two are one after turning the kernel by 180
  degrees, `kernel[::-1, ::-1]`. Published weights are stored for the correlation.

  Args:
    x: (N, H, W, C) input.
    kernel: (kh, kw, C, O) weights, of the dtype of `x`.
    dilation: distance between taps in cells of `x`, one number or (vertical, horizontal).
    padding: zeros on each side: a number, 'VALID', 'SAME', or ((top, bottom), (left, right)).
    stride: every which cell of the output is computed, along both axes.

  Returns:
    (N, H', W', O) with H' = ceil((H + padding - dilation (kh - 1)) / stride), likewise W'.
  """
  dilation = (dilation, dilation) if isinstance(dilation, _INTEGER) else tuple(dilation)
  if isinstance(padding, _INTEGER):
    padding = ((padding, padding), (padding, padding))
  elif padding == 'VALID':
    padding = ((0, 0), (0, 0))
  elif padding == 'SAME':
    spans = [d * (k - 1) for d, k in zip(dilation, kernel.shape[:2], strict=True)]
    padding = tuple((span // 2, span - span // 2) for span in spans)
  conv = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(stride, stride),
    rhs_dilation=dilation,
    dimension_numbers=_DIMENSIONS,
  )
  padding = tuple((before, after) for before, after in padding)
  if padding == ((0, 0), (0, 0)) and kernel.shape[:2] == (1, 1):
    x, stride = x[:, ::stride, ::stride], 1
  if padding != ((0, 0), (0, 0)) or stride > 1:
    return conv(x, kernel, padding=padding)
  if kernel.shape[:2] == (1, 1):
    return jnp.tensordot(x, kernel[0, 0], 1)
  if x.shape[-1] < 8:
    return conv(x, kernel, padding=padding)
  height, width = _valid_size(x, kernel, dilation)
  if min(height, width) > 0 and 3 * height * width < x.shape[1] * x.shape[2]:
    # fc6 on a training crop: few outputs of many taps. The derived gradient to x would compute
    # every cell of x from every tap, many times what there is to do.
    on_cpu = functools.partial(_conv_of_patches, dilation=dilation)
  else:
    # XLA's CPU back end has a slow path for convolutions without any padding: with one needless
    # column of zeros the forward pass is up to three times as fast, except for very few channels
    # (`dilated-jax benchmark --suite=conv`).
    def on_cpu(x, kernel):
      return conv(x, kernel, padding=((0, 0), (0, 1)))[:, :, :-1]

  plain = functools.partial(conv, padding=padding)
  return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=plain)


def _valid_size(x, kernel, dilation):
  """Height and width of the output without padding."""
  sizes = zip(x.shape[1:3], dilation, kernel.shape[:2], strict=True)
  return [n - d * (k - 1) for n, d, k in sizes]


def _conv_of_patches(x, kernel, dilation):
  """The same without padding, as one product of gathered taps and the kernel."""
  taps, size = kernel.shape[:2], kernel.shape[0] * kernel.shape[1]
  height, width = _valid_size(x, kernel, dilation)
  patches = [
    x[:, i * dilation[0] : i * dilation[0] + height, j * dilation[1] : j * dilation[1] + width]
    for i in range(taps[0])
    for j in range(taps[1])
  ]
  return jnp.tensordot(
    jnp.stack(patches, 3), kernel.reshape(size, *kernel.shape[2:]), ((3, 4), (0, 1))
  )


def max_pool(x, size=2, stride=2, padding=0, round_up=True):
  """Max pooling that rounds the output size up, as Caffe does: the last window is clipped.

  Args:
    x: (N, H, W, C).
    size: side of the window.
    stride: step of the window.
    padding: cells on each side that are never the largest.
    round_up: False rounds down: a window that does not fit is left out.

  Returns:
    (N, ceil((H + 2 padding - size) / stride) + 1, likewise W, C). As in Caffe and PyTorch there is
    no last window that would begin behind the input.
  """
  x, outs = _padded(x, size, stride, padding, round_up, -jnp.inf)

  def best(a, b):
    # The first of equals takes the gradient, as in Caffe; NaN is passed on.
    return jnp.where((a >= b) | (a != a), a, b)

  # As element-wise choices among shifted grids, whose gradient is as cheap as they are; that of
  # `reduce_window` (a scatter) takes ten times as long on a CPU.
  rows = [
    functools.reduce(best, [_grid(x, i, j, stride, outs) for j in range(size)]) for i in range(size)
  ]
  return functools.reduce(best, rows)


def avg_pool(x, size, stride, padding=0, round_up=True):
  """Mean over windows; zeros of the padding count, what is clipped does not (Caffe, PyTorch).

  Args:
    x: (N, H, W, C).
    size: side of the window.
    stride: step of the window.
    padding: zeros on each side.
    round_up: as for `max_pool`.

  Returns:
    Of the size of `max_pool`'s.
  """
  inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
  inside = jnp.pad(inside, ((0, 0), (padding, padding), (padding, padding), (0, 0)), 'edge')

  def total(x, padding):
    x, outs = _padded(x, size, stride, padding, round_up, 0)
    taps = (_grid(x, i, j, stride, outs) for i in range(size) for j in range(size))
    return functools.reduce(jnp.add, taps)

  # The padding belongs to `inside` already, so its windows are those of x.
  counts = jax.lax.stop_gradient(total(inside, 0))
  summed = total(x, padding)
  return summed / counts[:, : summed.shape[1], : summed.shape[2]]


def _padded(x, size, stride, padding, round_up, value):
  """The input with what its windows need around it, and their numbers along both axes."""
  outs = []
  for n in x.shape[1:3]:
    steps, rest = divmod(n + 2 * padding - size, stride)
    outs.append(steps + 1 + bool(rest and round_up and (steps + 1) * stride < n + padding))
  ends = [(out - 1) * stride + size for out in outs]
  rest = [max(end - n - padding, 0) for end, n in zip(ends, x.shape[1:3], strict=True)]
  pads = ((0, 0), *((padding, more) for more in rest), (0, 0))
  return jnp.pad(x, pads, constant_values=value), outs


def adaptive_avg_pool(x, count):
  """Means over count x count windows that tile the map; they overlap where it can't be divided.

  Args:
    x: (N, H, W, C).
    count: windows along each axis; 1 is the mean of the whole.

  Returns:
    (N, count, count, C); window i reaches from floor(i H / count) to ceil((i + 1) H / count).

  Source: Zhao et al., "Pyramid Scene Parsing Network", section 3.2; rounding as in PyTorch's
  AdaptiveAvgPool2d.
  """
  return _along_both(x, functools.partial(_adaptive_avg_pool_matrix, count=count))


def resize(x, size, *, align_corners: bool):
  """Bilinear interpolation, without a filter when shrinking.

  Args:
    x: (N, H, W, C).
    size: (height, width) of the result.
    align_corners: True lays the centers of the corner cells on each other, False the outer edges.

  Returns:
    (N, *size, C).
  """
  matrices = [
    functools.partial(_linear_matrix, out=out, align_corners=align_corners) for out in size
  ]
  return _along_both(x, *matrices)


def _grid(x, top, left, stride, outs):
  """Every `stride`-th cell of x from (top, left) on, `outs` of them."""
  bottom, right = (
    start + (out - 1) * stride + 1 for start, out in zip((top, left), outs, strict=True)
  )
  return x[:, top:bottom:stride, left:right:stride]


def deconvolution(x, stride, padding=None):
  """Bilinear upsampling by a transposed convolution: the authors' `ctx_upsample`, n -> stride n.

  Kernel 2 * stride, padding stride / 2, one kernel for every channel, no bias. Cell i is centerd at
  stride i + (stride - 1) / 2. Beyond the border the input is zero, so the outermost stride / 2 rows
  fade; all channels alike, which leaves the argmax as it is.

  Args:
    x: (N, h, w, C).
    stride: upsampling factor, even or 1.
    padding: cells cut off on each side, instead of stride / 2; FCN cuts none.

  Returns:
    (N, h * stride, w * stride, C); (h + 1) * stride - 2 * padding rows, likewise columns.
  """
  # The kernel is a product of two tents, so the operator is two small matrices; XLA runs these as
  # matrix products, which is much faster than a grouped convolution of a diluted input.
  return _along_both(x, functools.partial(_tent_matrix, stride=stride, padding=padding))


def resize_corner(x, stride):
  """Bilinear upsampling with the value of cell i at pixel stride * i: the authors' `interp_map`.

  The last cell is repeated beyond its pixel (the original reads outside the array there).

  Args:
    x: (N, h, w, C).
    stride: upsampling factor.

  Returns:
    (N, h * stride, w * stride, C).
  """
  return _along_both(x, functools.partial(_corner_matrix, stride=stride))


def _along_both(x, matrix, matrix_of_columns=None):
  """Applies the linear map matrix(n) to axes 1 and 2."""
  for axis, of in ((1, matrix), (2, matrix_of_columns or matrix)):
    m = jnp.asarray(of(x.shape[axis]), x.dtype)
    x = jnp.moveaxis(jnp.tensordot(m, x, ((1,), (axis,)), precision='highest'), 0, axis)
  return x


def _tent_matrix(n, stride, padding):
  """Weights of a tent of half-width `stride` around each cell's center: (pixels, n)."""
  cut = stride / 2 if padding is None else padding
  total = n * stride if padding is None else (n + 1) * stride - 2 * padding
  pixels = np.arange(total)[:, None]
  centers = np.arange(n) * stride + stride - 0.5 - cut
  return np.maximum(0.0, 1.0 - np.abs(pixels - centers) / stride)


def _corner_matrix(n, stride):
  """(n * stride, n) weights of linear interpolation between cells at pixels 0, stride, ..."""
  pixels = np.minimum(np.arange(n * stride), (n - 1) * stride)[:, None]
  return np.maximum(0.0, 1.0 - np.abs(pixels - np.arange(n) * stride) / stride)


def _adaptive_avg_pool_matrix(n, count):
  """(count, n) weights of the mean over each window."""
  first = np.arange(count) * n // count
  last = -(-(np.arange(count) + 1) * n // count)
  cells = np.arange(n)
  inside = (cells >= first[:, None]) & (cells < last[:, None])
  return inside / (last - first)[:, None]


def _linear_matrix(n, out, align_corners):
  """(out, n) weights of linear interpolation; beyond the outermost cells these go on."""
  if align_corners:
    places = np.arange(out) * ((n - 1) / max(out - 1, 1))
  else:
    places = (np.arange(out) + 0.5) * n / out - 0.5
  places = np.clip(places, 0, n - 1)[:, None]
  return np.maximum(0.0, 1.0 - np.abs(places - np.arange(n)))

"""Pure functions of arrays, N x H x W x C: dilated convolution, pooling, upsampling."""

from collections.abc import Callable, Sequence
import functools
from typing import Literal, TypeAlias

import jax
from jax.core import max_dim, min_dim
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int
import numpy as np

from dilated_jax.typing import AnyArray, DimSize, varying_axes

_DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')
_Int: TypeAlias = int | np.integer
_Matrix: TypeAlias = Callable[..., AnyArray]  # Of a linear map, from the size of its input.
# Rows and columns of a map at the top left of a larger array; None: it fills it.
Own: TypeAlias = Int[AnyArray, '2'] | None


def dilated_conv(
  x: Float[AnyArray, 'n h w c'],
  kernel: Float[AnyArray, 'kh kw c o'],
  dilation: _Int | Sequence[_Int] = 1,
  padding: _Int | Literal['VALID', 'SAME'] | Sequence[Sequence[_Int]] = 0,
  stride: int = 1,
) -> Float[jax.Array, 'n h_out w_out o']:
  """Dilated convolution, in the sense of deep-learning frameworks.

  out[n, p, q, o] = sum over i, j, c of x[n, p + dilation i, q + dilation j, c] kernel[i, j, c, o]

  This is a cross-correlation: it reads x at p + l t, where the convolution of the paper (section 2,
  equation 2) reads F at p - l t. Rotating the kernel by 180 degrees, `kernel[::-1, ::-1]`, turns
  one into the other. Published weights are stored for the correlation.

  Args:
    x: the input, in any floating-point format.
    kernel: the weights, of the dtype of `x`.
    dilation: distance between taps in cells of `x`: one number, or (vertical, horizontal).
    padding: zeros on each side: a number, 'VALID', 'SAME', or ((top, bottom), (left, right)).
    stride: step of the output on the input, along both axes.

  Returns:
    The output, of the dtype of `x` and of size ceil((H + padding - dilation (kh - 1)) / stride),
    likewise for the width.
  """
  x, kernel = jnp.asarray(x), jnp.asarray(kernel)
  rates = (int(dilation),) * 2 if isinstance(dilation, _Int) else tuple(map(int, dilation))
  pads, zeros = _pads(padding, rates, kernel), ((0, 0), (0, 0))
  if stride == 1:
    pads, zeros = _without_needless(pads, rates, kernel)
  out = _with_fast_gradients(x, kernel, rates, pads, stride)
  return out if zeros == ((0, 0), (0, 0)) else jnp.pad(out, ((0, 0), *zeros, (0, 0)))


def _without_needless(pads, rates, kernel):
  """Padding as far as taps reach, and how many outputs beyond see nothing but zeros.

  The first layer of a context module pads for all of them: three quarters of its outputs are zero.
  """
  reached = tuple(
    tuple(min(pad, span) for pad in both)
    for both, span in zip(pads, _spans(rates, kernel), strict=True)
  )
  beyond = tuple(
    tuple(pad - part for pad, part in zip(both, parts, strict=True))
    for both, parts in zip(pads, reached, strict=True)
  )
  return reached, beyond


def _with_fast_gradients(x, kernel, rates, pads, stride):
  """The convolution, whose derivatives are those of other forms where these are faster."""
  conv = functools.partial(_conv, rates=rates, pads=pads, stride=stride)
  known = all(isinstance(size, int) for size in x.shape)  # Not so in `jax.export` of any batch.
  if stride > 1 or kernel.shape[:2] == (1, 1) or varying_axes(x) or not known:
    return conv(x, kernel)
  # The same linear map of x, or of the kernel, in forms whose transposes are faster somewhere.
  of_x = {'cpu': _linear_in_x(x, kernel, rates, pads)}
  by_phases = _linear_in_kernel_on_gpus(x, kernel, rates, pads)
  of_kernel = {
    'cpu': _linear_in_kernel(x, kernel, rates, pads), 'cuda': by_phases, 'rocm': by_phases,
  }  # fmt: skip

  def tangent_of(forms, x, kernel):
    forms = {platform: form for platform, form in forms.items() if form}
    return jax.lax.platform_dependent(x, kernel, **forms, default=conv)

  if not any((*of_x.values(), *of_kernel.values())):
    return conv(x, kernel)
  with_gradient = jax.custom_jvp(conv)
  with_gradient.defjvps(
    lambda tangent, out, x, kernel: tangent_of(of_x, tangent, kernel),
    lambda tangent, out, x, kernel: tangent_of(of_kernel, x, tangent),
  )
  return with_gradient(x, kernel)


def _conv(x, kernel, rates, pads, stride):
  """The convolution as XLA does it; of one tap, as a matrix product."""
  if kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
    return jnp.tensordot(x[:, ::stride, ::stride], kernel[0, 0], 1)
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), pads, rhs_dilation=rates, dimension_numbers=_DIMENSIONS
  )


def _linear_in_x(x, kernel, rates, pads):
  """Another form, the derivative of which with respect to x is faster on CPUs, or None."""
  height, width = _output_size(x, kernel, rates, pads)
  unpadded = pads == ((0, 0), (0, 0))
  if unpadded and min(height, width) > 0 and 3 * height * width < x.shape[1] * x.shape[2]:
    # Few outputs of many taps, as fc6 on a training crop. The derivative of a convolution would
    # compute every cell of x from every tap, most of it for nothing.
    return functools.partial(_conv_of_patches, dilation=rates)
  return None


def _linear_in_kernel(x, kernel, rates, pads):
  """Another form, the derivative of which with respect to the kernel is faster on CPUs, or None."""
  height, width = _output_size(x, kernel, rates, pads)
  *taps, inputs, outputs = kernel.shape
  copied = len(x) * height * x.shape[2] * (taps[0] * inputs + taps[1] * outputs)
  if min(height, width) <= 0:
    return None
  if x.dtype != jnp.float32 or not 0 < copied <= _MOST_COPIED:
    return _linear_in_kernel_of_padded(x, kernel, rates, pads)
  of_kernel = functools.partial(_kernel_gradient, taps=taps, dilation=rates, padding=pads)

  def by_products(x, kernel):
    # Reverse mode transposes this, which gives back what is transposed here.
    cotangent = jax.ShapeDtypeStruct((len(x), height, width, outputs), x.dtype)
    return jax.linear_transpose(functools.partial(of_kernel, x), cotangent)(kernel)[0]

  return by_products


def _linear_in_kernel_of_padded(x, kernel, rates, pads):
  """The same with the zeros in memory, if its derivative is faster, or None.

  That derivative is a convolution whose channels are the batch: XLA's CPU back end does it number
  by number if it pads by more than half of what taps reach, and slowly if it pads small batches.
  """
  spans = _spans(rates, kernel)
  wide = any(max(both) > span // 2 for both, span in zip(pads, spans, strict=True))
  if not any(map(max, pads)) or not (wide or len(x) < _FULL_BATCH):
    return None
  nothing = ((0, 0), (0, 0))

  def of_padded(x, kernel):
    return _conv(jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel, rates, nothing, 1)

  return of_padded


_FULL_BATCH = 8  # From this batch size on, padding inside of the derivative costs nothing.
# Numbers that `_kernel_gradient` copies at most: 8 MiB of float32. With more, XLA's own derivative
# is as fast or faster.
_MOST_COPIED = 2**21


def _kernel_gradient(x, cotangent, taps, dilation, padding):
  """The gradient to the kernel, as one matrix product over all cells.

  gradient[i, j, c, o] = sum over n, p, q of x[n, p + i d - top, q, c] g[n, p, q - j d + left, o]

  so copies of x that are shifted along the height meet copies of the cotangent g that are shifted
  along the width: kh + kw copies, where patches of x would be kh kw. XLA's own derivative is a
  convolution of which the batch is the channels; on CPUs it is slow for small batches.
  """
  (top, _), (left, _) = padding
  rows = [_window(x, 1, i * dilation[0] - top, cotangent.shape[1]) for i in range(taps[0])]
  columns = [_window(cotangent, 2, left - j * dilation[1], x.shape[2]) for j in range(taps[1])]
  cells = (0, 1, 2)
  gradient = jnp.tensordot(jnp.stack(rows, 3), jnp.stack(columns, 3), (cells, cells))
  return gradient.transpose(0, 2, 1, 3)


def _linear_in_kernel_on_gpus(x, kernel, rates, pads):
  """Another form, the derivative of which with respect to the kernel is faster on GPUs, or None."""
  if max(rates) == 1 or min(_output_size(x, kernel, rates, pads)) <= 0:
    return None
  return functools.partial(_conv_of_phases, rates=rates, pads=pads)


def _conv_of_phases(x, kernel, rates, pads):
  """A dilated convolution as a plain one of the grids of every d-th cell, d x d of them.

  The derivative of a dilated convolution with respect to its kernel is one whose window is as large
  as the map, and XLA does not see that cuDNN has a function for it. Of a plain one it does: on an
  H200 this takes a tenth of the time (docs/performance.md).
  """
  outside, inside, wanted = [], [], _output_size(x, kernel, rates, pads)
  for axis, (d, (before, _)) in enumerate(zip(rates, pads, strict=True)):
    whole, part = divmod(before, d)  # Zeros before the map: cells of every grid, and of some.
    cells = -(-(x.shape[1 + axis] + part) // d)
    outside.append((part, cells * d - part - x.shape[1 + axis]))
    outputs = -(-wanted[axis] // d)
    inside.append((whole, outputs + kernel.shape[axis] - 1 - whole - cells))
  x = jnp.pad(x, ((0, 0), *outside, (0, 0)))
  n, height, width, channels = x.shape
  x = x.reshape(n, height // rates[0], rates[0], width // rates[1], rates[1], channels)
  x = x.transpose(0, 2, 4, 1, 3, 5).reshape(-1, x.shape[1], x.shape[3], channels)
  x = _conv(x, kernel, (1, 1), tuple(inside), 1)
  height, width, channels = x.shape[1:]
  x = x.reshape(n, *rates, height, width, channels).transpose(0, 3, 1, 4, 2, 5)
  x = x.reshape(n, height * rates[0], width * rates[1], channels)
  return x[:, : wanted[0], : wanted[1]]


def _window(x, axis, start, size):
  """`size` cells of an axis from `start` on, with zeros where x has none."""
  config = [(0, 0, 0)] * x.ndim
  config[axis] = (-start, start + size - x.shape[axis], 0)
  return jax.lax.pad(x, jnp.zeros((), x.dtype), config)


def _spans(dilation, kernel) -> list[int]:
  """Cells from the first tap to the last, along the height and the width."""
  return [d * (k - 1) for d, k in zip(dilation, kernel.shape[:2], strict=True)]


def _pads(padding, dilation, kernel) -> tuple[tuple[int, int], ...]:
  """Padding as ((top, bottom), (left, right))."""
  if padding == 'SAME':
    return tuple((span // 2, span - span // 2) for span in _spans(dilation, kernel))
  if padding == 'VALID':
    padding = 0
  if isinstance(padding, _Int):
    padding = ((padding, padding), (padding, padding))
  return tuple((int(before), int(after)) for before, after in padding)


def _output_size(x, kernel, dilation, pads) -> list[int]:
  """Height and width of the output of stride 1."""
  sizes = zip(x.shape[1:3], _spans(dilation, kernel), pads, strict=True)
  return [n + sum(pad) - span for n, span, pad in sizes]


def _conv_of_patches(x, kernel, dilation):
  """A convolution without padding, as one matrix product of the patches and the kernel."""
  taps, count = kernel.shape[:2], kernel.shape[0] * kernel.shape[1]
  height, width = _output_size(x, kernel, dilation, ((0, 0), (0, 0)))
  patches = [
    x[:, i * dilation[0] : i * dilation[0] + height, j * dilation[1] : j * dilation[1] + width]
    for i in range(taps[0])
    for j in range(taps[1])
  ]
  return jnp.tensordot(
    jnp.stack(patches, 3), kernel.reshape(count, *kernel.shape[2:]), ((3, 4), (0, 1))
  )


def add_bias(
  x: Float[AnyArray, '*places c'], bias: Float[AnyArray, ' c']
) -> Float[jax.Array, '*places c']:
  """`x + bias`, of the dtype of `x`, added in float32 at least.

  So that the gradient of the bias, a sum over all places, is one of float32 too: XLA's CPU back end
  adds up numbers of bfloat16 in bfloat16, in which 256 + 1 is 256.

  Args:
    x: the input, in any floating-point format.
    bias: of each channel, of the same format or a wider one.
  """
  x, bias = jnp.asarray(x), jnp.asarray(bias)
  wide = np.promote_types(x.dtype, np.float32)
  of_channels = bias.astype(wide).reshape((1,) * (x.ndim - 1) + bias.shape)
  return (x.astype(wide) + of_channels).astype(x.dtype)


def is_own(x: Float[AnyArray, 'n h w c'], own: Int[AnyArray, '2']) -> Bool[jax.Array, '1 h w 1']:
  """Which cells are those of the map that fills the first `own` rows and columns of `x`."""
  rows, columns = (jnp.arange(n) < count for n, count in zip(x.shape[1:3], own, strict=True))
  return (rows[:, None] & columns[None])[None, :, :, None]


def only_own(
  x: Float[AnyArray, 'n h w c'], own: Own, beyond: float = 0.0
) -> Float[AnyArray, 'n h w c']:
  """`x` with one number in all cells that are not the map's, see `is_own`."""
  return x if own is None else jnp.where(is_own(x, own), x, jnp.asarray(beyond, x.dtype))


def max_pool(
  x: Float[AnyArray, 'n h w c'],
  size: int = 2,
  stride: int = 2,
  padding: int = 0,
  round_up: bool = True,
  own: Own = None,
) -> Float[jax.Array, 'n h_out w_out c']:
  """Max pooling that rounds the output size up, as Caffe does: the last window is clipped.

  Args:
    x: the input, in any floating-point format.
    size: side of the window.
    stride: step of the window.
    padding: cells of -infinity on each side.
    round_up: whether there is a last window that is clipped; False drops it.
    own: rows and columns of the map, where it is the top left part of `x` only. So is the result.

  Returns:
    The maxima, of the dtype of `x` and of size ceil((H + 2 padding - size) / stride) + 1, likewise
    for the width. As in Caffe and PyTorch, a last window is dropped if it would begin behind the
    input, in the padding at its end.
  """
  if padding or (round_up and stride > 1):  # Windows reach beyond the map.
    x = only_own(x, own, -jnp.inf)
  x, counts = _pad_for_windows(x, size, stride, padding, round_up, -jnp.inf)

  def of_windows(x):
    # Element-wise maxima of shifted grids have a gradient that is as cheap as they are; that of
    # `reduce_window`, a scatter, takes ten times as long on a CPU.
    rows = [
      functools.reduce(_maximum, [_every_window(x, i, j, stride, counts) for j in range(size)])
      for i in range(size)
    ]
    return functools.reduce(_maximum, rows)

  if size != stride or x.shape[1:3] != tuple(size * count for count in counts):
    return of_windows(x)
  # On CPUs alone: devices that share an image in bands of rows would have to gather it for blocks.
  return jax.lax.platform_dependent(x, cpu=lambda x: _max_of_blocks(x, size), default=of_windows)


def _maximum(a, b):
  """The gradient goes to the first of equal values, as in Caffe; NaN is passed on."""
  return jnp.where(_is_first(a, b), a, b)


def _is_first(a, b):
  return (a >= b) | (a != a)


def _max_of_blocks(x, size):
  """The maxima of size x size blocks, which the input is a whole number of."""
  maximum = jax.custom_jvp(lambda x: _max_and_place(x, size)[0])

  @maximum.defjvp
  def derivative(primals, tangents):
    maxima, places = _max_and_place(primals[0], size)
    # Transposed, this is a choice in every cell, which reads the place and gradient of its block.
    own = jnp.arange(size**2, dtype=jnp.uint32).reshape(1, 1, size, 1, size, 1)
    chosen = own == places[:, :, None, :, None]
    tangent = _blocks(tangents[0], size)
    return maxima, jnp.where(chosen, tangent, jnp.zeros((), tangent.dtype)).sum((2, 4))

  return maximum(x)


def _max_and_place(x, size):
  """The maximum of each block, and which of its cells that is."""

  def larger(one, other):
    first = _is_first(one[0], other[0])
    return tuple(jnp.where(first, a, b) for a, b in zip(one, other, strict=True))

  blocks = _blocks(x, size)
  cells = [
    (blocks[:, :, i, :, j], jnp.uint32(size * i + j)) for i in range(size) for j in range(size)
  ]
  return functools.reduce(larger, cells)


def _blocks(x, size):
  n, height, width, channels = x.shape
  return x.reshape(n, height // size, size, width // size, size, channels)


def avg_pool(
  x: Float[AnyArray, 'n h w c'],
  size: int,
  stride: int,
  padding: int = 0,
  round_up: bool = True,
  own: Own = None,
) -> Float[jax.Array, 'n h_out w_out c']:
  """Average pooling that counts zeros of the padding, but not what is clipped (Caffe, PyTorch).

  Args:
    x: the input, in any floating-point format.
    size: side of the window.
    stride: step of the window.
    padding: zeros on each side.
    round_up: as for `max_pool`.
    own: as for `max_pool`.

  Returns:
    The means, of the dtype of `x` and of the size that `max_pool` returns.
  """
  if own is None:
    inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    inside = jnp.pad(inside, ((0, 0), (padding, padding), (padding, padding), (0, 0)), 'edge')
  else:
    x = only_own(x, own)
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    inside = is_own(jnp.pad(x[:1, :, :, :1], pads), own + 2 * padding).astype(x.dtype)

  def window_sums(x, padding):
    x, counts = _pad_for_windows(x, size, stride, padding, round_up, 0)
    grids = [_every_window(x, i, j, stride, counts) for i in range(size) for j in range(size)]
    return sum(grids[1:], grids[0])

  # `inside` has the padding already, so its windows are those of x.
  counts = jax.lax.stop_gradient(window_sums(inside, 0))
  sums = window_sums(x, padding)
  return sums / counts[:, : sums.shape[1], : sums.shape[2]]


def _pad_for_windows(x, size, stride, padding, round_up, value) -> tuple[jax.Array, list[DimSize]]:
  """Pads the input to what all windows cover; returns it and the number of windows per axis."""
  counts = []
  for n in x.shape[1:3]:
    count = (n + 2 * padding - size + (stride - 1) * round_up) // stride + 1
    if round_up and size - padding < stride:  # Only then one may begin behind the input.
      count = min_dim(count, (n + padding - 1) // stride + 1)
    counts.append(count)
  ends = [(count - 1) * stride + size for count in counts]
  rest = [max_dim(end - n - padding, 0) for end, n in zip(ends, x.shape[1:3], strict=True)]
  pads = ((0, 0), *((padding, more) for more in rest), (0, 0))
  return jnp.pad(x, pads, constant_values=value), counts


def _every_window(x, top, left, stride, counts):
  """The cell at (top, left) of every window."""
  bottom, right = (
    start + (count - 1) * stride + 1 for start, count in zip((top, left), counts, strict=True)
  )
  return x[:, top:bottom:stride, left:right:stride]


def adaptive_avg_pool(
  x: Float[AnyArray, 'n h w c'], output_size: int, own: Own = None
) -> Float[jax.Array, 'n {output_size} {output_size} c']:
  """Averages over a grid of windows that cover the map; some overlap if it can't be divided evenly.

  Args:
    x: the input, in any floating-point format.
    output_size: windows along each axis; 1 averages over the whole map.
    own: as for `max_pool`.

  Returns:
    The means. Window i reaches from floor(i H / output_size) to ceil((i + 1) H / output_size).

  Source: Zhao et al., "Pyramid Scene Parsing Network", section 3.2; the rounding is that of
  PyTorch's AdaptiveAvgPool2d.
  """
  return _apply_along_both(x, functools.partial(_averaging_matrix, count=output_size), own=own)


def resize(
  x: Float[AnyArray, 'n h w c'],
  size: Sequence[DimSize],
  *,
  align_corners: bool,
  antialias: bool = False,
  own: Own = None,
  own_size: Own = None,
) -> Float[jax.Array, 'n h_out w_out c']:
  """Bilinear interpolation.

  Args:
    x: the input, in any floating-point format.
    size: (height, width) of the output.
    align_corners: as in PyTorch: whether the centers of the corner cells lie on each other (True),
      or the outer edges of the maps (False).
    antialias: whether the filter widens when the map shrinks, as that of `jax.image.resize`; where
      corners are not aligned.
    own: as for `max_pool`.
    own_size: to what size the map is brought then.

  Returns:
    The output, of the dtype of `x`.
  """
  lengths = (None, None) if own_size is None else own_size
  rows, columns = (
    functools.partial(
      _linear_matrix, rows=n, count=count, align_corners=align_corners, antialias=antialias
    )
    for n, count in zip(size, lengths, strict=True)
  )
  return _apply_along_both(x, rows, columns, own)


def deconvolution(
  x: Float[AnyArray, 'n h w c'], stride: int, padding: int | None = None, own: Own = None
) -> Float[jax.Array, 'n h_out w_out c']:
  """Bilinear upsampling by a transposed convolution: `ctx_upsample` of the authors' networks.

  The kernel has 2 * stride taps per axis and is the same for every channel; there is no bias. Cell
  i is centered at pixel stride * i + (stride - 1) / 2. Beyond the border the input counts as zero,
  so the outermost stride / 2 pixels fade. All channels fade alike, which leaves the argmax as it
  is.

  Args:
    x: the input, in any floating-point format.
    stride: upsampling factor, even or 1.
    padding: cells cut off on each side. None cuts stride / 2; FCN cuts none.
    own: as for `max_pool`.

  Returns:
    The output, of the dtype of `x` and of height (h + 1) * stride - 2 * padding, likewise for the
    width; h * stride with the default padding.
  """
  # The kernel is an outer product, so the operator is two small matrices. XLA runs them as matrix
  # products, much faster than a grouped convolution of an input with zeros between its cells.
  of_axis = functools.partial(_bilinear_matrix, stride=stride, padding=padding)
  return _apply_along_both(only_own(x, own), of_axis)


def resize_corner(
  x: Float[AnyArray, 'n h w c'], stride: int, own: Own = None
) -> Float[jax.Array, 'n {stride}*h {stride}*w c']:
  """Bilinear upsampling that puts cell i at pixel stride * i: `interp_map` of the authors' code.

  The last cell is repeated beyond its pixel. (The original reads outside the array there.)

  Args:
    x: the input, in any floating-point format.
    stride: upsampling factor.
    own: as for `max_pool`.

  Returns:
    The output, of the dtype of `x`.
  """
  return _apply_along_both(x, functools.partial(_corner_matrix, stride=stride), own=own)


def _apply_along_both(
  x, rows: _Matrix, columns: _Matrix | None = None, own: Own = None
) -> jax.Array:
  """Applies a linear map along the height and one along the width; None applies the same.

  Each is made from the number of cells of x, and with `own` from how many of them are the map's.
  """
  x = only_own(x, own)
  height, width = x.shape[1:3]
  of_map = ({}, {}) if own is None else ({'n': own[0]}, {'n': own[1]})
  down = jnp.asarray(rows(height, **of_map[0]), x.dtype)
  across = jnp.asarray((columns or rows)(width, **of_map[1]), x.dtype)
  # Where devices hold bands of rows, the map is gathered before rows are combined, so these come
  # first, while it is small.
  return jax.lax.platform_dependent(x, down, across, cpu=_columns_first, default=_rows_first)


def _rows_first(x, down, across):
  x = jnp.einsum('nhwc,uh->nuwc', x, down, precision='highest')
  return jnp.einsum('nuwc,vw->nuvc', x, across, precision='highest')


def _columns_first(x, down, across):
  """The large product, that of the rows, needs no transpose."""
  n, height, _, channels = x.shape
  x = jnp.einsum('nhwc,vw->nhcv', x, across, precision='highest')
  # A product for each map, whose output lies as it is read.
  each = jnp.broadcast_to(down, (n, *down.shape))
  x = jnp.einsum('nuh,nhk->nuk', each, x.reshape(n, height, -1), precision='highest')
  return jnp.moveaxis(x.reshape(n, down.shape[0], channels, across.shape[0]), 2, 3)


def _bilinear_matrix(n: DimSize, stride: int, padding: int | None) -> AnyArray:
  """(pixels, n) weights that fall linearly from 1 to 0 within `stride` of each cell's center."""
  xp = _module_of(n)
  cut = stride / 2 if padding is None else padding
  total = n * stride if padding is None else (n + 1) * stride - 2 * padding
  pixels = xp.arange(total, dtype=float)[:, None]
  centers = xp.arange(n, dtype=float)[None] * stride + (stride - 0.5 - cut)
  return xp.maximum(0.0, 1.0 - abs(pixels - centers) / stride)


# Numerators and denominators are whole numbers, so that weights are as exact where the size of the
# map is known to the running program only.


def _corner_matrix(cells: DimSize, stride: int, n=None):
  """(cells * stride, cells) weights of linear interpolation between cells at 0, stride, ..."""
  n = cells if n is None else n
  array = _module_of(n, cells)
  pixels = array.minimum(array.arange(cells * stride), (n - 1) * stride)
  return _triangles(array, pixels[:, None] - array.arange(cells)[None] * stride, stride)


def _averaging_matrix(cells: DimSize, count: int, n=None):
  """(count, cells) weights of the mean over each window."""
  n = cells if n is None else n
  array = _module_of(n, cells)
  first = array.arange(count) * n // count
  last = -(-(array.arange(count) + 1) * n // count)
  places = array.arange(cells)[None]
  inside = (places >= first[:, None]) & (places < last[:, None])
  return inside.astype(float) / (last - first)[:, None].astype(float)


def _linear_matrix(
  cells: DimSize, rows: DimSize, align_corners: bool, antialias: bool = False, count=None, n=None
):
  """(rows, cells) weights of linear interpolation; beyond the outermost cells, these are repeated.

  From n cells, of `cells`, to `count` of `rows`.
  """
  n, count = cells if n is None else n, rows if count is None else count
  array = _module_of(n, cells, rows)
  # Positions on the cells, in units of 1 / unit.
  if align_corners:
    positions, unit = array.arange(rows) * (n - 1), array.maximum(count - 1, 1)
  else:
    positions, unit = (2 * array.arange(rows) + 1) * n - count, 2 * count
  if not antialias:
    positions = array.clip(positions, 0, (n - 1) * unit)
    return _triangles(array, positions[:, None] - array.arange(cells)[None] * unit, unit)
  distances = abs(positions[:, None] - array.arange(cells)[None] * unit)
  width = array.maximum(unit, 2 * n)
  weights = array.where(
    array.arange(cells)[None] < n, array.maximum(0, width - distances), 0
  ).astype(float)
  return weights / array.maximum(weights.sum(1, keepdims=True), 1.0)


def _triangles(array, distances, unit):
  """Weights that fall from 1 to 0 within one unit."""
  return array.maximum(0, unit - abs(distances)) / unit


def _module_of(*sizes):
  """NumPy for numbers, jax.numpy if one is known to the running program only."""
  return np if all(isinstance(size, _Int) for size in sizes) else jnp

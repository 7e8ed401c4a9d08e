"""Sizes, receptive fields and costs, all derived from a table of layers.

Positions are counted from 0 along one axis; all tables are square, so one axis says it all. `jump`
is the distance between neighbouring cells of a layer's output in input pixels. Wherever a table is
asked for, a model that has one will do.
"""

from collections.abc import Iterator
import dataclasses
from fractions import Fraction
import itertools
import math

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.layers import Layer, Table


def as_table(table) -> Table:
  """A table as it is; the table of a model that has one."""
  return getattr(table, 'table', table)


# Where a network looks.


@dataclasses.dataclass(frozen=True)
class Field:
  """What one cell of a layer's output sees of the input, along one axis.

  Attributes:
    layer: the layer.
    size: receptive field: input pixels from the first to the last that a cell reads. After an
      upsampling layer cells differ, and the largest field counts.
    jump: input pixels between neighbouring cells; below 1 after an upsampling layer.
    center: offset: where cell 0 lies, in input pixels. That is the middle of its field, except
      after an upsampling layer, whose cells lie anywhere between the coarse cells that they blend.
  """

  layer: Layer
  size: int
  jump: Fraction
  center: Fraction


def fields(table: Table) -> Iterator[Field]:
  """Yields the receptive field after each layer."""
  table, jump, center, phases = as_table(table), Fraction(1), Fraction(0), 1
  for count, layer in enumerate(table, 1):
    # From the first place of the layer's window to its middle, on the finer of its two grids.
    middle = Fraction(layer.extent - 1, 2) - layer.padding
    if layer.kind == 'deconv':
      jump /= layer.stride
      center -= middle * jump
      phases *= layer.stride
    else:
      center += middle * jump
      jump *= layer.stride
    windows = (window(table[:count], cell) for cell in range(phases))
    yield Field(layer, max(last - first + 1 for first, last in windows), jump, center)


def window(table: Table, cell: int = 0) -> tuple[int, int]:
  """The first and the last input pixel that one cell of the output reads.

  Args:
    table: the layers.
    cell: its number.

  Returns:
    (first, last); below 0 or beyond the input where the cell reads padding.

  >>> from dilated_jax import layers
  >>> window(layers.front_end(21), cell=1)
  (8, 387)
  """
  first = last = cell
  for layer in reversed(as_table(table)):
    if layer.kind == 'deconv':  # Writes cell i to i * stride - padding + (0 ... kernel - 1).
      first = -((layer.kernel - 1 - layer.padding - first) // layer.stride)
      last = (last + layer.padding) // layer.stride
    else:  # Reads cell o from o * stride - padding + (0 ... extent - 1).
      first = first * layer.stride - layer.padding
      last = last * layer.stride - layer.padding + layer.extent - 1
  return first, last


def paths(table: Table, cell: int = 0) -> tuple[int, np.ndarray]:
  """In how many ways each input pixel reaches one cell of the output, by one tap of every layer.

  A pixel that has none is a hole in the receptive field: dilations 2, 2, 2 skip every other pixel,
  1, 2, 4 skip none (section 2). In the plane, the ways along both axes multiply. The picture is
  taken to be so large that no way leads through padding.

  Args:
    table: the layers.
    cell: number of the output cell.

  Returns:
    (first, ways): the first pixel of the cell's `window`, and an array of Python integers (they
    are large), one for each pixel of the window.

  >>> from dilated_jax.layers import Layer
  >>> first, ways = paths((Layer('a', dilation=2), Layer('b', dilation=2)))
  >>> first, ways.tolist()
  (0, [1, 0, 2, 0, 3, 0, 2, 0, 1])
  """
  first, ways = cell, np.array([1], object)
  for layer in reversed(as_table(table)):
    cells = first + np.arange(len(ways))
    first, last = window((layer,), cells[0])[0], window((layer,), cells[-1])[1]
    before = np.zeros(last - first + 1, object)
    for tap in range(layer.kernel):
      if layer.kind == 'deconv':
        read, rest = np.divmod(cells + layer.padding - tap, layer.stride)
        before[read[rest == 0] - first] += ways[rest == 0]
      else:
        before[cells * layer.stride - layer.padding + tap * layer.dilation - first] += ways
    ways = before
  return int(first), ways


# A network's grid: that of its scores, before a bilinear upsampling that it may end in.


def without_upsampling(table: Table) -> Table:
  """The layers that make a network's grid."""
  return tuple(layer for layer in as_table(table) if layer.kind != 'deconv')


def receptive_field(table: Table) -> int:
  """Side of the receptive field of one cell of a network's grid, in input pixels (section 2).

  >>> from dilated_jax import layers
  >>> receptive_field(layers.context(21)), receptive_field(layers.front_end(21))
  (67, 380)
  """
  first, last = window(without_upsampling(table))
  return last - first + 1


def stride(table: Table) -> int:
  """Input pixels between cells of a network's grid: 8 for the published networks."""
  return math.prod(layer.stride for layer in without_upsampling(table))


def offset(table: Table) -> Fraction:
  """Input pixel in which cell 0 of a network's grid is centred: 189.5 for the front end.

  In a picture around which `margin` pixels are reflected it is offset - margin: 3.5, the middle of
  the first `stride` pixels.
  """
  *_, last = fields(without_upsampling(table))
  return last.center


def margin(table: Table) -> int:
  """Input pixels lost on each side: 186 for the front end (paper-era code calls it label margin).

  An input of H + 2 * margin pixels gives H / stride cells, for H a multiple of the stride; where a
  window of even extent leaves half a pixel, it is rounded up, and there is one more cell.
  """
  step = stride(table)
  return max(0, math.ceil(offset(table) - Fraction(step - 1, 2)))


def valid_size(table: Table, least: int = 1) -> int:
  """The next input size, from `least` on, at which no window overhangs and no pixel is left over.

  These sizes are `stride` apart: 380, 388, 396, ... for the front end, 8 n + 372 for n cells.
  """
  # Cell 0 is as far from the first pixel as the last cell from the last.
  step, size = stride(table), int(2 * offset(table)) + 1
  needed = 1
  for layer in reversed(without_upsampling(table)):
    needed = max(1, (needed - 1) * layer.stride + layer.extent - 2 * layer.padding)
  return size + -(-(max(least, needed) - size) // step) * step


# Sizes and costs.


def sizes(table: Table, size: int) -> list[int]:
  """Output sizes of all layers for an input of `size` pixels.

  Convolutions round down, poolings up, as in Caffe.

  Raises:
    InputError: the input is smaller than the receptive field; says how large it must be.
  """
  result, given = [], size
  for layer in as_table(table):
    if layer.kind == 'deconv':
      size = (size - 1) * layer.stride + layer.kernel - 2 * layer.padding
    else:
      steps = size + 2 * layer.padding - layer.extent
      if layer.kind == 'max_pool':
        steps += layer.stride - 1
      size = steps // layer.stride + 1
    if size < 1:
      least = valid_size(table)
      raise InputError(f'an input of {given} pixels vanishes in {layer.name}; give {least} or more')
    result.append(size)
  return result


def output_size(table: Table, size: int) -> int:
  """Output size for an input of `size` pixels: (size - 372) / 8 for the paper's front end."""
  return sizes(table, size)[-1]


def channel_counts(table: Table, channels: int = 3) -> list[int]:
  """Channels of the input, `channels`, and then of each layer's output."""
  result = [channels]
  for layer in as_table(table):
    result.append(layer.channels or result[-1])
  return result


def parameters(table: Table, channels: int = 3) -> int:
  """Number of learned values: kernels and biases, scales and biases of normalisations.

  Args:
    table: the layers.
    channels: of the input.
  """
  total, counts = 0, channel_counts(table, channels)
  for layer, inputs, outputs in zip(as_table(table), counts, counts[1:]):
    if layer.kind == 'conv':
      total += (layer.kernel**2 * inputs + 1) * outputs
      total += 2 * outputs * (layer.norm != 'none')
  return total


def flops(table: Table, height: int, width: int, channels: int = 3) -> int:
  """Floating-point operations of the convolutions for one picture (a multiply-add counts as 2).

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
  """
  total, counts = 0, channel_counts(table, channels)
  shapes = zip(sizes(table, height), sizes(table, width))
  for layer, (h, w), inputs, outputs in zip(as_table(table), shapes, counts, counts[1:]):
    if layer.kind == 'conv':
      total += 2 * h * w * layer.kernel**2 * inputs * outputs
  return total


def activation_bytes(
  table: Table, height: int, width: int, channels: int = 3, itemsize: int = 4
) -> int:
  """Memory for the activations of one picture in inference: a layer's input and output, at most.

  XLA plans the same for float32, within a few percent; with what its convolutions take besides, a
  CPU process was seen to need 1.6 times that. On CPUs bfloat16 is computed in float32: no saving.

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
    itemsize: bytes of a value: 4 for float32, 2 for bfloat16.
  """
  maps = _map_sizes(table, height, width, channels)
  return itemsize * max(a + b for a, b in itertools.pairwise(maps))


def training_bytes(
  table: Table, height: int, width: int, channels: int = 3, itemsize: int = 4
) -> int:
  """Memory for the activations of one picture in training, where the backward pass needs them all.

  A compiled step takes two to three times that: there are their gradients too, and what ReLU,
  pooling and normalisation remember.

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
    itemsize: bytes of a value: 4 for float32, 2 for bfloat16.
  """
  return itemsize * sum(_map_sizes(table, height, width, channels))


def _map_sizes(table: Table, height: int, width: int, channels: int) -> list[int]:
  """Number of values of the input and of each layer's output."""
  rows, columns = [height, *sizes(table, height)], [width, *sizes(table, width)]
  return [h * w * c for h, w, c in zip(rows, columns, channel_counts(table, channels))]

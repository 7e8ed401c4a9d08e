"""Sizes, receptive fields and costs, all derived from a table of layers.

Positions are counted from 0 along one axis; all tables are square, so one axis says it all. `jump`
is the distance between neighboring cells of a layer's output in input pixels. Wherever a table is
asked for, a model that has one will do.

Where a network averages over windows of the whole picture ('bins'), each cell sees all of it. What
is said here of fields is said of the other branches.
"""

from collections.abc import Iterator
import dataclasses
from fractions import Fraction
import math

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.nn.table import Layer, Table, input_indices


def as_table(table) -> Table:
  """A table as it is; the table of a model that has one."""
  return getattr(table, 'table', table)


# Where a network looks.


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
  """What one cell of a layer's output sees of the input, along one axis.

  Attributes:
    layer: the layer.
    size: receptive field: input pixels from the first to the last that a cell reads. After an
      upsampling layer cells differ, and the largest field counts. None where each cell sees the
      whole picture, and nothing by other ways.
    jump: input pixels between neighboring cells; below 1 after an upsampling layer.
    center: offset: where cell 0 lies, in input pixels. That is the middle of its field, except
      after an upsampling layer, whose cells lie anywhere between the coarse cells that they blend.
  """

  layer: Layer
  size: int | None
  jump: Fraction
  center: Fraction


def receptive_fields(table: Table) -> Iterator[ReceptiveField]:
  """Yields the receptive field after each layer."""
  table = as_table(table)
  for place, (layer, (jump, center)) in enumerate(
    zip(table, jumps_and_centers(table), strict=True)
  ):
    yield ReceptiveField(layer, _receptive_field_size(table[: place + 1]), jump, center)


def _receptive_field_size(table: Table) -> int | None:
  """The largest field of the last layer's cells."""
  phases = {-1: 1}  # After an upsampling layer, cells that differ.
  for place, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
    finer = layer.stride if layer.kind == 'deconv' else 1
    phases[place] = finer * max(phases[source] for source in reads)
  windows = [_window(table, cell) for cell in range(phases[len(table) - 1])]
  return None if None in windows else max(last - first + 1 for first, last in windows)


def jumps_and_centers(table: Table) -> list[tuple[Fraction, Fraction]]:
  """(jump, center) of each layer's cells, see `ReceptiveField`."""
  table = as_table(table)
  result = {-1: (Fraction(1), Fraction(0))}
  for place, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
    # The inputs of one layer share a grid; that of 'bins' is not a grid of pixels.
    jump, center = result[reads[-1] if layer.kind == 'resize' else reads[0]]
    if layer.kind not in _WIDE:
      # From the first place of the layer's window to its middle, on the finer of its two grids.
      middle = Fraction(layer.effective_kernel - 1, 2) - layer.padding
      if layer.kind == 'deconv':
        jump /= layer.stride
        center -= middle * jump
      else:
        center += middle * jump
        jump *= layer.stride
    result[place] = jump, center
  return [result[place] for place in range(len(table))]


_WIDE = ('adaptive_avg_pool', 'resize')  # Their cells read the whole map.


def window(table: Table, cell: int = 0) -> tuple[int, int]:
  """The first and the last input pixel that one cell of the output reads.

  Args:
    table: the layers.
    cell: its number.

  Returns:
    (first, last); below 0 or beyond the input where the cell reads padding.

  >>> from dilated_jax.nn import table
  >>> window(table.front_end(21), cell=1)
  (8, 387)
  """
  return _window(as_table(table), cell)


def _window(table: Table, cell: int) -> tuple[int, int] | None:
  """`window`; None where all ways lead through averages of the whole map."""
  spans, reads = {len(table) - 1: (cell, cell)}, input_indices(table)
  for place in reversed(range(len(table))):
    layer = table[place]
    if place not in spans or layer.kind in _WIDE:
      continue
    first, last = spans.pop(place)
    if layer.kind == 'deconv':  # Writes cell i to i * stride - padding + (0 ... kernel - 1).
      first = -((layer.kernel - 1 - layer.padding - first) // layer.stride)
      last = (last + layer.padding) // layer.stride
    else:  # Reads cell o from o * stride - padding + (0 ... extent - 1).
      first = first * layer.stride - layer.padding
      last = last * layer.stride - layer.padding + layer.effective_kernel - 1
    for source in reads[place]:
      others = spans.get(source, (first, last))
      spans[source] = min(first, others[0]), max(last, others[1])
  return spans.get(-1)


def path_counts(table: Table, cell: int = 0) -> tuple[int, np.ndarray]:
  """In how many ways each input pixel reaches one cell of the output, by one tap of every layer.

  A pixel that has none is a hole in the receptive field: dilations 2, 2, 2 skip every other pixel,
  1, 2, 4 skip none (section 2). In the plane, the ways along both axes multiply (those of parallel
  branches one by one). The picture is taken to be so large that no way leads through padding.

  Args:
    table: the layers.
    cell: number of the output cell.

  Returns:
    (first, ways): the first pixel of the cell's `window`, and an array of Python integers (they
    are large), one for each pixel of the window.

  >>> from dilated_jax.nn.table import Layer
  >>> first, ways = path_counts((Layer('a', dilation=2), Layer('b', dilation=2)))
  >>> first, ways.tolist()
  (0, [1, 0, 2, 0, 3, 0, 2, 0, 1])
  """
  table = as_table(table)
  reads = input_indices(table)
  found = {len(table) - 1: (cell, np.array([1], object))}
  for place in reversed(range(len(table))):
    if place not in found or table[place].kind in _WIDE:
      continue
    before = _ways_before(table[place], *found.pop(place))
    for source in reads[place]:
      found[source] = _added(before, found[source]) if source in found else before
  return found[-1]


def _ways_before(layer: Layer, first: int, ways: np.ndarray) -> tuple[int, np.ndarray]:
  """From the ways to a layer's cells, from `first` on, to those of the cells that it reads."""
  cells = first + np.arange(len(ways))
  first, last = _window((_alone(layer),), cells[0])[0], _window((_alone(layer),), cells[-1])[1]
  before = np.zeros(last - first + 1, object)
  for tap in range(layer.kernel):
    if layer.kind == 'deconv':
      read, rest = np.divmod(cells + layer.padding - tap, layer.stride)
      before[read[rest == 0] - first] += ways[rest == 0]
    else:
      before[cells * layer.stride - layer.padding + tap * layer.dilation - first] += ways
  return int(first), before


def _alone(layer: Layer) -> Layer:
  """The layer by itself, reading what it is fed."""
  return dataclasses.replace(layer, inputs=())


def _added(one, other) -> tuple[int, np.ndarray]:
  """The sum of two arrays that begin at different places."""
  first = min(one[0], other[0])
  total = np.zeros(max(start + len(ways) for start, ways in (one, other)) - first, object)
  for start, ways in (one, other):
    total[start - first : start - first + len(ways)] += ways
  return first, total


# A network's grid: that of its scores, before a bilinear upsampling that it may end in.


def without_upsampling(table: Table) -> Table:
  """The layers that make a network's grid."""
  table = as_table(table)
  end = len(table)
  while end and table[end - 1].kind == 'crop':
    end -= 1
  # A crop by itself belongs to the grid.
  return table[: end - 1] if end and table[end - 1].kind == 'deconv' else table


def receptive_field(table: Table) -> int:
  """Side of the receptive field of one cell of a network's grid, in input pixels (section 2).

  Of the largest, where a network upsamples on its way to the grid and cells differ.

  >>> from dilated_jax.nn import table
  >>> receptive_field(table.context(21)), receptive_field(table.front_end(21))
  (67, 380)
  """
  return _receptive_field_size(without_upsampling(table))


def stride(table: Table) -> int:
  """Input pixels between cells of a network's grid: 8 for the published networks."""
  grid = jumps_and_centers(without_upsampling(table))
  return int(grid[-1][0]) if grid else 1


def offset(table: Table) -> Fraction:
  """Input pixel in which cell 0 of a network's grid is centerd: 189.5 for the front end.

  In a picture around which `margin` pixels are reflected it is offset - margin: 3.5, the middle of
  the first `stride` pixels.
  """
  return jumps_and_centers(without_upsampling(table))[-1][1]


def margin(table: Table) -> int:
  """Input pixels lost on each side: 186 for the front end (paper-era code calls it label margin).

  An input of H + 2 * margin pixels gives H / stride cells, for H a multiple of the stride; where a
  window of even extent leaves half a pixel, it is rounded up, and there is one more cell. Networks
  that pad have more cells, or 0: then theirs begin at or before the first pixel.
  """
  step = stride(table)
  return max(0, math.ceil(offset(table) - Fraction(step - 1, 2)))


def depends_on_border(table: Table) -> bool:
  """Whether cells depend on where the input ends: by padding, or averages of the whole of it."""
  return any(layer.padding > 0 or layer.kind in _WIDE for layer in as_table(table))


def valid_size(table: Table, least: int = 1) -> int:
  """The next input size, from `least` on, at which no window overhangs and no pixel is left over.

  380, 388, 396, ... for the front end: 8 n + 372 for n cells.
  """
  grid = without_upsampling(table)
  while not all(size > 0 and not rest for size, rest in _cells(grid, least)):
    least += 1
  return least


# Sizes and costs.


def output_sizes(table: Table, size: int) -> list[int]:
  """Output sizes of all layers for an input of `size` pixels.

  Convolutions round down, poolings up, as in Caffe, unless their row says otherwise.

  Raises:
    InputError: the input is smaller than the receptive field; says how large it must be.
  """
  result = []
  for layer, (cells, _) in zip(as_table(table), _cells(table, size)):
    if cells < 1:
      least = valid_size(table)
      raise InputError(f'an input of {size} pixels vanishes in {layer.name}; give {least} or more')
    result.append(cells)
  return result


def _cells(table: Table, size: int) -> Iterator[tuple[int, int]]:
  """For each layer its output size, and how many cells of its input are left over or overhang."""
  table, known = as_table(table), {-1: size}
  for place, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
    given, rest = min(known[source] for source in reads), 0
    if layer.kind == 'adaptive_avg_pool':
      given = layer.kernel
    elif layer.kind == 'resize':
      given = known[reads[-1]]
    elif layer.kind == 'deconv':
      given = (given - 1) * layer.stride + layer.kernel - 2 * layer.padding
    else:
      steps, rest = divmod(given + 2 * layer.padding - layer.effective_kernel, layer.stride)
      given = steps + 1
      if layer.kind == 'crop':  # At one end alone.
        given -= layer.padding
      elif rest and layer.kind.endswith('pool') and layer.round_up:
        # A last window that would begin in the padding behind the input is left out.
        given += steps * layer.stride + layer.stride < known[reads[0]] + layer.padding
    known[place] = given
    yield given, rest


def output_size(table: Table, size: int) -> int:
  """Output size for an input of `size` pixels: (size - 372) / 8 for the paper's front end."""
  return output_sizes(table, size)[-1]


def channel_counts(table: Table, channels: int = 3) -> list[int]:
  """Channels of the input, `channels`, and then of each layer's output."""
  result = [channels]
  for layer, reads in zip(as_table(table), input_indices(as_table(table)), strict=True):
    given = [result[source + 1] for source in reads]
    result.append(layer.channels or (sum(given) if layer.kind == 'concat' else given[0]))
  return result


def convolutions(table: Table, channels: int = 3) -> Iterator[tuple[int, Layer, int, int]]:
  """(place, layer, input channels, output channels) of each convolution."""
  table, counts = as_table(table), channel_counts(table, channels)
  for place, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
    if layer.kind == 'conv':
      yield place, layer, counts[reads[0] + 1], counts[place + 1]


def num_parameters(table: Table, channels: int = 3) -> int:
  """Number of learned values: kernels and biases, scales and biases of normalizations.

  Args:
    table: the layers.
    channels: of the input.
  """
  return sum(
    (layer.kernel**2 * inputs + layer.bias) * outputs + 2 * outputs * (layer.norm != 'none')
    for _, layer, inputs, outputs in convolutions(table, channels)
  )


def flops(table: Table, height: int, width: int, channels: int = 3) -> int:
  """Floating-point operations of the convolutions for one picture (a multiply-add counts as 2).

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
  """
  rows, columns = output_sizes(table, height), output_sizes(table, width)
  return sum(
    2 * rows[place] * columns[place] * layer.kernel**2 * inputs * outputs
    for place, layer, inputs, outputs in convolutions(table, channels)
  )


def activation_bytes(
  table: Table, height: int, width: int, channels: int = 3, itemsize: int = 4
) -> int:
  """Memory for the activations of one picture in inference: what is read now or later, at most.

  Without branches that is a layer's input and output. XLA plans the same for float32, within a few
  percent; with what its convolutions take besides, a CPU process was seen to need 1.6 times that.
  On CPUs bfloat16 is computed in float32: no saving.

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
    itemsize: bytes of a value: 4 for float32, 2 for bfloat16.
  """
  maps = _map_sizes(table, height, width, channels)
  last_read = last_uses(table)
  alive = [
    sum(maps[source + 1] for source, last in last_read.items() if source < place <= last)
    + maps[place + 1]
    for place in range(len(maps) - 1)
  ]
  return itemsize * max(alive)


def last_uses(table: Table) -> dict[int, int]:
  """For each row that another one reads, -1 for the input, the place of the last that does."""
  reads = input_indices(as_table(table))
  return {source: place for place, those in enumerate(reads) for source in those}


def training_bytes(
  table: Table, height: int, width: int, channels: int = 3, itemsize: int = 4
) -> int:
  """Memory for the activations of one picture in training, where the backward pass needs them all.

  A compiled step takes two to three times that: there are their gradients too, and what ReLU,
  pooling and normalization remember.

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
  rows, columns = [height, *output_sizes(table, height)], [width, *output_sizes(table, width)]
  return [h * w * c for h, w, c in zip(rows, columns, channel_counts(table, channels))]

"""Sizes and receptive fields, derived from a table of layers.

Positions are counted from 0 along one axis: all kernels are square, so both axes are alike. `jump`
is the distance between neighboring cells of a layer's output, in input pixels.

Where a branch of a network averages over the whole image, each of its cells sees all of it. The
receptive fields here are those of the other branches.
"""

from collections.abc import Iterator
import dataclasses
from fractions import Fraction
import functools
import math
from typing import Any

from jaxtyping import Shaped
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.nn.table import Layer, Table, input_indices

# Kinds of layers whose cells read the whole map.
_GLOBAL = ('adaptive_avg_pool', 'resize')


# Receptive fields.


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
  """What one cell of a layer's output sees of the input, along one axis.

  Attributes:
    layer: the layer.
    size: receptive field: input pixels from the first to the last that a cell reads. Behind an
      upsampling layer cells differ, and this is the largest. None if all paths to the input lead
      through averages of the whole image.
    jump: input pixels between neighboring cells; below 1 behind an upsampling layer.
    center: position of cell 0, in input pixels. That is the middle of its receptive field, except
      behind an upsampling layer, whose cells lie between the coarse cells that they blend.
  """

  layer: Layer
  size: int | None
  jump: Fraction
  center: Fraction


def receptive_fields(table: Table) -> Iterator[ReceptiveField]:
  """Yields the receptive field after each layer."""
  for index, (layer, (jump, center)) in enumerate(zip(table, jumps_and_centers(table))):
    yield ReceptiveField(layer, _receptive_field_size(table[: index + 1]), jump, center)


def _receptive_field_size(table: Table) -> int | None:
  """The largest receptive field of the cells of the last layer."""
  phases = {-1: 1}  # Number of neighboring cells that may differ, behind an upsampling layer.
  for index, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
    factor = layer.stride if layer.kind == 'deconv' else 1
    phases[index] = factor * max(phases[source] for source in reads)
  sizes = []
  for cell in range(phases[len(table) - 1]):
    seen = _window(table, cell)
    if seen is None:
      return None
    sizes.append(seen[1] - seen[0] + 1)
  return max(sizes)


def jumps_and_centers(table: Table) -> list[tuple[Fraction, Fraction]]:
  """The jump and the center of each layer's cells, see `ReceptiveField`."""
  result = {-1: (Fraction(1), Fraction(0))}
  for index, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
    # All inputs of a layer have one grid. The first input of 'resize' may be a map of averages,
    # which has no positions; its second input has.
    jump, center = result[reads[-1] if layer.kind == 'resize' else reads[0]]
    if layer.kind not in _GLOBAL:
      # From the start of the layer's window to its middle, in cells of the finer grid.
      middle = Fraction(layer.effective_kernel - 1, 2) - layer.padding
      if layer.kind == 'deconv':
        jump /= layer.stride
        center -= middle * jump
      else:
        center += middle * jump
        jump *= layer.stride
    result[index] = jump, center
  return [result[index] for index in range(len(table))]


def window(table: Table, cell: int | Any = 0) -> tuple[int | Any, int | Any]:
  """The first and the last input pixel that one cell of the output reads.

  Args:
    table: the layers.
    cell: index of the output cell, perhaps one that `jax.export` knows by name alone.

  Returns:
    (first, last); below 0 or beyond the input where the cell reads padding.

  Raises:
    ValueError: all paths to the input lead through averages of the whole image.

  >>> from dilated_jax.nn import table
  >>> window(table.front_end(21), cell=1)
  (8, 387)
  """
  seen = _window(table, cell)
  if seen is None:
    raise ValueError('each cell sees the whole image')
  return seen


def _window(table: Table, cell: int | Any) -> tuple[int | Any, int | Any] | None:
  """As `window`, but None where that raises."""
  windows, reads = {len(table) - 1: (cell, cell)}, input_indices(table)
  for index in reversed(range(len(table))):
    layer = table[index]
    if index not in windows or layer.kind in _GLOBAL:
      continue
    first, last = windows.pop(index)
    if layer.kind == 'deconv':  # Cell i is added to i * stride - padding + (0 ... kernel - 1).
      first = -((layer.kernel - 1 - layer.padding - first) // layer.stride)
      last = (last + layer.padding) // layer.stride
    else:  # Cell o reads o * stride - padding + (0 ... effective_kernel - 1).
      first = first * layer.stride - layer.padding
      last = last * layer.stride - layer.padding + layer.effective_kernel - 1
    for source in reads[index]:
      other = windows.get(source, (first, last))
      windows[source] = min(first, other[0]), max(last, other[1])
  return windows.get(-1)


def path_counts(table: Table, cell: int = 0) -> tuple[int, Shaped[np.ndarray, ' pixels']]:
  """Counts the paths from each input pixel to one output cell, through one tap of every layer.

  A pixel without a path is a hole in the receptive field: dilations 2, 2, 2 skip every other pixel,
  1, 2, 4 skip none (section 2). In two dimensions the counts along both axes multiply (those of
  parallel branches separately). The image is assumed to be so large that no path leads through
  padding.

  Args:
    table: the layers.
    cell: index of the output cell.

  Returns:
    (first, counts): the first pixel of the cell's `window`, and an object array of Python integers
    (they grow large), one for each pixel of the window.

  >>> from dilated_jax.nn.table import Layer
  >>> first, counts = path_counts((Layer('a', dilation=2), Layer('b', dilation=2)))
  >>> first, counts.tolist()
  (0, [1, 0, 2, 0, 3, 0, 2, 0, 1])
  """
  reads = input_indices(table)
  found = {len(table) - 1: (cell, np.array([1], object))}
  for index in reversed(range(len(table))):
    if index not in found or table[index].kind in _GLOBAL:
      continue
    counts = _counts_of_input(table[index], *found.pop(index))
    for source in reads[index]:
      found[source] = _add_counts(counts, found[source]) if source in found else counts
  return found[-1]


def _counts_of_input(layer: Layer, first: int, counts: np.ndarray) -> tuple[int, np.ndarray]:
  """From counts of a layer's output cells, from cell `first` on, to those of its input cells."""
  cells = first + np.arange(len(counts))
  alone = (dataclasses.replace(layer, inputs=()),)
  begin, end = window(alone, int(cells[0]))[0], window(alone, int(cells[-1]))[1]
  result = np.zeros(end - begin + 1, object)
  for tap in range(layer.kernel):
    if layer.kind == 'deconv':
      read, rest = np.divmod(cells + layer.padding - tap, layer.stride)
      result[read[rest == 0] - begin] += counts[rest == 0]
    else:
      result[cells * layer.stride - layer.padding + tap * layer.dilation - begin] += counts
  return begin, result


def _add_counts(a: tuple[int, np.ndarray], b: tuple[int, np.ndarray]) -> tuple[int, np.ndarray]:
  """The sum of two arrays that begin at different positions."""
  first = min(a[0], b[0])
  total = np.zeros(max(start + len(counts) for start, counts in (a, b)) - first, object)
  for start, counts in (a, b):
    total[start - first : start - first + len(counts)] += counts
  return first, total


# The output grid of a network: that of its scores, before a bilinear upsampling at its end.


def without_upsampling(table: Table) -> Table:
  """The layers up to the scores, without a bilinear upsampling at the end and crops behind it."""
  end = len(table)
  while end and table[end - 1].kind == 'crop':
    end -= 1
  # Without an upsampling before them, the crops belong to the scores.
  return table[: end - 1] if end and table[end - 1].kind == 'deconv' else table


def receptive_field(table: Table) -> int:
  """Side of the receptive field of one cell of the scores, in input pixels (section 2).

  Where a network upsamples on the way and cells differ, this is the largest.

  Raises:
    ValueError: all paths to the input lead through averages of the whole image.

  >>> from dilated_jax.nn import table
  >>> receptive_field(table.context(21)), receptive_field(table.front_end(21))
  (67, 380)
  """
  size = _receptive_field_size(without_upsampling(table))
  if size is None:
    raise ValueError('each cell sees the whole image')
  return size


def stride(table: Table) -> int:
  """Input pixels between cells of the scores: 8 for the published networks."""
  grid = jumps_and_centers(without_upsampling(table))
  return int(grid[-1][0]) if grid else 1


def offset(table: Table) -> Fraction:
  """Position of cell 0 of the scores, in input pixels: 189.5 for the front end.

  In an image around which `margin` pixels are reflected, its position is offset - margin: 3.5, the
  middle of the first `stride` pixels.
  """
  return jumps_and_centers(without_upsampling(table))[-1][1]


def margin(table: Table) -> int:
  """Input pixels lost on each side: 186 for the front end (the authors' code: label margin).

  An input of H + 2 * margin pixels gives H / stride cells, for H a multiple of the stride. If a
  window of even size leaves half a pixel, the margin is rounded up, and there is one more cell.
  Networks that pad have more cells, or a margin of 0: their first cell then lies at the middle of
  the first pixels or before it.
  """
  return max(0, math.ceil(offset(table) - Fraction(stride(table) - 1, 2)))


def depends_on_border(table: Table) -> bool:
  """Whether a cell depends on where the input ends: by padding, or by averages of the whole map."""
  return any(layer.padding > 0 or layer.kind in _GLOBAL for layer in table)


# Sizes.


def output_sizes(table: Table, size: int) -> list[int]:
  """Output sizes of all layers for an input of `size` pixels.

  Convolutions round down and poolings round up, as in Caffe, unless their row says otherwise.

  Raises:
    InputError: the input is too small for a layer; the message has the smallest valid size.
  """
  result = []
  for layer, (cells, _) in zip(table, _cells(table, size)):
    if cells < 1:
      least = valid_size(table)
      raise InputError(f'an input of {size} pixels vanishes in {layer.name}; give {least} or more')
    result.append(cells)
  return result


def all_output_sizes(table: Table, largest: int) -> Shaped[np.ndarray, 'layers sizes']:
  """Output sizes of all layers for every input up to a size; 0 where a layer vanishes.

  Args:
    table: the layers.
    largest: input size in pixels, S.

  Returns:
    (L, S + 1) int32: of layer i for an input of n pixels at [i, n].

  >>> from dilated_jax.nn import table
  >>> all_output_sizes(table.context(21)[:1], 3).tolist()
  [[0, 1, 2, 3]]
  """
  found = [cells for cells, _ in _cells(table, np.arange(largest + 1))]
  return np.maximum(0, np.stack(np.broadcast_arrays(*found))).astype(np.int32)


def output_size(table: Table, size: int) -> int:
  """Output size for an input of `size` pixels: (size - 372) / 8 for the front end of the paper."""
  return output_sizes(table, size)[-1]


def least_size(table: Table, least: int = 1) -> int:
  """The smallest input size from `least` on that leaves every layer a cell."""
  while not all(size > 0 for size, _ in _cells(table, least)):
    least += 1
  return least


def valid_size(table: Table, least: int = 1) -> int:
  """The smallest input size from `least` on at which every layer uses its whole input.

  That is, no window is clipped at the end, and no cell is left over: 380, 388, 396, ... for the
  front end, 8 n + 372 for n cells. If branches never agree on such a size, the smallest at which no
  layer vanishes.
  """
  grid = without_upsampling(table)
  least = least_size(grid, least)
  # From here on, what is left over depends on the size modulo all jumps.
  period = math.lcm(*(jump.numerator for jump, _ in jumps_and_centers(grid)))
  for size in range(least, least + period):
    if not any(rest for _, rest in _cells(grid, size)):
      return size
  return least


def _cells(table: Table, size) -> Iterator[tuple]:
  """For each layer, its output size and the number of input cells left over (or clipped).

  Of an array of sizes, arrays.
  """
  least = min if isinstance(size, int) else lambda sizes: functools.reduce(np.minimum, sizes)
  sizes = {-1: size}
  for index, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
    cells, rest = least([sizes[source] for source in reads]), 0
    if layer.kind == 'adaptive_avg_pool':
      cells = layer.kernel
    elif layer.kind == 'resize':
      cells = sizes[reads[-1]]
    elif layer.kind == 'deconv':
      cells = (cells - 1) * layer.stride + layer.kernel - 2 * layer.padding
    else:
      steps, rest = divmod(cells + 2 * layer.padding - layer.effective_kernel, layer.stride)
      cells = steps + 1
      if layer.kind == 'crop':  # At one end only.
        cells -= layer.padding
      elif layer.kind.endswith('pool') and layer.round_up:
        # A last window that would begin in the padding behind the input is dropped.
        begins = steps * layer.stride + layer.stride < sizes[reads[0]] + layer.padding
        cells += (rest > 0) & begins
    sizes[index] = cells
    yield cells, rest

"""Sizes, receptive fields and costs, all derived from a table of layers.

Positions are input pixels along one axis, counted from 0; all tables are square, so one axis says
it all. `jump` is the distance between neighbouring cells of a layer's output in input pixels.
"""

from collections.abc import Iterator
import dataclasses
from fractions import Fraction

from dilated_jax.errors import InputError
from dilated_jax.layers import Layer, Table


@dataclasses.dataclass(frozen=True)
class Field:
  """What one cell of a layer's output sees of the input, along one axis.

  Attributes:
    layer: the layer.
    size: receptive field in input pixels.
    jump: input pixels between neighbouring cells; below 1 after an upsampling layer.
    center: centre of the field of cell 0, in input pixels.
  """

  layer: Layer
  size: int
  jump: Fraction
  center: Fraction


def fields(table: Table) -> Iterator[Field]:
  """Yields the receptive field after each layer.

  A window of extent e on a grid of jump j widens the field by (e - 1) j; padding moves it. After a
  bilinear upsampling a cell sees two cells of the coarse grid.
  """
  size, jump, center = 1, Fraction(1), Fraction(0)
  for layer in as_table(table):
    if layer.kind == 'deconv':
      size += int(jump)
      # Output cell 0 lies (stride - 1) / 2 fine cells before the centre of coarse cell 0.
      center -= jump * Fraction(layer.stride - 1, 2 * layer.stride)
      jump /= layer.stride
    else:
      size += int((layer.extent - 1) * jump)
      center += (Fraction(layer.extent - 1, 2) - layer.padding) * jump
      jump *= layer.stride
    yield Field(layer, size, jump, center)


def receptive_field(table: Table) -> int:
  """Side of the receptive field of one cell of a network's grid, in input pixels (section 2).

  A final bilinear upsampling is left out, as in `stride`; `fields` tells its share.

  >>> from dilated_jax import layers
  >>> receptive_field(layers.context(21)), receptive_field(layers.front_end(21))
  (67, 380)
  """
  return [field.size for field in fields(table) if field.layer.kind != 'deconv'][-1]


def stride(table: Table) -> int:
  """Input pixels between output cells, upsampling layers left out: 8 for the published networks."""
  result = 1
  for layer in as_table(table):
    result *= layer.stride if layer.kind != 'deconv' else 1
  return result


def margin(table: Table) -> int:
  """Input pixels lost on each side: 186 for the front end (paper-era code calls it label margin).

  An input of H + 2 * margin pixels gives H / stride cells, for H a multiple of the stride.
  """
  lost, jump = 0, 1
  for layer in as_table(table):
    if layer.kind == 'conv':
      lost += ((layer.extent - 1) // 2 - layer.padding) * jump
    if layer.kind != 'deconv':
      jump *= layer.stride
  return lost


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
      least = 2 * margin(table) + stride(table)
      raise InputError(f'an input of {given} pixels vanishes in {layer.name}; give {least} or more')
    result.append(size)
  return result


def output_size(table: Table, size: int) -> int:
  """Output size for an input of `size` pixels: (size - 372) / 8 for the paper's front end."""
  return sizes(table, size)[-1]


def parameters(table: Table, channels: int = 3) -> int:
  """Number of weights and biases of the convolutions, for an input of `channels` channels."""
  total = 0
  for layer in as_table(table):
    if layer.kind == 'conv':
      total += (layer.kernel**2 * channels + 1) * layer.channels
      channels = layer.channels
  return total


def flops(table: Table, height: int, width: int, channels: int = 3) -> int:
  """Floating-point operations of the convolutions for one picture (a multiply-add counts as 2)."""
  total = 0
  rows, columns = sizes(table, height), sizes(table, width)
  for layer, h, w in zip(as_table(table), rows, columns, strict=True):
    if layer.kind == 'conv':
      total += 2 * h * w * layer.kernel**2 * channels * layer.channels
      channels = layer.channels
  return total


def as_table(table) -> Table:
  """A table as it is; the table of a model that has one."""
  return getattr(table, 'table', table)

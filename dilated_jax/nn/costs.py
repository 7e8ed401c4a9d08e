"""Parameters, FLOPs and memory, derived from a table of layers."""

from collections.abc import Iterator
import math
from typing import NamedTuple

from dilated_jax.nn.geometry import output_sizes
from dilated_jax.nn.table import Layer, Table, blocks, input_indices, last_uses


def channel_counts(table: Table, channels: int = 3) -> list[int]:
  """Channels of the input, which are given, and then of each layer's output."""
  result = [channels]
  for layer, reads in zip(table, input_indices(table), strict=True):
    given = [result[source + 1] for source in reads]
    result.append(layer.channels or (sum(given) if layer.kind == 'concat' else given[0]))
  return result


def convolutions(table: Table, channels: int = 3) -> Iterator[tuple[int, Layer, int, int]]:
  """Yields (index, layer, input channels, output channels) of each convolution."""
  counts = channel_counts(table, channels)
  for index, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
    if layer.kind == 'conv':
      yield index, layer, counts[reads[0] + 1], counts[index + 1]


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
  """Floating-point operations of the convolutions for one image (a multiply-add counts as 2).

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
  """
  rows, columns = output_sizes(table, height), output_sizes(table, width)
  return sum(
    2 * rows[index] * columns[index] * layer.kernel**2 * inputs * outputs
    for index, layer, inputs, outputs in convolutions(table, channels)
  )


def traffic_bytes(
  table: Table, height: int, width: int, channels: int = 3, itemsize: int = 4, batch: int = 1
) -> int:
  """Bytes that must be moved where every layer reads its inputs and weights and writes its output.

  The least that layers run one by one can move; caches that keep a map from one layer to the next,
  and layers that are joined, move less. Forward alone: the two gradients of a layer move as much
  again each, so that a training step moves three times this. FLOPs over bytes is the arithmetic
  intensity of the roofline (Williams, Waterman and Patterson, 2009).

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
    itemsize: bytes per value: 4 for float32, 2 for bfloat16.
    batch: images, which share one reading of the weights.
  """
  maps = _map_sizes(table, height, width, channels)
  moved = sum(
    maps[index + 1] + sum(maps[source + 1] for source in reads)
    for index, reads in enumerate(input_indices(table))
  )
  return itemsize * (batch * moved + num_parameters(table, channels))


def inference_bytes(
  table: Table, height: int, width: int, channels: int = 3, itemsize: int = 4
) -> int:
  """Memory for the activations of one image in inference: the peak of the maps held at a time.

  A map is held until the last layer that reads it has run; without branches, that makes a layer's
  input and output. XLA plans the same for float32, within a few percent. Its convolutions need
  memory besides: a CPU process was measured to take 1.6 times the estimate. On CPUs bfloat16 saves
  none, because it is computed in float32.

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
    itemsize: bytes per value: 4 for float32, 2 for bfloat16.
  """
  maps = _map_sizes(table, height, width, channels)
  last_use = last_uses(table)
  held = [
    sum(maps[source + 1] for source, last in last_use.items() if source < index <= last)
    + maps[index + 1]
    for index in range(len(maps) - 1)
  ]
  return itemsize * max(held)


class TrainingMemory(NamedTuple):
  """Bytes that a training step takes on a device, the batch itself left out.

  Attributes:
    weights: the parameters, float32.
    optimizer: what the optimizer keeps beside them, float32.
    gradients: float32.
    activations: what the forward pass leaves for the backward pass, and what a layer's backward
      pass needs besides.
  """

  weights: int
  optimizer: int
  gradients: int
  activations: int

  @property
  def total(self) -> int:
    """All of them together."""
    return sum(self)


def training_memory(
  table: Table,
  height: int,
  width: int,
  channels: int = 3,
  *,
  batch_size: int = 1,
  itemsize: int = 4,
  optimizer_slots: int = 1,
  grad_accum_steps: int = 1,
  remat: bool = False,
  label_size: tuple[int, int] = (0, 0),
) -> TrainingMemory:
  """Memory of a training step, by geometry.

  The largest of what is held at each layer on the way back. A convolution leaves its output, which
  the derivative of what follows needs, and its input, in another order, for the gradient of its
  kernel. That gradient is made beside a copy of it, and beside the gradients of all layers behind;
  the gradients of a layer's input and output are there too. The benchmark `memory`
  compares it with what XLA sets aside.

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
    batch_size: images of a device in a step.
    itemsize: bytes per activation: 4 for float32 (and on CPUs, which compute bfloat16 in it), 2 for
      bfloat16.
    optimizer_slots: arrays as large as the parameters that the optimizer keeps: 1 for momentum, 2
      for Adam.
    grad_accum_steps: parts into which the batch is cut.
    remat: whether activations are computed again, block by block (`table.blocks`).
    label_size: (height, width) at which logits are compared with labels, where they are upsampled
      for it.

  Returns:
    The bytes.
  """
  images = -(-batch_size // grad_accum_steps)
  maps = [itemsize * images * size for size in _map_sizes(table, height, width, channels)]
  weights = 4 * num_parameters(table, channels)
  kernels = {
    index: 4 * layer.kernel**2 * inputs * outputs
    for index, layer, inputs, outputs in convolutions(table, channels)
  }
  reads, last_use = input_indices(table), last_uses(table)
  # Logits at the size of the labels, their softmax and their gradient.
  labels = 3 * 4 * images * math.prod(label_size) * channel_counts(table, channels)[-1]
  peak, first = 0, 0
  for block in blocks(table) if remat else [table]:
    # Of the blocks before: what they and later ones are computed from.
    ends = {row for row in range(first) if table[row].kind in ('max_pool', 'sum')}
    ends |= {source for source, last in last_use.items() if 0 <= source < first <= last}
    held = sum(maps[row + 1] for row in ends)
    end = first + len(block)
    for row in range(first, end):
      if row in kernels:
        held += maps[row + 1] + sum(maps[source + 1] for source in reads[row])
      elif table[row].activation:
        held += maps[row + 1]
      # Those of the layers before are not there yet.
      later = sum(size for index, size in kernels.items() if index >= row)
      own = maps[row + 1] + sum(maps[source + 1] for source in reads[row])
      peak = max(peak, held + own + later + kernels.get(row, 0) - weights)
    if end == len(table):
      peak = max(peak, held + labels - weights)
    first = end
  accumulated = 2 if grad_accum_steps > 1 else 1
  return TrainingMemory(weights, optimizer_slots * weights, accumulated * weights, max(peak, 0))


def _map_sizes(table: Table, height: int, width: int, channels: int) -> list[int]:
  """Number of values of the input and of each layer's output."""
  rows, columns = [height, *output_sizes(table, height)], [width, *output_sizes(table, width)]
  return [h * w * c for h, w, c in zip(rows, columns, channel_counts(table, channels))]

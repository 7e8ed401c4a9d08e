"""Parameters, FLOPs and memory, derived from a table of layers."""

from collections.abc import Iterator

from dilated_jax.nn.geometry import output_sizes
from dilated_jax.nn.table import Layer, Table, input_indices, last_uses


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


def training_bytes(
  table: Table, height: int, width: int, channels: int = 3, itemsize: int = 4
) -> int:
  """Memory for the activations of one image in training, all held for the backward pass.

  A compiled step takes two to three times as much: it also holds gradients, and what the backward
  passes of ReLU, pooling and normalization need.

  Args:
    table: the layers.
    height: of the input, in pixels.
    width: of the input, in pixels.
    channels: of the input.
    itemsize: bytes per value: 4 for float32, 2 for bfloat16.
  """
  return itemsize * sum(_map_sizes(table, height, width, channels))


def _map_sizes(table: Table, height: int, width: int, channels: int) -> list[int]:
  """Number of values of the input and of each layer's output."""
  rows, columns = [height, *output_sizes(table, height)], [width, *output_sizes(table, width)]
  return [h * w * c for h, w, c in zip(rows, columns, channel_counts(table, channels))]

"""What there is to say about a network: its layers, what they see, what they cost."""

import dataclasses

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.nn import costs, geometry
from dilated_jax.nn.table import input_indices


def describe(model: SegmentationModel, height: int, width: int) -> dict:
  """Derives what there is to say about a network, ready for JSON.

  Args:
    model: from `models.create`.
    height: of the input, in pixels.
    width: of the input, in pixels.

  Returns:
    {'input': [height, width], 'layers': a dictionary for each, 'network': of all, 'notes': lines}.

  Raises:
    InputError: the input is too small, or the receptive field too large.
  """
  field = geometry.receptive_field(model.table)
  if field > 100_000:
    raise InputError(f'a receptive field of {field} pixels; up to 100000 can be explored')
  dtype = np.dtype(model.dtype)
  size = dict(height=height, width=width, itemsize=dtype.itemsize)
  smallest = geometry.valid_size(model.table)
  cells = geometry.output_size(geometry.without_upsampling(model.table), smallest)
  return {
    'input': [height, width],
    'network': {
      'num_classes': model.num_classes,
      'dtype': dtype.name,
      'field': field,
      'stride': model.stride,
      'margin': model.margin,
      'offset': float(geometry.offset(model.table)),
      # stride * n + rest pixels give n cells and lose nothing to clipping.
      'smallest_input': smallest,
      'next_input': geometry.valid_size(model.table, smallest + 1),
      'rest': smallest - cells * model.stride,
      'parameters': costs.num_parameters(model.table),
      'parameter_bytes': 4
      * costs.num_parameters(model.table),  # float32, whatever the computation is in.
      'flops': costs.flops(model.table, height, width),
      'inference_bytes': costs.inference_bytes(model.table, **size),
      'training_bytes': costs.training_memory(model.table, **size).activations,
    },
    'layers': layers(model.table, **size),
    'notes': notes(model, height, width),
  }


def layers(table, height: int, width: int, itemsize: int) -> list[dict]:
  """What there is to say about each layer."""
  counts = costs.channel_counts(table)
  heights, widths = (
    [height, *geometry.output_sizes(table, height)],
    [width, *geometry.output_sizes(table, width)],
  )
  reads, rows = input_indices(table), []
  for index, field in enumerate(geometry.receptive_fields(table)):
    layer, places = field.layer, [1 + source for source in reads[index]]
    alone, given = (dataclasses.replace(layer, inputs=()),), places[0]
    row = {
      'name': layer.name,
      'kind': layer.kind,
      'kernel': layer.kernel,
      'dilation': layer.dilation,
      'stride': layer.stride,
      'padding': layer.padding,
      'channels': counts[index + 1],
      'inputs': list(layer.inputs),
      'field': field.size,
      'read': field.size and int(np.count_nonzero(geometry.path_counts(table[: index + 1])[1])),
      'jump': float(field.jump),
      'offset': float(field.center),
      'parameters': costs.num_parameters(alone, counts[given]),
      'flops': costs.flops(alone, heights[given], widths[given], counts[given]),
      'bytes': itemsize * sum(heights[i] * widths[i] * counts[i] for i in {*places, index + 1}),
      'height': heights[index + 1],
      'width': widths[index + 1],
    }
    rows.append(row)
  return rows


def notes(model, height: int, width: int) -> list[str]:
  """What one should know about what its cells see."""
  grid = geometry.without_upsampling(model.table)
  result = [f'A cell of the grid reads {_coverage(grid, "pixels")}.']
  context = geometry.without_upsampling(model.context_table)
  if context:
    result.append(f'In the context module alone it reads {_coverage(context, "scores")}.')
  if any(layer.kind == 'adaptive_avg_pool' for layer in grid):
    result.append('Besides, each cell reads means of the whole picture, or of parts of it.')
  if model.scales != (1,):
    scales = ', '.join(f'{scale:g}' for scale in model.scales)
    result.append(f'The picture is seen at sizes {scales}; all here is told of the first.')
  if auxiliary := model.auxiliary_table:
    whole = costs.num_parameters(model.front_end_table + auxiliary)
    more = whole - costs.num_parameters(model.front_end_table)
    result.append(f'An auxiliary answer in training has {more:,} parameters more.')
  if 'crf' in model.parts:
    more = 3 * model.num_classes**2
    result.append(f'The CRF-RNN behind it has {more:,} parameters more, and sees the whole image.')
  for name, side in (('height', height), ('width', width)):
    valid = geometry.valid_size(model.table, side)
    if valid != side:
      result.append(f'{side} is no valid {name}: windows overhang its end; the next is {valid}.')
  first, _ = geometry.window(grid)
  if first < 0:
    outermost = -(first // model.stride)
    cells = min(geometry.output_size(grid, side) for side in (height, width))
    which = f'The outermost {outermost} cells' if 2 * outermost < cells else 'All cells'
    result.append(f'{which} also read zeros from beyond the border (padding).')
  return result


def _coverage(table, what: str) -> str:
  """Whether a receptive field has holes, and where most of its weight lies."""
  _, ways = geometry.path_counts(table)
  read, size, total = np.count_nonzero(ways), len(ways), np.cumsum(ways)
  if read == size:
    density = f'all {size} {what} of its field along an axis, without holes'
  else:
    hole = max(map(len, ''.join('x' if n else ' ' for n in ways).split('x')))
    density = (
      f'{read} of the {size} {what} of its field along an axis, with holes {hole} wide (gridding; '
      'dilations that start at 1 and double leave none)'
    )
  first, last = (np.argmax(4 * total >= quarters * total[-1]) for quarters in (1, 3))
  return f'{density}; half of all paths to it start in the {last - first + 1} in the middle'

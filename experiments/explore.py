"""Tells what a network is made of and what it sees: its layers, without any weights.

  dilated-jax explore --output=page.html
  dilated-jax explore --model=dilation8 --text
  dilated-jax explore --model=dilation8 --dilations=2,2,2,2 --input_size=500x628
  dilated-jax explore --weights=DIR --output=network.json

page.html is one page to open in a browser, without a server or a network: dilation beside pooling,
the growth of the receptive field, all networks layer by layer, and what they see of an image.

For each layer it tells the receptive field of a cell, the jump between neighboring cells and the
offset of the first (in pixels of the input, along one axis), the size of the output, parameters,
operations (a multiply-add counts as 2), and the memory that its input and output take together.
--input_size is what the network is fed, margins included.
"""

import dataclasses
import json
import os
import pathlib

from absl import flags
import numpy as np

from dilated_jax import files, models
from dilated_jax.errors import InputError
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.nn import costs, geometry
from dilated_jax.nn.table import input_indices

from . import cli, networks, path_flags
from .explorer import contents, page


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}
  networks.define_flags(values)
  flags.DEFINE_integer('num_classes', 21, 'Classes of the network.', lower_bound=2, **into)
  path_flags.define('weights', None, 'Weights folder whose network it is, instead.', **into)
  flags.DEFINE_string(
    'input_size', None, 'Size of the input, HxW; if not given, that of the weights, or 512 pixels '
    'and the margins.', **into,
  )  # fmt: skip
  flags.DEFINE_bool('text', False, 'Print it; also done where no file is asked for.', **into)
  path_flags.define('output', None, 'Page (.html) or JSON file (.json) to write it to.', **into)


def main(values=flags.FLAGS):
  kind = pathlib.Path(values.output or '').suffix.lower()
  if values.output and os.path.isdir(values.output):
    raise InputError(f'--output={values.output}: is a folder; name a file')
  if values.output and kind not in ('.html', '.json'):
    raise InputError(f'--output={values.output}: ends in neither .html (a page) nor .json')
  name, options, model, size = network(values)
  if values.input_size:
    size = cli.parsed('input_size', values.input_size, cli.size)
  result = {'model': name, 'options': options} | explore(model, *size)
  if values.text or not values.output:
    print(text(result))
  if values.output:
    if kind == '.html':
      segmenter = models.load_weights(values.weights) if values.weights else None
      content = page.assemble(contents.contents(segmenter))
    else:
      content = json.dumps(result, indent=2) + '\n'
    files.write_atomic(values.output, content.encode())
    print(f'written to {values.output}')


def network(values) -> tuple:
  """The network that the flags ask for: name, options, model, (height, width) of an input."""
  if values.weights:
    for flag in ('num_classes', *networks.flag_names()):
      if values[flag].present:
        raise InputError(f'--{flag} has no meaning with --weights: they say which network it is')
    spec = models.load_spec(values.weights)
    name, options, size = spec.model, spec.options, spec.input
    model = spec.create()
  else:
    name, options, size = values.model, networks.options(values), None
    model = models.create(name, values.num_classes, **options)
  side = geometry.valid_size(model.table, 512 + 2 * model.margin)
  return name, options, model, size or (side, side)


def explore(model: SegmentationModel, height: int, width: int) -> dict:
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


# Columns of numbers: title, and how a layer's entry is written.
_COLUMNS = {
  'kernel': '{kernel}x{kernel}',
  'dilation': '{dilation}',
  'stride': '{stride}',
  'padding': '{padding}',
  'channels': '{channels}',
  'field': '{field}',
  'jump': '{jump:g}',
  'offset': '{offset:g}',
  'output': '{height}x{width}',
  'parameters': '{parameters:,}',
  'GFLOPs': '{gflops:.2f}',
  'MiB': '{mib:.1f}',
}


def text(result: dict) -> str:
  """Sets what `explore` returns as text.

  Args:
    result: of `explore`, and of the network 'model', its name, and 'options'.

  Returns:
    Lines of text without a newline at the end.
  """
  whole, (height, width) = result['network'], result['input']
  cells = [['layer', 'kind', *_COLUMNS]]
  for row in result['layers']:
    row = row | {'gflops': row['flops'] / 1e9, 'mib': row['bytes'] / 2**20}
    row['field'] = row['field'] or 'all'
    cells.append([row['name'], row['kind'], *(form.format(**row) for form in _COLUMNS.values())])
  widths = [max(map(len, column)) for column in zip(*cells)]
  title = ', '.join(
    [f'{whole["num_classes"]} classes', f'input {height}x{width}']
    + [f'{name} {value}' for name, value in result['options'].items()]
  )
  lines = [f'{result["model"]}: {title}', '']
  for name, kind, *numbers in cells:
    words = [name.ljust(widths[0]), kind.ljust(widths[1])]
    lines.append('  '.join([*words, *map(str.rjust, numbers, widths[2:])]))
  step, margin, rest = whole['stride'], whole['margin'], whole['rest']
  inference, training, weights = (
    f'{whole[f"{what}_bytes"] / 2**20:,.1f} MiB' for what in ('inference', 'training', 'parameter')
  )
  lines += [
    '',
    f'receptive field  {whole["field"]} pixels',
    f'stride           {step} pixels',
    f'margin           {margin} pixels on each side; cell 0 is centered at pixel '
    f'{whole["offset"]:g} of the input, {whole["offset"] - margin:g} of the picture inside',
    f'valid inputs     {step} n {"-" if rest < 0 else "+"} {abs(rest)} pixels for n cells: '
    f'{whole["smallest_input"]}, {whole["next_input"]}, ...',
    f'parameters       {whole["parameters"]:,} ({weights} in float32)',
    f'operations       {whole["flops"] / 1e9:,.1f} GFLOPs',
    f'activations      {inference} at a time in inference; {training} in all, which training keeps',
    '',
    *result['notes'],
  ]
  return '\n'.join(lines)


if __name__ == '__main__':
  define_flags()
  cli.run(main)

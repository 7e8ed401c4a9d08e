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

import json
import pathlib

from absl import flags

from dilated_jax import files, models
from dilated_jax.errors import InputError
from dilated_jax.nn import geometry

from . import cli, networks, path_flags
from .explorer import contents, description, network_data, page


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}
  networks.define_flags(values)
  flags.DEFINE_integer('num_classes', 21, 'Classes of the network.', lower_bound=2, **into)
  path_flags.define('weights', None, 'Weights folder whose network it is, instead.', **into)
  flags.DEFINE_string(
    'input_size', None, 'Size of the input, HxW; if not given, that of the weights, or 512 pixels '
    'and the margins.', **into,
  )  # fmt: skip
  path_flags.define(
    'image', None, 'Photograph on which the page shows what --weights depend on, instead of one '
    'that comes with it.', **into,
  )  # fmt: skip
  flags.DEFINE_bool('text', False, 'Print it; also done where no file is asked for.', **into)
  path_flags.define('output', None, 'Page (.html) or JSON file (.json) to write it to.', **into)


def main(values=flags.FLAGS):
  kind = pathlib.Path(values.output or '').suffix.lower()
  path_flags.check_file(values, 'output')
  if values.output and kind not in ('.html', '.json'):
    raise InputError(f'--output={values.output}: ends in neither .html (a page) nor .json')
  if values.image and not (values.weights and kind == '.html'):
    raise InputError(
      f'--image={values.image}: is for a page of a trained network; name --weights '
      'and an --output that ends in .html'
    )
  name, options, model, size = network(values)
  if values.input_size:
    size = cli.parsed('input_size', values.input_size, cli.size)
  result = {'model': name, 'options': options} | description.describe(model, *size)
  if values.text or not values.output:
    print(text(result))
  if values.output:
    if kind == '.html':
      segmenter = models.load_weights(values.weights) if values.weights else None
      own = own_network(values, name, options, model, size)
      content = page.assemble(contents.contents(segmenter, own, values.image))
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


def own_network(values, name, options, model, size) -> network_data.Network | None:
  """The network that the page shows first; None if the flags name none."""
  if values.weights:
    folder = pathlib.Path(values.weights).resolve()
    title = f'{name} of {folder.parent.name if folder.name == "weights" else folder.name}'
  elif any(values[flag].present for flag in ('num_classes', *networks.flag_names())):
    title = f'{name}, as asked for'
  else:
    return None
  return network_data.Network(title, name, options, model, size)


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
  """Sets what `description.describe` returns as text.

  Args:
    result: of `describe`, and of the network 'model', its name, and 'options'.

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

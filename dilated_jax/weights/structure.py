"""Which network a set of named arrays is: its model and options, as `models.create` takes them."""

import re

from dilated_jax import layers
from dilated_jax.layers import Table


def front_end_options(file, kernels, default_fc: int = 1) -> dict:
  """Options of a front end or VGG with these layers.

  Args:
    file: the Mapped file, for errors.
    kernels: {layer: kernel (height, width, in, out)}; fc6 and fc7 may be missing.
    default_fc: their channels then.

  Returns:
    `blocks`, `channels` and `fc_kernel`, those that are not VGG-16's.

  Raises:
    InputError: there is no layer of VGG.
  """
  places = [re.fullmatch(r'conv(\d+)_(\d+)', layer) for layer in kernels]
  places = [(int(place[1]), int(place[2])) for place in places if place]
  if not places:
    raise file.fail('holds none of the layers of VGG: conv1_1, conv1_2, ...')
  blocks = [
    # A layer that is missing in between is told of when all are put in their places.
    max((index for block, index in places if block == number), default=1)
    for number in range(1, 1 + max(block for block, _ in places))
  ]
  names = [f'conv{block}_{i}' for block, n in enumerate(blocks, 1) for i in range(1, n + 1)]
  options = {
    'blocks': blocks,
    'channels': [_outputs(kernels, name, 1) for name in names]
    + [_outputs(kernels, name, default_fc) for name in ('fc6', 'fc7')],
    'fc_kernel': kernels['fc6'].shape[0] if 'fc6' in kernels else 7,
  }
  usual = {'blocks': [2, 2, 3, 3, 3], 'channels': _channels(layers.vgg(2)), 'fc_kernel': 7}
  return {name: value for name, value in options.items() if value != usual[name]}


def context_options(file, kernels, statements, num_classes: int) -> tuple[str, dict]:
  """Model and options of a context module with these layers.

  Dilations and padding are not in the arrays. Where the file is silent they are the published
  ones; where it states them they are taken as stated.

  Args:
    file: the Mapped file, for errors.
    kernels: {layer: kernel (height, width, in, out)}.
    statements: {layer: options} that the file states.
    num_classes: channels of its input.

  Returns:
    The model's name, and `context` with what else is not as published: `context_channels`,
    `dilations`, `padding`.

  Raises:
    InputError: the file states a padding that is neither of the two that are known.
  """
  numbers = [re.fullmatch(r'ctx_conv(\d+)_1', layer) for layer in kernels]
  count = 3 + max([int(number[1]) for number in numbers if number], default=2)
  model = {7: 'dilation7', 8: 'dilation8', 10: 'dilation10'}.get(count, 'dilation8')
  of_kind = {
    kind: layers.context(num_classes, layers=count, kind=kind) for kind in ('basic', 'large')
  }
  channels = [_outputs(kernels, layer.name, 1) for layer in of_kind['basic'][:-1]]
  kind = next((kind for kind in of_kind if _channels(of_kind[kind]) == channels), None)
  options = {'context': kind}
  if not kind:
    options['context'] = 'large' if max(channels) > num_classes else 'basic'
    options['context_channels'] = channels
  table = of_kind[options['context']][:-1]
  stated = [statements.get(layer.name, {}) for layer in table]
  published = [layer.dilation for layer in table]
  dilations = [said.get('dilation', (own,))[0] for said, own in zip(stated, published)]
  if dilations != published or model != f'dilation{count}':
    options['dilations'] = dilations
  complete = all(layer.name in kernels for layer in table)  # Else that is what is to be told.
  if complete and any('pad' in said for said in stated):
    pads = [said.get('pad', (0,))[0] for said in stated]
    styles = {'same': dilations, 'buffer': [sum(dilations)] + [0] * (len(dilations) - 1)}
    style = next((style for style in styles if styles[style] == pads), None)
    if not style:
      raise file.fail(
        f'pads the 3x3 layers of its context module by {pads}; known are '
        f'{styles["same"]} (each) and {styles["buffer"]} (once)'
      )
    if style != {'basic': 'same', 'large': 'buffer'}[options['context']]:
      options['padding'] = style
  return model, options


def check_statements(file, poolings, statements, table: Table) -> None:
  """Compares what a Caffe file states of its layers, beyond their blobs, with the network found.

  Raises:
    InputError: it is another network, with other poolings, dilations, paddings or strides.
  """
  ours = [layer.name for layer in table if layer.kind == 'max_pool']
  if poolings and len(poolings) != len(ours):
    raise file.fail(
      f'has the poolings {", ".join(poolings)}; the front end of the paper has {", ".join(ours)}'
    )
  for layer in table:
    said = statements.get(layer.name, {})
    for what in ('dilation', 'padding', 'stride'):
      own = (getattr(layer, what),) * 2
      stated = said.get({'padding': 'pad'}.get(what, what), own)
      if layer.kind == 'conv' and stated != own:
        raise file.fail(
          f'states a {what} of {stated} for {layer.name}; that of the paper has {own}: '
          'this is another network'
        )


def _outputs(kernels, layer: str, default: int) -> int:
  return kernels[layer].shape[-1] if layer in kernels else default


def _channels(table: Table) -> list[int]:
  """Output channels of all convolutions but the last."""
  return [layer.channels for layer in table if layer.kind == 'conv'][:-1]

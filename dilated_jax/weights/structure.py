"""Which network a set of named arrays is: its model and options, as `models.create` takes them."""

import itertools
import re

from dilated_jax.models import resnet
from dilated_jax.nn import table as tables
from dilated_jax.nn.table import Table


def front_end_options(file, kernels, default_fc: int = 1) -> dict:
  """Options of a front end or VGG with these layers.

  Args:
    file: the Mapped file, for errors.
    kernels: {layer: kernel (height, width, in, out)}; fc6 and fc7 may be missing.
    default_fc: their channels then.

  Returns:
    `blocks` and `fc_kernel` where they are not VGG-16's, `channels` where they are not VGG's.

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
  channels = _channels(tables.vgg(2, blocks=blocks))
  usual = {'blocks': [2, 2, 3, 3, 3], 'channels': channels, 'fc_kernel': 7}
  return {name: value for name, value in options.items() if value != usual[name]}


def context_options(file, contents, kernels, num_classes: int) -> tuple[str, dict]:
  """Model and options of a context module with these layers.

  Dilations and padding are not in the arrays. What the file states of them counts; where it is
  silent, dilations are those of the paper, and the padding goes by the names: `ct_` in the network
  for VOC, which pads once, `ctx_` in the others.

  Args:
    file: the Mapped file, for errors.
    contents: its `layouts.Contents`.
    kernels: {layer: kernel (height, width, in, out)}.
    num_classes: channels of its input.

  Returns:
    The model's name, and `context` with what else is not as published: `context_channels`,
    `dilations`, `padding`.

  Raises:
    InputError: the file states a padding that is neither of the two that are known.
  """
  numbers = [re.fullmatch(r'ctx_conv(\d+)_1', layer) for layer in kernels]
  count = 3 + max([int(number[1]) for number in numbers if number], default=2)
  model = f'dilation{count if count in (7, 10) else 8}'
  of_kind = {
    kind: tables.context(num_classes, layers=count, kind=kind) for kind in ('basic', 'large')
  }
  channels = [_outputs(kernels, layer.name, 1) for layer in of_kind['basic'][:-1]]
  kind = next((kind for kind in of_kind if _channels(of_kind[kind]) == channels), None)
  options = {'context': kind}
  if not kind:
    options['context'] = 'large' if max(channels) > num_classes else 'basic'
    options['context_channels'] = channels
  table = of_kind[options['context']][:-1]
  said = _stated(contents)
  published = [layer.dilation for layer in table]
  options['dilations'] = [
    said.get(layer.name, {}).get('dilation', (layer.dilation,))[0] for layer in table
  ]
  styles = {
    style: [
      layer.padding
      for layer in tables.context(num_classes, dilations=options['dilations'], padding=style)[:-1]
    ]
    for style in ('same', 'buffer')
  }
  pads = [said.get(layer.name, {}).get('pad') for layer in table]
  if any(pads) and all(layer.name in kernels for layer in table):  # Else that is told of.
    pads = [pad[0] if pad else 0 for pad in pads]
    style = next((style for style in styles if styles[style] == pads), None)
    if not style:
      raise file.fail(
        f'pads the 3x3 layers of its context module by {pads}; known are {styles["same"]} (each) '
        f'and {styles["buffer"]} (once)'
      )
  else:
    style = 'buffer' if any(blob.source.startswith('ct_') for blob in contents.blobs) else 'same'
  if styles[style][0] != table[0].padding:
    options['padding'] = style
  if options['dilations'] == published and model == f'dilation{count}':
    del options['dilations']
  return model, options


# Layers that join what FCN's skips bring; of Scale, `layouts` looks at the arrays.
_JOINS = {'Crop', 'Eltwise', 'Scale'}
# Layers that change what passes through them, and that no network of the paper has.
_FOREIGN = {
  'AbsVal', 'BatchNorm', 'Bias', 'BNLL', 'Concat', 'Crop', 'ELU', 'Eltwise', 'Exp', 'Interp', 'LRN',
  'Log', 'MVN', 'PReLU', 'Permute', 'Power', 'Reshape', 'Scale', 'Sigmoid', 'Slice', 'TanH', 'Tile',
}  # fmt: skip


def check_statements(file, contents, table: Table, *, joins: bool = False) -> None:
  """Compares what a Caffe file states of its layers, beyond their blobs, with the network found.

  Args:
    file: the Mapped file, for errors.
    contents: its `layouts.Contents`.
    table: the layers of the network found.
    joins: whether the network has skips.

  Raises:
    InputError: it is another network, with other layers, poolings, dilations, paddings or strides.
  """
  for layer in contents.layers:
    if layer.kind in _FOREIGN - (_JOINS if joins else set()):
      raise file.fail(f'{layer.name} is a {layer.kind}; the networks of the paper have none')
  poolings = [layer for layer in contents.layers if layer.kind == 'Pooling']
  ours = [layer for layer in table if layer.kind == 'max_pool']
  if poolings and len(poolings) != len(ours):
    raise file.fail(
      f'has the poolings {", ".join(layer.name for layer in poolings)}; the front end of the paper '
      f'has {", ".join(layer.name for layer in ours)}'
    )
  said = _stated(contents) | {
    own.name: theirs.options for own, theirs in zip(ours, poolings, strict=False)
  }
  for layer in table:
    wanted = {'kernel': layer.kernel, 'stride': layer.stride, 'pad': layer.padding}
    if layer.kind == 'conv':
      wanted |= {'dilation': layer.dilation, 'group': 1, 'num_output': layer.channels}
    for what, own in wanted.items():
      stated = said.get(layer.name, {}).get(what, own)
      if layer.kind != 'deconv' and stated not in (own, (own, own)):
        raise file.fail(
          f'states a {what} of {stated} for {layer.name}; that of the paper has {own}: '
          'this is another network'
        )
  linear = {layer.name for layer in table if layer.kind == 'conv' and not layer.activation}
  for layer, following in itertools.pairwise(contents.layers):
    if layer.name in linear and following.kind == 'ReLU':
      raise file.fail(f'has a ReLU behind {layer.name}; the networks of the paper have none there')


def residual_options(file, kernels) -> dict:
  """Options of a ResNet with these layers.

  Args:
    file: the Mapped file, for errors.
    kernels: {layer: kernel (height, width, in, out)}.

  Returns:
    `backbone`, `blocks` where they are not its own, and `width` where it is not 1.

  Raises:
    InputError: a group of residual units is missing, or they are of another network.
  """
  units = [re.fullmatch(r'layer(\d+)_(\d+)_conv1', layer) for layer in kernels]
  blocks = [0] * 4
  for group, unit in ((int(place[1]), int(place[2])) for place in units if place):
    if not 1 <= group <= 4 or unit > 999:
      raise file.fail(f'has layer{group}.{unit}; ResNet has four groups of units')
    blocks[group - 1] = max(blocks[group - 1], unit + 1)
  if not all(blocks):
    raise file.fail('has not all four groups of residual units: layer1 to layer4')
  basic = not any(layer.endswith('_conv3') for layer in kernels)
  named = [
    name
    for name, usual in resnet.BLOCKS.items()
    if list(usual) == blocks and (name in resnet.BASIC) == basic
  ]
  options: dict = {'backbone': named[0] if named else 'resnet18' if basic else 'resnet50'}
  if not named:
    options['blocks'] = blocks
  inner, outer = (_outputs(kernels, f'layer1_0_conv{i}', 0) for i in (1, 3))
  if inner and outer and outer != 4 * inner:
    raise file.fail(
      f'has units of {inner} and {outer} channels, as a ResNeXt or Wide ResNet; give a plain ResNet'
    )
  width = (inner or 64) / 64
  stem = [_outputs(kernels, f'conv1_{i}', 0) for i in (1, 2, 3)]
  wanted = [round(channels * width) for channels in (64, 64, 128)]
  if any(stem) and stem != wanted:
    raise file.fail(
      f'begins with 3x3 convolutions of {", ".join(map(str, stem))} channels; those of PSPNet, the '
      f'one network here that does so, have {", ".join(map(str, wanted))} (as resnet50s of timm)'
    )
  return options if width == 1 else options | {'width': width}


def _stated(contents) -> dict[str, dict]:
  """Options of the convolutions, by our names."""
  return {layer.name: layer.options for layer in contents.layers if layer.kind == 'Convolution'}


def _outputs(kernels, layer: str, default: int) -> int:
  return kernels[layer].shape[-1] if layer in kernels else default


def _channels(table: Table) -> list[int]:
  """Output channels of all convolutions but the last."""
  return [layer.channels for layer in table if layer.kind == 'conv'][:-1]

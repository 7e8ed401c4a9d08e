"""A network is a table of layers; everything else about it is derived from the table.

The tables here are those of Yu & Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions"
(ICLR 2016): the front end (section 4) and the context module (section 3, Table 1, Appendix A).
Those of related systems stand in `models`, one file a family. `geometry` reads sizes, receptive
fields and parameter counts off a table, `models` turns it into a Flax module.

A row reads the row before it, or those that it names: so skips and parallel branches are rows too,
and the last row is what the network says.
"""

from collections.abc import Sequence
import dataclasses
from typing import Literal

from dilated_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Layer:
  """One row of a network.

  Attributes:
    name: the paper's (Caffe's) name; also the name of the layer's parameters.
    kind: 'conv'; 'max_pool' (rounds sizes up, as Caffe), 'avg_pool' (so too; zeros of the padding
      count); 'bins' (averages over a grid of kernel x kernel windows that tile the map); 'deconv'
      (fixed bilinear upsampling); 'resize' (bilinear, corners on corners, to the size of its second
      input); 'crop' (cuts minus `padding` cells off the top and the left); 'sum' or 'concat' of
      its inputs, all cut to the smallest.
    kernel: taps per axis.
    stride: step of the output grid on the input grid; of a 'deconv', the upsampling factor.
    dilation: distance between taps, in cells of the input grid.
    padding: zeros added on each side.
    channels: output channels; None keeps the number of input channels.
    activation: 'relu' or None.
    norm: normalization between convolution and activation: 'none' (the paper), 'group', 'batch'.
    dropout: share of outputs dropped in training.
    init: 'he', 'he_image' (of a first layer), 'classifier' (Gaussian of 0.001), 'zeros' or
      'identity' (paper, equations 4 and 5).
    groups: class groups of the identity initialization.
    inputs: names of the rows that it reads, 'input' for what the network is fed; none: the row
      before it.
    bias: whether a convolution has one.
    round_up: whether a pooling rounds its size up, as Caffe does, or down.
    input_scale: factor on what a convolution reads.
  """

  name: str
  kind: Literal[
    'conv', 'max_pool', 'avg_pool', 'adaptive_avg_pool', 'deconv', 'resize', 'crop', 'sum', 'concat'
  ] = 'conv'
  kernel: int = 3
  stride: int = 1
  dilation: int = 1
  padding: int = 0
  channels: int | None = None
  activation: Literal['relu'] | None = None
  norm: Literal['none', 'group', 'batch'] = 'none'
  dropout: float = 0.0
  init: Literal['he', 'he_image', 'classifier', 'zeros', 'identity'] = 'he'
  groups: int = 1
  inputs: tuple[str, ...] = ()
  bias: bool = True
  round_up: bool = True
  input_scale: float = 1.0

  @property
  def effective_kernel(self) -> int:
    """Side of the window that the dilated kernel spans: dilation * (kernel - 1) + 1."""
    return self.dilation * (self.kernel - 1) + 1


Table = tuple[Layer, ...]


def input_indices(table: Table) -> list[tuple[int, ...]]:
  """For each row, the places of the rows that it reads; -1 is what the network is fed.

  >>> input_indices((Layer('a'), Layer('b'), Layer('c', 'sum', kernel=1, inputs=('a', 'b'))))
  [(-1,), (0,), (0, 1)]
  """
  places, result = {'input': -1}, []
  for place, layer in enumerate(table):
    result.append(tuple(places[name] for name in layer.inputs) or (place - 1,))
    places[layer.name] = place
  return result


def merge(name: str, kind: str, *inputs: str, **options) -> Layer:
  """A row without taps that reads the rows of these names."""
  return Layer(name, kind, kernel=1, inputs=inputs, **options)


def vgg(
  num_classes: int,
  *,
  blocks: Sequence[int] = (2, 2, 3, 3, 3),
  width: float = 1.0,
  norm: str = 'none',
  fc_channels: int | None = None,
  fc_kernel: int = 7,
  channels: Sequence[int] | None = None,
) -> Table:
  """VGG as a fully convolutional classifier without padding; the defaults are VGG-16.

  Args:
    num_classes: output channels of the last layer.
    blocks: 3x3 convolutions in each block; a 2x2 pooling of stride 2 follows every block.
    width: factor on the channels 64, 128, 256, 512, 512 of the blocks and 4096 of fc6 and fc7.
    norm: normalization of all layers but the last: 'none' (VGG-16), 'group' or 'batch'.
    fc_channels: channels of fc6 and fc7, instead of 4096 * width.
    fc_kernel: taps per axis of fc6.
    channels: output channels of each layer from conv1_1 to fc7, instead of all that `width` says.

  Returns:
    The table, from conv1_1 to final.

  Raises:
    InputError: an option has no such value.
  """
  if not blocks or min(blocks) < 1:
    raise InputError(f'blocks is {tuple(blocks)}; give a number of convolutions, 1 or more, each')
  if not 0 < width <= 1000:
    raise InputError(f'width is {width}; it must be above 0 and at most 1000')
  if fc_kernel < 1 or fc_kernel % 2 == 0:
    raise InputError(f'fc_kernel is {fc_kernel}; it must be odd, to have a center')
  if norm not in ('none', 'group', 'batch'):
    raise InputError(f'norm is {norm!r}; choose none, group or batch')
  if channels is None:
    of_block = [max(1, round(min(64 * 2**block, 512) * width)) for block in range(len(blocks))]
    channels = [c for c, convolutions in zip(of_block, blocks) for _ in range(convolutions)]
    channels += [fc_channels or max(1, round(4096 * width))] * 2
  _check_counts('channels', channels, sum(blocks) + 2)
  hidden = dict(activation='relu', norm=norm)
  table, rest = [], iter(channels)
  for block, convolutions in enumerate(blocks, 1):
    table += [
      Layer(f'conv{block}_{i}', channels=next(rest), **hidden) for i in range(1, convolutions + 1)
    ]
    table.append(Layer(f'pool{block}', 'max_pool', kernel=2, stride=2))
  if norm == 'none':
    table[0] = dataclasses.replace(table[0], init='he_image')
  return (
    *table,
    Layer('fc6', kernel=fc_kernel, channels=next(rest), dropout=0.5, **hidden),
    Layer('fc7', kernel=1, channels=next(rest), dropout=0.5, **hidden),
    Layer('final', kernel=1, channels=num_classes, init='classifier'),
  )


def dilate(table: Table, stride: int, *, keep_pools: bool = False) -> Table:
  """Turns a classifier into a dense predictor: the paper's rule (section 4).

  Strides beyond the wanted one are taken out, and each doubles the dilation of every later
  convolution, so that each tap keeps its place in the picture: VGG-16 at stride 8 has dilation 2 in
  conv5 and 4 in fc6, ResNet 2 in its third group and 4 in its fourth. Poolings that lose their
  stride are removed, or kept with stride 1 (DeepLab).

  Args:
    table: a network with strides; a padding grows with the dilation.
    stride: wanted distance between output cells in input pixels, a power of two.
    keep_pools: whether poolings stay, with stride 1.

  Returns:
    The table without those strides.

  Raises:
    InputError: the network has no such stride.
  """
  dense, state = [], [(1, 1)]  # Of the input and each row: its jump, and dilation of what follows.
  places = {'input': 0}
  for layer in table:
    jump, dilation = state[places[layer.inputs[0]] if layer.inputs else -1]
    places[layer.name] = len(state)
    gone = jump * layer.stride > stride
    state.append((jump, dilation * layer.stride) if gone else (jump * layer.stride, dilation))
    if gone and layer.kind != 'conv' and not keep_pools:
      continue
    if layer.kind == 'conv' and layer.kernel > 1:
      wider = dict(dilation=layer.dilation * dilation, padding=layer.padding * dilation)
      layer = dataclasses.replace(layer, **wider)
    dense.append(dataclasses.replace(layer, stride=1) if gone else layer)
  jump, dilation = state[-1]
  if jump != stride:
    most = jump * dilation
    raise InputError(f'stride is {stride}; this network can have a power of two up to {most}')
  return tuple(dense)


def front_end(num_classes: int, *, stride: int = 8, dropout: float = 0.5, **vgg_options) -> Table:
  """The front end: VGG-16 without pool4 and pool5, without padding (paper, section 4).

  Args:
    num_classes: output channels.
    stride: input pixels between output cells; 8 in the paper.
    dropout: share of the outputs of fc6 and fc7 dropped in training.
    **vgg_options: see `vgg`, for networks that are narrower or shallower than VGG-16.

  Returns:
    The table.
  """
  return dilate(with_dropout(vgg(num_classes, **vgg_options), dropout), stride)


def with_dropout(table: Table, dropout: float) -> Table:
  """The table with another share of outputs dropped, in the layers that drop some."""
  if not 0 <= dropout < 1:
    raise InputError(f'dropout is {dropout}; it must be 0 or more and below 1')
  return tuple(
    dataclasses.replace(layer, dropout=dropout) if layer.dropout else layer for layer in table
  )


def context(
  num_classes: int,
  *,
  layers: int = 8,
  kind: Literal['basic', 'large'] = 'basic',
  padding: Literal['same', 'buffer'] | None = None,
  dilations: Sequence[int] | None = None,
  context_channels: Sequence[int] | None = None,
) -> Table:
  """The context module (paper, section 3, Table 1; Appendix A for 7 and 10 layers).

  Args:
    num_classes: channels C of its input and output.
    layers: 7 (KITTI), 8 (VOC, CamVid) or 10 (Cityscapes); each one more doubles the field.
    kind: 'basic' keeps C channels throughout; 'large' has 2C, 2C, 4C, 8C, 16C, 32C, 32C, C.
    padding: 'same' pads each layer with zeros by its dilation (Appendix A); 'buffer' pads the first
      layer alone by what the module eats, 33 cells for 8 layers, and none later (section 5). The
      two differ near the border. Default: as published, 'same' for basic, 'buffer' for large.
    dilations: dilations of the 3x3 layers, instead of 1, 1, 2, 4, ..., 1.
    context_channels: output channels of the 3x3 layers, instead of those of `kind`. A layer between
      channels that C doesn't divide has no identity initialization, and starts as others do.

  Returns:
    The table, from ctx_conv1_1 to ctx_final.

  Raises:
    InputError: an option has no such value.
  """
  if dilations is None:
    if layers < 4:
      raise InputError(f'a context module of {layers} layers; it needs at least 4')
    dilations = (1, 1, *(2**i for i in range(1, layers - 3)), 1)
  if len(dilations) < 3:
    raise InputError(f'{len(dilations)} dilations; a context module needs at least 3')
  _check_counts('dilations', dilations, len(dilations))
  if kind not in ('basic', 'large'):
    raise InputError(f'context is {kind!r}; choose basic or large')
  padding = padding or {'basic': 'same', 'large': 'buffer'}[kind]
  if padding not in ('same', 'buffer'):
    raise InputError(f'context padding is {padding!r}; choose same or buffer')
  if context_channels is None:
    # Table 1, Large: the width doubles with the dilation; fc1 stays as wide as the layer before.
    doublings = (max(1, min(i, len(dilations) - 2)) for i in range(len(dilations)))
    context_channels = [num_classes * (2**n if kind == 'large' else 1) for n in doublings]
  _check_counts('context_channels', context_channels, len(dilations))
  names = ['conv1_1', 'conv1_2', *(f'conv{i}_1' for i in range(2, len(dilations) - 1)), 'fc1']
  inputs = [num_classes, *context_channels]
  outputs = [*context_channels, num_classes]

  def init(i):
    return 'he' if inputs[i] % num_classes or outputs[i] % num_classes else 'identity'

  table = []
  for i, (name, dilation) in enumerate(zip(names, dilations, strict=True)):
    pad = dilation if padding == 'same' else (sum(dilations) if i == 0 else 0)
    table.append(
      Layer(
        f'ctx_{name}',
        dilation=dilation,
        padding=pad,
        channels=outputs[i],
        activation='relu',
        init=init(i),
        groups=num_classes,
      )
    )
  last = Layer('ctx_final', kernel=1, channels=num_classes, init=init(-1), groups=num_classes)
  return (*table, last)


def _check_counts(what: str, values: Sequence[int], count: int) -> None:
  whole = all(isinstance(value, int) and value > 0 for value in values)
  if len(values) != count or not whole:
    raise InputError(f'{what} is {tuple(values)}; give {count} whole numbers of 1 or more')


def upsample(stride: int) -> Table:
  """The fixed bilinear deconvolution with which Dilation10 ends (paper, A.3): n -> stride * n."""
  kernel = 2 * stride - stride % 2  # 1 at stride 1, where nothing is left to do.
  return (Layer('ctx_upsample', 'deconv', kernel=kernel, stride=stride, padding=stride // 2),)

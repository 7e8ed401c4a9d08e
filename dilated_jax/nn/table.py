"""Networks as tables of layers, from which everything else about them is derived.

The tables in this file are those of Yu & Koltun, "Multi-Scale Context Aggregation by Dilated
Convolutions" (ICLR 2016): the front end (section 4) and the context module (section 3, Table 1,
Appendix A). `models` has the tables of related networks, one file per family. `geometry` and
`costs` derive sizes, receptive fields, parameters and FLOPs from a table, and `stack.Stack` runs it
as a Flax module.

A row reads the output of the row before it, unless it names its inputs: skip connections and
parallel branches are rows like any other. The output of the last row is that of the network.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, Literal, TypeAlias

from dilated_jax.errors import InputError

Kind: TypeAlias = Literal[
  'conv', 'max_pool', 'avg_pool', 'adaptive_avg_pool', 'deconv', 'resize', 'crop', 'sum', 'concat'
]
Norm: TypeAlias = Literal['none', 'group', 'batch']
Init: TypeAlias = Literal['he', 'he_image', 'classifier', 'gaussian', 'zeros', 'identity']


@dataclasses.dataclass(frozen=True)
class Layer:
  """One row of a network.

  Attributes:
    name: the name in the paper (and in Caffe); the parameters of the layer have it too.
    kind: 'conv'. 'max_pool' and 'avg_pool': zeros of the padding count in an average, and sizes are
      rounded up as in Caffe. 'adaptive_avg_pool': averages over kernel x kernel windows that cover
      the whole map. 'deconv': fixed bilinear upsampling. 'resize': bilinear, with aligned corners,
      to the size of the second input. 'crop': cuts -`padding` cells off the top and the left.
      'sum' and 'concat' of the inputs, all cropped to the smallest.
    kernel: taps per axis.
    stride: step of the output on the input grid; for 'deconv', the upsampling factor.
    dilation: distance between taps, in cells of the input.
    padding: zeros added on each side.
    channels: output channels; None keeps the number of input channels.
    activation: 'relu' or None.
    norm: normalization between convolution and activation; the paper has none.
    dropout: share of the outputs that is dropped in training.
    init: of the kernel: 'he', 'he_image' (for a first layer), 'classifier' (Gaussian of 0.001),
      'gaussian' (of `noise`), 'zeros' or 'identity' (equations 4 and 5 of the paper).
    groups: channel groups of the identity initialization, one per class.
    noise: standard deviation of 'gaussian', and of what 'identity' puts beside the identity.
    inputs: names of the rows that this one reads; 'input' is the input of the network. Empty: the
      row before it.
    bias: whether a convolution adds one.
    round_up: whether a pooling layer rounds its output size up, as Caffe does, or down.
    input_scale: factor on the input of a convolution.
  """

  name: str
  kind: Kind = 'conv'
  kernel: int = 3
  stride: int = 1
  dilation: int = 1
  padding: int = 0
  channels: int | None = None
  activation: Literal['relu'] | None = None
  norm: Norm = 'none'
  dropout: float = 0.0
  init: Init = 'he'
  groups: int = 1
  noise: float = 0.01
  inputs: tuple[str, ...] = ()
  bias: bool = True
  round_up: bool = True
  input_scale: float = 1.0

  @property
  def effective_kernel(self) -> int:
    """Side of the window that the dilated kernel spans: dilation * (kernel - 1) + 1."""
    return self.dilation * (self.kernel - 1) + 1


Table: TypeAlias = tuple[Layer, ...]


def merge(name: str, kind: Kind, *inputs: str, **options: Any) -> Layer:
  """A row without weights that combines or crops the named rows; `options` are those of `Layer`."""
  return Layer(name, kind, kernel=1, inputs=inputs, **options)


def input_indices(table: Table) -> list[tuple[int, ...]]:
  """For each row, the indices of the rows that it reads; -1 is the input of the network.

  >>> input_indices((Layer('a'), Layer('b'), merge('c', 'sum', 'a', 'b')))
  [(-1,), (0,), (0, 1)]
  """
  index_of, result = {'input': -1}, []
  for index, layer in enumerate(table):
    result.append(tuple(index_of[name] for name in layer.inputs) or (index - 1,))
    index_of[layer.name] = index
  return result


def last_uses(table: Table) -> dict[int, int]:
  """For each row that is read, and -1 for the input, the index of the last row that reads it."""
  return {source: index for index, reads in enumerate(input_indices(table)) for source in reads}


def blocks(table: Table) -> list[Table]:
  """The table, cut after each pooling and each sum: what rematerialization computes again at once.

  >>> [len(block) for block in blocks((Layer('a'), Layer('b', 'max_pool'), Layer('c')))]
  [2, 1]
  """
  result = [[]]
  for layer in table:
    result[-1].append(layer)
    if layer.kind in ('max_pool', 'sum'):
      result.append([])
  return [tuple(block) for block in result if block]


def vgg(
  num_classes: int,
  *,
  blocks: Sequence[int] = (2, 2, 3, 3, 3),
  width: float = 1.0,
  norm: Norm = 'none',
  fc_channels: int | None = None,
  fc_kernel: int = 7,
  channels: Sequence[int] | None = None,
) -> Table:
  """VGG as a fully convolutional classifier without padding; the defaults are VGG-16.

  Args:
    num_classes: output channels of the last layer.
    blocks: number of 3x3 convolutions in each block. A 2x2 pooling of stride 2 ends every block.
    width: factor on the channels: 64, 128, 256, 512, 512 in the blocks, 4096 in fc6 and fc7.
    norm: normalization of all layers but the last: 'none' (VGG-16), 'group' or 'batch'.
    fc_channels: channels of fc6 and fc7, instead of 4096 * width.
    fc_kernel: taps per axis of fc6.
    channels: output channels of each layer from conv1_1 to fc7, instead of those from `width`.

  Returns:
    The table, from conv1_1 to final.

  Raises:
    InputError: an option has a value that it cannot have.
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
  remaining = iter(channels)

  def hidden(name: str, kernel: int = 3, dropout: float = 0.0) -> Layer:
    return Layer(
      name,
      kernel=kernel,
      channels=next(remaining),
      activation='relu',
      norm=norm,
      dropout=dropout,
    )

  table = []
  for block, convolutions in enumerate(blocks, 1):
    table += [hidden(f'conv{block}_{i}') for i in range(1, convolutions + 1)]
    table.append(Layer(f'pool{block}', 'max_pool', kernel=2, stride=2))
  if norm == 'none':
    table[0] = dataclasses.replace(table[0], init='he_image')
  return (
    *table,
    hidden('fc6', kernel=fc_kernel, dropout=0.5),
    hidden('fc7', kernel=1, dropout=0.5),
    Layer('final', kernel=1, channels=num_classes, init='classifier'),
  )


def dilate(table: Table, stride: int, *, keep_pools: bool = False) -> Table:
  """Turns a classifier into a dense predictor, by the rule of the paper (section 4).

  Strides that would make the output coarser than `stride` are removed. For each of them, the
  dilation of all later convolutions is multiplied by it, so that every tap keeps its position in
  the image: VGG-16 at stride 8 has dilation 2 in conv5 and 4 in fc6, ResNet has 2 in its third
  group of blocks and 4 in its fourth. A pooling layer that loses its stride is removed, or kept
  with stride 1 (DeepLab).

  Args:
    table: a network with strides. Where dilation grows, padding grows with it.
    stride: the distance between output cells in input pixels, a power of two.
    keep_pools: whether pooling layers stay, with stride 1.

  Returns:
    The table without those strides.

  Raises:
    InputError: the network cannot have this stride.
  """
  # Of the input and of each row: its jump, and the dilation of the convolutions that read it.
  dense, state = [], [(1, 1)]
  state_of = {'input': 0}
  for layer in table:
    jump, dilation = state[state_of[layer.inputs[0]] if layer.inputs else -1]
    state_of[layer.name] = len(state)
    removed = jump * layer.stride > stride
    state.append((jump, dilation * layer.stride) if removed else (jump * layer.stride, dilation))
    if removed and layer.kind != 'conv' and not keep_pools:
      continue
    if layer.kind == 'conv' and layer.kernel > 1:
      layer = dataclasses.replace(
        layer, dilation=layer.dilation * dilation, padding=layer.padding * dilation
      )
    dense.append(dataclasses.replace(layer, stride=1) if removed else layer)
  jump, dilation = state[-1]
  if jump != stride:
    most = jump * dilation
    raise InputError(f'stride is {stride}; this network can have a power of two up to {most}')
  return tuple(dense)


def front_end(
  num_classes: int, *, stride: int = 8, dropout: float = 0.5, **vgg_options: Any
) -> Table:
  """The front end: VGG-16 without pool4 and pool5, without padding (paper, section 4).

  Args:
    num_classes: output channels.
    stride: input pixels between output cells; 8 in the paper.
    dropout: share of the outputs of fc6 and fc7 that is dropped in training.
    **vgg_options: see `vgg`, for networks that are narrower or shallower than VGG-16.

  Returns:
    The table.

  Raises:
    InputError: an option has a value that it cannot have.
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
    layers: 7 (KITTI), 8 (VOC, CamVid) or 10 (Cityscapes). One more about doubles the receptive
      field.
    kind: 'basic' has C channels throughout; 'large' has 2C, 2C, 4C, 8C, 16C, 32C, 32C, C.
    padding: 'same' pads every layer with zeros by its dilation, which keeps the size (Appendix A).
      'buffer' pads the first layer only, by as much as all layers lose at a border, 33 cells for 8
      layers (section 5). The two differ near the border. None: as published, 'same' for basic and
      'buffer' for large.
    dilations: dilations of the 3x3 layers, instead of 1, 1, 2, 4, ..., 1.
    context_channels: output channels of the 3x3 layers, instead of those of `kind`. A layer whose
      numbers of channels are not multiples of C cannot be initialized to the identity, and starts
      from random weights.

  Returns:
    The table, from ctx_conv1_1 to ctx_final.

  Raises:
    InputError: an option has a value that it cannot have.
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
  padding = padding or ('same' if kind == 'basic' else 'buffer')
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

  def start(i: int) -> dict[str, Any]:
    """How the kernel of layer i starts."""
    fits = inputs[i] % num_classes == outputs[i] % num_classes == 0
    # The authors' network.py: 0.01 in the first two layers, less in later ones by their width, and
    # in the last, which has C channels again, by that of the layer before.
    widths = [num_classes, num_classes, *context_channels[2:], context_channels[-1]]
    init: Init = 'identity' if fits else 'he'
    return dict(init=init, groups=num_classes, noise=0.01 * num_classes / widths[i])

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
        **start(i),
      )
    )
  last = Layer('ctx_final', kernel=1, channels=num_classes, **start(len(dilations)))
  return (*table, last)


def _check_counts(name: str, values: Sequence[int], count: int) -> None:
  valid = all(isinstance(value, int) and value > 0 for value in values)
  if len(values) != count or not valid:
    raise InputError(f'{name} is {tuple(values)}; give {count} whole numbers of 1 or more')


def upsample(stride: int) -> Table:
  """The fixed bilinear deconvolution that ends Dilation10 (paper, A.3): n -> stride * n cells."""
  kernel = 2 * stride - stride % 2  # 1 at stride 1, which changes nothing.
  return (Layer('ctx_upsample', 'deconv', kernel=kernel, stride=stride, padding=stride // 2),)

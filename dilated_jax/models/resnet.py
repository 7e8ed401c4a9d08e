"""ResNet with dilation instead of its last strides, as tables: the body of DeepLab, PSPNet and FCN.

Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016). The layers have the
names of torchvision (github.com/pytorch/vision, torchvision/models/resnet.py) with _ for a dot.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, Literal

from dilated_jax.errors import InputError
from dilated_jax.models.options import ContextOptions, NetworkOptions, Norm
from dilated_jax.nn import table as tables
from dilated_jax.nn.table import Layer, Table
from dilated_jax.options import option

BLOCKS = {
  'resnet18': (2, 2, 2, 2),
  'resnet34': (3, 4, 6, 3),
  'resnet50': (3, 4, 6, 3),
  'resnet101': (3, 4, 23, 3),
}
BASIC = (
  'resnet18',
  'resnet34',
)  # Of residual units of two 3x3 convolutions; others are 1x1 3x3 1x1.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResnetOptions(ContextOptions, NetworkOptions):
  """Of networks on ResNet."""

  backbone: str = option('resnet101', 'The layers below the head.', choices=('vgg16', *BLOCKS))
  variant: Literal['paper', 'torchvision'] = option(
    'paper', "Whose ResNet is meant: that of the network's paper, or torchvision's, whose weights "
    'others publish; of deeplab_v3 whose head too.',
  )  # fmt: skip
  auxiliary: bool = option(False, 'A second loss in training, of the third group of ResNet.')


def backbone(
  options: ResnetOptions,
  *,
  strided: Literal['1x1', '3x3', 'kept 3x3'] = '3x3',
  stem: Literal['7x7', '3x3'] = '7x7',
  multi_grid: Sequence[int] = (1,),
) -> Table:
  """ResNet up to its fourth group of residual units, without the classifier.

  Args:
    options: `backbone` says which units, and how many in each of the four groups unless `blocks`
      does; strides beyond `stride` are taken out by the paper's rule (`nn.table.dilate`); with
      `variant` 'torchvision', `strided` is '3x3' and `stem` is '7x7' whatever is given here.
    strided: which convolution of a unit 1x1, 3x3, 1x1 has the stride, and so which are dilated
      behind it where the stride is taken out: the first '1x1' (He et al.: all 3x3 convolutions of
      the group), the '3x3' (torchvision: all but the first), or in groups that keep their stride
      the 3x3, in others the 1x1 ('kept 3x3', PSPNet: all are dilated there too). In units of two
      3x3 convolutions it is always the first.
    stem: '7x7', or three convolutions '3x3' (PSPNet).
    multi_grid: factors on the dilation of the units of the last group, in turn (DeepLab v3).

  Returns:
    The table; its last row is that of the last unit.

  Raises:
    InputError: an option has no such value.
  """
  if options.backbone not in BLOCKS:
    *names, last = BLOCKS
    raise InputError(f'backbone is {options.backbone!r}; choose {", ".join(names)} or {last}')
  blocks = options.blocks or BLOCKS[options.backbone]
  if len(blocks) != 4:
    raise InputError(f'blocks is {blocks}; give the units of four groups')
  if options.norm == 'none':
    raise InputError("norm is 'none'; ResNet has group or batch")
  basic = options.backbone in BASIC
  if options.variant == 'torchvision':
    strided, stem = '3x3', '7x7'

  def conv(name, channels, kernel=1, **more):
    scaled = max(1, round(channels * options.width))
    return normed(name, scaled, options.norm, kernel=kernel, **{'activation': 'relu'} | more)

  if stem == '7x7':
    table, last = [conv('conv1', 64, 7, stride=2, padding=3)], 64
  else:
    table, last = [conv('conv1_1', 64, 3, stride=2, padding=1)], 128
    table += [conv('conv1_2', 64, 3, padding=1), conv('conv1_3', 128, 3, padding=1)]
  table.append(Layer('pool1', 'max_pool', stride=2, padding=1, round_up=False))
  for group, units in enumerate(blocks, 1):
    channels = 64 * 2 ** (group - 1)
    for unit in range(units):
      name, given = f'layer{group}_{unit}', table[-1].name
      step = 2 if group > 1 and unit == 0 else 1
      rate = multi_grid[unit % len(multi_grid)] if group == 4 else 1
      spatial: dict[str, Any] = dict(kernel=3, dilation=rate, padding=rate)
      if basic:
        outputs, end = channels, f'{name}_conv2'
        table += [
          conv(f'{name}_conv1', channels, stride=step, **spatial),
          conv(end, channels, activation=None, **spatial),
        ]
      else:
        outputs, end = 4 * channels, f'{name}_conv3'
        kept = 4 * 2 ** (group - 1) <= options.stride
        at_3x3 = strided == '3x3' or (strided == 'kept 3x3' and kept)
        steps = (1, step) if at_3x3 else (step, 1)
        table += [
          conv(f'{name}_conv1', channels, stride=steps[0]),
          conv(f'{name}_conv2', channels, stride=steps[1], **spatial),
          conv(end, outputs, activation=None),
        ]
      shortcut = given
      if step > 1 or outputs != last:
        shortcut = f'{name}_downsample'
        table.append(conv(shortcut, outputs, stride=step, inputs=(given,), activation=None))
      last = outputs
      table.append(tables.merge(name, 'sum', end, shortcut, activation='relu'))
  return tables.dilate(tuple(table), options.stride)


def normed(name: str, channels: int, norm: Norm | None = None, **more) -> Layer:
  """A convolution without bias, normalized; 1x1 and with ReLU unless told otherwise."""
  options: dict[str, Any] = dict(kernel=1, activation='relu') | more
  return Layer(name, channels=channels, norm=norm or 'batch', bias=False, **options)


def quarter(layer: Layer) -> int:
  """A quarter of a layer's channels, 1 at least: the width of what reads the end of a ResNet."""
  assert layer.channels, f'{layer.name} is no convolution'
  return max(1, layer.channels // 4)


def head(body: Table, num_classes: int, *, group: int, norm: Norm | None) -> Table:
  """Scores of a group of ResNet: 3x3 to a quarter of its channels, and 1x1 to the classes.

  That of the fourth is the head of torchvision's FCN, that of the third the auxiliary one of FCN,
  DeepLab v3 and PSPNet.

  Args:
    body: from `backbone`.
    num_classes: output channels.
    group: 4, or 3 for the auxiliary one.
    norm: normalization; None is batch normalization.

  Returns:
    The rows behind those of the body: head and final, or aux and aux_final.
  """
  units = [layer for layer in body if layer.name.startswith(f'layer{group}_')]
  name, final = ('head', 'final') if group == 4 else ('aux', 'aux_final')
  options = dict(kernel=3, padding=1, inputs=(units[-1].name,), dropout=0.1)
  return (
    normed(name, quarter(units[-2]), norm, **options),
    Layer(final, kernel=1, channels=num_classes, init='classifier'),
  )


def auxiliary(body: Table, num_classes: int, options: ResnetOptions) -> Table:
  """The auxiliary answer of the third group, where the options ask for it; else nothing."""
  if not options.auxiliary:
    return ()
  return head(body, num_classes, group=3, norm=options.norm)

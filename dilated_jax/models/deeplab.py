"""DeepLab (7x7, LargeFOV, multi-scale features), v2 (ASPP) and v3, as tables.

Sources: Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs" (ICLR 2015); "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs" (2016, v2); "Rethinking Atrous Convolution for Semantic Image
Segmentation" (2017, v3). For what these leave open, the authors' Caffe files as others have ported
them, and torchvision's `deeplabv3_resnet50` and 101.
"""

from collections.abc import Sequence
import dataclasses

from dilated_jax.errors import InputError
from dilated_jax.models import resnet
from dilated_jax.models.dilation import Architecture
from dilated_jax.nn import table as tables
from dilated_jax.nn.table import Layer, Table

ASPP = {'small': (2, 4, 8, 12), 'large': (6, 12, 18, 24)}


def large_fov(
  num_classes: int,
  *,
  fc_kernel: int = 3,
  fc_dilation: int = 12,
  fc_width: int = 1024,
  fc_channels: int | None = None,
  average: bool = True,
  multi_scale_features: bool = False,
  dropout: float = 0.5,
  stride: int = 8,
  width: float = 1.0,
  **vgg_options,
) -> Architecture:
  """DeepLab on VGG-16: pool4 and pool5 stay, with stride 1, and what follows is dilated.

  Every layer keeps the size, up to its stride; for an input of 8 n + 1 pixels cells lie at pixels
  0, 8, ..., 8 n.

  Args:
    num_classes: output channels.
    fc_kernel: taps per axis of fc6: 7 with dilation 4 and 4096 channels is the first DeepLab, 3
      with 12 and 1024 is LargeFOV.
    fc_dilation: dilation of fc6, in cells of the output.
    fc_width: channels of fc6 and fc7 at width 1.
    fc_channels: the same at this width, instead.
    average: whether a 3x3 average pooling of stride 1 follows pool5.
    multi_scale_features: whether the scores also see features of the picture and of every pooling
      but the last: 128 maps each of a 3x3 and a 1x1 convolution (section 4.3).
    dropout: share of the outputs of fc6 and fc7 dropped in training.
    stride: input pixels between output cells.
    width: factor on all channels.
    **vgg_options: `blocks` and `norm`, see `layers.vgg`.

  Returns:
    The Scorer.
  """
  table = _body(stride, width, average, vgg_options)
  norm = vgg_options.get('norm', 'none')
  channels = fc_channels or max(1, round(fc_width * width))
  table += _branch('', num_classes, channels, fc_kernel, fc_dilation, dropout, norm)
  if multi_scale_features:
    final, maps = table.pop(), ['fc7']
    jumps = {'input': 1}
    for layer in table:
      if layer.kind == 'max_pool':
        jumps[layer.name] = min(stride, 2 * list(jumps.values())[-1])
    for name, jump in list(jumps.items())[:-1]:
      mlp = 'image' if name == 'input' else name
      hidden = dict(channels=max(1, round(128 * width)), activation='relu', norm=norm)
      init = 'he_image' if name == 'input' and norm == 'none' else 'he'
      table += [
        Layer(f'{mlp}_mlp1', stride=stride // jump, padding=1, inputs=(name,), init=init, **hidden),
        Layer(f'{mlp}_mlp2', kernel=1, **hidden),
      ]
      maps.append(f'{mlp}_mlp2')
    table += [tables.merge('features', 'concat', *maps), final]
  return Architecture(tuple(table))


def _body(stride: int, width: float, average: bool, vgg_options: dict) -> list[Layer]:
  """VGG-16 up to its last pooling, with 3x3 poolings."""
  table = []
  for layer in tables.vgg(2, width=width, **vgg_options)[:-3]:
    pool = dict(kernel=3) if layer.kind == 'max_pool' else {}
    table.append(dataclasses.replace(layer, padding=1, **pool))
  table = list(tables.dilate(tuple(table), stride, keep_pools=True))
  if average:
    table.append(Layer(f'{table[-1].name}a', 'avg_pool', padding=1))
  return table


def _branch(
  suffix, num_classes, channels, kernel, dilation, dropout, norm, inputs=()
) -> list[Layer]:
  """fc6, fc7 and the scores."""
  if kernel % 2 == 0:
    raise InputError(f'fc_kernel is {kernel}; it must be odd, to have a center')
  hidden = dict(channels=channels, activation='relu', dropout=0.5, norm=norm)
  padding = dilation * (kernel - 1) // 2
  spatial = dict(kernel=kernel, dilation=dilation, padding=padding, inputs=inputs)
  rows = (
    Layer(f'fc6{suffix}', **spatial, **hidden),
    Layer(f'fc7{suffix}', kernel=1, **hidden),
    Layer(f'fc8{suffix}', kernel=1, channels=num_classes, init='classifier'),
  )
  return list(tables.with_dropout(rows, dropout))


def v2(
  num_classes: int,
  *,
  backbone: str = 'vgg16',
  aspp: str = 'large',
  multi_scale: bool = False,
  dropout: float = 0.5,
  stride: int = 8,
  width: float = 1.0,
  fc_channels: int | None = None,
  **body_options,
) -> Architecture:
  """DeepLab v2: atrous spatial pyramid pooling, whose branches of other dilations are summed.

  Args:
    num_classes: output channels.
    backbone: 'vgg16', whose branches are fc6, fc7 and scores each, or 'resnet50' or 'resnet101',
      whose branches are 3x3 convolutions to the scores.
    aspp: 'large' (dilations 6, 12, 18, 24) or 'small' (2, 4, 8, 12).
    multi_scale: whether the picture is seen at sizes 1, 0.75 and 0.5, and the largest scores count.
    dropout: share of the outputs of fc6 and fc7 dropped in training (vgg16).
    stride: input pixels between output cells.
    width: factor on all channels.
    fc_channels: channels of fc6 and fc7, instead of 1024 * width (vgg16).
    **body_options: `blocks` and `norm`, see `layers.vgg` and `resnet.backbone`.

  Returns:
    The Scorer.

  Raises:
    InputError: an option has no such value.
  """
  if aspp not in ASPP:
    raise InputError(f'aspp is {aspp!r}; choose {" or ".join(ASPP)}')
  if backbone == 'vgg16':
    table = _body(stride, width, True, body_options)
  elif backbone in resnet.BLOCKS:
    body = dict(backbone=backbone, stride=stride, width=width) | body_options
    table = list(resnet.backbone(**body))
  else:
    raise InputError(f'backbone is {backbone!r}; choose vgg16 or {" or ".join(resnet.BLOCKS)}')
  shared, scores = (table[-1].name,), []
  for number, dilation in enumerate(ASPP[aspp], 1):
    if backbone == 'vgg16':
      channels = fc_channels or max(1, round(1024 * width))
      norm = body_options.get('norm', 'none')
      table += _branch(f'_{number}', num_classes, channels, 3, dilation, dropout, norm, shared)
    else:
      options = dict(dilation=dilation, padding=dilation, inputs=shared, init='classifier')
      table.append(Layer(f'final_{number}', channels=num_classes, **options))
    scores.append(table[-1].name)
  table.append(tables.merge('scores', 'sum', *scores))
  return Architecture(tuple(table), scales=(1.0, 0.75, 0.5) if multi_scale else (1.0,))


def v3(
  num_classes: int,
  *,
  variant: str = 'paper',
  stride: int = 16,
  width: float = 1.0,
  norm: str = 'batch',
  multi_grid: Sequence[int] | None = None,
  auxiliary: bool = False,
  **resnet_options,
) -> Architecture:
  """DeepLab v3: parallel dilations and the mean of the picture, concatenated and projected.

  Args:
    num_classes: output channels.
    variant: 'paper', or 'torchvision': stride in the 3x3 convolutions of ResNet, no multi-grid, and
      another 3x3 convolution before the scores, with dropout.
    stride: 16 or 8 (or any power of two from 4 to 32); dilations of the pyramid are 6, 12 and 18 at
      16, twice that at 8.
    width: factor on all channels.
    norm: normalization, 'batch' or 'group'.
    multi_grid: see `resnet.backbone`; None: 1, 2, 4, or 1 for torchvision.
    auxiliary: whether the third group of ResNet answers too in training.
    **resnet_options: `backbone` and `blocks`, see `resnet.backbone`.

  Returns:
    The Scorer.

  Raises:
    InputError: an option has no such value.
  """
  if variant not in ('paper', 'torchvision'):
    raise InputError(f'variant is {variant!r}; choose paper or torchvision')
  paper = variant == 'paper'
  body = resnet.backbone(
    stride=stride,
    width=width,
    norm=norm,
    strided='1x1' if paper else '3x3',
    multi_grid=multi_grid or ((1, 2, 4) if paper else (1,)),
    **resnet_options,
  )
  table = body + pyramid(body[-1].name, max(1, round(256 * width)), stride, norm)
  if not paper:
    last = dataclasses.replace(table[-1], dropout=0.5)
    table = (*table[:-1], last, resnet.normed('head', last.channels, norm, kernel=3, padding=1))
  table += (Layer('final', kernel=1, channels=num_classes, init='classifier'),)
  extra = resnet.head(body, num_classes, group=3, norm=norm) if auxiliary else ()
  return Architecture(table, auxiliary=extra)


def pyramid(given: str, channels: int, stride: int, norm: str) -> Table:
  """Atrous spatial pyramid pooling of v3 (section 3.3), behind the row `given`."""
  table = [resnet.normed('aspp_0', channels, norm, inputs=(given,))]
  for number, dilation in enumerate((6, 12, 18), 1):
    rate = max(1, dilation * 16 // stride)
    spatial = dict(kernel=3, dilation=rate, padding=rate, inputs=(given,))
    table.append(resnet.normed(f'aspp_{number}', channels, norm, **spatial))
  table += [
    Layer('mean', 'adaptive_avg_pool', kernel=1, inputs=(given,)),
    resnet.normed('aspp_4', channels, norm),
    tables.merge('aspp_4_up', 'resize', 'aspp_4', given),
    tables.merge('aspp', 'concat', 'aspp_0', 'aspp_1', 'aspp_2', 'aspp_3', 'aspp_4_up'),
    resnet.normed('project', channels, norm),
  ]
  return tuple(table)

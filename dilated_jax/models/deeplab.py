"""DeepLab (7x7, LargeFOV, multi-scale features), v2 (ASPP) and v3, as tables.

Sources: Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs" (ICLR 2015); "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs" (2016, v2); "Rethinking Atrous Convolution for Semantic Image
Segmentation" (2017, v3). For what these leave open, the authors' Caffe files as others have ported
them, and torchvision's `deeplabv3_resnet50` and 101.
"""

import dataclasses
from typing import Any

from jaxtyping import Float
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.models import resnet
from dilated_jax.models.architecture import Architecture
from dilated_jax.models.options import ContextOptions, Norm, VggOptions
from dilated_jax.models.resnet import ResnetOptions
from dilated_jax.nn import table as tables
from dilated_jax.nn.table import Layer, Table
from dilated_jax.options import option

ASPP = {'small': (2, 4, 8, 12), 'large': (6, 12, 18, 24)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LargeFovOptions(ContextOptions, VggOptions):
  """Of the first DeepLab, LargeFOV and multi-scale features."""

  fc_dilation: int = option(
    12, 'Dilation of fc6 of DeepLab, in cells of the output.', low=1, high=1 << 15
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepLabV2Options(VggOptions, ResnetOptions):
  """Of DeepLab v2, on VGG-16 or ResNet."""

  aspp: str = option(
    'large', 'Dilations of deeplab_v2: 6, 12, 18, 24 or 2, 4, 8, 12.', choices=tuple(ASPP)
  )
  multi_scale: bool = option(False, 'Let deeplab_v2 see the image at three sizes.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepLabV3Options(ResnetOptions):
  """Of DeepLab v3."""

  multi_grid: tuple[int, ...] | None = option(
    None, 'Factors on dilations in the last group of deeplab_v3.', low=1, high=1 << 10
  )


def large_fov(
  num_classes: int,
  options: LargeFovOptions,
  *,
  fc_width: int = 1024,
  average: bool = True,
  multi_scale_features: bool = False,
) -> Architecture:
  """DeepLab on VGG-16: pool4 and pool5 stay, with stride 1, and what follows is dilated.

  Every layer keeps the size, up to its stride; for an input of 8 n + 1 pixels cells lie at pixels
  0, 8, ..., 8 n. fc8 starts from a Gaussian of 0.01; from VGG, fc6 and fc7 start by `decimate`.

  Args:
    num_classes: output channels.
    options: fc6 of 7x7 with dilation 4 and 4096 channels is the first DeepLab, of 3x3 with 12 and
      1024 it is LargeFOV.
    fc_width: channels of fc6 and fc7 at width 1.
    average: whether a 3x3 average pooling of stride 1 follows pool5.
    multi_scale_features: whether the scores also see features of the picture and of every pooling
      but the last: 128 maps each of a 3x3 and a 1x1 convolution (section 4.3).

  Returns:
    The architecture.
  """
  table, norm = _body(options, average), options.norm or 'none'
  table += _branch('', num_classes, options, fc_width, options.fc_dilation)
  if multi_scale_features:
    final, maps = table.pop(), ['fc7']
    jumps = {'input': 1}
    for layer in table:
      if layer.kind == 'max_pool':
        jumps[layer.name] = min(options.stride, 2 * list(jumps.values())[-1])
    for name, jump in list(jumps.items())[:-1]:
      mlp = 'image' if name == 'input' else name
      channels = max(1, round(128 * options.width))
      hidden: dict[str, Any] = dict(channels=channels, activation='relu', norm=norm)
      init = 'he_image' if name == 'input' and norm == 'none' else 'he'
      table += [
        Layer(
          f'{mlp}_mlp1', stride=options.stride // jump, padding=1, inputs=(name,), init=init,
          **hidden,
        ),
        Layer(f'{mlp}_mlp2', kernel=1, **hidden),
      ]  # fmt: skip
      maps.append(f'{mlp}_mlp2')
    table += [tables.merge('features', 'concat', *maps), final]
  return Architecture(tuple(table))


def decimate(
  weights: Float[np.ndarray, '...'], shape: tuple[int, ...]
) -> Float[np.ndarray, '...'] | None:
  """Takes a smaller layer out of a larger one: every n-th channel, and taps as evenly apart.

  From VGG's fc6 of 7x7 taps and 4096 channels, LargeFOV's fc6 of 3x3 and 1024 has the taps 0, 3 and
  6 along each axis and every fourth channel; its fc7 reads every fourth channel too.

  Args:
    weights: a kernel, HWIO, or a bias.
    shape: of the smaller layer's.

  Returns:
    The smaller kernel or bias; None where no axis is a whole number of times as long.

  Source: Chen et al. 2015, section 3.1 ("simple decimation"); the initial weights of their release.
  """
  if weights.ndim != len(shape):
    return None
  picked = []
  for axis, (found, wanted) in enumerate(zip(weights.shape, shape, strict=True)):
    taps = weights.ndim == 4 and axis < 2
    rest = (found - 1) % max(wanted - 1, 1) if taps else found % wanted
    if wanted > found or rest:
      return None
    if wanted == 1 and taps:
      picked.append([found // 2])
    else:
      step = (found - 1) // (wanted - 1) if taps else found // wanted
      picked.append(step * np.arange(wanted))
  return weights[np.ix_(*picked)]


def _body(options: VggOptions, average: bool) -> list[Layer]:
  """VGG-16 up to its last pooling, with 3x3 poolings."""
  arguments: dict[str, Any] = dict(width=options.width, norm=options.norm or 'none')
  if options.blocks:
    arguments['blocks'] = options.blocks
  table = []
  for layer in tables.vgg(2, **arguments)[:-3]:
    pool = dict(kernel=3) if layer.kind == 'max_pool' else {}
    table.append(dataclasses.replace(layer, padding=1, **pool))
  table = list(tables.dilate(tuple(table), options.stride, keep_pools=True))
  if average:
    table.append(Layer(f'{table[-1].name}a', 'avg_pool', padding=1))
  return table


def _branch(
  suffix: str,
  num_classes: int,
  options: VggOptions,
  fc_width: int,
  dilation: int,
  inputs: tuple[str, ...] = (),
) -> list[Layer]:
  """fc6, fc7 and the scores."""
  kernel = options.fc_kernel
  if kernel % 2 == 0:
    raise InputError(f'fc_kernel is {kernel}; it must be odd, to have a center')
  channels = options.fc_channels or max(1, round(fc_width * options.width))
  hidden: dict[str, Any] = dict(
    channels=channels, activation='relu', dropout=0.5, norm=options.norm or 'none'
  )
  padding = dilation * (kernel - 1) // 2
  spatial: dict[str, Any] = dict(kernel=kernel, dilation=dilation, padding=padding, inputs=inputs)
  rows = (
    Layer(f'fc6{suffix}', **spatial, **hidden),
    Layer(f'fc7{suffix}', kernel=1, **hidden),
    Layer(f'fc8{suffix}', kernel=1, channels=num_classes, init='gaussian', noise=0.01),
  )
  return list(tables.with_dropout(rows, options.dropout))


def v2(num_classes: int, options: DeepLabV2Options) -> Architecture:
  """DeepLab v2: atrous spatial pyramid pooling, whose branches of other dilations are summed.

  Args:
    num_classes: output channels.
    options: on `backbone` 'vgg16' the branches are fc6, fc7 and scores each, on ResNet 3x3
      convolutions to the scores; with `multi_scale` the image is seen at sizes 1, 0.75 and 0.5,
      and the largest scores count; `dropout` and `fc_channels` are of VGG-16.

  Returns:
    The architecture.

  Raises:
    InputError: an option has no such value.
  """
  on_vgg = options.backbone == 'vgg16'
  if on_vgg and options.variant != 'paper':
    raise InputError(f'variant is {options.variant!r}, which is of ResNet; give a `backbone` too')
  if on_vgg:
    table = _body(options, average=True)
  else:
    table = list(resnet.backbone(options, strided='1x1'))
  shared, scores = (table[-1].name,), []
  for number, dilation in enumerate(ASPP[options.aspp], 1):
    if on_vgg:
      table += _branch(f'_{number}', num_classes, options, 1024, dilation, shared)
    else:
      spatial: dict[str, Any] = dict(dilation=dilation, padding=dilation, inputs=shared)
      scoring = Layer(f'final_{number}', channels=num_classes, init='gaussian', **spatial)
      table.append(scoring)
    scores.append(table[-1].name)
  table.append(tables.merge('scores', 'sum', *scores))
  return Architecture(tuple(table), scales=(1.0, 0.75, 0.5) if options.multi_scale else (1.0,))


def v3(num_classes: int, options: DeepLabV3Options) -> Architecture:
  """DeepLab v3: parallel dilations and the mean of the picture, concatenated and projected.

  Args:
    num_classes: output channels.
    options: `variant` is 'paper', or 'torchvision': stride in the 3x3 convolutions of ResNet, no
      multi-grid, and another 3x3 convolution before the scores, with dropout; `stride` is 16 or 8
      (or any power of two from 4 to 32), dilations of the pyramid are 6, 12 and 18 at 16, twice
      that at 8; `multi_grid` is 1, 2, 4 unless given, or 1 for torchvision.

  Returns:
    The architecture.

  Raises:
    InputError: an option has no such value.
  """
  paper, norm = options.variant == 'paper', options.norm
  body = resnet.backbone(
    options,
    strided='1x1',
    multi_grid=options.multi_grid or ((1, 2, 4) if paper else (1,)),
  )
  channels = max(1, round(256 * options.width))
  table = body + pyramid(body[-1].name, channels, options.stride, norm)
  if not paper:
    last = dataclasses.replace(table[-1], dropout=options.dropout)
    table = (*table[:-1], last, resnet.normed('head', channels, norm, kernel=3, padding=1))
  table += (Layer('final', kernel=1, channels=num_classes, init='classifier'),)
  return Architecture(table, auxiliary=resnet.auxiliary(body, num_classes, options))


def pyramid(given: str, channels: int, stride: int, norm: Norm | None) -> Table:
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

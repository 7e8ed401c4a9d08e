"""The trunk of a network: its layers of VGG or ResNet, which classifiers of ImageNet have too."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from dilated_jax.nn.table import Norm, Table

_LAYERS = {
  'ResNet': r'conv1|conv1_[123]|layer(\d+)_(\d+)_(conv\d|downsample)',
  'VGG': r'conv(\d+)_(\d+)',
}


class Trunk(NamedTuple):
  """The layers of VGG or ResNet in a network.

  Attributes:
    kind: which of the two.
    blocks: convolutions in each block of VGG, or residual units in each group of ResNet.
    unit: of ResNet, 'basic' for two 3x3 convolutions, 'bottleneck' for 1x1, 3x3, 1x1; else ''.
    stem: of ResNet, '7x7' or '3x3'; else ''.
    strided: of ResNet, which convolution of a unit has the stride, such as 'conv2'; '' where none
      has.
    norm: its normalization.
    layers: the names of its convolutions.
  """

  kind: Literal['VGG', 'ResNet']
  blocks: tuple[int, ...]
  unit: str
  stem: str
  strided: str
  norm: Norm
  layers: tuple[str, ...]

  def __str__(self):
    unit = f'{self.unit} ' if self.unit else ''
    return f'{self.kind} of {unit}blocks {",".join(map(str, self.blocks))}'


def trunk(table: Table) -> Trunk | None:
  """Finds the trunk of a network by the names of its layers.

  Args:
    table: the network.

  Returns:
    The trunk; None where there is none.

  >>> from dilated_jax.models import registry
  >>> str(trunk(registry.create('pspnet', 21, backbone='resnet34').table))
  'ResNet of basic blocks 3,4,6,3'
  """
  names = {layer.name for layer in table}
  kind = 'ResNet' if 'layer1_0' in names else 'VGG'
  layers = [layer for layer in table if layer.kind == 'conv']
  layers = [layer for layer in layers if re.fullmatch(_LAYERS[kind], layer.name)]
  if not layers:
    return None
  places = [re.fullmatch(_LAYERS[kind], layer.name) for layer in layers]
  blocks: dict[int, int] = {}
  for place in places:
    if place and place[1]:
      first = kind == 'ResNet'  # Units count from 0, convolutions of VGG from 1.
      blocks[int(place[1])] = max(blocks.get(int(place[1]), 0), int(place[2]) + first)
  unit = stem = strided = ''
  if kind == 'ResNet':
    unit = 'bottleneck' if 'layer1_0_conv3' in names else 'basic'
    stem = '7x7' if 'conv1' in names else '3x3'
    inner = (layer for layer in layers if re.fullmatch(r'layer.*_conv\d', layer.name))
    strided = next((layer.name[-5:] for layer in inner if layer.stride > 1), '')
  counts = tuple(blocks[number] for number in sorted(blocks))
  return Trunk(
    kind, counts, unit, stem, strided, layers[-1].norm, tuple(layer.name for layer in layers)
  )

"""Networks on dilated ResNet against the same written out in PyTorch."""

import pytest
import torch
from torch.nn import functional

from tests.reference import networks

NARROW = {'blocks': (1, 1, 2, 2), 'width': 1 / 16}


def backbone(weights, x, blocks=NARROW['blocks'], *, rates, strided='1x1', stem='7x7'):
  """ResNet; of each group the stride, and the dilations of its 3x3 convolutions.

  Returns:
    what the third and the fourth group say.
  """
  if stem == '7x7':
    x = weights.normed(x, 'conv1', stride=2, padding=3).relu()
  else:
    x = weights.normed(x, 'conv1_1', stride=2, padding=1).relu()
    x = weights.normed(x, 'conv1_2', padding=1).relu()
    x = weights.normed(x, 'conv1_3', padding=1).relu()
  x, outputs = functional.max_pool2d(x, 3, 2, 1), []
  for group, units in enumerate(blocks, 1):
    stride, dilations = rates[group - 1]
    for unit in range(units):
      name, step = f'layer{group}_{unit}', stride if unit == 0 else 1
      at_3x3 = strided == '3x3' or (strided == 'kept 3x3' and stride > 1)
      first, second = (1, step) if at_3x3 else (step, 1)
      y = weights.normed(x, f'{name}_conv1', stride=first).relu()
      rate = dilations[unit]
      y = weights.normed(y, f'{name}_conv2', stride=second, padding=rate, dilation=rate).relu()
      y = weights.normed(y, f'{name}_conv3')
      if unit == 0:
        x = weights.normed(x, f'{name}_downsample', stride=step)
      x = (x + y).relu()
    outputs.append(x)
  return outputs[2:]


def stages(third, fourth, strides=(2, 1, 1)):
  """Strides and dilations of the groups."""
  strides = (1, *strides)
  return list(zip(strides, ((1, 1), (1,), third, fourth)))


def aspp(weights, x, rates):
  maps = [weights.normed(x, 'aspp_0').relu()]
  for i, rate in enumerate(rates, 1):
    maps.append(weights.normed(x, f'aspp_{i}', padding=rate, dilation=rate).relu())
  mean = weights.normed(x.mean((2, 3), keepdim=True), 'aspp_4').relu()
  maps.append(mean.expand(-1, -1, *x.shape[2:]))
  return weights.normed(torch.cat(maps, 1), 'project').relu()


def deeplab_v3(third, fourth, strides, rates):
  def forward(weights, image):
    _, x = backbone(weights, image, rates=stages(third, fourth, strides))
    return weights.conv(aspp(weights, x, rates), 'final')

  return forward


def deeplab_v2(weights, image):
  _, x = backbone(weights, image, rates=stages((2, 2), (4, 4, 4)))
  return sum(
    weights.conv(x, f'final_{i}', padding=rate, dilation=rate)
    for i, rate in enumerate((6, 12, 18, 24), 1)
  )


def pspnet(weights, image):
  _, x = backbone(weights, image, rates=stages((2, 2), (4, 4, 4)), strided='kept 3x3', stem='3x3')
  maps, size = [x], dict(size=x.shape[2:], mode='bilinear', align_corners=True)
  for count in (1, 2, 3, 6):
    means = functional.adaptive_avg_pool2d(x, count)
    maps.append(functional.interpolate(weights.normed(means, f'pyramid{count}').relu(), **size))
  x = weights.normed(torch.cat(maps, 1), 'head', padding=1).relu()
  return weights.conv(x, 'final')


def fcn_resnet(weights, image):
  rates = stages((1, 2), (2, 4, 4))
  _, x = backbone(weights, image, rates=rates, strided='3x3')
  return weights.conv(weights.normed(x, 'head', padding=1).relu(), 'final')


NETWORKS = {
  'deeplab_v2': (deeplab_v2, {'backbone': 'resnet101'}),
  'deeplab_v3': (deeplab_v3((1, 1), (2, 4, 8), (2, 2, 1), (6, 12, 18)), {}),
  'v3 at 8': (deeplab_v3((2, 2), (4, 8, 16), (2, 1, 1), (12, 24, 36)), {'stride': 8}),
  'pspnet': (pspnet, {'auxiliary': False}),
  'fcn_resnet': (fcn_resnet, {}),
}


@pytest.mark.parametrize('name, size', [
  *((name, (65, 97)) for name in NETWORKS),
  *((name, (64, 51)) for name in ('deeplab_v3', 'pspnet')),
])  # fmt: skip
def test_as_the_reference(name, size):
  forward, options = NETWORKS[name]
  name = 'deeplab_v3' if name == 'v3 at 8' else name
  networks.check(name, forward, size, **NARROW, **options)


@pytest.mark.parametrize('name', ['deeplab_v2', 'deeplab_v3', 'pspnet', 'fcn_resnet'])
def test_context_behind_the_scores(name):
  forward, options = NETWORKS[name]

  def refined(weights, image):
    return weights.context(forward(weights, image))

  networks.check(name, refined, (65, 49), context='basic', **NARROW, **options)

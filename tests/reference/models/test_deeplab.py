"""DeepLab, LargeFOV, MSc and v2 on VGG against their layers written out in PyTorch."""

import pytest
import torch
from torch.nn import functional

from tests.models.test_deeplab import NARROW
from tests.reference import networks


def pool(x, stride):
  return functional.max_pool2d(x, 3, stride, 1, ceil_mode=True)


def body(weights, image, blocks=NARROW['blocks']):
  """Up to pool5, and what the poolings see."""
  x, pools = image, []
  for block, convolutions in enumerate(blocks, 1):
    for i in range(1, convolutions + 1):
      x = weights.same(x, f'conv{block}_{i}', 2 if block == 5 else 1)
    x = pool(x, 2 if block < 4 else 1)
    pools.append(x)
  return x, pools


def large_fov(weights, x, suffix='', dilation=12):
  x = weights.same(x, f'fc6{suffix}', dilation)
  return weights.relu(x, f'fc7{suffix}')


def average(x):
  return functional.avg_pool2d(x, 3, 1, 1)


def deeplab(weights, image):
  x, _ = body(weights, image)
  x = weights.relu(x, 'fc6', padding=12, dilation=4)
  return weights.conv(weights.relu(x, 'fc7'), 'fc8')


def deeplab_largefov(weights, image):
  x, _ = body(weights, image)
  return weights.conv(large_fov(weights, average(x)), 'fc8')


def deeplab_msc(weights, image):
  x, pools = body(weights, image)
  maps = [large_fov(weights, average(x))]
  names = ('image', 'pool1', 'pool2', 'pool3', 'pool4')
  for name, given, stride in zip(names, [image, *pools], (8, 4, 2, 1, 1)):
    given = weights.relu(given, f'{name}_mlp1', stride=stride, padding=1)
    maps.append(weights.relu(given, f'{name}_mlp2'))
  rows, columns = (min(x.shape[axis] for x in maps) for axis in (2, 3))
  x = torch.cat([x[:, :, :rows, :columns] for x in maps], 1)
  return weights.conv(x, 'fc8')


def deeplab_v2(dilations):
  def forward(weights, image):
    x = average(body(weights, image)[0])
    return sum(
      weights.conv(large_fov(weights, x, f'_{i}', dilation), f'fc8_{i}')
      for i, dilation in enumerate(dilations, 1)
    )

  return forward


NETWORKS = {
  'deeplab': (deeplab, {}),
  'deeplab_largefov': (deeplab_largefov, {}),
  'deeplab_msc': (deeplab_msc, {}),
  'deeplab_v2': (deeplab_v2((6, 12, 18, 24)), {}),
  'ASPP-S': (deeplab_v2((2, 4, 8, 12)), {'aspp': 'small'}),
}


@pytest.mark.parametrize('size', [(65, 73), (64, 51)])
@pytest.mark.parametrize('name', NETWORKS)
def test_as_the_reference(name, size):
  forward, options = NETWORKS[name]
  name = 'deeplab_v2' if options else name
  networks.check(name, forward, size, **NARROW, **options)


@pytest.mark.parametrize('name', list(NETWORKS)[:4])
def test_context_behind_the_scores(name):
  def forward(weights, image):
    return weights.context(NETWORKS[name][0](weights, image))

  networks.check(name, forward, (65, 49), context='basic', **NARROW)


def test_all_of_vgg():
  blocks = (2, 2, 3, 3, 3)

  def forward(weights, image):
    return weights.conv(large_fov(weights, average(body(weights, image, blocks)[0])), 'fc8')

  options = {**NARROW, 'blocks': blocks, 'width': 1 / 32}
  networks.check('deeplab_largefov', forward, (40, 33), **options)


def test_multi_scale_takes_the_largest():
  def forward(weights, image):
    scores = None
    for scale in (1, 0.75, 0.5):
      size = [round(side * scale) for side in image.shape[2:]]
      given = functional.interpolate(image, size, mode='bilinear')
      found = deeplab_v2((6, 12, 18, 24))(weights, given)
      if scores is None:
        scores = found
      found = functional.interpolate(found, scores.shape[2:], mode='bilinear')
      scores = torch.maximum(scores, found)
    return scores

  networks.check('deeplab_v2', forward, (64, 51), multi_scale=True, **NARROW)

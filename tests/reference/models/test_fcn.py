"""FCN-32s, 16s and 8s against the layers of the reference repository, written out in PyTorch."""

import pytest
from torch.nn import functional

from tests.models.test_fcn import NARROW
from tests.reference import networks
from tests.reference.networks import bilinear


def pool(x):
  return functional.max_pool2d(x, 2, 2, ceil_mode=True)


def fcn(weights, image, *, stride, blocks, at_once=False, context=None):
  """net.py of voc-fcn32s, 16s and 8s, with its numbers."""
  scales, x = ((0.01, 0.0001) if at_once else (1, 1)), image
  pools = []
  for block, convolutions in enumerate(blocks, 1):
    for i in range(1, convolutions + 1):
      x = weights.relu(x, f'conv{block}_{i}', padding=100 if (block, i) == (1, 1) else 1)
    x = pool(x)
    pools.append(x)
  x = weights.relu(weights.relu(x, 'fc6'), 'fc7')
  x = weights.conv(x, 'score_fr')
  for name, skip, scale, offset in (
    ('pool4', pools[3], scales[0], 5),
    ('pool3', pools[2], scales[1], 9),
  )[: {32: 0, 16: 1, 8: 2}[stride]]:
    x = bilinear(x, 2)
    skip = weights.conv(scale * skip, f'score_{name}')
    x = x + skip[:, :, offset : offset + x.shape[2], offset : offset + x.shape[3]]
  crop = {32: 19, 16: 27, 8: 31}[stride]
  if context:
    x, crop = context(x, crop, image.shape[2:])
  x = bilinear(x, stride)
  return x[:, :, crop : crop + image.shape[2], crop : crop + image.shape[3]]


@pytest.mark.parametrize('size', [(64, 96), (51, 78)])
@pytest.mark.parametrize('stride', [32, 16, 8])
def test_as_the_reference(stride, size):
  def forward(weights, image):
    return fcn(weights, image, stride=stride, blocks=NARROW['blocks'])

  networks.check(f'fcn{stride}s', forward, size, **NARROW)


def test_all_of_vgg_and_at_once():
  options = {**NARROW, 'blocks': (2, 2, 3, 3, 3), 'width': 1 / 32}

  def forward(weights, image):
    return fcn(weights, image, stride=8, blocks=options['blocks'], at_once=True)

  networks.check('fcn8s', forward, (40, 33), at_once=True, **options)


@pytest.mark.parametrize('stride', [32, 16, 8])
def test_context_before_the_upsampling(stride):
  def context(weights):
    def module(x, crop, size):
      # The cells that pixels of the picture are blended from, and no others.
      first = 2 if stride == 8 else 0
      rows, columns = ((crop + side - 1) // stride + 1 for side in size)
      return weights.context(x[:, :, first:rows, first:columns]), crop - stride * first

    return module

  def forward(weights, image):
    blocks = NARROW['blocks']
    return fcn(weights, image, stride=stride, blocks=blocks, context=context(weights))

  networks.check(f'fcn{stride}s', forward, (64, 93), context='basic', **NARROW)

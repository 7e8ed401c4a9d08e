"""DeepLab, LargeFOV, MSc and v2 on VGG against their layers written out in PyTorch."""

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.nn import geometry
from tests.models import reference

# Of the five blocks of VGG-16, narrow and shallow; the sizes of all layers are as at full width.
NARROW = {'blocks': (1, 1, 1, 1, 1), 'width': 1 / 16, 'fc_channels': 6}


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
  reference.check(name, forward, size, **NARROW, **options)


@pytest.mark.parametrize('name', list(NETWORKS)[:4])
def test_context_behind_the_scores(name):
  def forward(weights, image):
    return weights.context(NETWORKS[name][0](weights, image))

  reference.check(name, forward, (65, 49), context='basic', **NARROW)


def test_all_of_vgg():
  blocks = (2, 2, 3, 3, 3)

  def forward(weights, image):
    return weights.conv(large_fov(weights, average(body(weights, image, blocks)[0])), 'fc8')

  options = {**NARROW, 'blocks': blocks, 'width': 1 / 32}
  reference.check('deeplab_largefov', forward, (40, 33), **options)


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

  reference.check('deeplab_v2', forward, (64, 51), multi_scale=True, **NARROW)


VGG = 14_714_688


@pytest.mark.parametrize(
  'name, options, parameters',
  [
    ('deeplab', {}, 134_346_581),  # 134.3M in Table 2 of the paper.
    ('deeplab_largefov', {}, VGG + 9 * 512 * 1024 + 1024 * 1024 + 2048 + 21 * 1025),  # 20.5M
    (
      'deeplab_msc', {},
      20_505_429 + 640 * 21 + 5 * (128 * 128 + 256) + 9 * 128 * (3 + 64 + 128 + 256 + 512),
    ),
    ('deeplab_v2', {}, VGG + 4 * (20_505_429 - VGG)),
    ('deeplab_v2', {'aspp': 'small'}, VGG + 4 * (20_505_429 - VGG)),
  ],
)  # fmt: skip
def test_parameters_and_sizes(name, options, parameters):
  model = models.create(name, 21, **options)
  images = jax.ShapeDtypeStruct((1, 321, 513, 3), 'float32')
  variables = jax.eval_shape(model.init, jax.random.key(0), images)
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters
  assert geometry.parameters(model) == parameters
  assert jax.eval_shape(model.apply, variables, images).shape == (1, 41, 65, 21)
  assert geometry.sizes(model, 321)[-1] == 41 and geometry.valid_size(model, 320) == 321
  # Cell i is at pixel 8 i.
  assert (model.stride, model.margin, model.full_size, geometry.offset(model)) == (8, 0, False, 0)


def test_window_of_fc6_is_that_of_the_paper():
  """224 pixels of VGG's own grid (Table 2): 7 taps 4 cells apart, as 7 taps of 32 pixels."""
  model = models.create('deeplab', 21)
  fc6 = next(layer for layer in model.table if layer.name == 'fc6')
  assert 8 * fc6.dilation * fc6.kernel == 224


@pytest.mark.parametrize(
  'name, options, words',
  [
    ('deeplab_v2', {'aspp': 'huge'}, "'huge'; choose small or large"),
    ('deeplab_v2', {'backbone': 'resnet7'}, "'resnet7'; choose vgg16 or resnet50"),
    ('deeplab', {'fc_kernel': 4}, 'fc_kernel is 4'),
    ('deeplab', {'stride': 5}, 'stride is 5'),
  ],
)
def test_wrong_options(name, options, words):
  with pytest.raises(InputError, match=words):
    models.create(name, 4, **options)


def test_other_strides():
  for stride in (4, 16):
    model = models.create('deeplab_msc', 4, stride=stride, **NARROW)
    images = np.zeros((1, 65, 65, 3), np.float32)
    logits = jax.eval_shape(model.apply, reference.variables_of(model), images)
    assert logits.shape == (1, 64 // stride + 1, 64 // stride + 1, 4)

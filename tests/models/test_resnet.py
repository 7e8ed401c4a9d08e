"""Networks on dilated ResNet against the same written out in PyTorch; published counts."""

import jax
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.nn import geometry
from dilated_jax.training import stages as stages_lib, step as train_step
from tests.models import reference

NARROW = {'blocks': (1, 1, 2, 2), 'width': 1 / 16}
SHALLOW = {'blocks': (1, 1, 1, 1), 'width': 1 / 32}


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
      first, second = (step, 1) if strided == '1x1' else (1, step)
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
  _, x = backbone(weights, image, rates=stages((2, 2), (4, 4, 4)), stem='3x3')
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
  reference.check(name, forward, size, **NARROW, **options)


@pytest.mark.parametrize('name', ['deeplab_v2', 'deeplab_v3', 'pspnet', 'fcn_resnet'])
def test_context_behind_the_scores(name):
  forward, options = NETWORKS[name]

  def refined(weights, image):
    return weights.context(forward(weights, image))

  reference.check(name, refined, (65, 49), context='basic', **NARROW, **options)


@pytest.mark.parametrize(
  'name, options, cells, parameters',
  [
    # Counts of torchvision's files, the auxiliary head included.
    ('fcn_resnet', {'backbone': 'resnet50', 'auxiliary': True}, 65, 35_322_218),
    ('fcn_resnet', {'backbone': 'resnet101', 'auxiliary': True}, 65, 54_314_346),
    (
      'deeplab_v3',
      {'variant': 'torchvision', 'stride': 8, 'backbone': 'resnet50', 'auxiliary': True},
      65, 42_004_074,
    ),
    ('deeplab_v3', {'variant': 'torchvision', 'stride': 8, 'auxiliary': True}, 65, 60_996_202),
    # ResNet-101 without its classifier, and four 3x3 convolutions to the scores.
    ('deeplab_v2', {'backbone': 'resnet101'}, 65, 42_500_160 + 4 * 21 * (9 * 2048 + 1)),
    ('deeplab_v3', {}, 33, 60_996_202 - 2_364_949 - 5_397 + 5_397 - 256 * (9 * 256 + 2) - 256),
    ('pspnet', {}, 65, 68_073_706),
  ],
)  # fmt: skip
def test_parameters_and_sizes(name, options, cells, parameters):
  model = models.create(name, 21, **options)
  images = jax.ShapeDtypeStruct((1, 513, 512, 3), 'float32')
  variables = jax.eval_shape(model.init, jax.random.key(0), images)
  assert set(variables) == {'params', 'batch_stats'}
  assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == parameters
  whole = model.front_end_table + model.auxiliary_table
  assert geometry.parameters(whole) == parameters
  shape = jax.eval_shape(model.apply, variables, images).shape
  assert shape == (1, cells, 512 // model.stride, 21)
  assert (model.margin, model.full_size, geometry.offset(model)) == (0, False, 0)


def test_dilations_are_those_of_the_papers():
  def dilations(group, name='deeplab_v3', **options):
    table = models.create(name, 21, **options).table
    rows = [layer for layer in table if layer.name.startswith(f'layer{group}_')]
    return [layer.dilation for layer in rows if layer.name.endswith('conv2')]

  assert dilations(4) == [2, 4, 8]  # Multi-grid of 1, 2, 4 at stride 16.
  assert (set(dilations(3)), dilations(4, stride=8)) == ({1}, [4, 8, 16])
  assert (set(dilations(3, 'pspnet')), dilations(4, 'pspnet')) == ({2}, [4, 4, 4])
  assert dilations(4, variant='torchvision', stride=8) == [2, 4, 4]
  assert dilations(4, multi_grid=(1, 1, 1)) == [2, 2, 2]


def test_the_auxiliary_answer_is_for_training_alone():
  plain, model = (
    models.create('fcn_resnet', 4, auxiliary=auxiliary, **SHALLOW) for auxiliary in (0, 1)
  )
  variables, images = reference.variables_of(model), reference.pictures(33, 33)
  assert 'aux_final' not in reference.variables_of(plain)['params']['front_end']
  apply = jax.jit(model.apply, static_argnames=('train', 'mutable'))
  logits, updated = apply(
    variables, images, train=True, mutable=('batch_stats', 'auxiliary'),
    rngs={'dropout': jax.random.key(0)},
  )  # fmt: skip
  (found,) = jax.tree.leaves(updated['auxiliary'])
  assert found.shape == logits.shape == (2, 5, 5, 4)
  with_it, without = apply(variables, images), jax.jit(plain.apply)(variables, images)
  np.testing.assert_array_equal(with_it, without)


def test_the_auxiliary_loss_counts_two_fifths(monkeypatch):
  model = models.create('fcn_resnet', 4, auxiliary=True, **SHALLOW)
  variables = reference.variables_of(model)
  images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
  labels = np.random.default_rng(1).integers(0, 4, (2, 32, 32), np.uint8)

  def change(weight):
    monkeypatch.setattr(train_step, '_AUXILIARY_WEIGHT', weight)
    optimizer = optax.sgd(1.0)
    stage = stages_lib.STAGES['front_end']
    step = train_step.make_step(model, stage, optimizer, (0, 0, 0), loss_resolution='full')
    state = train_step.create_state(variables, stage, optimizer, jax.random.key(0))
    state, measured = jax.jit(step)(state, {'image': images, 'label': labels})
    changed = state.params['front_end']['aux_final']['kernel']
    return changed - variables['params']['front_end']['aux_final']['kernel'], measured['loss']

  (usual, loss), (whole, same) = change(train_step._AUXILIARY_WEIGHT), change(1.0)
  np.testing.assert_allclose(usual, 0.4 * whole, rtol=1e-3, atol=1e-6)
  assert loss == same and np.abs(whole).max() > 0


@pytest.mark.parametrize(
  'name, options, words',
  [
    ('pspnet', {'backbone': 'vgg16'}, "'vgg16'; choose resnet50 or resnet101"),
    ('pspnet', {'blocks': (1, 1)}, 'of four groups'),
    ('pspnet', {'norm': 'none'}, 'ResNet has group or batch'),
    ('deeplab_v3', {'variant': 'caffe'}, "'caffe'; choose paper or torchvision"),
    ('deeplab_v3', {'multi_grid': (0, 1)}, 'multi_grid is'),
    ('deeplab_v3', {'stride': 64}, 'stride is 64; this network can have a power of two up to 32'),
  ],
)
def test_wrong_options(name, options, words):
  with pytest.raises(InputError, match=words):
    models.create(name, 4, **options)


def test_batch_norm_sees_all_devices():
  model = models.create('deeplab_v3', 4, **SHALLOW)
  variables, images = reference.variables_of(model), reference.pictures(33, 33, count=4)

  def trained(model):
    def run(images):
      logits, updated = model.apply(variables, images, train=True, mutable=['batch_stats'])
      return logits, updated['batch_stats']

    return run

  whole, stats = jax.jit(trained(model))(images)
  shared = trained(model.clone(axis_name='devices'))
  parts = jax.pmap(shared, 'devices', devices=jax.devices()[:2])(images.reshape(2, 2, 33, 33, 3))
  scale = np.abs(whole).max()
  np.testing.assert_allclose(parts[0].reshape(whole.shape), whole, atol=1e-4 * scale)
  for one, two in zip(jax.tree.leaves(stats), jax.tree.leaves(parts[1]), strict=True):
    np.testing.assert_allclose(two, np.stack([one, one]), atol=1e-4 * np.abs(one).max())

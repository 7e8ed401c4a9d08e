"""Networks on dilated ResNet against the same written out in PyTorch; published counts."""

import jax
import numpy as np
import optax
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.nn import costs, geometry
from dilated_jax.training import stages as stages_lib, step as train_step
from tests.models.random_inputs import pictures, variables_of

SHALLOW = {'blocks': (1, 1, 1, 1), 'width': 1 / 32}


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
    # torchvision's resnet18 and 34 (11,689,512 and 21,797,672) without their classifiers; heads of
    # a quarter of their 512 channels.
    ('fcn_resnet', {'backbone': 'resnet18'}, 65, 11_689_512 - 513_000 + 590_080 + 2_709),
    ('fcn_resnet', {'backbone': 'resnet34'}, 65, 21_797_672 - 513_000 + 590_080 + 2_709),
    ('deeplab_v3', {'backbone': 'resnet18'}, 33, 11_689_512 - 513_000 + 4_131_840 + 5_397),
    (
      'pspnet', {'backbone': 'resnet18', 'variant': 'torchvision', 'auxiliary': False}, 65,
      11_689_512 - 513_000 + 4 * (512 * 128 + 256) + 1_179_904 + 2_709,
    ),
    # The three 3x3 convolutions of PSPNet end in 128 channels, so the first unit has a shortcut.
    (
      'pspnet', {'backbone': 'resnet18', 'auxiliary': False}, 65,
      11_689_512 - 513_000 + 4 * (512 * 128 + 256) + 1_179_904 + 2_709
      - 9_536 + 112_832 + 64 * 64 * 9 + 64 * 130,
    ),
  ],
)  # fmt: skip
def test_parameters_and_sizes(name, options, cells, parameters):
  model = models.create(name, 21, **options)
  images = jax.ShapeDtypeStruct((1, 513, 512, 3), 'float32')
  variables = jax.eval_shape(model.init, jax.random.key(0), images)
  assert set(variables) == {'params', 'batch_stats'}
  assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == parameters
  whole = model.front_end_table + model.auxiliary_table
  assert costs.num_parameters(whole) == parameters
  shape = jax.eval_shape(model.apply, variables, images).shape
  assert shape == (1, cells, 512 // model.stride, 21)
  assert (model.margin, model.full_size, geometry.offset(model.table)) == (0, False, 0)


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


def test_dilations_of_basic_blocks():
  """What reads behind a stride that is gone is dilated: by the paper's rule all but the first."""

  def dilations(group, name, **options):
    table = models.create(name, 21, backbone='resnet18', **options).table
    rows = [layer for layer in table if layer.name.startswith(f'layer{group}_')]
    assert all(layer.padding == layer.dilation for layer in rows if layer.kernel == 3)
    return [layer.dilation for layer in rows if layer.kernel == 3]

  for name in ('fcn_resnet', 'pspnet', 'deeplab_v2'):
    assert [dilations(group, name) for group in (2, 3, 4)] == [[1] * 4, [1, 2, 2, 2], [2, 4, 4, 4]]
  assert dilations(4, 'deeplab_v3') == [1, 2, 4, 4]  # Multi-grid of 1 and 2 at stride 16.
  assert dilations(4, 'deeplab_v3', multi_grid=(1,), stride=8) == [2, 4, 4, 4]
  names = {layer.name for layer in models.create('fcn_resnet', 21, backbone='resnet34').table}
  assert {'layer3_5_conv2', 'layer2_0_downsample'} <= names
  assert not names & {'layer1_0_downsample', 'layer1_0_conv3', 'layer3_6_conv1'}


def test_torchvisions_resnet_in_every_network():
  def beginning(name, **options):
    table = models.create(name, 21, **options).table
    end = [layer.name for layer in table].index('layer4_2')
    return table[: end + 1]

  options = {'backbone': 'resnet50', 'stride': 8}
  expected = beginning('fcn_resnet', **options)
  for name in ('pspnet', 'deeplab_v2', 'deeplab_v3'):
    assert (
      beginning(name, **options, variant='torchvision') == expected != beginning(name, **options)
    )


def test_which_convolution_has_the_stride():
  """He et al.: the first; torchvision: the 3x3; PSPNet: the 3x3 where there is a stride at all."""

  def strided(name, **options):
    table = models.create(name, 21, **options).table
    return [layer.name for layer in table if layer.stride == 2 and layer.name.startswith('layer')]

  first, middle, shortcut = (f'layer2_0_{part}' for part in ('conv1', 'conv2', 'downsample'))
  assert strided('deeplab_v3', stride=8) == strided('deeplab_v2', backbone='resnet50')
  assert strided('deeplab_v3', stride=8) == [first, shortcut]
  assert strided('pspnet') == strided('fcn_resnet') == [middle, shortcut]
  rates = {
    name: [layer.dilation for layer in models.create(name, 21).table if layer.name == unit]
    for name, unit in (('pspnet', 'layer3_0_conv2'), ('fcn_resnet', 'layer3_0_conv2'))
  }
  assert rates == {'pspnet': [2], 'fcn_resnet': [1]}


def test_the_auxiliary_answer_is_for_training_alone():
  plain, model = (
    models.create('fcn_resnet', 4, auxiliary=auxiliary, **SHALLOW) for auxiliary in (False, True)
  )
  variables, images = variables_of(model), pictures(33, 33)
  assert 'aux_final' not in variables_of(plain)['params']['front_end']
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
  variables = variables_of(model)
  images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
  labels = np.random.default_rng(1).integers(0, 4, (2, 32, 32), np.uint8)

  optimizer, stage = optax.sgd(1.0), stages_lib.STAGES['front_end']
  step = train_step.make_step(model, stage, optimizer, (0, 0, 0), loss_resolution='full')

  @jax.jit
  def change(weight):
    with monkeypatch.context() as patch:
      patch.setattr(train_step, '_AUXILIARY_WEIGHT', weight)
      state = train_step.create_state(variables, stage, optimizer, jax.random.key(0))
      state, measured = step(state, {'image': images, 'label': labels})
    changed = state.params['front_end']['aux_final']['kernel']
    return changed - variables['params']['front_end']['aux_final']['kernel'], measured['loss']

  usual = np.float32(train_step._AUXILIARY_WEIGHT)
  (usual, loss), (whole, same) = change(usual), change(np.float32(1))
  np.testing.assert_allclose(usual, 0.4 * whole, rtol=1e-3, atol=1e-6)
  assert loss == same and np.abs(whole).max() > 0


@pytest.mark.parametrize(
  'name, options, words',
  [
    ('pspnet', {'backbone': 'vgg16'}, "'vgg16'; choose resnet18, resnet34, resnet50 or resnet101"),
    ('deeplab_v2', {'variant': 'torchvision'}, 'which is of ResNet; give a `backbone` too'),
    ('fcn_resnet', {'variant': 'paper'}, "has no option 'variant'"),
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
  variables, images = variables_of(model), pictures(33, 33, count=4)

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

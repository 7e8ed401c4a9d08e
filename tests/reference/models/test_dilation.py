"""Layers, loss, optimizers and whole networks against PyTorch, with all gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from dilated_jax import models
from dilated_jax.nn import ops
from dilated_jax.nn.stack import Stack
from dilated_jax.nn.table import Layer
from dilated_jax.training import losses, optimizers, stages, step as train_step
from dilated_jax.training.config import OptimizerOptions

CLASSES = 4


@pytest.fixture
def double():
  """Both in float64, so that nothing hides behind rounding."""
  with jax.enable_x64(True):
    yield


def normal(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape)


def planes(x):
  """(N, H, W, C) as PyTorch has it, in float64."""
  return torch.from_numpy(np.moveaxis(np.asarray(x, np.float64), -1, 1).copy())


def taps(kernel):
  """(h, w, in, out) as PyTorch has it, in float64."""
  return torch.from_numpy(np.asarray(kernel, np.float64).transpose(3, 2, 0, 1).copy())


def array(tensor):
  """A tensor as we have it: images channels last, kernels (h, w, in, out)."""
  return tensor.detach().numpy()


def images(tensor):
  return np.moveaxis(array(tensor), 1, -1)


def close(found, expected, share=1e-12):
  """Equal but for rounding, of a share of the largest value."""
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.abs(expected).max())


def pulled_back(function, weights, *arguments):
  """The value, and the gradient of its sum with these weights to each argument."""

  @jax.jit
  def run(weights, *arguments):
    value, pull = jax.vjp(function, *arguments)
    return value, *pull(weights)

  return run(weights, *arguments)


def check_map(ours, theirs, x):
  """A function of images: values, and the gradient of a random sum of them."""
  given = planes(x).requires_grad_()
  expected = theirs(given)
  weights = normal(9, *images(expected).shape)
  expected.backward(planes(weights))
  found, gradient = pulled_back(ours, weights, x)
  close(found, images(expected))
  close(gradient, images(given.grad))


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize(
  'kernel, dilation, padding, channels, size',
  [
    *(((3, 3), (d, d), d, 3, (9, 11)) for d in (1, 2, 4, 8, 16, 32, 64)),  # The context modules.
    ((3, 3), (1, 1), 33, 3, (6, 5)),  # The buffer of the large one.
    ((3, 3), (2, 2), 0, 9, (14, 12)),  # conv5; from 8 channels on there are other forms on CPUs.
    ((7, 7), (4, 4), 0, 8, (26, 28)),  # fc6 on a crop.
    ((1, 1), (1, 1), 0, 9, (3, 4)),
    ((2, 2), (3, 3), 1, 8, (7, 8)),
    ((4, 4), (2, 2), 0, 9, (9, 10)),
    ((2, 5), (3, 1), 0, 9, (7, 8)),
  ],
)
def test_dilated_convolution(kernel, dilation, padding, channels, size):
  x, k = normal(0, 2, *size, channels), normal(1, *kernel, channels, 5)

  a, b = planes(x).requires_grad_(), taps(k).requires_grad_()
  expected = functional.conv2d(a, b, padding=padding, dilation=dilation)
  weights = normal(2, *images(expected).shape)
  expected.backward(planes(weights))
  found, dx, dk = pulled_back(lambda x, k: ops.dilated_conv(x, k, dilation, padding), weights, x, k)
  close(found, images(expected))
  close(dx, images(a.grad))
  close(dk, array(b.grad).transpose(2, 3, 1, 0))


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('size, stride', [(2, 2), (3, 2), (3, 1), (2, 1)])
def test_max_pooling_that_rounds_up(size, stride, ties):
  for height, width in ((5, 8), (6, 7)):
    x = normal(0, 2, height, width, 3)
    if ties:  # The gradient goes to the first of equals.
      x = np.sign(x)
    check_map(
      lambda x: ops.max_pool(x, size, stride),
      lambda x: functional.max_pool2d(x, size, stride, ceil_mode=True),
      x,
    )


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize('stride', [2, 4, 8])
def test_bilinear_deconvolution(stride):
  """Caffe, filler.hpp: 1 - |t / f - c| at t, f = ceil(k / 2), c = (2f - 1 - f % 2) / 2f."""
  c = (2 * stride - 1 - stride % 2) / (2 * stride)
  line = np.array([1 - abs(t / stride - c) for t in range(2 * stride)])
  kernel = torch.from_numpy(np.outer(line, line)).expand(3, 1, -1, -1)
  check_map(
    lambda x: ops.deconvolution(x, stride),
    lambda x: functional.conv_transpose2d(x, kernel, stride=stride, padding=stride // 2, groups=3),
    normal(0, 2, 4, 5, 3),
  )


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize('stride', [2, 3, 8])
def test_upsampling_from_the_corner(stride):
  """Corner to corner between the cells, and the last one repeated beyond."""

  def theirs(x):
    size = [(n - 1) * stride + 1 for n in x.shape[2:]]
    inner = functional.interpolate(x, size, mode='bilinear', align_corners=True)
    return functional.pad(inner, (0, stride - 1, 0, stride - 1), mode='replicate')

  check_map(lambda x: ops.resize_corner(x, stride), theirs, normal(0, 2, 4, 5, 3))


def drawn(model, shape, seed=0):
  """Variables drawn by NumPy, none of them 0."""
  rng = np.random.default_rng(seed)

  def leaf(path, like):
    name = path[-1].key
    if name == 'kernel':
      scale = np.sqrt(2 / np.prod(like.shape[:3]))
      return (scale * rng.standard_normal(like.shape)).astype(np.float32)
    start = 1.0 if name in ('scale', 'var') else 0.0
    return (start + 0.1 * rng.uniform(0, 1, like.shape)).astype(np.float32)

  like = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, 'float32'))
  return jax.tree_util.tree_map_with_path(leaf, like)


def fill(network, variables):
  """Puts our variables into a PyTorch network whose modules have our names.

  Returns:
    {(module, 'kernel', 'bias' or 'scale'): parameter}.
  """
  parameters, stats = {}, variables.get('batch_stats', {}).get('front_end', {})
  with torch.no_grad():
    for part in variables['params'].values():
      for name, leaves in part.items():
        module = getattr(network, name)
        for kind, value in leaves.items():
          parameter = module.bias if kind == 'bias' else module.weight
          parameter.copy_(taps(value) if kind == 'kernel' else torch.from_numpy(value.copy()))
          parameters[name, kind] = parameter
    for name, leaves in stats.items():
      getattr(network, name).running_mean.copy_(torch.from_numpy(leaves['mean'].copy()))
      getattr(network, name).running_var.copy_(torch.from_numpy(leaves['var'].copy()))
  return parameters


def check_leaves(found, expected, share):
  """{part: {module: {kind: array}}} of ours, {(module, kind): tensor} of theirs."""
  found = {
    (name, kind): np.asarray(value)
    for part in found.values()
    for name, leaves in part.items()
    for kind, value in leaves.items()
  }
  assert found.keys() == expected.keys()
  for key, value in found.items():
    tensor = array(expected[key])
    close(value, tensor.transpose(2, 3, 1, 0) if key[1] == 'kernel' else tensor, share)


@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('norm', ['batch', 'group'])
def test_normalization(norm, train):
  """After a convolution and before its ReLU: values, running statistics, all gradients."""
  layer = Layer('conv', dilation=2, padding=2, channels=16, norm=norm, activation='relu')
  stack, x = Stack((layer,)), normal(0, 3, 5, 6, 4).astype(np.float32)
  variables = {kind: {'front_end': tree} for kind, tree in drawn(stack, x.shape).items()}
  network = nn.Sequential()
  network.add_module('conv', nn.Conv2d(4, 16, 3, padding=2, dilation=2))
  network.add_module(
    'conv_norm',
    # Ours keeps 0.95 of what was; and 8 channels to a group, with Flax's smaller epsilon.
    nn.BatchNorm2d(16, momentum=0.05) if norm == 'batch' else nn.GroupNorm(2, 16, eps=1e-6),
  )
  parameters = fill(network.double().train(train), variables)
  rest = {kind: tree['front_end'] for kind, tree in variables.items() if kind != 'params'}

  @jax.jit
  def ours(params, x):
    out, updated = stack.apply({'params': params, **rest}, x, train=train, mutable=['batch_stats'])
    return out, updated.get('batch_stats', {})

  found, pull, stats = jax.vjp(ours, variables['params']['front_end'], x, has_aux=True)
  given = planes(x).requires_grad_()
  expected = functional.relu(network(given))
  close(found, images(expected), 1e-5)
  weights = normal(2, *found.shape).astype(np.float32)
  expected.backward(planes(weights))
  dparams, dx = pull(jnp.asarray(weights))
  close(dx, images(given.grad), 1e-5)
  if norm == 'batch' and train:
    # Before a normalization a bias does nothing, and its gradient is rounding.
    assert np.abs(dparams['conv'].pop('bias')).max() < 1e-4
    del parameters['conv', 'bias']
  check_leaves({'': dparams}, {key: p.grad for key, p in parameters.items()}, 1e-5)
  if norm == 'batch':
    running, count = network.conv_norm, x[..., 0].size
    close(stats['conv_norm']['mean'], array(running.running_mean), 1e-6)
    # PyTorch keeps the unbiased variance.
    unbiased = array(running.running_var)
    old = rest['batch_stats']['conv_norm']['var']
    biased = 0.95 * old + (unbiased - 0.95 * old) * (count - 1) / count if train else unbiased
    close(stats['conv_norm']['var'], biased, 1e-6)


def test_dropout_keeps_the_expectation():
  layer = Layer('conv', kernel=1, channels=1, dropout=0.25)
  stack, x = Stack((layer,)), np.ones((1, 100, 100, 1), np.float32)
  params = {'conv': {'kernel': np.full((1, 1, 1, 1), 3, np.float32), 'bias': np.zeros(1, 'f4')}}
  found = stack.apply({'params': params}, x, train=True, rngs={'dropout': jax.random.key(0)})
  torch.manual_seed(0)
  expected = functional.dropout(3 * torch.ones(1, 100, 100, 1), 0.25, training=True)
  np.testing.assert_array_equal(np.unique(found), expected.unique())  # 0 and 4
  for each in (np.asarray(found), expected.numpy()):
    # Five standard deviations of the mean of 10000 times 4 Bernoulli(3/4).
    assert each.mean() == pytest.approx(3, abs=5 * 4 * np.sqrt(3 / 16) / 100)
  np.testing.assert_array_equal(stack.apply({'params': params}, x), 3 * x)


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_cross_entropy_with_pixels_to_ignore(weighted, smoothing):
  rng = np.random.default_rng(0)
  logits = 5 * normal(1, 2, 5, 6, CLASSES)
  labels = rng.choice(np.array([*range(CLASSES), 255], np.uint8), (2, 5, 6))
  weights = rng.uniform(0.1, 3, CLASSES) if weighted else None

  def mean(logits):
    total, count = losses.cross_entropy(logits, labels, weights, smoothing)
    return total / count

  found, gradient = jax.value_and_grad(mean)(jnp.asarray(logits))
  given = planes(logits).requires_grad_()
  target = torch.from_numpy(labels).long()
  # Smoothed, PyTorch weighs each class of the target; here a pixel weighs what its label does.
  each = functional.cross_entropy(
    given, target, ignore_index=255, label_smoothing=smoothing, reduction='none'
  )
  weight = np.append(np.ones(CLASSES) if weights is None else weights, 0)
  weight = torch.from_numpy(weight)[target.clamp(max=CLASSES)]
  expected = (each * weight).sum() / weight.sum()
  expected.backward()
  close(found, array(expected))
  close(gradient, images(given.grad))


def network_of(rows, norm=False):
  """A PyTorch network from (name, kernel, dilation, padding, outputs), or the name of a pooling.

  A ReLU follows every convolution but `final` and `ctx_final`.
  """
  network, channels = nn.Sequential(), 3
  for row in rows:
    if isinstance(row, str):
      network.add_module(row, nn.MaxPool2d(2, 2, ceil_mode=True))
      continue
    name, kernel, dilation, padding, outputs = row
    options = dict(dilation=dilation, padding=padding)
    network.add_module(name, nn.Conv2d(channels, outputs, kernel, **options))
    if 'final' not in name:
      if norm and not name.startswith('ctx'):
        network.add_module(f'{name}_norm', nn.BatchNorm2d(outputs, momentum=0.05))
      network.add_module(f'{name}_relu', nn.ReLU())
    channels = outputs
  return network.double()


def published(c):
  """The published VOC network: the front end at c / 64 of its width, and the large context."""
  k = CLASSES
  return [
    ('conv1_1', 3, 1, 0, c), ('conv1_2', 3, 1, 0, c), 'pool1',
    ('conv2_1', 3, 1, 0, 2 * c), ('conv2_2', 3, 1, 0, 2 * c), 'pool2',
    ('conv3_1', 3, 1, 0, 4 * c), ('conv3_2', 3, 1, 0, 4 * c), ('conv3_3', 3, 1, 0, 4 * c), 'pool3',
    ('conv4_1', 3, 1, 0, 8 * c), ('conv4_2', 3, 1, 0, 8 * c), ('conv4_3', 3, 1, 0, 8 * c),
    ('conv5_1', 3, 2, 0, 8 * c), ('conv5_2', 3, 2, 0, 8 * c), ('conv5_3', 3, 2, 0, 8 * c),
    ('fc6', 7, 4, 0, 64 * c), ('fc7', 1, 1, 0, 64 * c), ('final', 1, 1, 0, k),
    ('ctx_conv1_1', 3, 1, 33, 2 * k), ('ctx_conv1_2', 3, 1, 0, 2 * k),
    ('ctx_conv2_1', 3, 2, 0, 4 * k), ('ctx_conv3_1', 3, 4, 0, 8 * k),
    ('ctx_conv4_1', 3, 8, 0, 16 * k), ('ctx_conv5_1', 3, 16, 0, 32 * k),
    ('ctx_fc1', 3, 1, 0, 32 * k), ('ctx_final', 1, 1, 0, k),
  ]  # fmt: skip


def test_the_published_network_forward_and_backward():
  model = models.create('dilation8', CLASSES, context='large', width=2 / 64, dropout=0)
  x = (64 * normal(0, 1, 388, 397, 3)).astype(np.float32)  # The last windows overhang by a pixel.
  variables = drawn(model, x.shape)
  network = network_of(published(2))
  parameters = fill(network, variables)
  labels = np.array([[[0, 255, 2, 3], [1, 2, 255, 0]]], np.uint8)

  @jax.jit
  def ours(params, x):
    logits = model.apply({'params': params}, x, train=True)
    total, count = losses.cross_entropy(logits, labels)
    return total / count, logits

  (loss, logits), gradients = jax.value_and_grad(ours, has_aux=True)(variables['params'], x)
  expected = network(planes(x))
  mean = functional.cross_entropy(expected, torch.from_numpy(labels).long(), ignore_index=255)
  mean.backward()
  close(logits, images(expected), 1e-4)
  assert float(loss) == pytest.approx(mean.item(), rel=1e-4)
  check_leaves(gradients, {key: p.grad for key, p in parameters.items()}, 1e-3)


@pytest.mark.parametrize('optimizer', ['caffe', 'sgd'])
def test_training_steps(optimizer):
  """Steps of a narrow network with batch normalization on pictures of bytes, as `train` runs them.

  At a constant rate Caffe's velocity is PyTorch's times the rate, so weights are the same. Biases
  of convolutions learn twice as fast, and kernels alone decay.
  """
  model = models.create(
    'dilation8', CLASSES, blocks=(1, 1), stride=2, width=1 / 16, fc_kernel=3, fc_channels=6,
    dilations=(1, 2, 1), norm='batch', dropout=0,
  )  # fmt: skip
  rows = [
    ('conv1_1', 3, 1, 0, 4), 'pool1', ('conv2_1', 3, 1, 0, 8), ('fc6', 3, 2, 0, 6),
    ('fc7', 1, 1, 0, 6), ('final', 1, 1, 0, CLASSES), ('ctx_conv1_1', 3, 1, 1, CLASSES),
    ('ctx_conv1_2', 3, 2, 2, CLASSES), ('ctx_fc1', 3, 1, 1, CLASSES),
    ('ctx_final', 1, 1, 0, CLASSES),
  ]  # fmt: skip
  rng, mean = np.random.default_rng(0), (90.0, 100.0, 110.0)
  height, width = 12, 10
  batch = {
    'image': rng.integers(
      0, 256, (3, height + 2 * model.margin, width + 2 * model.margin, 3)
    ).astype(np.uint8),
    'label': rng.choice(np.array([*range(CLASSES), 255], np.uint8), (3, height, width)),
  }
  variables = drawn(model, batch['image'].shape)
  network = network_of(rows, norm=True)
  parameters = fill(network, variables)

  rate, decay = 0.02, 0.3
  stage = stages.STAGES['joint']
  options = OptimizerOptions(optimizer, rate, weight_decay=decay, bias_lr_multiplier=2.0)
  ours = optimizers.create(options, 9)
  state = train_step.create_state(variables, stage, ours, jax.random.key(0))
  step = jax.jit(train_step.make_step(model, stage, ours, mean))
  theirs = torch.optim.SGD(
    [
      {'params': [p],
       'lr': 2 * rate if kind == 'bias' and not module.endswith('_norm') else rate,
       'weight_decay': decay if kind == 'kernel' else 0}
      for (module, kind), p in parameters.items()
    ],
    momentum=0.9,
  )  # fmt: skip
  x = planes(batch['image'] - np.array(mean))
  labels = torch.from_numpy(batch['label'][:, ::2, ::2].copy()).long()
  for _ in range(4):
    state, metrics = step(state, batch)
    theirs.zero_grad()
    loss = functional.cross_entropy(network(x), labels, ignore_index=255)
    loss.backward()
    theirs.step()
    assert float(metrics['loss']) == pytest.approx(loss.item(), rel=1e-4)
  check_leaves(state.params, parameters, 1e-4)
  still = {
    (name, kind)
    for part, modules in state.params.items()
    for name, leaves in modules.items()
    for kind, value in leaves.items()
    if np.abs(value - variables['params'][part][name][kind]).max() < 1e-3
  }
  # All have moved but the biases that a normalization takes away again.
  assert still == {(name, 'bias') for name in ('conv1_1', 'conv2_1', 'fc6', 'fc7')}

"""Initialization, loss and updates as the authors' programs have them."""

import jax
import numpy as np
import optax
import pytest

from dilated_jax import models
from dilated_jax.nn import initializers, table as tables
from dilated_jax.training import losses, optimizers, step as train_step
from dilated_jax.training.config import OptimizerOptions
from dilated_jax.training.stages import STAGES
from tests.conformance import release

LARGE = [2, 2, 4, 8, 16, 32, 32]  # Table 1 of the paper; the code can build multipliers of 1 alone.
MEAN = (100.0, 110.0, 120.0)


@pytest.mark.parametrize(
  'kind, layers, multipliers',
  [('basic', 8, None), ('basic', 7, None), ('basic', 10, None), ('large', 8, LARGE)],
)
def test_noise_of_the_layers(kind, layers, multipliers):
  table = tables.context(5, layers=layers, kind=kind)
  found = [layer.noise for layer in table]
  assert found == pytest.approx(release.context_noise(layers, multipliers))
  assert [layer.groups for layer in table] == [5] * layers


@pytest.mark.parametrize('shape', [(3, 3, 3, 3), (3, 3, 3, 6), (3, 3, 6, 12), (1, 1, 12, 3)])
def test_identity_filler(shape):
  made = np.asarray(initializers.identity(3, 0.01)(jax.random.key(0), shape))
  blob = made.transpose(3, 2, 0, 1)
  clean = np.asarray(initializers.identity(3, 0.0)(jax.random.key(0), shape))
  noise = np.where(clean.transpose(3, 2, 0, 1) > 0, 7, blob)  # What is overwritten does not matter.
  np.testing.assert_array_equal(release.identity_filler(noise, 3), blob)
  loose = made[clean == 0]
  assert loose.std() == pytest.approx(0.01, rel=0.4) and (loose != 0).all()


def test_fillers_of_the_front_end():
  final = tables.front_end(21)[-1]
  assert (final.name, final.init) == ('final', 'classifier')
  kernel = np.asarray(initializers.classifier(jax.random.key(0), (1, 1, 4096, 21)))
  assert kernel.std() == pytest.approx(0.001, rel=0.02)


@pytest.mark.parametrize('iter_size', [1, 3])
def test_updates(iter_size):
  """Rates, decay and momentum through two drops; accumulated passes count alike."""
  rng = np.random.default_rng(0)
  arrays = {'conv': {'kernel': rng.normal(size=(3, 4)), 'bias': rng.normal(size=4)}}
  arrays = jax.tree.map(lambda x: x.astype(np.float32), arrays)
  solver = release.Sgd(
    [arrays['conv']['kernel'], arrays['conv']['bias']], [(1, 1), (2, 0)],
    lr=0.1, momentum=0.9, stepsize=4, iter_size=iter_size,
  )  # fmt: skip
  options = OptimizerOptions('caffe', 0.1, schedule='step', step_size=4)
  optimizer = optimizers.create(options, 10)
  state = optimizer.init(arrays)
  for _ in range(10):
    passes = [[rng.normal(size=array.shape) for array in solver.arrays] for _ in range(iter_size)]
    kernel, bias = (np.mean([one[i] for one in passes], axis=0, dtype=np.float32) for i in (0, 1))
    updates, state = optimizer.update({'conv': {'kernel': kernel, 'bias': bias}}, state, arrays)
    arrays = optax.apply_updates(arrays, updates)
    solver.step(*(passes if iter_size > 1 else passes[0]))
  np.testing.assert_allclose(arrays['conv']['kernel'], solver.arrays[0], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(arrays['conv']['bias'], solver.arrays[1], rtol=1e-5, atol=1e-6)


def test_defaults_are_train_pys():
  options = OptimizerOptions()
  assert (options.name, options.weight_decay, options.bias_lr_multiplier) == ('caffe', 5e-4, 2)
  assert (options.momentum, options.gamma, options.step_size) == (0.9, 0.1, 100_000)


@pytest.mark.parametrize('void', [0.0, 0.7, 1.0])
def test_loss(void):
  rng = np.random.default_rng(0)
  scores = rng.normal(0, 3, (2, 5, 6, 4)).astype(np.float32)
  label = rng.integers(0, 4, (2, 5, 6)).astype(np.uint8)
  label[rng.random(label.shape) < void] = 255
  total, count = losses.cross_entropy(scores, label)
  found = float(total) / max(float(count), 1.0)
  assert found == pytest.approx(release.softmax_loss(scores, label), rel=1e-5)


def test_parts_of_a_batch_are_weighed_by_their_labels():
  """Our own: the release takes the mean of the passes' means, so that few labels count as many."""
  narrow = {'blocks': (1,), 'width': 1 / 16, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
  model = models.create('front_end', 3, dropout=0, **narrow)
  rng = np.random.default_rng(0)
  images = (2, 6 + 2 * model.margin, 8 + 2 * model.margin, 3)
  label = rng.integers(0, 3, (2, 6, 8)).astype(np.uint8)
  label[1, 1:] = 255
  batch = {'image': rng.integers(0, 256, images, dtype=np.uint8), 'label': label}
  zeros = jax.ShapeDtypeStruct(images, 'float32')
  shapes = jax.eval_shape(model.init, jax.random.key(0), zeros)
  variables = jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)
  optimizer = optimizers.create(OptimizerOptions('sgd', 0.0), 1)
  step = train_step.make_step(model, STAGES['front_end'], optimizer, MEAN, grad_accum_steps=2)
  state = train_step.create_state(variables, STAGES['front_end'], optimizer, jax.random.key(0))
  loss = jax.jit(lambda *given: step(*given)[1]['loss'])(state, batch)
  fed = batch['image'] - np.array(MEAN, np.float32)
  scores = np.asarray(jax.jit(model.apply)(variables, fed))
  grid = label[:, ::2, ::2]
  pooled = release.softmax_loss(scores, grid)
  of_passes = np.mean([release.softmax_loss(scores[i], grid[i]) for i in range(2)])
  assert float(loss) == pytest.approx(pooled, rel=1e-4)
  assert pooled != pytest.approx(of_passes, rel=1e-2)

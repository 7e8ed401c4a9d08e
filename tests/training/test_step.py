"""training.py: a step against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.nn import ops
from dilated_jax.training import losses, optimizers, stages, step as train_step
from dilated_jax.training.config import OptimizerOptions

MEAN = (100.0, 110.0, 120.0)
NARROW = {'blocks': (1,), 'width': 1 / 16, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
OPTIONS = OptimizerOptions('sgd', 0.05, momentum=0.0, weight_decay=0.0, bias_lr_multiplier=1.0)


def started(model):
  rng = np.random.default_rng(0)
  shapes = weights_folder.abstract_variables(model)
  return jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)


def batch_of(model, size=4, rows=6, columns=8, seed=0):
  """Pictures with more and more void, down to none that is valid."""
  rng = np.random.default_rng(seed)
  shape = (size, rows + 2 * model.margin, columns + 2 * model.margin, 3)
  label = rng.integers(0, 3, (size, rows, columns)).astype(np.uint8)
  label[rng.random(label.shape) < np.linspace(0, 1, size)[:, None, None]] = 255
  return {'image': rng.integers(0, 256, shape, dtype=np.uint8), 'label': label}


def stepped(model, variables, batch, stage='front_end', steps=1, options=OPTIONS, **extra):
  stage = stages.STAGES[stage]
  optimizer = optimizers.create(options, steps)
  make = train_step.make_step(model, stage, optimizer, MEAN, **extra)
  step = jax.jit(make)
  state = train_step.create_state(variables, stage, optimizer, jax.random.key(1))
  for _ in range(steps):
    state, metrics = step(state, batch)
  norms = np.asarray(metrics.pop('layer_gradient_norms'))
  assert np.linalg.norm(norms) == pytest.approx(float(metrics['gradient_norm']), rel=1e-5)
  return state, {name: float(value) for name, value in metrics.items()}


def close(one, other, tolerance=1e-5):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), one, other
  )


@pytest.mark.parametrize('resolution', ['grid', 'full'])
@pytest.mark.parametrize(
  'weights, smoothing, jaccard', [(None, 0.0, 0.0), ((1.0, 0.0, 2.5), 0.3, 0.25), (None, 0.0, 1.0)]
)
def test_loss_is_the_mean_over_valid_pixels(resolution, weights, smoothing, jaccard):
  model = models.create('front_end', 3, dropout=0, **NARROW)
  variables, batch = started(model), batch_of(model)
  _, metrics = stepped(
    model, variables, batch, loss_resolution=resolution, class_weights=weights,
    label_smoothing=smoothing, jaccard_loss=jaccard,
  )  # fmt: skip

  logits = jax.jit(model.apply)(variables, batch['image'] - np.array(MEAN, np.float32))
  if resolution == 'full':
    logits, target = ops.deconvolution(logits, 2), batch['label']
  else:
    target = batch['label'][:, ::2, ::2]
  valid = target != 255
  log_p = scipy.special.log_softmax(np.asarray(logits, np.float64), -1)[valid]
  weight = np.ones(3) if weights is None else np.array(weights)
  weight = weight[target[valid]]
  each = -log_p[np.arange(len(log_p)), target[valid]]
  each = (1 - smoothing) * each - smoothing * log_p.mean(-1)
  expected = (1 - jaccard) * (weight * each).sum() / weight.sum()
  expected += jaccard * float(losses.soft_jaccard(logits, target))
  assert metrics['loss'] == pytest.approx(expected, rel=1e-4)
  assert metrics['accuracy'] == pytest.approx((log_p.argmax(-1) == target[valid]).mean(), rel=1e-5)


def test_frozen_layers_cost_no_gradient():
  """The others are trained as without them, clipping sees none of them, and work is saved."""
  model = models.create('front_end', 3, dropout=0, **NARROW)
  variables, batch = started(model), batch_of(model)
  optimizer = optimizers.create(OPTIONS, 1)
  state = train_step.create_state(
    variables, stages.STAGES['front_end'], optimizer, jax.random.key(1)
  )
  found, work = [], []
  for frozen in (None, lambda layer: layer.startswith('front_end/conv')):
    step = train_step.make_step(model, stages.STAGES['front_end'], optimizer, MEAN, frozen=frozen)
    compiled = jax.jit(step).lower(state, batch).compile()
    work.append(compiled.cost_analysis()['flops'])
    found.append(compiled(state, batch))
  (whole, whole_metrics), (part, part_metrics) = found
  kept = part.params['front_end']
  for name, layer in whole.params['front_end'].items():
    close(kept[name], variables['params']['front_end'][name] if 'conv' in name else layer, 1e-6)
  names = optimizers.layer_names(state.params)
  norms = dict(zip(names, np.asarray(part_metrics['layer_gradient_norms']), strict=True))
  assert {name for name in names if norms[name] == 0} == {n for n in names if '/conv' in n}
  assert part_metrics['gradient_norm'] < whole_metrics['gradient_norm']
  assert part_metrics['loss'] == pytest.approx(float(whole_metrics['loss']))
  assert work[1] < 0.7 * work[0]


def test_a_step_goes_down_the_gradient():
  model = models.create('front_end', 3, dropout=0, **NARROW)
  variables, batch = started(model), batch_of(model)
  images = batch['image'] - np.array(MEAN, np.float32)

  def loss(params):
    logits = model.apply({'params': params}, images)
    label = batch['label'][:, ::2, ::2].astype(np.int32)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, np.where(label == 255, 0, label))
    return jnp.where(label == 255, 0.0, each).sum() / (label != 255).sum().astype(np.float32)

  grads = jax.jit(jax.grad(loss))(variables['params'])
  state, metrics = stepped(model, variables, batch)
  expected = jax.tree.map(lambda w, g: w - 0.05 * g, variables['params'], grads)
  close(state.params, expected)
  assert state.step == 1
  assert metrics['gradient_norm'] == pytest.approx(float(optax.tree.norm(grads)), rel=1e-4)


def test_accumulated_parts_are_the_whole_batch():
  model = models.create('front_end', 3, dropout=0, norm='group', **NARROW)
  variables, batch = started(model), batch_of(model)
  whole = stepped(model, variables, batch, steps=2)
  pieces = stepped(model, variables, batch, steps=2, grad_accum_steps=2)
  close(whole[0].params, pieces[0].params)
  close(whole[1], pieces[1])


def test_the_moving_average_forgets_the_start_and_changes_nothing_else():
  model = models.create('front_end', 3, dropout=0, norm='batch', **NARROW)
  variables, batch = started(model), batch_of(model)
  optimizer = optimizers.create(OPTIONS, 4)
  front_end = stages.STAGES['front_end']
  step = jax.jit(train_step.make_step(model, front_end, optimizer, MEAN, ema_decay=0.3))
  state = train_step.create_state(variables, front_end, optimizer, jax.random.key(1), average=True)
  expected = jax.tree.map(np.float64, state.average)
  for decay in (2 / 11, 3 / 12, 0.3, 0.3):  # (1 + k) / (10 + k) after step k, and 0.3 at most.
    state, _ = step(state, batch)
    now = {'params': state.params, 'batch_stats': state.batch_stats}
    expected = jax.tree.map(
      lambda old, new, d=decay: d * old + (1 - d) * np.float64(new), expected, now
    )
  close(state.average, expected)
  plain, _ = stepped(model, variables, batch, steps=4)
  jax.tree.map(np.testing.assert_array_equal, plain.params, state.params)
  assert plain.average == {}


def test_a_batch_of_void_changes_nothing():
  model = models.create('front_end', 3, dropout=0, **NARROW)
  variables, batch = started(model), batch_of(model)
  batch['label'][:] = 255
  state, metrics = stepped(model, variables, batch)
  assert set(metrics.values()) == {0}
  jax.tree.map(np.testing.assert_array_equal, state.params, variables['params'])


def test_each_stage_trains_its_part():
  model = models.create('dilation8', 3, dilations=(1, 1, 1), dropout=0, **NARROW)
  variables, batch = started(model), batch_of(model)
  features = jax.jit(model.apply, static_argnames='method')(
    variables, batch['image'] - np.array(MEAN, np.float32), method='apply_front_end'
  )
  maps = {'features': np.asarray(features), 'label': batch['label']}
  losses = {}
  for stage, trained in (
    ('front_end', {'front_end'}), ('context', {'context'}), ('joint', {'front_end', 'context'}),
  ):  # fmt: skip
    given = maps if stage == 'context' else batch
    before = jax.tree.map(np.copy, variables)
    state, metrics = stepped(model, variables, given, stage)
    losses[stage] = metrics['loss']
    jax.tree.map(np.testing.assert_array_equal, variables, before)
    after = train_step.merge_variables(variables, state)['params']
    assert set(after) == {'front_end', 'context'} and set(state.params) == trained
    for part in after:
      same = jax.tree.map(
        lambda a, b: bool((np.asarray(a) == b).all()), after[part], variables['params'][part]
      )
      assert all(jax.tree.leaves(same)) == (part not in trained)
  # From the front end's maps or through the front end: the same logits.
  assert losses['context'] == pytest.approx(losses['joint'], rel=1e-4) != losses['front_end']


def test_networks_that_upsample_use_every_label():
  model = models.create('dilation10', 3, dilations=(1, 1, 1), dropout=0, **NARROW)
  plain = models.create('dilation8', 3, dilations=(1, 1, 1), dropout=0, **NARROW)
  variables, batch = started(model), batch_of(model)
  _, found = stepped(model, variables, batch, 'joint', loss_resolution='grid')
  _, expected = stepped(plain, variables, batch, 'joint', loss_resolution='full')
  assert found == pytest.approx(expected, rel=1e-5)


def test_dropout_differs_from_step_to_step_and_is_the_same_again():
  model = models.create('front_end', 3, dropout=0.5, **NARROW)
  variables, batch = started(model), batch_of(model)
  stage, still = stages.STAGES['front_end'], optimizers.create(OptimizerOptions('sgd', 0.0), 2)
  step = jax.jit(train_step.make_step(model, stage, still, MEAN))
  start = train_step.create_state(variables, stage, still, jax.random.key(1))
  state, first = step(start, batch)
  losses = [first['loss'], step(start, batch)[1]['loss'], step(state, batch)[1]['loss']]
  assert losses[0] == losses[1] != losses[2]


def test_running_statistics_follow_in_training():
  model = models.create('front_end', 3, norm='batch', dropout=0, **NARROW)
  variables, batch = started(model), batch_of(model)
  state, _ = stepped(model, variables, batch)
  old = variables['batch_stats']['front_end']['conv1_1_norm']['mean']
  conv = variables['params']['front_end']['conv1_1']
  images = batch['image'] - np.array(MEAN, np.float32)
  mean = np.asarray(ops.dilated_conv(images, conv['kernel']), np.float64)
  mean = mean.mean((0, 1, 2)) + conv['bias']
  np.testing.assert_allclose(
    state.batch_stats['front_end']['conv1_1_norm']['mean'], 0.95 * old + 0.05 * mean, rtol=1e-3
  )
  merged = train_step.merge_variables(variables, state)
  assert merged['batch_stats']['front_end'] is state.batch_stats['front_end']


def test_unknown_labels_are_refused():
  model = models.create('front_end', 3, **NARROW)
  with pytest.raises(InputError, match="'half'; choose grid or full"):
    train_step.make_step(model, stages.STAGES['joint'], None, MEAN, loss_resolution='half')

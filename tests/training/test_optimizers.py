"""optimizers.py: against Caffe's solver and plain formulas in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dilated_jax.errors import InputError
from dilated_jax.training import optimizers
from dilated_jax.training.config import OptimizerOptions as Options

PARAMS = {
  'conv': {'kernel': jnp.array([1.0, -2.0]), 'bias': jnp.array([0.5])},
  'norm': {'scale': jnp.array([1.0]), 'bias': jnp.array([0.25])},
}
LEAVES = [('conv', 'kernel'), ('conv', 'bias'), ('norm', 'scale'), ('norm', 'bias')]
GRADIENTS = np.random.default_rng(0).standard_normal(8)


def walk(options, steps=8):
  """Weights after each step; the gradient of step k is GRADIENTS[k] everywhere."""
  optimizer = optimizers.create(options, steps)
  update = jax.jit(optimizer.update)
  params, state, seen = PARAMS, optimizer.init(PARAMS), []
  for k in range(steps):
    grads = jax.tree.map(lambda x, g=GRADIENTS[k]: jnp.full_like(x, g), params)
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
    seen.append(params)
  return seen


def by_hand(options, module, name, inside, steps=8):
  """One leaf under momentum, with the rate inside the velocity (Caffe) or outside of it."""
  w = np.asarray(PARAMS[module][name], np.float64)
  decay = options.weight_decay if name == 'kernel' else 0
  times = options.bias_lr_multiplier if name == 'bias' else 1
  v, seen = np.zeros_like(w), []
  for k in range(steps):
    rate = times * options.learning_rate * options.gamma ** (k // options.step_size)
    g = GRADIENTS[k] + decay * w
    if inside:  # Caffe, sgd_solver.cpp
      v = options.momentum * v + rate * g
      w = w - v
    else:
      v = options.momentum * v + g
      w = w - rate * v
    seen.append(w)
  return seen


@pytest.mark.parametrize('name', ['caffe', 'sgd'])
def test_momentum_across_a_drop_of_the_rate(name):
  options = Options(name, 0.1, schedule='step', step_size=3, weight_decay=0.03)
  found = walk(options)
  for module, leaf in LEAVES:
    expected = by_hand(options, module, leaf, inside=name == 'caffe')
    np.testing.assert_allclose([p[module][leaf] for p in found], expected, rtol=1e-5)


def test_caffe_and_sgd_differ_only_after_a_drop():
  # Decay off: it would carry the difference of bias and kernel on.
  options = dict(learning_rate=0.1, schedule='step', step_size=3, weight_decay=0.0)
  caffe, sgd = (walk(Options(name, **options)) for name in ('caffe', 'sgd'))
  apart = [abs(float(a['conv']['bias'][0] - b['conv']['bias'][0])) for a, b in zip(caffe, sgd)]
  assert max(apart[:3]) < 1e-6 and apart[3] > 1e-3


GROUPS = {
  'front_end': {
    'conv1': {'kernel': jnp.array([1.0, -2.0]), 'bias': jnp.array([0.5])},
    'fc8': {'kernel': jnp.array([3.0]), 'bias': jnp.array([-1.0])},
    'fc8_norm': {'scale': jnp.array([1.0]), 'bias': jnp.array([0.25])},
  },
  'crf': {'compatibility': jnp.array([2.0]), 'spatial': jnp.array([4.0])},
}


@pytest.mark.parametrize('name', ['caffe', 'sgd'])
def test_rates_of_layers(name):
  """Caffe's lr_mult of each blob: 10 and 20 for fc8, 0.1 for compatibility, 1 and 2 elsewhere."""
  options = Options(
    name, 0.1, schedule='step', step_size=3, weight_decay=0.03,
    lr_multipliers=('front_end/*:7', 'conv?:1', 'fc8:10', 'crf/comp*:0.1'),
  )  # fmt: skip
  assert options.multiplier_of('crf/spatial') == 1
  optimizer = optimizers.create(options, 8)
  params, state = GROUPS, optimizer.init(GROUPS)
  for k in range(8):
    grads = jax.tree.map(lambda x, g=GRADIENTS[k]: jnp.full_like(x, g), params)
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  times = {
    ('conv1', 'kernel'): 1, ('conv1', 'bias'): 2, ('fc8', 'kernel'): 10, ('fc8', 'bias'): 20,
    ('fc8_norm', 'scale'): 10, ('fc8_norm', 'bias'): 10, ('crf', 'compatibility'): 0.1,
    ('crf', 'spatial'): 1,
  }  # fmt: skip
  for (module, leaf), factor in times.items():
    w, found = (
      np.asarray((tree['crf'] if module == 'crf' else tree['front_end'][module])[leaf], np.float64)
      for tree in (GROUPS, params)
    )
    v = np.zeros_like(w)
    for k in range(8):
      rate = factor * 0.1 * 0.1 ** (k // 3)
      g = GRADIENTS[k] + (0.03 * w if leaf == 'kernel' else 0)
      v = 0.9 * v + (rate * g if name == 'caffe' else g)
      w = w - (v if name == 'caffe' else rate * v)
    np.testing.assert_allclose(found, w, rtol=1e-5)


def test_layers_that_factors_may_name():
  assert optimizers.layer_names(GROUPS) == [
    'crf/compatibility', 'crf/spatial', 'front_end/conv1', 'front_end/fc8',
  ]  # fmt: skip
  options = Options(lr_multipliers=('fc8:10', 'fc:2', 'fc8_norm:3', 'front_end:1'))
  assert options.unused_multipliers(optimizers.layer_names(GROUPS)) == [
    'fc:2', 'fc8_norm:3', 'front_end:1',
  ]  # fmt: skip


@pytest.mark.parametrize('text', ['fc8', 'fc8:', ':10', 'fc8:-1', 'fc8:nan', 'fc8:inf', 'fc8=10'])
def test_what_is_no_factor_of_a_layer(text):
  with pytest.raises(InputError, match=f"lr_multipliers` has '{text}'; give a layer and a factor"):
    Options(lr_multipliers=('fc7:1', text))


@jax.numpy_dtype_promotion('standard')  # optax.scale_by_adam needs it.
def test_adamw_decays_kernels_alone():
  options = Options('adamw', 0.01, weight_decay=0.5, bias_lr_multiplier=3.0)
  found = walk(options, 1)[0]
  # The first step of Adam is the sign of the gradient.
  sign = math.copysign(1, GRADIENTS[0])
  for module, leaf in LEAVES:
    w = np.asarray(PARAMS[module][leaf])
    move = {'kernel': sign + 0.5 * w, 'bias': 3 * sign, 'scale': sign}[leaf]
    np.testing.assert_allclose(found[module][leaf], w - 0.01 * move, rtol=1e-4)


def test_clip_bounds_the_whole_gradient():
  found = walk(
    Options('sgd', 1.0, grad_clip_norm=0.1, weight_decay=0.0, bias_lr_multiplier=1.0), 1
  )[0]
  moved = jax.tree.map(lambda a, b: a - b, found, PARAMS)
  assert abs(GRADIENTS[0]) * math.sqrt(5) > 0.1
  np.testing.assert_allclose(optax.tree.norm(moved), 0.1, rtol=1e-5)


@pytest.mark.parametrize(
  'options, expected',
  [
    ({}, {0: 1, 50: 1, 100: 1}),
    ({'schedule': 'step', 'step_size': 40}, {0: 1, 39: 1, 40: 0.1, 79: 0.1, 80: 0.01}),
    ({'schedule': 'poly'}, {0: 1, 50: 0.5**0.9, 99: 0.01**0.9, 100: 0}),
    ({'schedule': 'poly', 'power': 1.0}, {0: 1, 25: 0.75, 100: 0}),
    ({'schedule': 'cosine'}, {0: 1, 50: 0.5, 100: 0}),
    ({'warmup_steps': 10}, {0: 0, 5: 0.5, 10: 1, 100: 1}),
    ({'schedule': 'cosine', 'warmup_steps': 20}, {0: 0, 10: 0.5, 20: 1, 60: 0.5, 100: 0}),
    ({'schedule': 'poly', 'warmup_steps': 100}, {0: 0, 50: 0.5}),
  ],
)
def test_schedules(options, expected):
  rate = optimizers.schedule(Options(learning_rate=0.2, **options), 100)
  found = {step: float(rate(step)) / 0.2 for step in expected}
  assert found == pytest.approx(expected, abs=1e-6)


def test_the_papers_schedule_for_coco():
  """100K steps at 1e-3 and 40K at 1e-4 (section 5) are the authors' defaults of 'step'."""
  rate = optimizers.schedule(Options(schedule='step'), 140_000)
  found = [float(rate(k)) for k in (0, 99_999, 100_000, 139_999)]
  assert found == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


@pytest.mark.parametrize(
  'options, words',
  [
    ({'name': 'adam'}, "'adam'; choose caffe, sgd or adamw"),
    ({'schedule': 'linear'}, "'linear'; choose constant, step, poly or cosine"),
  ],
)
def test_unknown_names(options, words):
  with pytest.raises(InputError, match=words):
    optimizers.create(Options(**options), 10)

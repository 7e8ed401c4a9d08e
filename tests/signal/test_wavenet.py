"""WaveNet: its field; that it looks back only; fast against slow generation."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.models.spec import load_spec
from dilated_jax.nn import geometry
from dilated_jax.signal import wavenet

SMALL = {'dilations': [1, 2, 4, 1, 2, 4], 'channels': 6, 'skip_channels': 10}


def drawn(model, seed=0):
  """Variables of a size at which every gate is in use."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 3), jnp.int32))
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    spread = 0.1 if path[-1].key == 'bias' else 2.5 / np.sqrt(np.prod(shape.shape[:-1]))
    return rng.normal(0, spread, shape.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(leaf, shapes)


def codes_of(model, *shape, seed=1):
  return np.random.default_rng(seed).integers(0, model.num_classes, shape, dtype=np.int32)


def close(found, expected, tolerance=1e-5):
  found, expected = np.asarray(found), np.asarray(expected)
  assert found.shape == expected.shape
  assert abs(found - expected).max() <= tolerance * abs(expected).max()


@pytest.mark.parametrize('blocks, field', [(1, 1024), (2, 2047), (3, 3070)])
def test_the_field_is_the_papers(blocks, field):
  model = models.create('wavenet', 256, blocks=blocks)
  assert geometry.receptive_field(model.table) == field
  _, ways = geometry.path_counts(model.table)
  assert min(ways) > 0  # Without holes.
  assert blocks > 1 or set(ways) == {1}


def test_the_field_is_what_gradients_see_and_they_see_no_future():
  model = models.create('wavenet', 8, **SMALL)
  field, length = geometry.receptive_field(model.table), 40
  assert field == 15
  variables, codes = drawn(model), codes_of(model, 1, length)

  def seen(x, at):
    logits = model.apply(variables, x, method='apply_one_hot')
    return (logits[0, at] * jnp.arange(1.0, 9)).sum()

  x = jax.nn.one_hot(codes, 8)
  for at in (0, 5, 25, 39):
    gradient = np.asarray(jax.jit(jax.grad(seen))(x, at))[0]
    reached = np.flatnonzero(abs(gradient).max(axis=-1))
    np.testing.assert_array_equal(reached, np.arange(max(0, at - field + 1), at + 1))


def test_what_comes_later_changes_nothing_before_it():
  model = models.create('wavenet', 8, **SMALL)
  variables, codes = drawn(model), codes_of(model, 2, 30)
  changed = codes.copy()
  changed[:, 20:] = (changed[:, 20:] + 3) % 8
  apply = jax.jit(model.apply)
  before, after = apply(variables, codes), apply(variables, changed)
  np.testing.assert_array_equal(before[:, :20], after[:, :20])
  assert (abs(before - after)[:, 20] > 0).any()
  # A beginning alone is heard as it is with what follows.
  np.testing.assert_allclose(apply(variables, codes[:, :7]), before[:, :7], atol=1e-5)


@pytest.mark.parametrize(
  'options, length', [(SMALL, 40), ({'blocks': 1, 'channels': 4, 'skip_channels': 4}, 1100)]
)
def test_steps_give_the_logits_of_the_whole(options, length):
  """The second is a block of the paper, up to dilation 512, and a sound longer than its field.

  In float64: ten layers of random weights amplify the rounding errors of float32 to 1e-5 and more.
  """
  with jax.enable_x64(True):
    model = models.create('wavenet', 8, **options).clone(dtype='float64')
    variables, codes = drawn(model), codes_of(model, 3, length)
    step = functools.partial(model.apply, variables, method='step')
    _, found = jax.lax.scan(step, model.init_queues(3), codes.T)
    close(found.transpose(1, 0, 2), jax.jit(model.apply)(variables, codes), 1e-6)


@pytest.mark.parametrize('length', [3, 60])  # Shorter than the field of 15, and longer.
@pytest.mark.parametrize('key, temperature', [(None, 1.0), (0, 1.0), (1, 0.5)])
def test_fast_generation_equals_slow_generation(key, temperature, length):
  model = models.create('wavenet', 32, **SMALL)
  variables, prompt = drawn(model, seed=key or 0), codes_of(model, 3, 6)
  key = None if key is None else jax.random.key(key)
  fast, slow = (
    jax.jit(functools.partial(function, model), static_argnums=2)(
      variables, prompt, length, key=key, temperature=temperature
    )
    for function in (wavenet.generate, wavenet.generate_naive)
  )
  assert fast.shape == (3, 6 + length) and fast.dtype == jnp.int32
  np.testing.assert_array_equal(fast, slow)
  np.testing.assert_array_equal(fast[:, :6], prompt)
  if length > 3:
    assert len(np.unique(fast[:, 6:])) > 4


def test_generation_takes_the_likeliest_code():
  model = models.create('wavenet', 32, **SMALL)
  variables, prompt = drawn(model), codes_of(model, 1, 4)
  found = wavenet.generate(model, variables, prompt, 20)
  logits = model.apply(variables, found)
  np.testing.assert_array_equal(found[:, 4:], logits.argmax(axis=-1)[:, 3:-1])


@jax.numpy_dtype_promotion('standard')
def test_bfloat16_answers_in_float32():
  full, half = (
    models.create('wavenet', 256, **SMALL, dtype=dtype) for dtype in ('float32', 'bfloat16')
  )
  variables, codes = drawn(full), codes_of(full, 2, 30)
  found = jax.jit(half.apply)(variables, codes)
  assert found.dtype == jnp.float32
  expected = np.asarray(full.apply(variables, codes))
  assert abs(found - expected).mean() < 0.05 * expected.std()
  fast = wavenet.generate(half, variables, codes[:, :3], 9, key=jax.random.key(0))
  assert fast.shape == (2, 12)


@pytest.mark.parametrize(
  'classes, options, words',
  [
    (256, {'width': 2}, "no option 'width'; it has blocks, channels, dilations"),
    (1, {}, '1 codes; it can have 2'),
    (256, {'blocks': 0}, 'blocks is 0; must be 1 or more'),
    (256, {'layers': 99}, 'layers is 99'),
    (256, {'dilations': [1, 0]}, r'dilations is \[1, 0\]; each must be 1 or more'),
    (256, {'channels': 0}, 'channels is 0; must be 1 or more'),
    (256, {'dtype': 'float99'}, "'float99'; choose float32 or bfloat16"),
  ],
)
def test_wrong_options(classes, options, words):
  with pytest.raises(InputError, match=words):
    models.create('wavenet', classes, **options)


def test_wrong_prompts(without_type_checks):
  model = models.create('wavenet', 8, **SMALL)
  for function in (wavenet.generate, wavenet.generate_naive):
    with pytest.raises(InputError, match='P of 1 or more'):
      function(model, {}, np.zeros((1, 0), np.int32), 5)
    with pytest.raises(InputError, match='-1 samples'):
      function(model, {}, np.zeros((1, 2), np.int32), -1)


def test_commands_of_pictures_refuse_it(tmp_path):
  assert 'wavenet' not in models.NAMES  # What --model offers.
  spec = {'model': 'wavenet', 'options': {}, 'classes': ['a', 'b'], 'mean': [0, 0, 0]}
  spec['palette'] = [[0, 0, 0], [1, 1, 1]]
  (tmp_path / 'model.json').write_text(json.dumps(spec))
  with pytest.raises(InputError, match='a WaveNet is for sound'):
    load_spec(tmp_path)

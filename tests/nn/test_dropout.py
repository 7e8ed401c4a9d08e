"""dropout.py: the same masks as JAX and Flax draw."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.nn.dropout import Dropout, bernoulli


@pytest.mark.parametrize('p', [0.2, 0.5, 0.37, 1.0])
@pytest.mark.parametrize('shape', [(), (7,), (2, 3, 4, 5)])
def test_bits_are_those_of_jax(p, shape):
  found = jax.jit(bernoulli, static_argnums=(1, 2))
  for seed in range(3):
    key = jax.random.key(seed)
    np.testing.assert_array_equal(found(key, p, shape), jax.random.bernoulli(key, p, shape))


def test_other_generators_are_asked():
  key = jax.random.key(0, impl='rbg')
  np.testing.assert_array_equal(bernoulli(key, 0.3, (4, 5)), jax.random.bernoulli(key, 0.3, (4, 5)))


def test_keys_under_vmap():
  keys = jax.random.split(jax.random.key(0), 3)
  found = jax.vmap(lambda key: bernoulli(key, 0.5, (4, 5)))(keys)
  np.testing.assert_array_equal(found, [jax.random.bernoulli(key, 0.5, (4, 5)) for key in keys])


@pytest.mark.parametrize('train', [True, False])
def test_as_flax(train):
  x = np.random.default_rng(0).standard_normal((2, 5, 6, 3)).astype(np.float32)
  rngs = {'dropout': jax.random.key(1)}
  ours = Dropout(0.25).apply({}, x, train=train, rngs=rngs)
  theirs = nn.Dropout(0.25).apply({}, x, deterministic=not train, rngs=rngs)
  np.testing.assert_array_equal(ours == 0, theirs == 0)
  np.testing.assert_allclose(ours, theirs, rtol=3e-7)
  half = Dropout(0.25).apply({}, x.astype(jnp.bfloat16), train=train, rngs=rngs)
  assert half.dtype == jnp.bfloat16

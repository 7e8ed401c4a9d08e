"""Nothing that is added up over places is added up in bfloat16, where 256 + 1 is 256."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.nn.stack import Stack
from dilated_jax.nn.table import Layer
from dilated_jax.signal import wavenet
from dilated_jax.training import losses

PLACES = 1 << 16


@pytest.mark.parametrize(
  'module, shape',
  [
    (Stack((Layer('final', kernel=1, channels=2),), dtype=jnp.bfloat16), (1, 256, 256, 3)),
    (wavenet.Conv(Layer('head2', kernel=1, channels=2), jnp.bfloat16), (1, 1, PLACES, 3)),
  ],
  ids=['network', 'audio network'],
)
def test_gradients_of_biases(module, shape):
  x = jnp.ones(shape, jnp.bfloat16)
  variables = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(module.init, jax.random.key(0), x),
  )
  total = jax.jit(jax.grad(lambda v: module.apply(v, x).astype(jnp.float32).sum()))
  for gradient in jax.tree.leaves(total(variables)):
    assert gradient.dtype == jnp.float32
    np.testing.assert_array_equal(gradient, np.full_like(gradient, PLACES))


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_losses(dtype):
  logits, labels = jnp.zeros((100_000, 2), dtype), jnp.zeros(100_000, jnp.int32)
  total, count = jax.jit(losses.cross_entropy)(logits, labels)
  assert count == 100_000 and total == pytest.approx(100_000 * np.log(2), rel=1e-5)

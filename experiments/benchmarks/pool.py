"""`ops.max_pool` and its gradient against `lax.reduce_window`."""

import jax
import jax.numpy as jnp

from dilated_jax.nn import ops

from .timing import compare


def run(values) -> list[dict]:
  """2x2 pooling at the front end's sizes, forward and gradient."""

  def plain(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')

  def passes(function):
    return {
      'forward': jax.jit(function),
      'gradient': jax.jit(jax.grad(lambda x: (function(x) ** 2).sum())),
    }

  rows = []
  for shape in ((1, 624, 624, 64), (8, 128, 128, 32)):
    x = jax.random.normal(jax.random.key(0), shape)
    theirs = passes(plain)
    for what, ours in passes(ops.max_pool).items():
      name = f'{"x".join(map(str, shape))}, 2x2, {what}'
      rows.append(compare(name, 'XLA', ours, theirs[what], (x,), values.repeats))
  return rows

"""Loops of compiled programs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def scan(body: Callable, carry, xs):
  """`jax.lax.scan`, without the loop on CPUs, where XLA runs convolutions in loops far too slowly.

  There it fuses a convolution with what is around it and computes it number by number: a training
  step takes 15 to 30 times as long as outside. The program grows with the number of turns.

  Args:
    body: (carry, x) -> (carry, y).
    carry: at the beginning.
    xs: arrays whose first axis is gone along.

  Returns:
    The last carry, and the ys, stacked.
  """
  length = jax.tree.leaves(xs)[0].shape[0]
  if length > 1 and jax.default_backend() != 'cpu':
    return jax.lax.scan(body, carry, xs)
  found = []
  for index in range(length):
    x = jax.tree.map(lambda array, index=index: array[index], xs)
    # Each turn waits for the one before, or the memory of all would be needed at once.
    carry, x = jax.lax.optimization_barrier((carry, x)) if index else (carry, x)
    carry, y = body(carry, x)
    found.append(y)
  return carry, jax.tree.map(lambda *ys: jnp.stack(ys), *found)

"""Dropout whose random bits are computed where they are used."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float
import numpy as np

from dilated_jax.typing import AnyArray


class Dropout(nn.Module):
  """Sets a share of the values to 0 and divides the others by 1 - rate, as `flax.linen.Dropout`.

  Attributes:
    rate: share of the values that is dropped.
  """

  rate: float

  @nn.compact
  def __call__(self, x: Float[AnyArray, '...'], *, train: bool) -> Float[jax.Array, '...']:
    if not train or not self.rate:
      return jnp.asarray(x)
    kept = bernoulli(self.make_rng('dropout'), 1.0 - self.rate, x.shape)
    return jnp.where(kept, x / jnp.asarray(1.0 - self.rate, x.dtype), jnp.zeros((), x.dtype))


def bernoulli(key: jax.Array, p: float, shape: tuple[int, ...]) -> Bool[jax.Array, '...']:
  """True with probability p: the array of `jax.random.bernoulli(key, p, shape)` in float32.

  On CPUs JAX runs Threefry's rounds in a loop over whole arrays. Written out they are one operation
  of every element, vectorized and joined with what reads it: a tenth of the time.

  Args:
    key: a typed key; of other generators than Threefry the bits are JAX's own.
    p: probability.
    shape: of the result.

  Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), Threefry-2x32-20.
  """
  size = math.prod(shape)
  if str(jax.random.key_impl(key)) != 'threefry2x32' or size >= 2**32:
    return jax.random.bernoulli(key, p, shape)
  place = jnp.zeros(shape, jnp.uint32)  # In the flat array.
  for axis, length in enumerate(shape):
    place = place * jnp.uint32(length) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
  one, other = _threefry(jax.random.key_data(key), jnp.zeros_like(place), place)
  # 23 bits are the fraction of a float between 0 and 1.
  limit = math.ceil(float(np.float32(p)) * 2**23)
  return (one ^ other) >> jnp.uint32(9) < jnp.uint32(limit)


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _threefry(key, x0, x1):
  """The block cipher: two words of 32 bits for each counter (x0, x1)."""
  keys = [key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA)]
  x0, x1 = x0 + keys[0].reshape((1,) * x0.ndim), x1 + keys[1].reshape((1,) * x0.ndim)
  for group in range(5):
    for distance in _ROTATIONS[group % 2]:
      x0 = x0 + x1
      x1 = (x1 << jnp.uint32(distance)) | (x1 >> jnp.uint32(32 - distance))
      x1 = x0 ^ x1
    x0 = x0 + keys[(group + 1) % 3].reshape((1,) * x0.ndim)
    x1 = x1 + (keys[(group + 2) % 3] + jnp.uint32(group + 1)).reshape((1,) * x0.ndim)
  return x0, x1

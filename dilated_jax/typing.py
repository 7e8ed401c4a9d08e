"""The array type of public signatures, for jaxtyping, and what the type of an array tells."""

from typing import Any, TypeAlias

import jax
import numpy as np

# What functions of JAX take: under `jit` an array of JAX, from a notebook often one of NumPy.
AnyArray: TypeAlias = jax.Array | np.ndarray
# The length of an axis: an integer, or one that `jax.export` knows by name alone.
DimSize: TypeAlias = int | Any


def varying_axes(x: AnyArray) -> tuple[str, ...]:
  """Axes of `jax.shard_map` over which an array may vary; none where JAX does not check that."""
  return tuple(jax.typeof(x).manual_axis_type.varying)

"""The array type of public signatures, for the dtypes and shapes of jaxtyping."""

from typing import TypeAlias

import jax
import numpy as np

# What functions of JAX take: under `jit` an array of JAX, from a notebook often one of NumPy.
AnyArray: TypeAlias = jax.Array | np.ndarray

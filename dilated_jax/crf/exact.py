"""Gaussian filtering by the exact sum: N^2 operations, for references and for low resolutions."""

from typing import no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Float

from dilated_jax.typing import AnyArray

_CHUNK = 1 << 22  # Kernel values that are held at a time.
_ROWS = 64  # Of the kernel, where the number of pixels is not known.


# A pytree: jax.tree.map makes kernels of other things than arrays.
@no_type_check
@flax.struct.dataclass
class ExactKernel:
  """The kernel of the features of N pixels, used as a `lattice.Lattice` is.

  Attributes:
    features: of each pixel, in units of the standard deviation of the Gaussian along each
      dimension.
  """

  features: Float[AnyArray, 'n d']


def apply(kernel: ExactKernel, x: Float[AnyArray, 'n c']) -> Float[jax.Array, 'n c']:
  """Filters: (K x)_i = sum over j of exp(-|f_i - f_j|^2 / 2) x_j, including j = i.

  A few rows of the kernel are computed at a time, and again for the derivatives, so that memory
  grows with N and not with N^2.

  Args:
    kernel: of N pixels.
    x: a value of each pixel in each channel.

  Returns:
    The filtered values, differentiable with respect to values and features.
  """
  features = kernel.features
  count, d = features.shape

  @jax.checkpoint
  def rows(some):
    # Differences instead of products: |f|^2 reaches thousands, and float32 would lose small ones.
    distances = sum((some[i] - features[:, i]) ** 2 for i in range(d))
    return jnp.exp(-distances / 2) @ x

  if isinstance(count, int):
    return jax.lax.map(rows, features, batch_size=max(1, min(count, _CHUNK // count)))
  # Of a program for any size: rows of zeros fill up the last of its pieces.
  pieces = -(-count // _ROWS)
  filled = jnp.pad(features, ((0, pieces * _ROWS - count), (0, 0))).reshape(pieces, _ROWS, d)
  filtered = jax.lax.map(jax.vmap(rows), filled)
  return filtered.reshape(pieces * _ROWS, x.shape[1])[:count]

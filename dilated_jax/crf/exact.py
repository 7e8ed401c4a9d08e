"""Gaussian filtering by the sum itself: N^2 operations, a reference, and good at low resolution."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

_CHUNK = 1 << 22  # Kernel values that are held at a time.


@flax.struct.dataclass
class ExactKernel:
  """The kernel of the features of N pixels; used as a `lattice.Lattice` is.

  Attributes:
    features: (N, d); the Gaussian has a standard deviation of 1 along each dimension.
  """

  features: jax.Array | np.ndarray


def apply(kernel: ExactKernel, x):
  """Filters: (K x)_i = sum over j of exp(-|f_i - f_j|^2 / 2) x_j, i = j included.

  Rows of the kernel are made some at a time, and again for the derivatives, so that memory grows
  with N and not with N^2.

  Args:
    kernel: of N pixels.
    x: (N, C) values.

  Returns:
    (N, C), differentiable to values and features.
  """
  features = kernel.features
  count, d = features.shape

  @jax.checkpoint
  def rows(some):
    # Differences, not products: |f|^2 reaches thousands, and float32 would lose the small ones.
    apart = sum((some[i] - features[:, i]) ** 2 for i in range(d))
    return jnp.exp(-apart / 2) @ x

  return jax.lax.map(rows, features, batch_size=max(1, min(count, _CHUNK // count)))

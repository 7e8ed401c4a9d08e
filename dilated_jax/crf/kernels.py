"""The kernels of a dense CRF: Gaussians of positions and colors, on the lattice or exact."""

from collections.abc import Sequence
import functools
from typing import Literal, TypeAlias

import jax
from jax.core import Tracer
import jax.numpy as jnp
from jaxtyping import Float, Float32
import numpy as np

from dilated_jax.crf import exact, lattice as lattices
from dilated_jax.typing import AnyArray, DimSize

Kernel: TypeAlias = lattices.Lattice | exact.ExactKernel
Method: TypeAlias = Literal['lattice', 'exact']
METHODS = ('lattice', 'exact')


def positions(height: DimSize, width: DimSize) -> Float32[AnyArray, 'hw 2']:
  """Column and row of each pixel."""
  if isinstance(height, int) and isinstance(width, int):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows], -1).reshape(-1, 2).astype(np.float32)
  # Of a program for any size.
  both = [jax.lax.broadcasted_iota(jnp.float32, (height, width), axis) for axis in (1, 0)]
  return jnp.stack(both, -1).reshape(-1, 2)


def build_kernel(
  features: Sequence[Float[AnyArray, 'n _']], method: Method, traced: bool, room: int | None = None
) -> Kernel:
  """The kernel of features that are given in parts.

  Args:
    features: of each pixel, in units of the standard deviation of the Gaussian along each
      dimension; their concatenation counts.
    method: of filtering.
    traced: whether the lattice is built inside the program that is being traced.
    room: as for `lattice.build`, of a lattice that is not.
  """
  if method == 'exact':
    return exact.ExactKernel(jnp.concatenate(features, 1))
  if traced:
    # Behind a barrier: see `smoothness_kernel`.
    return lattices.build_traced(jax.lax.optimization_barrier(jnp.concatenate(features, 1)))
  return lattices.build(np.concatenate(features, 1), room)


def smoothness_kernel(
  height: DimSize,
  width: DimSize,
  sxy: float,
  method: Method,
  traced: bool,
  room: int | None = None,
) -> Kernel:
  """The kernel of positions alone.

  Args:
    height: of the image, in pixels.
    width: of the image, in pixels.
    sxy: standard deviation, in pixels.
    method: of filtering.
    traced: whether the lattice is built inside the program that is being traced.
    room: as for `build_kernel`.
  """
  if method == 'exact':
    features = positions(height, width) / np.float32(sxy)
    return exact.ExactKernel(jax.lax.optimization_barrier(features) if traced else features)
  shared = smoothness_lattice(height, width, sxy, room)
  # Behind a barrier: otherwise XLA evaluates what depends on constants itself, which takes seconds.
  return jax.lax.optimization_barrier(shared) if traced else shared


@functools.lru_cache(maxsize=8)
def smoothness_lattice(
  height: int, width: int, sxy: float, room: int | None = None
) -> lattices.Lattice:
  """The lattice of positions alone, on the device; all images of one size share it."""
  with jax.ensure_compile_time_eval():
    return jax.device_put(lattices.build(positions(height, width) / np.float32(sxy), room))


def apply_kernel(kernel: Kernel, x: Float[AnyArray, 'n c']) -> Float[jax.Array, 'n c']:
  """Filters by either kind of kernel."""
  if isinstance(kernel, exact.ExactKernel):
    return exact.apply(kernel, x)
  return lattices.apply(kernel, x)


def is_traced(*arrays) -> bool:
  """Whether any of these is an array of a program that is being traced."""
  return any(isinstance(array, Tracer) for array in arrays)

"""Gaussian filtering of high-dimensional features on the permutohedral lattice.

The sum over all pixels j of exp(-|f_i - f_j|^2 / 2) x_j costs N^2 operations; on the lattice it
costs N (d + 1)^2. Values are *splat* onto the d + 1 lattice points around each pixel's features,
*blurred* along the d + 1 axes of the lattice, and *sliced* back to the pixels.

  lattice = build(features)        # once a picture, on the host
  filtered = apply(lattice, x)     # many times, differentiable

Source: Adams, Baek and Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral
Lattice"; Krähenbühl and Koltun 2011 for its use in a dense CRF.
"""

import functools
import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.crf import points
from dilated_jax.crf.points import ENTRIES_PER_ROW
from dilated_jax.errors import InputError


@flax.struct.dataclass
class Lattice:
  """Where the N pixels of a picture lie on the lattice. M lattice points, R rows of the splat.

  The last lattice point is none: whatever is missing points there, and it holds zero.

  Attributes:
    weights: (N, d + 1) barycentric weights of each pixel; each row adds up to 1.
    points: (N, d + 1) int32, the lattice points of each pixel.
    row_pixels: (R, 8) int32, pixels that touch the lattice point of each row.
    row_weights: (R, 8), their weights; 0 where a row has fewer.
    rows: (R,) int32, the lattice point of each row, ascending.
    neighbors: (d + 1, 2, M) int32, the points before and after each along each axis.
  """

  weights: jax.Array | np.ndarray
  points: jax.Array | np.ndarray
  row_pixels: jax.Array | np.ndarray
  row_weights: jax.Array | np.ndarray
  rows: jax.Array | np.ndarray
  neighbors: jax.Array | np.ndarray


def build(features) -> Lattice:
  """Finds the lattice of a picture, on the host.

  M and R are rounded up to one of four sizes an octave, so that all pictures of a size share a few
  compiled programs.

  Args:
    features: (N, d) numbers; the Gaussian has a standard deviation of 1 along each dimension.

  Returns:
    a Lattice of NumPy arrays, float32.

  Raises:
    InputError: the features have another shape or aren't finite.
  """
  features = np.asarray(features, np.float32)
  if features.ndim != 2 or not features.size:
    raise InputError(f'features have shape {features.shape}; they are (pixels, dimensions)')
  if not abs(features).max() < _FARTHEST:  # Nor is NaN.
    raise InputError(f'features hold NaN, infinity or numbers beyond {_FARTHEST:g} deviations')
  with jax.ensure_compile_time_eval():  # Also while another program is being traced.
    cells, ranks, weights = (np.asarray(array) for array in _embed(features))
  return Lattice(weights, *points.number_points(cells, ranks, weights))


_FARTHEST = 1e7  # Cells are numbered in 32 bits.


@jax.jit
def _embed(features):
  """The simplex of the lattice around each pixel.

  Returns:
    cells (N, d + 1) int32, the nearest point of remainder 0, in units of d + 1; ranks (N, d + 1)
    int32, the order of the residuals, the largest first; weights (N, d + 1), barycentric.
  """
  d = features.shape[1]
  scale = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)]
  total, elevated = jnp.zeros_like(features[:, 0]), [None] * (d + 1)
  for j in range(d, 0, -1):  # In the order of the reference, whose ties then fall the same way.
    scaled = features[:, j - 1] * scale[j - 1]
    elevated[j] = total - j * scaled
    total = total + scaled
  elevated[0] = total
  elevated = jnp.stack(elevated, 1) / (d + 1)
  nearest = jax.lax.stop_gradient(jnp.round(elevated))
  residuals, cells = elevated - nearest, nearest.astype(jnp.int32)
  mine, other = residuals[:, :, None], residuals[:, None]
  earlier = np.tri(d + 1, k=-1, dtype=bool)[None]
  ranks = ((other > mine) | ((other == mine) & earlier)).sum(2, dtype=jnp.int32)
  # Points whose coordinates don't add up to 0 are moved.
  ranks = ranks + cells.sum(1, keepdims=True, dtype=jnp.int32)
  moved = (ranks < 0).astype(jnp.int32) - (ranks > d).astype(jnp.int32)
  ranks, cells = ranks + moved * (d + 1), cells + moved
  residuals = residuals - moved.astype(residuals.dtype)
  place = (ranks[:, :, None] == np.arange(d + 1, dtype=np.int32)[None, None]).astype(
    residuals.dtype
  )
  ordered = (residuals[:, :, None] * place).sum(1)
  first = 1 + ordered[:, -1:] - ordered[:, :1]
  weights = jnp.concatenate([first, (ordered[:, :-1] - ordered[:, 1:])[:, ::-1]], 1)
  return cells, ranks, weights


# One program, also where it is called outside of one: by itself each step compiles for seconds.
@functools.partial(jax.jit, static_argnames='size')
def build_traced(features, size: int | None = None) -> Lattice:
  """Finds the lattice of a picture inside `jax.jit`, `jax.vmap` or `jax.grad`.

  Weights, and so all that is filtered, are differentiable to the features.

  Args:
    features: (N, d); the Gaussian has a standard deviation of 1 along each dimension.
    size: lattice points that there is room for, and one more. None takes three times as many as
      pixels, and at least 262,144: enough for anything up to 43,690 pixels in 5 dimensions, and for
      photographs above. Where it isn't enough, the weights are NaN.

  Returns:
    a Lattice, of the dtype of the features.
  """
  cells, ranks, weights = _embed(features)
  size = size or min(weights.size, max(3 * len(features), 1 << 18)) + 1
  *structure, fits = points.number_points_traced(cells, ranks, jax.lax.stop_gradient(weights), size)
  return Lattice(jnp.where(fits, weights, jnp.nan), *structure)


def stack(lattices) -> Lattice:
  """Puts lattices of pictures of one size, from `build`, along a leading axis."""
  size, num_rows = (
    max(each) for each in zip(*((x.neighbors.shape[-1], len(x.rows)) for x in lattices))
  )

  def padded(lattice):
    points, rows = size - lattice.neighbors.shape[-1], num_rows - len(lattice.rows)
    # What is added is none, as is the point that was the last.
    return lattice.replace(
      row_pixels=np.pad(lattice.row_pixels, ((0, rows), (0, 0))),
      row_weights=np.pad(lattice.row_weights, ((0, rows), (0, 0))),
      rows=np.pad(lattice.rows, (0, rows), constant_values=size - 1),
      neighbors=np.pad(lattice.neighbors, ((0, 0), (0, 0), (0, points)), constant_values=size - 1),
    )

  return jax.tree.map(lambda *arrays: np.stack(arrays), *map(padded, lattices))


@jax.custom_vjp
def apply(lattice: Lattice, x):
  """Filters: (K x)_i = sum over j of about exp(-|f_i - f_j|^2 / 2) x_j, i = j included.

  Args:
    lattice: of N pixels.
    x: (N, C) values.

  Returns:
    (N, C). Differentiable to `x`, exactly, and to `lattice.weights`, through which gradients reach
    the features.

  Source: Adams et al. 2010; the derivative to the features, Krähenbühl and Koltun 2013.
  """
  return _slice(lattice, _blur(lattice, _splat(lattice, x)))


def transpose(lattice: Lattice, x):
  """Filters with the transposed kernel: the axes are blurred in reverse order.

  The kernel of the lattice is not quite symmetric, since only points that a pixel touches exist.

  Args:
    lattice: of N pixels.
    x: (N, C) values.

  Returns:
    (N, C).
  """
  return _slice(lattice, _blur(lattice, _splat(lattice, x), reverse=True))


def _forward(lattice, x):
  return apply(lattice, x), (lattice, x)


def _backward(kept, gradient):
  lattice, x = kept
  scale = _scale(lattice)
  back = _blur(lattice, _splat(lattice, gradient), reverse=True)
  ahead = _blur(lattice, _splat(lattice, x))
  columns = [
    scale * ((gradient * ahead[points]).sum(-1) + (x * back[points]).sum(-1))
    for points in lattice.points.T
  ]
  zeros = jax.tree.map(lambda _: None, lattice)
  return zeros.replace(weights=jnp.stack(columns, 1)), _slice(lattice, back)


apply.defvjp(_forward, _backward)


def _splat(lattice, x):
  """(N, C) at the pixels -> (M, C) at the lattice points, by gathers and a sum of sorted rows."""
  rows = sum(
    lattice.row_weights[:, slot, None].astype(x.dtype) * x[lattice.row_pixels[:, slot]]
    for slot in range(ENTRIES_PER_ROW)
  )
  size = lattice.neighbors.shape[-1]
  return jax.ops.segment_sum(rows, lattice.rows, size, indices_are_sorted=True)


def _blur(lattice, values, reverse: bool = False):
  """Adds half of both neighbors, axis by axis."""

  # A loop: unrolled, XLA would compute the chain anew for each neighbor.
  def along(values, neighbors):
    return values + (values[neighbors[0]] + values[neighbors[1]]) / 2, None

  return jax.lax.scan(along, values, lattice.neighbors, reverse=reverse)[0]


def _slice(lattice, values):
  """(M, C) at the lattice points -> (N, C) at the pixels."""
  weights = (_scale(lattice) * lattice.weights).astype(values.dtype)
  return sum(weights[:, k, None] * values[lattice.points[:, k]] for k in range(weights.shape[1]))


def _scale(lattice) -> float:
  """Makes up for what the blur adds."""
  return 1 / (1 + 2.0 ** -(lattice.weights.shape[1] - 1))

"""Gaussian filtering of high-dimensional features on the permutohedral lattice.

The sum over all pixels j of exp(-|f_i - f_j|^2 / 2) x_j costs N^2 operations; on the lattice it
costs N (d + 1)^2. Values are *splat* onto the d + 1 lattice points around each pixel's features,
*blurred* along the d + 1 axes of the lattice, and *sliced* back to the pixels.

  lattice = build(features)        # once a picture, on the host
  filtered = apply(lattice, x)     # many times, differentiable

Source: Adams, Baek and Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral
Lattice"; Krähenbühl and Koltun 2011 for its use in a dense CRF.
"""

import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.errors import InputError

_SLOTS = 8  # Entries of a row of the splat.


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
    neighbours: (d + 1, 2, M) int32, the points before and after each along each axis.
  """

  weights: jax.Array
  points: jax.Array
  row_pixels: jax.Array
  row_weights: jax.Array
  rows: jax.Array
  neighbours: jax.Array


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
  if not np.isfinite(features).all():
    raise InputError('features hold NaN or infinity')
  cells, ranks, weights = (np.asarray(array) for array in _embed(features))
  return _structure(cells, ranks, weights)


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


def _structure(cells, ranks, weights) -> Lattice:
  """Numbers the lattice points that occur, and finds their entries and neighbours."""
  count, corners = weights.shape
  d = corners - 1
  # Corner k of a simplex has the remainder k: all its coordinates are congruent to k modulo d + 1.
  # So a point is the number of its remainder and d quotients; the last one follows.
  low = cells[:, :d].min(0).astype(np.int64) - 2
  span = cells[:, :d].max(0) - low + 3
  steps = np.array([math.prod(map(int, span[:i])) * corners for i in range(d + 1)], object)
  if steps[-1] * count * corners < 1 << 63:
    shift = (count * corners).bit_length()
  else:  # Too far apart to be numbered in 63 bits: hashed, linearly, with chances of 1 in 10^7.
    shift, steps = 0, np.random.default_rng(0).integers(1, 1 << 62, d + 1) | 1
  steps = steps[:d].astype(np.int64)
  base = sum(step * (cells[:, i] - low[i]) for i, step in enumerate(steps))
  # From one corner to the next, the coordinate of one rank wraps: it is one quotient less.
  by_rank = np.append(steps, 0)[np.argsort(ranks, axis=1)]
  keys = np.empty((count, corners), np.int64)
  keys[:, 0] = base
  for corner in range(1, corners):
    keys[:, corner] = keys[:, corner - 1] + 1 - by_rank[:, corners - corner]
  keys = keys.ravel()
  if shift:  # One sort of numbers that hold key and entry is much faster than an argsort.
    order = (keys << shift) | np.arange(keys.size)
    order.sort()
    ordered, order = order >> shift, order & ((1 << shift) - 1)
  else:
    order = np.argsort(keys, kind='stable')
    ordered = keys[order]
  first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
  starts = np.flatnonzero(first)
  unique = ordered[starts]
  number = np.cumsum(first, dtype=np.int32) - 1
  points = np.empty(keys.size, np.int32)
  points[order] = number

  size = _rounded(unique.size + 1)
  counts = np.diff(starts, append=keys.size)
  rows_of = -(-counts // _SLOTS)
  row_starts = np.cumsum(rows_of) - rows_of
  num_rows = keys.size // _SLOTS + size  # At least the sum of rows_of, whatever the picture.
  within = np.arange(keys.size) - np.repeat(starts, counts)
  place = np.repeat(row_starts * _SLOTS, counts) + within
  row_pixels = np.zeros(num_rows * _SLOTS, np.int32)
  row_weights = np.zeros(num_rows * _SLOTS, weights.dtype)
  row_pixels[place] = order // corners
  row_weights[place] = weights.ravel()[order]
  rows = np.full(num_rows, size - 1, np.int32)
  rows[: rows_of.sum()] = np.repeat(np.arange(unique.size, dtype=np.int32), rows_of)

  none = size - 1
  neighbours = np.full((corners, 2, size), none, np.int32)
  remainder = np.empty(unique.size, np.int64)
  remainder[number] = order % corners
  for axis in range(corners):
    step = int(steps[axis]) if axis < d else 0
    # One more in every coordinate but this one, d less in this one.
    within_cell = 1 - step
    to_next_cell = int(steps.sum()) - step - d
    with np.errstate(over='ignore'):
      wanted = unique + np.where(remainder < d, np.int64(within_cell), np.int64(to_next_cell))
    found = np.minimum(np.searchsorted(unique, wanted), unique.size - 1)
    there = np.flatnonzero(unique[found] == wanted)
    neighbours[axis, 1, there] = found[there]
    neighbours[axis, 0, found[there]] = there
  return Lattice(
    weights,
    points.reshape(count, corners),
    row_pixels.reshape(-1, _SLOTS),
    row_weights.reshape(-1, _SLOTS),
    rows,
    neighbours,
  )


def build_in_graph(features, size: int | None = None) -> Lattice:
  """Finds the lattice of a picture inside `jax.jit`, `jax.vmap` or `jax.grad`.

  Weights, and so all that is filtered, are differentiable to the features. Lattice points are
  numbered by hashes of 64 bits; that two share one has chances of about 1 in 10^7.

  Args:
    features: (N, d); the Gaussian has a standard deviation of 1 along each dimension.
    size: lattice points that there is room for, and one more. None takes twice the number of
      pixels (65536 if that is more), several times what photographs need. Where it isn't enough,
      the weights are NaN.

  Returns:
    a Lattice, of the dtype of the features.
  """
  cells, ranks, weights = _embed(features)
  count, corners = weights.shape
  d = corners - 1
  entries = count * corners
  size = size or min(entries, max(2 * count, 1 << 16)) + 1
  # Linear hashes: from a point to its neighbour along an axis, they change by a constant.
  factors = np.random.default_rng(0).integers(0, 1 << 31, (2, d), np.uint32) * 2 + 1
  wraps = (ranks[:, None, :d] > (d - np.arange(corners, dtype=np.int32))[None, :, None]).astype(
    jnp.int32
  )
  place = (cells[:, None, :d] - wraps) * corners + np.arange(corners, dtype=np.int32)[None, :, None]
  place = place.astype(jnp.uint32).reshape(entries, d)
  hashes = [(place * f[None]).sum(1, dtype=jnp.uint32) for f in factors]
  *hashes, order = jax.lax.sort((*hashes, jnp.arange(entries, dtype=jnp.int32)), num_keys=2)

  first = jnp.concatenate([jnp.ones(1, bool), _differ(hashes[0]) | _differ(hashes[1])])
  number = jnp.cumsum(first, dtype=jnp.int32) - 1
  points = jnp.zeros(entries, jnp.int32).at[order].set(number, unique_indices=True)
  starts = (
    jnp.full(size, entries, jnp.int32)
    .at[number]
    .min(jnp.arange(entries, dtype=jnp.int32), mode='drop')
  )
  counts = jnp.diff(starts, append=jnp.int32(entries))
  rows_of = (counts + _SLOTS - 1) // _SLOTS
  row_starts = jnp.cumsum(rows_of, dtype=jnp.int32) - rows_of
  num_rows = entries // _SLOTS + size
  slot = row_starts[number] * _SLOTS + jnp.arange(entries, dtype=jnp.int32) - starts[number]
  row_pixels = jnp.zeros(num_rows * _SLOTS, jnp.int32).at[slot].set(order // corners, mode='drop')
  sorted_weights = jax.lax.stop_gradient(weights).reshape(-1)[order]
  row_weights = (
    jnp.zeros(num_rows * _SLOTS, weights.dtype).at[slot].set(sorted_weights, mode='drop')
  )
  rows = jnp.full(num_rows, size - 1, jnp.int32).at[slot // _SLOTS].set(number, mode='drop')

  exists = starts < entries
  unique = [jnp.where(exists, h[starts], np.uint32(2**32 - 1)) for h in hashes]
  neighbours = []
  for axis in range(corners):
    change = np.ones(d, np.int64)
    if axis < d:
      change[axis] = -d
    wanted = [
      u + np.uint32((change * f).sum() % 2**32) for u, f in zip(unique, factors.astype(np.int64))
    ]
    low = jnp.searchsorted(unique[0], wanted[0]).astype(jnp.int32)
    found = jnp.full(size, size - 1, jnp.int32)
    for further in range(3):  # Points that share the first hash stand together.
      at = jnp.minimum(low + further, size - 1)
      same = exists & exists[at] & (unique[0][at] == wanted[0]) & (unique[1][at] == wanted[1])
      found = jnp.where(same, at, found)
    before = jnp.full(size, size - 1, jnp.int32).at[found].set(jnp.arange(size, dtype=jnp.int32))
    before = before.at[size - 1].set(size - 1)
    neighbours.append(jnp.stack([before, found]))
  weights = jnp.where(number[-1] < size - 1, weights, jnp.nan)
  return Lattice(
    weights,
    points.reshape(count, corners),
    row_pixels.reshape(-1, _SLOTS),
    row_weights.reshape(-1, _SLOTS),
    rows,
    jnp.stack(neighbours),
  )


def _differ(x):
  return x[1:] != x[:-1]


def _rounded(count: int) -> int:
  """The next of four sizes an octave."""
  quarter = 1 << max(count.bit_length() - 3, 4)
  return -(-count // quarter) * quarter


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
    for slot in range(_SLOTS)
  )
  size = lattice.neighbours.shape[-1]
  return jax.ops.segment_sum(rows, lattice.rows, size, indices_are_sorted=True)


def _blur(lattice, values, reverse: bool = False):
  """Adds half of both neighbours, axis by axis."""

  # A loop: unrolled, XLA would compute the chain anew for each neighbour.
  def along(values, neighbours):
    return values + (values[neighbours[0]] + values[neighbours[1]]) / 2, None

  return jax.lax.scan(along, values, lattice.neighbours, reverse=reverse)[0]


def _slice(lattice, values):
  """(M, C) at the lattice points -> (N, C) at the pixels."""
  weights = (_scale(lattice) * lattice.weights).astype(values.dtype)
  return sum(weights[:, k, None] * values[lattice.points[:, k]] for k in range(weights.shape[1]))


def _scale(lattice) -> float:
  """Makes up for what the blur adds."""
  return 1 / (1 + 2.0 ** -(lattice.weights.shape[1] - 1))

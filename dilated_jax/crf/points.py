"""The lattice points that pixels touch: their numbers, their neighbors, and the splat as rows.

`number_points` finds them by NumPy on the host, `number_points_traced` by XLA under `jax.jit`. Both
return the arrays of a `lattice.Lattice` except its weights.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32
import numpy as np

# The splat is a sparse matrix of lattice points x pixels. A row has this many entries; a point that
# more pixels touch has several rows.
ENTRIES_PER_ROW = 8


def number_points(
  cells: Int32[np.ndarray, 'n d1'],
  ranks: Int32[np.ndarray, 'n d1'],
  weights: Float[np.ndarray, 'n d1'],
) -> tuple[
  Int32[np.ndarray, 'n d1'],
  Int32[np.ndarray, 'r 8'],
  Float[np.ndarray, 'r 8'],
  Int32[np.ndarray, ' r'],
  Int32[np.ndarray, 'd1 2 m'],
]:
  """Numbers the points by NumPy.

  Args:
    cells: for each pixel, the nearest lattice point of remainder 0, in units of d + 1.
    ranks: the order of the residuals of its features, the largest first.
    weights: its barycentric weights.

  Returns:
    points, row_pixels, row_weights, rows and neighbors of a `lattice.Lattice`. The number M of
    points is rounded up.
  """
  count, corners = weights.shape
  d = corners - 1
  keys, steps, shift = _keys(cells, ranks)
  if shift:  # One sort of integers that hold key and entry is much faster than an argsort.
    order = (keys << shift) | np.arange(keys.size)
    order.sort()
    sorted_keys, order = order >> shift, order & ((1 << shift) - 1)
  else:
    order = np.argsort(keys, kind='stable')
    sorted_keys = keys[order]
  first = np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])
  starts = np.flatnonzero(first)
  unique = sorted_keys[starts]
  number = np.cumsum(first, dtype=np.int32) - 1
  points = np.empty(keys.size, np.int32)
  points[order] = number

  size = _round_up(unique.size + 1)
  missing = size - 1
  entries = np.diff(starts, append=keys.size)  # Of each point.
  num_rows = -(-entries // ENTRIES_PER_ROW)
  row_starts = np.cumsum(num_rows) - num_rows
  total_rows = keys.size // ENTRIES_PER_ROW + size  # At least the sum of num_rows for any image.
  within = np.arange(keys.size) - np.repeat(starts, entries)
  slot = np.repeat(row_starts * ENTRIES_PER_ROW, entries) + within
  row_pixels = np.zeros(total_rows * ENTRIES_PER_ROW, np.int32)
  row_weights = np.zeros(total_rows * ENTRIES_PER_ROW, weights.dtype)
  row_pixels[slot] = order // corners
  row_weights[slot] = weights.ravel()[order]
  rows = np.full(total_rows, missing, np.int32)
  rows[: num_rows.sum()] = np.repeat(np.arange(unique.size, dtype=np.int32), num_rows)

  neighbors = np.full((corners, 2, size), missing, np.int32)
  remainder = np.empty(unique.size, np.int64)
  remainder[number] = order % corners
  for axis in range(corners):
    # The neighbor has d less in the coordinate of the axis and 1 more in all others. Hashed keys
    # may overflow, which does no harm.
    with np.errstate(over='ignore'):
      step = steps[axis] if axis < d else np.int64(0)
      wanted = unique + np.where(remainder < d, 1 - step, steps.sum() - step - d)
    found = np.minimum(np.searchsorted(unique, wanted), unique.size - 1)
    existing = np.flatnonzero(unique[found] == wanted)
    neighbors[axis, 1, existing] = found[existing]
    neighbors[axis, 0, found[existing]] = existing
  return (
    points.reshape(count, corners),
    row_pixels.reshape(-1, ENTRIES_PER_ROW),
    row_weights.reshape(-1, ENTRIES_PER_ROW),
    rows,
    neighbors,
  )


def _keys(cells: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
  """An integer for the point at each corner of each pixel's simplex.

  Returns:
    The keys (N (d + 1),) int64; the steps (d,) of a key along each coordinate; and the number of
    bits by which a key can be shifted, or 0 if the keys are hashes of all bits.
  """
  count, corners = cells.shape
  d = corners - 1
  # All coordinates of a point have the same remainder modulo d + 1; corner k has remainder k. A key
  # therefore combines the remainder with d quotients, from which the last one follows.
  low = cells[:, :d].min(0).astype(np.int64) - 2
  span = cells[:, :d].max(0) - low + 3
  strides = [math.prod(map(int, span[:i])) * corners for i in range(d + 1)]
  shift = (count * corners).bit_length()
  if strides[-1] << shift < 1 << 63:
    steps = np.array(strides[:d], np.int64)
  else:
    # Too far apart to be numbered in 63 bits: linear hashes, which collide in 1 of 10^7 images.
    shift, steps = 0, np.random.default_rng(0).integers(1, 1 << 62, d + 1)[:d] | 1
  base = sum(step * (cells[:, i] - low[i]) for i, step in enumerate(steps))
  # From one corner to the next, the coordinate of one rank wraps around: its quotient is 1 less.
  by_rank = np.append(steps, 0)[np.argsort(ranks, axis=1)]
  keys = np.empty((count, corners), np.int64)
  keys[:, 0] = base
  for corner in range(1, corners):
    keys[:, corner] = keys[:, corner - 1] + 1 - by_rank[:, corners - corner]
  return keys.ravel(), steps, shift


def _round_up(count: int) -> int:
  """The next of four sizes per octave."""
  quarter = 1 << max(count.bit_length() - 3, 10)  # Small ones cost nothing.
  return -(-count // quarter) * quarter


def number_points_traced(
  cells: Int32[jax.Array, 'n d1'],
  ranks: Int32[jax.Array, 'n d1'],
  weights: Float[jax.Array, 'n d1'],
  size: int,
) -> tuple[
  Int32[jax.Array, 'n d1'],
  Int32[jax.Array, 'r 8'],
  Float[jax.Array, 'r 8'],
  Int32[jax.Array, ' r'],
  Int32[jax.Array, 'd1 2 {size}'],
  Bool[jax.Array, ''],
]:
  """Numbers the points by XLA.

  The key of a point is a hash of 64 bits, in two parts; two points have the same one in about 1 of
  10^7 images.

  Args:
    cells: as for `number_points`.
    ranks: as for `number_points`.
    weights: as for `number_points`.
    size: the number M of points.

  Returns:
    As `number_points`, and whether M is large enough; if not, the arrays are useless.
  """
  count, corners = weights.shape
  d = corners - 1
  entries = count * corners
  missing = size - 1
  # Linear hashes: from a point to its neighbor along an axis, they change by a constant.
  factors = np.random.default_rng(0).integers(0, 1 << 31, (2, d), np.uint32) * 2 + 1
  corner = np.arange(corners, dtype=np.int32)[None, :, None]
  wraps = (ranks[:, None, :d] > d - corner).astype(jnp.int32)
  coordinates = (cells[:, None, :d] - wraps) * corners + corner
  coordinates = coordinates.astype(jnp.uint32).reshape(entries, d)
  hashes = [(coordinates * f[None]).sum(1, dtype=jnp.uint32) for f in factors]
  *hashes, order = jax.lax.sort((*hashes, jnp.arange(entries, dtype=jnp.int32)), num_keys=2)

  first = jnp.concatenate([jnp.ones(1, bool), _changes(hashes[0]) | _changes(hashes[1])])
  number = jnp.cumsum(first, dtype=jnp.int32) - 1
  points = jnp.zeros(entries, jnp.int32).at[order].set(number, unique_indices=True)
  index = jnp.arange(entries, dtype=jnp.int32)
  starts = jnp.full(size, entries, jnp.int32).at[number].min(index, mode='drop')
  counts = jnp.diff(starts, append=jnp.int32(entries))
  num_rows = (counts + ENTRIES_PER_ROW - 1) // ENTRIES_PER_ROW
  row_starts = jnp.cumsum(num_rows, dtype=jnp.int32) - num_rows
  total_rows = entries // ENTRIES_PER_ROW + size
  slot = row_starts[number] * ENTRIES_PER_ROW + index - starts[number]
  empty = jnp.zeros(total_rows * ENTRIES_PER_ROW, jnp.int32)
  row_pixels = empty.at[slot].set(order // corners, mode='drop')
  row_weights = empty.astype(weights.dtype).at[slot].set(weights.reshape(-1)[order], mode='drop')
  rows = jnp.full(total_rows, missing, jnp.int32)
  rows = rows.at[slot // ENTRIES_PER_ROW].set(number, mode='drop')

  exists = starts < entries
  unique = [jnp.where(exists, h[starts], np.uint32(2**32 - 1)) for h in hashes]
  neighbors = []
  for axis in range(corners):
    change = np.ones(d, np.int64)
    if axis < d:
      change[axis] = -d
    wanted = [
      u + np.uint32((change * f).sum() % 2**32) for u, f in zip(unique, factors.astype(np.int64))
    ]
    low = jnp.searchsorted(unique[0], wanted[0]).astype(jnp.int32)
    found = jnp.full(size, missing, jnp.int32)
    for further in range(3):  # Points with the same first hash are next to each other.
      at = jnp.minimum(low + further, missing)
      same = exists & exists[at] & (unique[0][at] == wanted[0]) & (unique[1][at] == wanted[1])
      found = jnp.where(same, at, found)
    before = jnp.full(size, missing, jnp.int32).at[found].set(jnp.arange(size, dtype=jnp.int32))
    before = before.at[missing].set(missing)
    neighbors.append(jnp.stack([before, found]))
  return (
    points.reshape(count, corners),
    row_pixels.reshape(-1, ENTRIES_PER_ROW),
    row_weights.reshape(-1, ENTRIES_PER_ROW),
    rows,
    jnp.stack(neighbors),
    number[-1] < missing,
  )


def _changes(x):
  """Where an element differs from the one before it."""
  return x[1:] != x[:-1]

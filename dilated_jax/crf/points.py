"""The points of a permutohedral lattice that pixels touch: numbered, sorted and joined.

By NumPy on the host, or by XLA where everything has to stay in the graph. Both give the arrays of
a `lattice.Lattice` but its weights.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

ENTRIES_PER_ROW = 8  # Entries of a row of the splat.


def number_points(cells, ranks, weights):
  """Numbers the points by NumPy.

  Args:
    cells: (N, d + 1) int32, the nearest point of remainder 0, in units of d + 1.
    ranks: (N, d + 1) int32, the order of the residuals, the largest first.
    weights: (N, d + 1) barycentric.

  Returns:
    points, row_pixels, row_weights, rows and neighbors of a `lattice.Lattice`, M rounded up.
  """
  count, corners = weights.shape
  d = corners - 1
  # Corner k of a simplex has the remainder k: all its coordinates are congruent to k modulo d + 1.
  # So a point is the number of its remainder and d quotients; the last one follows.
  low = cells[:, :d].min(0).astype(np.int64) - 2
  span = cells[:, :d].max(0) - low + 3
  steps = np.array([math.prod(map(int, span[:i])) * corners for i in range(d + 1)], object)
  shift = (count * corners).bit_length()
  if steps[-1] << shift >= 1 << 63:
    # Too far apart to be numbered in 63 bits: hashed, linearly, with chances of 1 in 10^7.
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
  rows_of = -(-counts // ENTRIES_PER_ROW)
  row_starts = np.cumsum(rows_of) - rows_of
  num_rows = (
    keys.size // ENTRIES_PER_ROW + size
  )  # At least the sum of rows_of, whatever the picture.
  within = np.arange(keys.size) - np.repeat(starts, counts)
  place = np.repeat(row_starts * ENTRIES_PER_ROW, counts) + within
  row_pixels = np.zeros(num_rows * ENTRIES_PER_ROW, np.int32)
  row_weights = np.zeros(num_rows * ENTRIES_PER_ROW, weights.dtype)
  row_pixels[place] = order // corners
  row_weights[place] = weights.ravel()[order]
  rows = np.full(num_rows, size - 1, np.int32)
  rows[: rows_of.sum()] = np.repeat(np.arange(unique.size, dtype=np.int32), rows_of)

  none = size - 1
  neighbors = np.full((corners, 2, size), none, np.int32)
  remainder = np.empty(unique.size, np.int64)
  remainder[number] = order % corners
  for axis in range(corners):
    # One more in every coordinate but this one, d less in this one. Hashes may wrap around.
    with np.errstate(over='ignore'):
      step = steps[axis] if axis < d else np.int64(0)
      wanted = unique + np.where(remainder < d, 1 - step, steps.sum() - step - d)
    found = np.minimum(np.searchsorted(unique, wanted), unique.size - 1)
    there = np.flatnonzero(unique[found] == wanted)
    neighbors[axis, 1, there] = found[there]
    neighbors[axis, 0, found[there]] = there
  return (
    points.reshape(count, corners),
    row_pixels.reshape(-1, ENTRIES_PER_ROW),
    row_weights.reshape(-1, ENTRIES_PER_ROW),
    rows,
    neighbors,
  )


def _rounded(count: int) -> int:
  """The next of four sizes an octave."""
  quarter = 1 << max(count.bit_length() - 3, 10)  # Small ones cost nothing.
  return -(-count // quarter) * quarter


def number_points_traced(cells, ranks, weights, size: int):
  """`number_points` by XLA alone.

  Points are numbered by hashes of 64 bits; that two share one has chances of about 1 in 10^7.

  Args:
    cells: as there.
    ranks: as there.
    weights: as there.
    size: M.

  Returns:
    as there, and whether M is large enough; otherwise they make no sense.
  """
  count, corners = weights.shape
  d = corners - 1
  entries = count * corners
  # Linear hashes: from a point to its neighbor along an axis, they change by a constant.
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
  rows_of = (counts + ENTRIES_PER_ROW - 1) // ENTRIES_PER_ROW
  row_starts = jnp.cumsum(rows_of, dtype=jnp.int32) - rows_of
  num_rows = entries // ENTRIES_PER_ROW + size
  slot = (
    row_starts[number] * ENTRIES_PER_ROW + jnp.arange(entries, dtype=jnp.int32) - starts[number]
  )
  row_pixels = (
    jnp.zeros(num_rows * ENTRIES_PER_ROW, jnp.int32).at[slot].set(order // corners, mode='drop')
  )
  sorted_weights = weights.reshape(-1)[order]
  row_weights = (
    jnp.zeros(num_rows * ENTRIES_PER_ROW, weights.dtype).at[slot].set(sorted_weights, mode='drop')
  )
  rows = (
    jnp.full(num_rows, size - 1, jnp.int32).at[slot // ENTRIES_PER_ROW].set(number, mode='drop')
  )

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
    found = jnp.full(size, size - 1, jnp.int32)
    for further in range(3):  # Points that share the first hash stand together.
      at = jnp.minimum(low + further, size - 1)
      same = exists & exists[at] & (unique[0][at] == wanted[0]) & (unique[1][at] == wanted[1])
      found = jnp.where(same, at, found)
    before = jnp.full(size, size - 1, jnp.int32).at[found].set(jnp.arange(size, dtype=jnp.int32))
    before = before.at[size - 1].set(size - 1)
    neighbors.append(jnp.stack([before, found]))
  return (
    points.reshape(count, corners),
    row_pixels.reshape(-1, ENTRIES_PER_ROW),
    row_weights.reshape(-1, ENTRIES_PER_ROW),
    rows,
    jnp.stack(neighbors),
    number[-1] < size - 1,
  )


def _differ(x):
  return x[1:] != x[:-1]

"""The lattice points that pixels touch: their numbers, their neighbors, and the splat as rows.

`number_points` finds them by NumPy on the host, `number_points_traced` by XLA under `jax.jit`. Both
return the arrays of a `lattice.Lattice` except its weights.

All coordinates of a point have the same remainder modulo d + 1, and corner k of each pixel's
simplex is a point of remainder k. So the corners are numbered one after the other, by sorts of N
keys each, and the neighbors of a point of corner k, in the direction in which most coordinates
grow, are among those of corner k + 1.
"""

from concurrent.futures import ThreadPoolExecutor
import functools
import os

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32, Int64
import numpy as np

# The splat is a sparse matrix of lattice points x pixels. A row has this many entries; a point that
# more pixels touch has several rows.
ENTRIES_PER_ROW = 8
UNUSED = 2**31 - 1  # In place of the point of a row.


def number_points(
  keys: Int64[np.ndarray, 'd1 n'],
  steps: Int64[np.ndarray, ' d1'],
  exact: bool,
  weights: Float[np.ndarray, 'd1 n'],
) -> tuple[
  Int32[np.ndarray, 'd1 n'],
  Int32[np.ndarray, '8 r'],
  Float[np.ndarray, '8 r'],
  Int32[np.ndarray, ' r'],
  Int32[np.ndarray, 'd1 2 m'],
  Int32[np.ndarray, ''],
]:
  """Numbers the points by NumPy.

  Args:
    keys: of the lattice point at each corner of each pixel's simplex, from `point_keys`.
    steps: see there.
    exact: see there.
    weights: barycentric weights of the corners.

  Returns:
    points, row_pixels, row_weights, rows, neighbors and num_points of a `lattice.Lattice`. The
    number M of points is rounded up.
  """
  corners, count = keys.shape
  with ThreadPoolExecutor(min(corners, os.cpu_count() or 1)) as pool:  # NumPy lets go of the lock.
    groups = list(pool.map(_group, keys, [exact] * corners))
    sizes = [len(unique) for unique, *_ in groups]
    offsets = np.cumsum([1, *sizes])  # Point 0 is the missing one.
    num_rows = [-(-counts // ENTRIES_PER_ROW) for _, counts, *_ in groups]
    row_offsets = np.cumsum([0, *(each.sum() for each in num_rows)])
    size = round_up(int(offsets[-1]))
    total_rows = keys.size // ENTRIES_PER_ROW + size  # At least as many as any image needs.
    points = np.empty((corners, count), np.int32)
    row_pixels = np.zeros((ENTRIES_PER_ROW, total_rows), np.int32)
    row_weights = np.zeros((ENTRIES_PER_ROW, total_rows), weights.dtype)
    rows = np.full(total_rows, UNUSED, np.int32)
    neighbors = np.zeros((corners, 2, size), np.int32)

    def fill(corner):
      unique, counts, pixels = groups[corner]
      names = np.arange(int(offsets[corner]), int(offsets[corner + 1]), dtype=np.int32)
      points[corner, pixels] = np.repeat(names, counts)
      mine = slice(*row_offsets[corner : corner + 2])
      rows[mine] = np.repeat(names, num_rows[corner])
      first_slots = ENTRIES_PER_ROW * (np.cumsum(num_rows[corner]) - num_rows[corner])
      starts = np.cumsum(counts) - counts
      slots = np.repeat((first_slots - starts).astype(np.int32), counts)
      slots += np.arange(count, dtype=np.int32)
      places = (slots & (ENTRIES_PER_ROW - 1)) * np.int32(total_rows)
      places += slots // ENTRIES_PER_ROW + np.int32(mine.start)
      row_pixels.ravel()[places] = pixels
      row_weights.ravel()[places] = weights[corner][pixels]
      following = (corner + 1) % corners
      others = groups[following][0]
      for axis in range(corners):
        # The neighbor has d less in the coordinate of the axis and 1 more in all others. Hashed
        # keys may overflow, which does no harm.
        with np.errstate(over='ignore'):
          change = -steps[axis] if following else steps.sum() - steps[axis]
          wanted = unique + change
        found = np.minimum(np.searchsorted(others, wanted), len(others) - 1)
        existing = np.flatnonzero(others[found] == wanted)
        found = found[existing] + offsets[following]
        neighbors[axis, 1, names[existing]] = found
        neighbors[axis, 0, found] = names[existing]

    list(pool.map(fill, range(corners)))
  return points, row_pixels, row_weights, rows, neighbors, np.array(offsets[-1], np.int32)


def _group(keys: np.ndarray, exact: bool):
  """Groups the pixels by their points of one corner.

  Returns:
    The distinct keys, ascending; how many pixels each has; and the pixels, point by point.
  """
  bits = len(keys).bit_length()
  if exact:  # One sort of integers that hold key and pixel is much faster than an argsort.
    order = keys << bits
    order |= np.arange(len(keys))
    order.sort()
    keys, pixels = order >> bits, (order & ((1 << bits) - 1)).astype(np.int32)
  else:
    pixels = np.argsort(keys, kind='stable').astype(np.int32)
    keys = keys[pixels]
  starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
  return keys[starts], np.diff(starts, append=len(keys)), pixels


def point_keys(
  cells: Int32[jax.Array, 'd1 n'], ranks: Int32[jax.Array, 'd1 n']
) -> tuple[Int64[jax.Array, 'd1 n'], Int64[jax.Array, ' d1'], Bool[jax.Array, '']]:
  """An integer for the lattice point at each corner of each pixel's simplex.

  It combines the quotients of the point's first d coordinates by d + 1, from which, with the
  remainder, the last one follows. In a program of 64 bits (`jax.enable_x64`).

  Args:
    cells: for each pixel, the nearest lattice point of remainder 0, in units of d + 1.
    ranks: the order of the residuals of its features, the largest first.

  Returns:
    The keys; how much a key changes along each coordinate, 0 for the last; and whether there is
    room for the number of a pixel beside the key. If not, the keys are hashes of 64 bits, which
    collide in 1 of 10^7 images.
  """
  corners, count = cells.shape
  d = corners - 1
  low = cells[:d].min(1).astype(jnp.int64) - 2
  span = cells[:d].max(1).astype(jnp.int64) - low + 3
  exact = jnp.log2(span.astype(jnp.float64)).sum() + count.bit_length() < 62.9
  strides = jnp.concatenate([jnp.ones(1, jnp.int64), jnp.cumprod(span)[:-1]])
  hashes = np.random.default_rng(0).integers(1, 1 << 62, d) | 1
  steps = jnp.where(exact, strides, hashes)
  by_corner = []
  for corner in range(corners):
    wraps = ranks[:d] > d - corner
    quotients = (cells[:d] - wraps.astype(jnp.int32)).astype(jnp.int64) - low[:, None]
    by_corner.append((quotients * steps[:, None]).sum(0))
  return jnp.stack(by_corner), jnp.append(steps, 0), exact


def number_points_traced(
  cells: Int32[jax.Array, 'd1 n'],
  ranks: Int32[jax.Array, 'd1 n'],
  weights: Float[jax.Array, 'd1 n'],
  size: int,
) -> tuple[
  Int32[jax.Array, 'd1 n'],
  Int32[jax.Array, '8 r'],
  Float[jax.Array, '8 r'],
  Int32[jax.Array, ' r'],
  Int32[jax.Array, 'd1 2 {size}'],
  Int32[jax.Array, ''],
  Bool[jax.Array, ''],
]:
  """Numbers the points by XLA.

  The key of a point is a hash of 64 bits, in two parts; two points have the same one in about 1 of
  10^7 images.

  Args:
    cells: for each pixel, the nearest lattice point of remainder 0, in units of d + 1.
    ranks: the order of the residuals of its features, the largest first.
    weights: as for `number_points`.
    size: the number M of points.

  Returns:
    As `number_points`, and whether M is large enough; if not, the arrays are useless.
  """
  corners, count = weights.shape
  d = corners - 1
  # Linear hashes: from a point to its neighbor along an axis, they change by a constant.
  steps = np.zeros((2, corners), np.uint32)
  steps[:, :d] = np.random.default_rng(0).integers(0, 1 << 31, (2, d)) * 2 + 1
  wraps = ranks[None, :d] > (d - np.arange(corners, dtype=np.int32))[:, None, None]
  quotients = (cells[None, :d] - wraps.astype(jnp.int32)).astype(jnp.uint32)
  hashes = [(quotients * s[None, :d, None]).sum(1, dtype=jnp.uint32) for s in steps]
  # By one part and then, keeping that order, by the other. XLA sorts pairs by one of them four
  # times as fast as it sorts triples, and twice as fast as by both.
  pixels = jnp.broadcast_to(np.arange(count, dtype=np.int32), (corners, count))
  _, pixels = jax.lax.sort((hashes[1], pixels), num_keys=1)
  first, pixels = jax.lax.sort((_along(hashes[0], pixels), pixels), num_keys=1)
  second = _along(hashes[1], pixels)

  starting = jnp.concatenate(
    [jnp.ones((corners, 1), bool), _changes(first) | _changes(second)], axis=1
  )
  number = jnp.cumsum(starting.ravel(), dtype=jnp.int32)  # From 1; point 0 is the missing one.
  num_points = number[-1] + 1
  index = np.arange(corners * count, dtype=np.int32)
  starts = jnp.full(size + 1, index.size, jnp.int32)
  starts = starts.at[jnp.where(starting.ravel(), number, size + 1)].set(index, mode='drop')
  starts = starts.at[0].set(0)
  corner = index // count
  points = jnp.zeros((corners, count), jnp.int32)
  points = points.at[corner, pixels.ravel()].set(jnp.minimum(number, size - 1))

  num_rows = (jnp.diff(starts) + ENTRIES_PER_ROW - 1) // ENTRIES_PER_ROW
  row_starts = jnp.cumsum(num_rows, dtype=jnp.int32) - num_rows
  total_rows = index.size // ENTRIES_PER_ROW + size
  within = index - starts[number]
  row, entry = row_starts[number] + within // ENTRIES_PER_ROW, within % ENTRIES_PER_ROW
  shape = (ENTRIES_PER_ROW, total_rows)
  place = entry * total_rows + row
  pixels = pixels.ravel()
  sorted_weights = weights.ravel()[corner * count + pixels]
  row_pixels = jnp.zeros(shape, jnp.int32).ravel().at[place].set(pixels, mode='drop')
  row_weights = jnp.zeros(shape, weights.dtype).ravel().at[place].set(sorted_weights, mode='drop')
  rows = jnp.full(total_rows, UNUSED, jnp.int32).at[row].set(number, mode='drop')
  neighbors = jax.lax.switch(
    which_part(num_points, size),
    [functools.partial(_find_neighbors, size, part) for part in parts(size)],
    num_points,
    starts,
    first.ravel(),
    second.ravel(),
    steps,
  )
  return (
    points, row_pixels.reshape(shape), row_weights.reshape(shape), rows, neighbors, num_points,
    num_points <= size,
  )  # fmt: skip


def _find_neighbors(size: int, part: int, num_points, starts, first, second, steps):
  """The neighbors of the points, of which there are at most `part`, by a table of their hashes."""
  corners = steps.shape[1]
  count = len(first) // corners
  index = np.arange(part, dtype=np.int32)
  exists = (index > 0) & (index < num_points)
  starts = jnp.minimum(starts[:part], len(first) - 1)
  corner, first, second = starts // count, first[starts], second[starts]
  # Points are sorted by corner and then by the first part of the hash.
  bits = (4 * part // corners).bit_length()

  def bucket(corner, first):
    return (corner << bits) + (first >> (32 - bits)).astype(jnp.int32)

  held = jnp.zeros(corners << bits, jnp.int32)
  held = held.at[bucket(corner, first)].add(exists.astype(jnp.int32))
  held_before = jnp.cumsum(held, dtype=jnp.int32) - held

  to_next = -steps[:, :, None]  # Numbers of 32 bits, that wrap around.
  to_first = steps.sum(1, dtype=np.uint32)[:, None, None] - steps[:, :, None]
  change = jnp.where((corner < corners - 1)[None, None], to_next, to_first)
  wanted_first, wanted_second = first[None] + change[0], second[None] + change[1]
  buckets = bucket(((corner + 1) % corners)[None], wanted_first)
  held, low = held[buckets], held_before[buckets] + 1

  def look(further, found):
    at = jnp.minimum(low + further, part - 1)
    same = (further < held) & (first[at] == wanted_first) & (second[at] == wanted_second)
    return jnp.where(same & exists[None], at, found)

  none = jnp.zeros((corners, part), jnp.int32)
  after = jax.lax.fori_loop(0, held.max(), look, none)
  axes = np.arange(corners)[:, None]
  before = none.at[axes, after].set(index[None]).at[:, 0].set(0)
  return jnp.pad(jnp.stack([before, after], 1), ((0, 0), (0, 0), (0, size - part)))


def parts(size: int) -> list[int]:
  """Sizes to choose from for a lattice with room for `size` points, ascending."""
  return [size // 16, size // 4, size] if size > 1 << 15 else [size]


def which_part(num_points, size: int) -> Int32[jax.Array, '']:
  """The place in `parts` of the smallest that holds the points, or of the largest."""
  return (num_points > np.array(parts(size)[:-1], np.int32)).sum(dtype=jnp.int32)


def _along(x, order):
  """Rearranges each row."""
  return jnp.take_along_axis(x, order, 1, mode='promise_in_bounds')


def _changes(x):
  """Where an element differs from the one before it."""
  return x[:, 1:] != x[:, :-1]


def round_up(count: int, per_octave: int = 4) -> int:
  """The next of a few sizes per octave, a power of two of them."""
  step = 1 << max(count.bit_length() - per_octave.bit_length(), 10)  # Small ones cost nothing.
  return -(-count // step) * step

"""Gaussian filtering of high-dimensional features on the permutohedral lattice.

The sum over all pixels j of exp(-|f_i - f_j|^2 / 2) x_j takes N^2 operations; on the lattice it
takes N (d + 1)^2. Values are *splatted* onto the d + 1 lattice points around each pixel's features,
*blurred* along the d + 1 axes of the lattice, and *sliced* back to the pixels.

  lattice = build(features)        # once per image, on the host
  filtered = apply(lattice, x)     # many times, differentiable

Source: Adams, Baek and Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral
Lattice"; Krähenbühl and Koltun 2011 for its use in a dense CRF.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32, Real
import numpy as np

from dilated_jax.crf.points import (
  UNUSED,
  number_points,
  number_points_traced,
  parts,
  point_keys,
  round_up,
  which_part,
)
from dilated_jax.errors import InputError
from dilated_jax.typing import AnyArray

_LARGEST = 1e7  # Of a feature: cells are numbered in 32 bits.


# A pytree: jax.tree.map makes lattices of other things than arrays.
@no_type_check
@flax.struct.dataclass
class Lattice:
  """The position of the N pixels of an image on the lattice, of M points, with R rows of the splat.

  Point 0 stands for missing ones: its value is zero, and missing neighbors refer to it.

  Attributes:
    weights: barycentric weights of the d + 1 points of each pixel, which add up to 1.
    points: the lattice points of each pixel.
    row_pixels: pixels that touch the lattice point of each row.
    row_weights: their weights; 0 where there are fewer than 8 pixels.
    rows: the lattice point of each row, ascending; `UNUSED` for unused rows, which come last.
    neighbors: the points before and after each point, along each axis.
    num_points: how many of the M points there are, with point 0.
    choose_size: whether each filter chooses a part of the arrays that holds all points and rows
      that there are; needless where M was made to fit.
  """

  weights: Float[AnyArray, 'd1 n']
  points: Int32[AnyArray, 'd1 n']
  row_pixels: Int32[AnyArray, '8 r']
  row_weights: Float[AnyArray, '8 r']
  rows: Int32[AnyArray, ' r']
  neighbors: Int32[AnyArray, 'd1 2 m']
  num_points: Int32[AnyArray, '']
  choose_size: bool = flax.struct.field(pytree_node=False, default=False)


def room_for(pixels: int) -> int:
  """A number of pixels, about an eighth or 1024 more at most, that images of one area share."""
  # Were it a multiple of 4096, all corners of a pixel would lie in one place of a CPU's cache, and
  # filtering would take a fifth longer.
  return round_up(pixels, 8) + 40


def build(features: Real[AnyArray, 'pixels d'], room: int | None = None) -> Lattice:
  """Builds the lattice of an image, on the host.

  M and R are rounded up to one of four sizes per octave, so that all images of N pixels share a few
  compiled programs.

  Args:
    features: of each pixel, in units of the standard deviation of the Gaussian along each
      dimension.
    room: N, the number of pixels or more, as of `room_for`; those beyond neither send nor receive.
      None: that of pixels.

  Returns:
    A Lattice of NumPy arrays, float32.

  Raises:
    InputError: the features have another shape or are not finite, or there is no room for them.
  """
  features = np.asarray(features, np.float32)
  if features.ndim != 2 or not features.size:
    raise InputError(f'features have shape {features.shape}; they are (pixels, dimensions)')
  if not abs(features).max() < _LARGEST:  # Also if it is NaN.
    raise InputError(
      f'features hold NaN, infinity or numbers beyond {_LARGEST:g} standard deviations'
    )
  pixels = len(features)
  if room is not None and room < pixels:
    raise InputError(f'there is room for {room} pixels, and the features are of {pixels}')
  beyond = (room or pixels) - pixels
  # Those beyond lie where the last pixel does, so that no point is added, with weights of zero.
  features = np.pad(features, ((0, beyond), (0, 0)), mode='edge')
  with jax.ensure_compile_time_eval(), jax.enable_x64(True):  # Also while a program is traced.
    keys, steps, exact, weights = map(np.asarray, _embed_with_keys(features.T))
  weights = np.pad(weights[:, :pixels], ((0, 0), (0, beyond)))
  return Lattice(weights, *number_points(keys, steps, bool(exact), weights))


@jax.jit
def _embed_with_keys(features):
  cells, ranks, weights = _embed(features)
  return *point_keys(cells, ranks), weights


def _embed(features):
  """The simplex of the lattice around each pixel.

  Args:
    features: (d, N).

  Returns:
    cells (d + 1, N) int32, the nearest point of remainder 0, in units of d + 1; ranks (d + 1, N)
    int32, the order of the residuals, the largest first; weights (d + 1, N), barycentric.
  """
  d = len(features)
  scale = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)]
  total, coordinates = jnp.zeros_like(features[0]), []
  for j in range(d, 0, -1):  # In the order of the reference, so that ties are broken alike.
    scaled = features[j - 1] * scale[j - 1]
    coordinates.append(total - j * scaled)
    total = total + scaled
  elevated = jnp.stack([total, *coordinates[::-1]]) / (d + 1)
  nearest = jax.lax.stop_gradient(jnp.round(elevated))
  residuals, cells = elevated - nearest, nearest.astype(jnp.int32)
  mine, other = residuals[:, None], residuals[None]
  earlier = np.tri(d + 1, k=-1, dtype=bool)[:, :, None]
  ranks = ((other > mine) | ((other == mine) & earlier)).sum(1, dtype=jnp.int32)
  # Points whose coordinates do not add up to 0 are moved.
  ranks = ranks + cells.sum(0, keepdims=True, dtype=jnp.int32)
  moved = (ranks < 0).astype(jnp.int32) - (ranks > d).astype(jnp.int32)
  ranks, cells = ranks + moved * (d + 1), cells + moved
  residuals = residuals - moved.astype(residuals.dtype)
  has_rank = ranks[:, None] == np.arange(d + 1, dtype=np.int32)[None, :, None]
  by_rank = (residuals[:, None] * has_rank.astype(residuals.dtype)).sum(0)
  first = 1 + by_rank[-1:] - by_rank[:1]
  return cells, ranks, jnp.concatenate([first, (by_rank[:-1] - by_rank[1:])[::-1]])


# Compiled as a whole even outside of `jit`: step by step, each operation compiles for seconds.
@functools.partial(jax.jit, static_argnames='size')
def build_traced(features: Float[AnyArray, 'n d'], size: int | None = None) -> Lattice:
  """Builds the lattice of an image inside `jax.jit`, `jax.vmap` or `jax.grad`.

  The weights, and with them everything that is filtered, are differentiable with respect to the
  features.

  Args:
    features: as for `build`.
    size: the number of points that there is room for, plus one. None takes three times the number
      of pixels, and at least 262,144: enough for any image of up to 43,690 pixels in 5 dimensions,
      and for larger photographs. If it is not enough, the weights are NaN.

  Returns:
    A Lattice with the dtype of the features.
  """
  cells, ranks, weights = _embed(features.T)
  choose_size = size is None
  size = size or min(weights.size, max(3 * len(features), 1 << 18)) + 1
  # One image after the other, as filters do.
  number = jax.custom_batching.sequential_vmap(functools.partial(number_points_traced, size=size))
  *arrays, fits = number(cells, ranks, jax.lax.stop_gradient(weights))
  return Lattice(jnp.where(fits, weights, jnp.nan), *arrays, choose_size=choose_size)


def where_room(lattice: Lattice) -> tuple[Lattice, jax.Array]:
  """A lattice from `build_traced` without NaN, and whether there was room for it, a bool scalar.

  Where there was none, all pixels lie at one point, so that a filter gives the mean everywhere, and
  derivatives are finite: what is to be left out can be left out by a weight of zero.
  """
  fits = jnp.isfinite(jax.lax.stop_gradient(lattice.weights)).all()
  entries = np.arange(lattice.row_pixels.size, dtype=np.int32).reshape(lattice.row_pixels.shape)
  ones, share = jnp.ones_like, 1 / len(lattice.weights)
  instead = dataclasses.replace(
    lattice,
    weights=share * ones(lattice.weights),
    points=ones(lattice.points),
    row_pixels=jnp.asarray(entries % lattice.weights.shape[1]),
    row_weights=share * ones(lattice.row_weights),
    rows=ones(lattice.rows),
    neighbors=jnp.zeros_like(lattice.neighbors),
    num_points=2 * ones(lattice.num_points),
  )
  return jax.tree.map(functools.partial(jnp.where, fits), lattice, instead), fits


def stack(lattices: Sequence[Lattice]) -> Lattice:
  """Stacks lattices from `build`, of images of one size, along a leading axis."""
  size = max(lattice.neighbors.shape[-1] for lattice in lattices)
  num_rows = max(len(lattice.rows) for lattice in lattices)

  def pad(lattice):
    points, rows = size - lattice.neighbors.shape[-1], num_rows - len(lattice.rows)
    return dataclasses.replace(
      lattice,
      row_pixels=np.pad(lattice.row_pixels, ((0, 0), (0, rows))),
      row_weights=np.pad(lattice.row_weights, ((0, 0), (0, rows))),
      rows=np.pad(lattice.rows, (0, rows), constant_values=UNUSED),
      neighbors=np.pad(lattice.neighbors, ((0, 0), (0, 0), (0, points))),
    )

  return jax.tree.map(lambda *arrays: np.stack(arrays), *map(pad, lattices))


def scaled(
  lattice: Lattice, before: Float[AnyArray, 'n 1'] | None, after: Float[AnyArray, 'n 1'] | None
) -> Lattice:
  """The lattice that multiplies by factors of the pixels before and after it filters.

  It can be applied, but neither transposed nor differentiated. None stands for factors of 1.
  """
  row_weights = lattice.row_weights
  if before is not None:
    row_weights = row_weights * _take(before[:, 0], lattice.row_pixels)
  return dataclasses.replace(
    lattice,
    weights=lattice.weights if after is None else lattice.weights * after[:, 0][None],
    row_weights=row_weights,
  )


def _sized(function):
  """Applies a function of a lattice and of arrays to the part of the lattice that is in use.

  Where the size is chosen, `jax.vmap` takes one lattice after the other: a batch would need the
  size of the largest, and the memory of all. Then the function itself has no reverse mode.
  """

  def sized(lattice, *arrays):
    size, num_rows = lattice.neighbors.shape[-1], len(lattice.rows)

    def at_size(points, lattice, *arrays):
      rows = num_rows - size + points
      part = dataclasses.replace(
        lattice,
        row_pixels=lattice.row_pixels[:, :rows],
        row_weights=lattice.row_weights[:, :rows],
        rows=lattice.rows[:rows],
        neighbors=lattice.neighbors[..., :points],
      )
      return function(part, *arrays)

    branches = [functools.partial(at_size, part) for part in parts(size)]
    return jax.lax.switch(which_part(lattice.num_points, size), branches, lattice, *arrays)

  whole, in_turn = jax.jit(function), jax.jit(jax.custom_batching.sequential_vmap(sized))

  def run(lattice, *arrays):
    return in_turn(lattice, *arrays) if lattice.choose_size else whole(lattice, *arrays)

  return run


@jax.custom_vjp
def apply(lattice: Lattice, x: Float[AnyArray, 'n c']) -> Float[jax.Array, 'n c']:
  """Filters: (K x)_i = sum over j of about exp(-|f_i - f_j|^2 / 2) x_j, including j = i.

  The derivatives with respect to `x` and to `lattice.weights`, through which gradients reach the
  features, are those of the lattice itself, without further approximation; of a lattice from
  `build_traced`, the first derivatives alone.

  Args:
    lattice: of N pixels.
    x: a value of each pixel in each channel.

  Returns:
    The filtered values, of the dtype of `x`.

  Source: Adams et al. 2010; the derivative with respect to the features, Krähenbühl and Koltun
  2013.
  """
  return _filter(lattice, jnp.asarray(x))


@jax.custom_vjp
def apply_transposed(lattice: Lattice, x: Float[AnyArray, 'n c']) -> Float[jax.Array, 'n c']:
  """Filters with the transposed kernel, by blurring along the axes in reverse order.

  The kernel of the lattice is not quite symmetric, because only points that a pixel touches exist.

  Args:
    lattice: of N pixels.
    x: a value of each pixel in each channel.

  Returns:
    The filtered values, of the dtype of `x`.
  """
  return _filter_transposed(lattice, jnp.asarray(x))


@_sized
def _filter(lattice, x):
  return _slice(lattice, _blur(lattice, _splat(lattice, x)))


@_sized
def _filter_transposed(lattice, x):
  return _slice(lattice, _blur(lattice, _splat(lattice, x), reverse=True))


def _forward(lattice, x):
  return apply(lattice, x), (lattice, x)


def _backward(residuals, gradient):
  lattice, x = residuals
  to_weights, to_x = _gradients(lattice, x, gradient)
  return _weights_alone(lattice, to_weights), to_x


def _forward_transposed(lattice, x):
  return apply_transposed(lattice, x), (lattice, x)


def _backward_transposed(residuals, gradient):
  lattice, x = residuals
  # <g, K^T x> = <x, K g>: as far as the weights go, x and g have changed places.
  to_weights, _ = _gradients(lattice, gradient, x)
  return _weights_alone(lattice, to_weights), _filter(lattice, gradient)


def _weights_alone(lattice, to_weights):
  """The gradient of a lattice of which the weights alone have one."""
  to_lattice = jax.tree.map(lambda _: None, lattice)
  return dataclasses.replace(to_lattice, weights=to_weights)


@_sized
def _gradients(lattice, x, gradient):
  scale = _scale(lattice)
  back = _blur(lattice, _splat(lattice, gradient), reverse=True)
  ahead = _blur(lattice, _splat(lattice, x))
  to_weights = [
    scale * (gradient * _take(ahead, points) + x * _take(back, points)).sum(-1)
    for points in lattice.points
  ]
  return jnp.stack(to_weights), _slice(lattice, back)


apply.defvjp(_forward, _backward)
apply_transposed.defvjp(_forward_transposed, _backward_transposed)


def _splat(lattice, x):
  """(N, C) at the pixels -> (M, C) at the lattice points, by gathers and a sum of sorted rows."""
  terms = [
    weights[:, None].astype(x.dtype) * _take(x, pixels)
    for weights, pixels in zip(lattice.row_weights, lattice.row_pixels)
  ]
  rows = functools.reduce(jnp.add, terms)
  size = lattice.neighbors.shape[-1]
  return jax.ops.segment_sum(rows, lattice.rows, size, indices_are_sorted=True)


def _blur(lattice, values, reverse: bool = False):
  """Adds half of both neighbors, axis by axis."""

  def along(values, neighbors):
    return values + (_take(values, neighbors[0]) + _take(values, neighbors[1])) / 2

  def on_cpu(values, neighbors, num_points):
    # If the chain were unrolled alone, XLA would compute it anew for each neighbor. A scan prevents
    # that too, but runs on one core and copies the values in each step.
    for axis in range(len(neighbors))[:: -1 if reverse else 1]:
      values = jax.lax.cond(num_points > 0, along, lambda v, _: v, values, neighbors[axis])
    return values

  def elsewhere(values, neighbors, _):
    def step(values, neighbors):
      return along(values, neighbors), None

    return jax.lax.scan(step, values, neighbors, reverse=reverse)[0]

  return jax.lax.platform_dependent(
    values, lattice.neighbors, lattice.num_points, cpu=on_cpu, default=elsewhere
  )


def _slice(lattice, values):
  """(M, C) at the lattice points -> (N, C) at the pixels."""
  weights = (_scale(lattice) * lattice.weights).astype(values.dtype)
  terms = [w[:, None] * _take(values, points) for w, points in zip(weights, lattice.points)]
  return functools.reduce(jnp.add, terms)


def _take(values, indices):
  """Rows of `values`; the indices are known to exist."""
  return values.at[indices].get(mode='promise_in_bounds')


def _scale(lattice) -> float:
  """Undoes the gain of the blur."""
  return 1 / (1 + 2.0 ** -(len(lattice.weights) - 1))

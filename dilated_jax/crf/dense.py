"""The fully connected CRF with Gaussian edge potentials, and its mean field.

  marginals = dense_crf(-np.log(probabilities), image)

or step by step, for those who want to watch it:

  problem = pose(unary, image)
  marginals = mean_field(problem, iterations=10)
  free_energy(problem, marginals)

Source: Krähenbühl and Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", Algorithm 1; the normalizations are those of their code of 2013.
"""

import dataclasses
import functools
import math

import flax.struct
import jax
from jax.core import Tracer
import jax.numpy as jnp
import numpy as np

from dilated_jax.crf import exact, lattice as lattices
from dilated_jax.errors import InputError

NORMALIZATIONS = ('none', 'before', 'after', 'symmetric')
METHODS = ('lattice', 'exact')


def dense_crf(
  unary,
  image,
  *,
  gaussian=(3, 3),
  bilateral=(80, 13, 10),
  kernels=(),
  iterations: int = 10,
  normalization: str = 'symmetric',
  tolerance: float = 0.0,
  method: str = 'lattice',
):
  """Marginals of the dense CRF of a picture, by mean field.

  The energy is the sum of unary(x_i) over pixels and of k(i, j) mu(x_i, x_j) over pairs. The kernel
  k is a Gaussian of the positions (smoothness) plus one of positions and colors (appearance). Each
  iteration updates all pixels, Q <- softmax(-unary - sum of mu (K Q)), from Q = softmax(-unary).

  Inside `jax.jit`, `jax.vmap` and `jax.grad` (reverse mode) it works too, and gives JAX
  arrays; options are static there, all iterations are done, and values can't be checked: where a
  picture is rougher than the lattice has room for (`lattice.build_traced`) the result is NaN.

  Args:
    unary: (H, W, C) energies, -log p; any real dtype and memory order.
    image: (H, W, 3) uint8 RGB; or (H, W, F) numbers, the features that stand for color.
    gaussian: (sxy, compat): standard deviation in pixels, and compatibility; None for no such term.
    bilateral: (sxy, srgb, compat): the same with the deviation of color, 0..255; or None. Of
      compatibilities, see `compatibility_matrix`.
    kernels: further ones: (features, compat) each, features (H, W, d) numbers in units of their
      standard deviations.
    iterations: of the mean field, at most.
    normalization: of the filtered marginals by n = K 1: 'symmetric' n^-1/2 K n^-1/2, 'after' 1/n K,
      'before' K 1/n, 'none'.
    tolerance: stop as soon as no marginal changes by more; 0 for all iterations. Not for gradients.
    method: of filtering: 'lattice', or 'exact', N^2 operations for N pixels.

  Returns:
    (H, W, C) float32 marginals, which add up to 1 at each pixel. With a leading axis (B, H, W, C)
    and (B, H, W, 3) those of each picture.

  Raises:
    InputError: shapes that don't fit, numbers that aren't finite, a deviation of 0 or less, or a
      compatibility that would reward labels for being different.

  >>> import numpy as np
  >>> probabilities, image = np.full((6, 8, 3), 1 / 3), np.zeros((6, 8, 3), np.uint8)
  >>> dense_crf(-np.log(probabilities), image).shape
  (6, 8, 3)
  """
  posing = dict(
    gaussian=gaussian,
    bilateral=bilateral,
    kernels=kernels,
    normalization=normalization,
    method=method,
  )
  if np.ndim(unary) == 4:
    if np.ndim(image) != 4 or len(unary) != len(image) or not len(unary):
      raise InputError(f'{len(unary)} maps of unary energies, and pictures of {np.shape(image)}')
    if kernels:
      raise InputError('kernels are of one picture; call dense_crf for each')
    one = functools.partial(dense_crf, iterations=iterations, tolerance=tolerance, **posing)
    if _is_traced(unary, image):
      return jax.lax.map(lambda pair: one(*pair), (unary, image))
    return np.stack([one(u, i) for u, i in zip(unary, image, strict=True)])
  if not isinstance(iterations, (int, np.integer)) or iterations < 0:
    raise InputError(f'iterations is {iterations!r}; it must be a whole number, 0 or more')
  if not isinstance(tolerance, (int, float)) or not tolerance >= 0:
    raise InputError(f'tolerance is {tolerance!r}; it must be 0 or more')
  problem = build_problem(unary, image, **posing)
  if _is_traced(*jax.tree.leaves(problem)):
    marginals = jax.nn.softmax(-unrolled_mean_field(problem, iterations))
  else:
    marginals = np.array(mean_field(problem, iterations, tolerance))
  return marginals.reshape(np.shape(unary))


@dataclasses.dataclass(frozen=True)
class DenseCrf:
  """`dense_crf` with its options settled, from probabilities to marginals.

  Attributes:
    gaussian: see `dense_crf`; so are the others.
  """

  gaussian: tuple | None = (3, 3)
  bilateral: tuple | None = (80, 13, 10)
  iterations: int = 10
  normalization: str = 'symmetric'
  tolerance: float = 0.0

  def __call__(self, probabilities, image) -> np.ndarray:
    """Refines (H, W, C) probabilities of a picture; what is below 1e-5 counts as that much."""
    refined = dense_crf(unary_energies(probabilities), image, **dataclasses.asdict(self))
    return np.asarray(refined)


def unary_energies(probabilities: np.ndarray) -> np.ndarray:
  """Unary energies -log p; what is below 1e-5 counts as that much."""
  return -np.log(np.clip(probabilities, 1e-5, 1.0))


# The problem.


@flax.struct.dataclass
class Problem:
  """A dense CRF of N pixels and C classes.

  Attributes:
    unary: (N, C) energies.
    kernels: a `lattice.Lattice` or `exact.ExactKernel` each.
    costs: of each kernel: (C, C), which filtered marginals are multiplied by from the right, or
      (C,), its diagonal: what pairs of labels cost.
    normalizers: of each kernel: factors (N, 1) before and after filtering.
  """

  unary: jax.Array
  kernels: tuple
  compatibility_matrices: tuple
  normalizers: tuple


def build_problem(
  unary,
  image,
  *,
  gaussian=(3, 3),
  bilateral=(80, 13, 10),
  kernels=(),
  normalization: str = 'symmetric',
  method: str = 'lattice',
) -> Problem:
  """Sets up the dense CRF of a picture.

  Args:
    unary: as for `dense_crf`; so are the others.
    image: see there.
    gaussian: see there.
    bilateral: see there.
    kernels: see there.
    normalization: see there.
    method: see there.

  Returns:
    a Problem.

  Raises:
    InputError: as `dense_crf` does.
  """
  traced = _is_traced(unary, image, *(pair[0] for pair in kernels))
  if not traced:
    unary, image = np.asarray(unary), np.asarray(image)
    _check_numbers('unary energies', unary)
    _check_numbers('the picture', image)
  if unary.ndim != 3 or unary.shape[2] < 2 or not unary.size:
    raise InputError(
      f'unary energies have shape {unary.shape}; they are (H, W, classes), of 2 classes or more'
    )
  if image.ndim == 2:
    raise InputError(f'the picture has shape {image.shape}, without an axis of colors')
  if image.ndim != 3 or image.shape[:2] != unary.shape[:2]:
    raise InputError(
      f'the picture has shape {image.shape} and the unary energies {unary.shape}: height and width '
      'must be equal, (H, W, 3) and (H, W, classes)'
    )
  height, width, classes = unary.shape
  energies = unary.reshape(-1, classes).astype(np.float32)
  _check_choice('normalization', normalization, NORMALIZATIONS)
  _check_choice('method', method, METHODS)
  made, matrices = [], []
  if gaussian is not None:
    _check_term('gaussian', gaussian, '(sxy, compat)')
    made.append(smoothness_kernel(height, width, float(gaussian[0]), method, traced))
    matrices.append(compatibility_matrix(gaussian[-1], classes))
  if bilateral is not None:
    _check_term('bilateral', bilateral, '(sxy, srgb, compat)')
    colors = image.reshape(height * width, -1).astype(np.float32) / np.float32(bilateral[1])
    places = positions(height, width) / np.float32(bilateral[0])
    made.append(_kernel((places, colors), method, traced))
    matrices.append(compatibility_matrix(bilateral[-1], classes))
  for features, compat in kernels:
    features = features if _is_traced(features) else np.asarray(features)
    if features.ndim != 3 or features.shape[:2] != (height, width):
      raise InputError(
        f'features of a kernel have shape {np.shape(features)}; they are ({height}, {width}, d)'
      )
    features = features.reshape(height * width, -1).astype(np.float32)
    made.append(_kernel((features,), method, traced))
    matrices.append(compatibility_matrix(compat, classes))
  return assemble(energies, tuple(made), tuple(matrices), (normalization,) * len(made))


def assemble(unary, kernels: tuple, matrices: tuple, normalizations: tuple) -> Problem:
  """Puts a problem together from its parts: see `Problem`, and `dense_crf` of normalizations."""
  normalizers = tuple(map(_normalizers, kernels, normalizations))
  return Problem(unary, kernels, tuple(jnp.asarray(m, jnp.float32) for m in matrices), normalizers)


def compatibility_matrix(compat, classes: int) -> np.ndarray:
  """What pairs of labels cost, mu(l, l').

  The sign can't be got wrong: a weight w (labels that differ cost w) and C weights, one a class,
  are rewards of equal labels, and of C weights the sign is of no account; a matrix holds costs. A
  reward of equal labels is the same as a cost of others, but for what the softmax takes away.

  Args:
    compat: a weight w >= 0, C weights of one sign, or a (C, C) matrix, made symmetric.
    classes: C.

  Returns:
    float32 (C,), the diagonal of a diagonal matrix, or (C, C).

  Raises:
    InputError: another shape, not finite, or differing labels would be rewarded.
  """
  try:
    given = np.asarray(compat, np.float32)
  except (TypeError, ValueError):
    raise InputError(f'compatibility {compat!r} is neither a number nor an array of such') from None
  if not np.isfinite(given).all():
    raise InputError('a compatibility holds NaN or infinity')
  if given.ndim == 0:
    if given < 0:
      raise InputError(f'compatibility {compat} would reward labels that differ; take {-given:g}')
    return np.full(classes, -given)
  if given.shape == (classes,):
    if (given < 0).any() and (given > 0).any():
      raise InputError(f'compatibilities {given.tolist()} have different signs')
    return -abs(given)
  if given.shape != (classes, classes):
    raise InputError(
      f'a compatibility has shape {given.shape}; it is a weight, {classes} weights or a '
      f'{classes} x {classes} matrix'
    )
  equal = np.trace(given) / classes
  differ = (given.sum() - np.trace(given)) / (classes * (classes - 1))
  if equal > differ:
    raise InputError(
      f'a compatibility matrix holds costs, and this one has {equal:g} for equal labels and '
      f'{differ:g} for others, on average: it would reward labels that differ; turn its sign'
    )
  return (given + given.T) / 2


def positions(height: int, width: int) -> np.ndarray:
  """(H W, 2) float32, column and row of each pixel."""
  rows, columns = np.mgrid[:height, :width]
  return np.stack([columns, rows], -1).reshape(-1, 2).astype(np.float32)


def _kernel(features: tuple, method: str, traced: bool):
  """The kernel of features (N, d) that are given in parts."""
  if method == 'exact':
    return exact.ExactKernel(jnp.concatenate(features, 1))
  if traced:
    # Behind a barrier, since XLA would work out lattices of constants itself, for seconds.
    return lattices.build_traced(jax.lax.optimization_barrier(jnp.concatenate(features, 1)))
  return lattices.build(np.concatenate(features, 1))


def smoothness_kernel(height: int, width: int, sxy: float, method: str, traced: bool):
  """The kernel of positions alone; made in the program where that is being traced."""
  features = positions(height, width) / np.float32(sxy)
  if traced:
    features = jax.lax.optimization_barrier(jnp.asarray(features))  # See `_kernel`.
  if method == 'exact':
    return exact.ExactKernel(features)
  shared = smoothness_lattice(height, width, sxy)
  return lattices.build_traced(features, shared.neighbors.shape[-1]) if traced else shared


@functools.lru_cache(maxsize=8)
def smoothness_lattice(height: int, width: int, sxy: float) -> lattices.Lattice:
  """The lattice of positions alone, which all pictures of a size share; on the device."""
  with jax.ensure_compile_time_eval():
    return jax.device_put(lattices.build(positions(height, width) / np.float32(sxy)))


@functools.partial(jax.jit, static_argnums=1)
def _normalizers(kernel, normalization):
  one = jnp.ones((jax.tree.leaves(kernel)[0].shape[0], 1), jnp.float32)
  if normalization == 'none':
    return one, one
  total = _filter(kernel, one) + 1e-20
  if normalization == 'symmetric':
    return jax.lax.rsqrt(total), jax.lax.rsqrt(total)
  return (1 / total, one) if normalization == 'before' else (one, 1 / total)


def _filter(kernel, x):
  return (
    exact.apply(kernel, x) if isinstance(kernel, exact.ExactKernel) else lattices.apply(kernel, x)
  )


def _is_traced(*arrays) -> bool:
  return any(isinstance(array, Tracer) for array in arrays)


def _check_term(name, term, form):
  try:
    # Neither endless nor so small that colors of 255 couldn't be told in 32 bits.
    fits = len(term) == form.count(',') + 1 and all(1e-4 <= s < math.inf for s in term[:-1])
  except (TypeError, ValueError):
    fits = False
  if not fits:
    raise InputError(f'{name} is {term}; it is {form} with deviations above 0 (1e-4 or more)')


def _check_numbers(what, array):
  if array.dtype.kind not in 'fiub' or not np.isfinite(array).all():
    raise InputError(
      f'{what} hold NaN, infinity or what is no real number ({array.dtype}); clip probabilities '
      'before the logarithm'
    )


def _check_choice(name, value, choices):
  if value not in choices:
    raise InputError(f'{name} is {value!r}; choose {", ".join(choices)}')


# Its solution.


@jax.jit
def mean_field(problem: Problem, iterations: int, tolerance: float = 0.0, start=None):
  """Solves a problem.

  Args:
    problem: from `build_problem`.
    iterations: at most.
    tolerance: see `dense_crf`.
    start: (N, C) marginals to go on from; None for softmax(-unary).

  Returns:
    (N, C) marginals.
  """

  def unfinished(carry):
    done, _, change = carry
    return (done < iterations) & (change > tolerance)

  def iterate(carry):
    # Energies go from one iteration to the next, and marginals are made of them at its start: at
    # its end XLA would filter once for each pass of the softmax.
    done, energies, change = carry
    marginals = jax.nn.softmax(-energies)
    updated = update(problem, marginals)
    change = jax.lax.cond(  # As costly as a filter; only who has a tolerance pays for it.
      tolerance > 0, lambda: abs(jax.nn.softmax(-updated) - marginals).max(), lambda: change
    )
    return done + 1, updated, change

  energies = problem.unary if start is None else -jnp.log(start)
  carry = (jnp.int32(0), energies, jnp.float32(jnp.inf))
  return jax.nn.softmax(-jax.lax.while_loop(unfinished, iterate, carry)[1])


def unrolled_mean_field(problem: Problem, iterations: int):
  """The mean field's energies (N, C) after a fixed number of iterations, differentiable."""

  def iterate(energies, _):
    return update(problem, jax.nn.softmax(-energies)), None

  return jax.lax.scan(iterate, problem.unary, length=iterations)[0]


def update(problem: Problem, marginals):
  """One iteration: from marginals (N, C) to the energies (N, C) of the next ones."""
  energies = problem.unary
  for message in _messages(problem, marginals):
    energies = energies + message
  return energies


@jax.jit
def free_energy(problem: Problem, marginals):
  """What the mean field lowers: the divergence KL(Q || P) up to a constant.

  Args:
    problem: from `build_problem`.
    marginals: (N, C) Q.

  Returns:
    the scalar sum of Q log Q + Q unary + Q mu (K Q), float32.

  Source: Krähenbühl and Koltun 2013, `klDivergence` of their code, which does not halve the pairs.
  """
  entropy = marginals * jnp.log(jnp.maximum(marginals, 1e-20))
  return (entropy + marginals * update(problem, marginals)).sum()


def _messages(problem, marginals):
  for kernel, cost, (before, after) in zip(
    problem.kernels, problem.compatibility_matrices, problem.normalizers
  ):
    filtered = _filter(kernel, marginals * before) * after
    yield filtered * cost[None] if cost.ndim == 1 else filtered @ cost

"""The fully connected CRF of an image, with Gaussian edge potentials.

  marginals = dense_crf(-np.log(probabilities), image)

or step by step, to watch it:

  problem = build_problem(unary, image)
  marginals = mean_field.solve(problem, iterations=10)
  mean_field.free_energy(problem, marginals)

Source: Krähenbühl and Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials".
"""

from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import Any, TypeAlias

import jax
from jaxtyping import Float, Float32, Real
import numpy as np

from dilated_jax.crf import checks, mean_field
from dilated_jax.crf.kernels import (
  METHODS,
  Method,
  build_kernel,
  is_traced,
  positions,
  smoothness_kernel,
)
from dilated_jax.crf.lattice import room_for
from dilated_jax.crf.mean_field import NORMALIZATIONS, Normalization
from dilated_jax.errors import InputError
from dilated_jax.typing import AnyArray

# A weight, one for each class, or a matrix; see `compatibility_matrix`.
Compatibility: TypeAlias = float | Sequence | Real[AnyArray, '...']
Gaussian: TypeAlias = tuple[float, Compatibility]
Bilateral: TypeAlias = tuple[float, float, Compatibility]
FurtherKernels: TypeAlias = Sequence[tuple[Real[AnyArray, 'h w _'], Compatibility]]


def dense_crf(
  unary: Real[AnyArray, '*batch h w c'],
  image: Real[AnyArray, '*batch h w f'],
  *,
  gaussian: Gaussian | None = (3, 3),
  bilateral: Bilateral | None = (80, 13, 10),
  kernels: FurtherKernels = (),
  iterations: int | np.integer = 10,
  normalization: Normalization = 'symmetric',
  tolerance: float = 0.0,
  method: Method = 'lattice',
) -> Float32[AnyArray, '*batch h w c']:
  """The marginals of the dense CRF of an image, by mean field.

  The energy is the sum of unary(x_i) over all pixels and of k(i, j) mu(x_i, x_j) over all pairs.
  The kernel k is a Gaussian of positions (smoothness) plus a Gaussian of positions and colors
  (appearance). Each iteration updates all pixels, Q <- softmax(-unary - sum of mu (K Q)), starting
  from Q = softmax(-unary).

  It also works inside `jax.jit`, `jax.vmap` and `jax.grad` (reverse mode), and returns JAX arrays
  there. Options are static then, all iterations are done, and values can't be checked: if an image
  is too rough for the number of lattice points (`lattice.build_traced`), the result is NaN.

  Args:
    unary: energies, -log p; any real dtype and memory order. With a leading axis, those of several
      images.
    image: RGB (H, W, 3) of 0..255, uint8 or float; or any features in place of colors, (H, W, F).
    gaussian: (sxy, compat): standard deviation in pixels, and compatibility (see
      `compatibility_matrix`). None leaves the term out.
    bilateral: (sxy, srgb, compat): the same, and the standard deviation of colors, 0..255. None
      leaves the term out.
    kernels: further ones: (features, compat) each, features in units of their standard deviations.
    iterations: the largest number of iterations of the mean field.
    normalization: of the filtered marginals by n = K 1: 'symmetric' n^-1/2 K n^-1/2, 'after' 1/n K,
      'before' K 1/n, 'none'.
    tolerance: stop when no marginal changes by more than this; 0 never stops early. Not for
      gradients.
    method: of filtering: 'lattice', or 'exact' with N^2 operations for N pixels.

  Returns:
    The marginals, which add up to 1 at each pixel.

  Raises:
    InputError: shapes that do not fit, values that are not finite, probabilities in place of
      energies, colors of 0..1 beside a standard deviation for 0..255, a standard deviation of 0 or
      less, or a compatibility that would reward different labels.

  >>> import numpy as np
  >>> probabilities, image = np.full((6, 8, 3), 1 / 3), np.zeros((6, 8, 3), np.uint8)
  >>> dense_crf(-np.log(probabilities), image).shape
  (6, 8, 3)
  """
  options: dict[str, Any] = dict(
    gaussian=gaussian,
    bilateral=bilateral,
    kernels=kernels,
    normalization=normalization,
    method=method,
  )
  if np.ndim(unary) == 4:
    if np.ndim(image) != 4 or len(unary) != len(image) or not len(unary):
      raise InputError(f'{len(unary)} maps of unary energies, and images of {np.shape(image)}')
    if kernels:
      raise InputError('kernels are for one image; call dense_crf for each')
    one = functools.partial(dense_crf, iterations=iterations, tolerance=tolerance, **options)
    if is_traced(unary, image):
      return jax.lax.map(lambda pair: one(*pair), (unary, image))
    return np.stack([one(u, i) for u, i in zip(unary, image, strict=True)])
  if not isinstance(iterations, (int, np.integer)) or iterations < 0:
    raise InputError(f'iterations is {iterations!r}; it must be a whole number, 0 or more')
  if not isinstance(tolerance, (int, float)) or not tolerance >= 0:
    raise InputError(f'tolerance is {tolerance!r}; it must be 0 or more')
  pixels, room = math.prod(np.shape(unary)[:2]), None
  if method == 'lattice' and not _is_traced(unary, image, kernels):
    room = room_for(pixels)
  problem = build_problem(unary, image, room=room, **options)
  if is_traced(*jax.tree.leaves(problem)):
    marginals = mean_field.softmax(mean_field.unrolled_logits(problem, int(iterations)))
  else:
    marginals = np.array(mean_field.solve(problem, iterations, tolerance))
  return marginals[:pixels].reshape(np.shape(unary))


@dataclasses.dataclass(frozen=True)
class DenseCrf:
  """`dense_crf` with fixed options, from probabilities to marginals.

  Attributes:
    gaussian: as for `dense_crf`, and so are the others.
  """

  gaussian: Gaussian | None = (3, 3)
  bilateral: Bilateral | None = (80, 13, 10)
  iterations: int = 10
  normalization: Normalization = 'symmetric'
  tolerance: float = 0.0

  def __call__(
    self, probabilities: Float[np.ndarray, 'h w c'], image: Real[np.ndarray, 'h w f']
  ) -> Float32[np.ndarray, 'h w c']:
    """Refines the probabilities of an image; those below 1e-5 are raised to it.

    Raises:
      InputError: the probabilities do not lie in 0..1, or as `dense_crf` does.
    """
    checks.check_probabilities(np.asarray(probabilities))
    refined = dense_crf(unary_energies(probabilities), image, **dataclasses.asdict(self))
    return np.asarray(refined)


def unary_energies(probabilities: Float[np.ndarray, '...']) -> Float[np.ndarray, '...']:
  """Unary energies -log p, after raising probabilities below 1e-5 to it."""
  return -np.log(np.clip(probabilities, 1e-5, 1.0))


def build_problem(
  unary: Real[AnyArray, 'h w c'],
  image: Real[AnyArray, 'h w f'],
  *,
  gaussian: Gaussian | None = (3, 3),
  bilateral: Bilateral | None = (80, 13, 10),
  kernels: FurtherKernels = (),
  normalization: Normalization = 'symmetric',
  method: Method = 'lattice',
  room: int | None = None,
) -> mean_field.Problem:
  """Sets up the dense CRF of an image.

  Args:
    unary: as for `dense_crf`, and so are the others.
    image: see there.
    gaussian: see there.
    bilateral: see there.
    kernels: see there.
    normalization: see there.
    method: see there.
    room: the number N of pixels of the problem, H W or more, as of `lattice.room_for`, so that
      problems of images of many sizes share compiled programs. For those beyond all classes are
      equal, and they are in no kernel. Not inside of such programs, nor for `method='exact'`.
      None: H W.

  Returns:
    The problem, of N pixels.

  Raises:
    InputError: as `dense_crf` does, or `room` is too small or not for such a problem.
  """
  traced = _is_traced(unary, image, kernels)
  if not traced:
    unary, image = np.asarray(unary), np.asarray(image)
  checks.check_shapes(unary, image)
  checks.check_choice('normalization', normalization, NORMALIZATIONS)
  checks.check_choice('method', method, METHODS)
  if not traced:
    checks.check_energies(unary)
    checks.check_numbers('pixels of the image', image)
  if room is not None and (traced or method == 'exact'):
    raise InputError('`room` is for lattices that are built outside of compiled programs')
  height, width, classes = unary.shape
  built, matrices = [], []
  if gaussian is not None:
    checks.check_term('gaussian', gaussian, '(sxy, compat)')
    built.append(smoothness_kernel(height, width, float(gaussian[0]), method, traced, room))
    matrices.append(compatibility_matrix(gaussian[-1], classes))
  if bilateral is not None:
    checks.check_term('bilateral', bilateral, '(sxy, srgb, compat)')
    if not traced:
      checks.check_color_scale(image, bilateral[1])
    colors = image.reshape(height * width, -1).astype(np.float32) / np.float32(bilateral[1])
    scaled = positions(height, width) / np.float32(bilateral[0])
    built.append(build_kernel((scaled, colors), method, traced, room))
    matrices.append(compatibility_matrix(bilateral[-1], classes))
  for features, compat in kernels:
    features = features if is_traced(features) else np.asarray(features)
    if features.ndim != 3 or features.shape[:2] != (height, width):
      raise InputError(
        f'features of a kernel have shape {np.shape(features)}; they are ({height}, {width}, d)'
      )
    features = features.reshape(height * width, -1).astype(np.float32)
    built.append(build_kernel((features,), method, traced, room))
    matrices.append(compatibility_matrix(compat, classes))
  energies = unary.reshape(-1, classes).astype(np.float32)
  if room is not None:
    energies = np.pad(energies, ((0, room - len(energies)), (0, 0)))
  return mean_field.assemble(energies, built, matrices, (normalization,) * len(built))


def _is_traced(unary, image, kernels: FurtherKernels) -> bool:
  """Whether lattices are to be built inside the program that is being traced."""
  return is_traced(unary, image, *(features for features, _ in kernels))


def compatibility_matrix(
  compat: Compatibility, classes: int
) -> Float32[np.ndarray, ' {classes}'] | Float32[np.ndarray, '{classes} {classes}']:
  """The cost mu(l, l') of each pair of labels.

  A wrong sign is caught. A weight w is the cost of two different labels. C weights, one for each
  class, are rewards of equal labels, whatever their common sign. A matrix holds costs. (To reward
  equal labels is the same as to charge for all others, up to a constant, which the softmax
  removes.)

  Args:
    compat: a weight of 0 or more, C weights of one sign, or a (C, C) matrix, which is made
      symmetric.
    classes: C.

  Returns:
    The matrix, or its diagonal if it has only that.

  Raises:
    InputError: it has another shape, is not finite, or would reward different labels.
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

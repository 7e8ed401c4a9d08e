"""The fully connected CRF with Gaussian edge potentials, and its mean field."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.crf import exact, lattice as lattices
from dilated_jax.errors import InputError

NORMALIZATIONS = ('none', 'before', 'after', 'symmetric')


def dense_crf(
  unary,
  image,
  *,
  gaussian=(3, 3),
  bilateral=(80, 13, 10),
  iterations: int = 10,
  normalization: str = 'symmetric',
):
  """Marginals of the dense CRF of a picture, by mean field.

  The energy is the sum of unary(x_i) over pixels and of k(i, j) mu(x_i, x_j) over pairs. The kernel
  k is a Gaussian of the positions (smoothness) and one of positions and colours (appearance). Each
  iteration updates all pixels, Q <- softmax(-unary - sum of mu (K Q)), from Q = softmax(-unary).

  Args:
    unary: (H, W, C) energies, -log p; any real dtype and memory order.
    image: (H, W, 3) uint8 RGB; or (H, W, F) numbers, the features that stand for colour.
    gaussian: (sxy, compat): standard deviation in pixels, and compatibility; None for no such term.
    bilateral: (sxy, srgb, compat): the same with the deviation of colour, 0..255; or None.
      A compatibility is a weight w >= 0 (Potts: labels that differ cost w), C weights, one a class,
      or a (C, C) matrix of costs, which is made symmetric.
    iterations: of the mean field.
    normalization: of the filtered marginals by n = K 1: 'symmetric' n^-1/2 K n^-1/2, 'after' 1/n K,
      'before' K 1/n, 'none'.

  Returns:
    (H, W, C) float32 marginals, each pixel's add up to 1.

  Raises:
    InputError: shapes that don't fit, numbers that aren't finite, a negative deviation or weight.

  Source: Krähenbühl and Koltun 2011, Algorithm 1; normalisations of their 2013 code.
  """
  unary, image = np.asarray(unary), np.asarray(image)
  if unary.ndim != 3 or unary.shape[2] < 2:
    raise InputError(f'unary energies have shape {unary.shape}; they are (H, W, classes)')
  if image.ndim != 3 or image.shape[:2] != unary.shape[:2]:
    raise InputError(
      f'the picture has shape {image.shape} and the unary energies {unary.shape}: height and width '
      'must be equal, (H, W, 3) and (H, W, classes)'
    )
  if not np.isfinite(unary).all():
    raise InputError('unary energies hold NaN or infinity; clip probabilities before the logarithm')
  if normalization not in NORMALIZATIONS:
    raise InputError(f'normalization is {normalization!r}; choose {", ".join(NORMALIZATIONS)}')
  if iterations < 0:
    raise InputError(f'iterations is {iterations}; it must be 0 or more')
  height, width, classes = unary.shape
  kernels, matrices = [], []
  for name, term, count in (('gaussian', gaussian, 2), ('bilateral', bilateral, 3)):
    if term is None:
      continue
    if len(term) != count or not all(np.isfinite(s) and s > 0 for s in term[:-1]):
      wanted = ('(sxy, compat)', '(sxy, srgb, compat)')[count - 2]
      raise InputError(f'{name} is {term}; it is {wanted} with deviations above 0')
    if count == 2:
      kernels.append(_smoothness(height, width, float(term[0])))
    else:
      colours = image.reshape(height * width, -1).astype(np.float32) / np.float32(term[1])
      places = positions(height, width) / np.float32(term[0])
      kernels.append(lattices.build(np.concatenate([places, colours], 1)))
    matrices.append(compatibility(term[-1], classes))
  unaries = jnp.asarray(unary.reshape(-1, classes), jnp.float32)
  marginals = mean_field(unaries, tuple(kernels), tuple(matrices), iterations, normalization)
  return np.asarray(marginals).reshape(unary.shape)


@dataclasses.dataclass(frozen=True)
class DenseCrf:
  """`dense_crf` with its options settled, from probabilities to marginals.

  Attributes:
    gaussian: see `dense_crf`.
    bilateral: see `dense_crf`.
    iterations: see `dense_crf`.
    normalization: see `dense_crf`.
  """

  gaussian: tuple = (3, 3)
  bilateral: tuple = (80, 13, 10)
  iterations: int = 10
  normalization: str = 'symmetric'

  def __call__(self, probabilities, image) -> np.ndarray:
    """Refines (H, W, C) probabilities of a picture, of which 1e-5 is the least that counts."""
    unary = -np.log(np.clip(probabilities, 1e-5, 1.0))
    return dense_crf(unary, image, **dataclasses.asdict(self))


@functools.lru_cache(maxsize=8)
def _smoothness(height: int, width: int, sxy: float) -> lattices.Lattice:
  """The lattice of positions alone, which is that of all pictures of the size."""
  return jax.device_put(lattices.build(positions(height, width) / np.float32(sxy)))


def positions(height: int, width: int) -> np.ndarray:
  """(H W, 2) float32, column and row of each pixel."""
  rows, columns = np.mgrid[:height, :width]
  return np.stack([columns, rows], -1).reshape(-1, 2).astype(np.float32)


def compatibility(value, classes: int) -> np.ndarray:
  """(C, C) float32 matrix mu of what a pair of labels costs.

  Args:
    value: a weight (Potts), C weights or a (C, C) matrix.
    classes: C.

  Returns:
    the matrix. A weight w rewards equal labels, -w I, which differs from w where labels differ by a
    constant that the softmax takes away.

  Raises:
    InputError: another shape, not finite, or negative weights, which would reward noise.
  """
  value = np.asarray(value, np.float32)
  if not np.isfinite(value).all():
    raise InputError('a compatibility holds NaN or infinity')
  if value.ndim < 2 and value.shape in ((), (classes,)):
    if (value < 0).any():
      raise InputError(
        f'compatibility {value.tolist()} is negative and would reward labels that differ; '
        'weights are 0 or more'
      )
    return -np.diag(np.broadcast_to(value, classes))
  if value.shape != (classes, classes):
    raise InputError(
      f'a compatibility has shape {value.shape}; it is a weight, {classes} weights or a '
      f'{classes} x {classes} matrix'
    )
  return (value + value.T) / 2


@functools.partial(jax.jit, static_argnums=(3, 4))
def mean_field(unary, kernels, matrices, iterations: int, normalization: str):
  """Marginals by the mean field; see `energies`."""
  return jax.nn.softmax(-energies(unary, kernels, matrices, iterations, normalization))


def energies(unary, kernels, matrices, iterations: int, normalization: str):
  """The mean field of any number of kernels.

  Args:
    unary: (N, C) energies.
    kernels: a `lattice.Lattice` or `exact.Exact` each.
    matrices: (C, C) each, which turn filtered marginals into energies: messages @ matrix.
    iterations: how many.
    normalization: see `dense_crf`.

  Returns:
    (N, C) energies, whose softmax with a minus are the marginals.
  """
  norms = [_norms(kernel, unary.dtype, normalization) for kernel in kernels]

  def iterate(cost, _):
    marginals = jax.nn.softmax(-cost)
    cost = unary
    for kernel, matrix, (before, after) in zip(kernels, matrices, norms):
      cost = cost + (_filter(kernel, marginals * before) * after) @ matrix
    return cost, None

  return jax.lax.scan(iterate, unary, length=iterations)[0]


def _filter(kernel, x):
  return exact.apply(kernel, x) if isinstance(kernel, exact.Exact) else lattices.apply(kernel, x)


def _norms(kernel, dtype, normalization):
  """Factors (N, 1) before and after the filter."""
  count = jax.tree.leaves(kernel)[0].shape[0]
  one = jnp.ones((count, 1), dtype)
  if normalization == 'none':
    return one, one
  total = _filter(kernel, one) + 1e-20
  if normalization == 'symmetric':
    return jax.lax.rsqrt(total), jax.lax.rsqrt(total)
  return (1 / total, one) if normalization == 'before' else (one, 1 / total)

"""The classes and constants of pydensecrf.densecrf."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax
from jaxtyping import Float32, Integer, Real
import numpy as np

from dilated_jax.crf import lattice, mean_field
from dilated_jax.crf.checks import check_color_scale, check_energies
from dilated_jax.crf.kernels import Kernel, positions
from dilated_jax.errors import InputError

# A weight, one for each label, or a matrix.
Compatibility: TypeAlias = float | Sequence | Real[np.ndarray, '...']
Deviations: TypeAlias = float | Sequence | Real[np.ndarray, '...']

# How pydensecrf learns the parameters of a kernel, which is not done here: all three filter alike.
CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = range(3)
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = range(4)


class ConstUnary(NamedTuple):
  """Energies (labels, variables), for `setUnary`."""

  u: np.ndarray


class LogisticUnary(NamedTuple):
  """Energies L f of weights (labels, d) and features (d, variables), for `setUnary`."""

  L: np.ndarray
  f: np.ndarray


class DenseCRF:
  """A dense CRF of `nvar` variables and `nlabels` labels.

  Arrays are (labels, variables); methods raise InputError for wrong shapes and values.
  """

  def __init__(self, nvar: int, nlabels: int):
    self._shape = (nlabels, nvar)
    self._room = lattice.room_for(nvar)  # Problems of about one size share compiled programs.
    self._unary = None
    self._kernels: list[Kernel] = []
    self._matrices: list[np.ndarray] = []
    self._normalizations: list[mean_field.Normalization] = []
    self._assembled = None  # Cleared when anything is set or added.

  def setUnaryEnergy(
    self,
    u: Real[np.ndarray, 'labels columns'],
    f: Real[np.ndarray, 'columns variables'] | None = None,
  ) -> None:
    """Sets the energies: -log p, or the matrix product of `u` with the features `f`."""
    u = np.asarray(u)
    if f is not None:
      f = np.asarray(f)
      if u.ndim != 2 or f.ndim != 2 or u.shape[1] != len(f):
        raise InputError(f'a product of matrices {u.shape} and {f.shape} is not defined')
      u = u @ f
    if u.shape != self._shape:
      raise InputError(f'unary energies have shape {u.shape}; they are {self._shape}')
    check_energies(u.T)
    self._unary = self._padded(u)
    self._assembled = None

  def setUnary(self, unary: 'ConstUnary | LogisticUnary') -> None:
    """Sets the energies of an object that holds them."""
    self.setUnaryEnergy(*unary)

  def addPairwiseEnergy(
    self,
    features: Real[np.ndarray, 'd variables'],
    compat: Compatibility,
    kernel: int = DIAG_KERNEL,
    normalization: int = NORMALIZE_SYMMETRIC,
  ) -> None:
    """Adds a Gaussian kernel.

    Args:
      features: in units of their standard deviations.
      compat: a weight, (labels,) or (labels, labels).
      kernel: makes no difference.
      normalization: one of the four constants.
    """
    del kernel
    features = np.asarray(features)
    if features.ndim != 2 or features.shape[1] != self._shape[1]:
      raise InputError(f'features have shape {features.shape}; they are (d, {self._shape[1]})')
    self._add(features.T, compat, normalization)

  def inference(self, niter: int) -> Float32[np.ndarray, 'labels variables']:
    """The marginals after `niter` iterations."""
    if niter < 0:
      raise InputError(f'niter is {niter}; it must be 0 or more')
    return self._cut(mean_field.solve(self._problem(), niter))

  def map(self, niter: int) -> Integer[np.ndarray, ' variables']:
    """The most probable labels after `niter` iterations."""
    return self.inference(niter).argmax(0)

  def startInference(
    self,
  ) -> tuple[Float32[np.ndarray, 'labels variables'], np.ndarray, np.ndarray]:
    """The marginals before the first iteration, and two empty arrays for `stepInference`."""
    return self._cut(jax.nn.softmax(-self._problem().unary)), np.empty(0), np.empty(0)

  def stepInference(
    self,
    Q: Float32[np.ndarray, 'labels variables'],
    tmp1: np.ndarray | None = None,
    tmp2: np.ndarray | None = None,
  ) -> None:
    """Does one iteration, in place."""
    del tmp1, tmp2
    Q[...] = self._cut(jax.nn.softmax(_update(self._problem(), self._padded(Q))))

  def klDivergence(self, Q: Float32[np.ndarray, 'labels variables']) -> float:
    """The divergence of marginals from the model, up to a constant."""
    return float(mean_field.free_energy(self._problem(), self._padded(Q)))  # Of zeros it is 0.

  def _padded(self, of_variables) -> np.ndarray:
    """(labels, nvar) as (room, labels), with zeros."""
    given = np.asarray(of_variables, np.float32)
    if given.shape != self._shape:
      raise InputError(f'marginals have shape {given.shape}; they are {self._shape}')
    return np.pad(given.T, ((0, self._room - self._shape[1]), (0, 0)))

  def _cut(self, of_room) -> np.ndarray:
    """(room, labels) as (labels, nvar)."""
    return np.array(np.asarray(of_room)[: self._shape[1]].T)

  def _add(self, features, compat, normalization: int) -> None:
    labels, _ = self._shape
    try:
      matrix = np.asarray(compat, np.float32)
    except (TypeError, ValueError):
      matrix = np.full((), np.nan)
    if not np.isfinite(matrix).all():
      raise InputError(f'compat is {compat!r}; give numbers')
    if matrix.shape not in ((), (labels,), (labels, labels)):
      raise InputError(
        f'compat has shape {matrix.shape}; a weight, {labels} or {labels} x {labels}'
      )
    if normalization not in range(4):
      raise InputError(f'normalization is {normalization}; take one of the four constants')
    if matrix.ndim == 0:
      matrix = np.full(labels, -matrix)
    self._kernels.append(lattice.build(features, self._room))
    self._matrices.append((matrix + matrix.T) / 2)
    self._normalizations.append(mean_field.NORMALIZATIONS[normalization])
    self._assembled = None

  def _problem(self) -> mean_field.Problem:
    if self._unary is None:
      raise InputError('no unary energies: call setUnaryEnergy first')
    if self._assembled is None:
      self._assembled = mean_field.assemble(
        self._unary, self._kernels, self._matrices, self._normalizations
      )
    return self._assembled


class DenseCRF2D(DenseCRF):
  """A dense CRF of the pixels of an image of `w` x `h`."""

  def __init__(self, w: int, h: int, nlabels: int):
    super().__init__(w * h, nlabels)
    self._size = (h, w)

  def addPairwiseGaussian(
    self,
    sxy: Deviations,
    compat: Compatibility,
    kernel: int = DIAG_KERNEL,
    normalization: int = NORMALIZE_SYMMETRIC,
  ) -> None:
    """Adds the smoothness kernel, with standard deviation `sxy` in pixels: one, or (x, y)."""
    del kernel
    self._add(positions(*self._size) / deviations(sxy, 2), compat, normalization)

  def addPairwiseBilateral(
    self,
    sxy: Deviations,
    srgb: Deviations,
    rgbim: Real[np.ndarray, 'h w 3'],
    compat: Compatibility,
    kernel: int = DIAG_KERNEL,
    normalization: int = NORMALIZE_SYMMETRIC,
  ) -> None:
    """Adds the appearance kernel of an image, with the standard deviations `sxy` and `srgb`."""
    del kernel
    image = np.asarray(rgbim)
    if image.shape != (*self._size, 3):
      raise InputError(f'the image has shape {image.shape}; it is {(*self._size, 3)}')
    check_color_scale(image, srgb)
    scaled = positions(*self._size) / deviations(sxy, 2)
    colors = image.reshape(-1, 3).astype(np.float32) / deviations(srgb, 3)
    self._add(np.concatenate([scaled, colors], 1), compat, normalization)


def deviations(given: Deviations, count: int) -> np.ndarray:
  """Returns `count` standard deviations above 0, given as one number or as many."""
  values = np.full(count, given) if np.ndim(given) == 0 else np.asarray(given)
  if values.shape != (count,) or not (values > 0).all():
    raise InputError(f'standard deviations are {values.tolist()}; give {count} above 0')
  return values.astype(np.float32)


_update = jax.jit(mean_field.update)

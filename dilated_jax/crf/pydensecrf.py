"""The names, argument order and conventions of pydensecrf, for programs written for it.

  from dilated_jax.crf import pydensecrf as dcrf

  crf = dcrf.DenseCRF2D(width, height, classes)
  crf.setUnaryEnergy(dcrf.unary_from_softmax(probabilities))  # (classes, height, width)
  crf.addPairwiseGaussian(sxy=3, compat=3)
  crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
  marginals = crf.inference(5)  # (classes, height * width)

As in pydensecrf, a scalar compat rewards equal labels, whereas the entries of a vector or a matrix
are costs. New programs better use `dense_crf`, which catches wrong signs. Arrays may have any dtype
and memory order.
"""

from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Float32, Integer, Real
import numpy as np

from dilated_jax.crf import lattice, mean_field
from dilated_jax.crf.kernels import Kernel, positions
from dilated_jax.errors import InputError

# A weight, one for each label, or a matrix.
Compatibility: TypeAlias = float | Sequence | Real[np.ndarray, '...']
Deviations: TypeAlias = float | Sequence | Real[np.ndarray, '...']

# How pydensecrf learns the parameters of a kernel, which is not done here: all three filter alike.
CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = range(3)
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = range(4)


class DenseCRF:
  """A dense CRF of `nvar` variables and `nlabels` labels.

  Arrays are (labels, variables); methods raise InputError for wrong shapes and values.
  """

  def __init__(self, nvar: int, nlabels: int):
    self._shape = (nlabels, nvar)
    self._unary = None
    self._kernels: list[Kernel] = []
    self._matrices: list[np.ndarray] = []
    self._normalizations: list[mean_field.Normalization] = []
    self._assembled = None  # Cleared when anything is set or added.

  def setUnaryEnergy(self, u: Real[np.ndarray, 'labels variables']) -> None:
    """Sets the energies, -log p."""
    u = np.asarray(u)
    if u.shape != self._shape:
      raise InputError(f'unary energies have shape {u.shape}; they are {self._shape}')
    if not np.isfinite(u).all():
      raise InputError('unary energies hold NaN or infinity')
    self._unary = jnp.asarray(u.T, jnp.float32)
    self._assembled = None

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
    self._add(lattice.build(features.T), compat, normalization)

  def inference(self, niter: int) -> Float32[np.ndarray, 'labels variables']:
    """The marginals after `niter` iterations."""
    if niter < 0:
      raise InputError(f'niter is {niter}; it must be 0 or more')
    return np.array(mean_field.solve(self._problem(), niter).T)

  def map(self, niter: int) -> Integer[np.ndarray, ' variables']:
    """The most probable labels after `niter` iterations."""
    return self.inference(niter).argmax(0)

  def startInference(
    self,
  ) -> tuple[Float32[np.ndarray, 'labels variables'], np.ndarray, np.ndarray]:
    """The marginals before the first iteration, and two empty arrays for `stepInference`."""
    return np.array(jax.nn.softmax(-self._problem().unary).T), np.empty(0), np.empty(0)

  def stepInference(
    self,
    Q: Float32[np.ndarray, 'labels variables'],
    tmp1: np.ndarray | None = None,
    tmp2: np.ndarray | None = None,
  ) -> None:
    """Does one iteration, in place."""
    del tmp1, tmp2
    Q[...] = jax.nn.softmax(-_update(self._problem(), jnp.asarray(Q.T))).T

  def klDivergence(self, Q: Float32[np.ndarray, 'labels variables']) -> float:
    """The divergence of marginals from the model, up to a constant."""
    return float(mean_field.free_energy(self._problem(), jnp.asarray(np.asarray(Q).T)))

  def _add(self, kernel: Kernel, compat, normalization: int) -> None:
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
    self._kernels.append(kernel)
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
    features = positions(*self._size) / _deviations(sxy, 2)
    self._add(lattice.build(features), compat, normalization)

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
    scaled = positions(*self._size) / _deviations(sxy, 2)
    colors = image.reshape(-1, 3).astype(np.float32) / _deviations(srgb, 3)
    self._add(lattice.build(np.concatenate([scaled, colors], 1)), compat, normalization)


def unary_from_labels(
  labels: Integer[np.ndarray, '...'], n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> Float32[np.ndarray, '{n_labels} variables']:
  """Energies of a label map that is right with probability `gt_prob`.

  Mind `zero_unsure`, the default of pydensecrf: label 0 then means 'could be anything', and the
  labels are 1 .. n_labels.
  """
  labels = np.asarray(labels).ravel().astype(np.int64)
  first = 1 if zero_unsure else 0
  if n_labels < 2:
    raise InputError(f'n_labels is {n_labels}; it is 2 or more')
  if not 0 < gt_prob < 1:
    raise InputError(f'gt_prob is {gt_prob}; it is between 0 and 1')
  if labels.size and not 0 <= labels.min() <= labels.max() < n_labels + first:
    raise InputError(f'labels are {labels.min()} to {labels.max()}, of {n_labels} labels')
  others = (1 - gt_prob) / (n_labels - 1)
  energies = np.where(labels - first == np.arange(n_labels)[:, None], gt_prob, others)
  if zero_unsure:
    energies[:, labels == 0] = 1 / n_labels
  return -np.log(energies).astype(np.float32)


def unary_from_softmax(
  sm: Real[np.ndarray, 'classes ...'], scale: float | None = None, clip: float | None = 1e-5
) -> Float32[np.ndarray, 'classes variables']:
  """Energies of probabilities.

  With `scale` they become scale p + (1 - scale) / classes. Those below `clip` are raised to it.
  """
  sm = np.asarray(sm)
  if scale is not None:
    if not 0 < scale <= 1:
      raise InputError(f'scale is {scale}; it is above 0 and at most 1')
    sm = scale * sm + (1 - scale) / len(sm)
  if clip is not None:
    sm = np.clip(sm, clip, 1.0)
  return -np.log(sm).reshape(len(sm), -1).astype(np.float32)


def create_pairwise_gaussian(
  sdims: Deviations, shape: Sequence[int]
) -> Float32[np.ndarray, 'dimensions variables']:
  """Features of the positions in an array of any shape, with standard deviations `sdims`."""
  mesh = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij')).astype(np.float32)
  return (mesh.reshape(len(shape), -1).T / _deviations(sdims, len(shape))).T


def create_pairwise_bilateral(
  sdims: Deviations, schan: Deviations, img: Real[np.ndarray, '...'], chdim: int = -1
) -> Float32[np.ndarray, 'features variables']:
  """Features of the positions and of the values in an array: one per dimension and per channel.

  Args:
    sdims: standard deviations of the positions, one per dimension.
    schan: standard deviations of the values, one number or one per channel.
    img: the array.
    chdim: the axis of its channels; -1 if it has none.
  """
  img = np.asarray(img)
  channels = img[None] if chdim == -1 else np.moveaxis(img, chdim, 0)
  values = channels.reshape(len(channels), -1).astype(np.float32)
  values = (values.T / _deviations(schan, len(channels))).T
  return np.concatenate([create_pairwise_gaussian(sdims, channels.shape[1:]), values])


_update = jax.jit(mean_field.update)


def _deviations(given: Deviations, count: int) -> np.ndarray:
  values = np.full(count, given) if np.ndim(given) == 0 else np.asarray(given)
  if values.shape != (count,) or not (values > 0).all():
    raise InputError(f'standard deviations are {values.tolist()}; give {count} above 0')
  return values.astype(np.float32)

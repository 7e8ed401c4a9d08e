"""For those who come from pydensecrf: its names, argument order and conventions, on our filters.

  from dilated_jax.crf import pydensecrf as dcrf

  crf = dcrf.DenseCRF2D(width, height, classes)
  crf.setUnaryEnergy(dcrf.unary_from_softmax(probabilities))  # (classes, height, width)
  crf.addPairwiseGaussian(sxy=3, compat=3)
  crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
  marginals = crf.inference(5)  # (classes, height * width)

Here, as there, a scalar compat rewards equal labels, and the entries of a vector or a matrix are
costs; `dense_crf` is the safer one to write anew. Arrays may have any dtype and memory order.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.crf import dense, lattice
from dilated_jax.errors import InputError

# Of kernels whose parameters are learnt, which they are not here; all three filter alike.
CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = range(3)
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = range(4)


class DenseCRF:
  """A dense CRF of `nvar` variables and `nlabels` labels; arrays are (labels, variables)."""

  def __init__(self, nvar: int, nlabels: int):
    self._shape = (nlabels, nvar)
    self._unary = None
    self._kernels, self._costs, self._normalizations = [], [], []
    self._assembled = None  # Until something is set or added.

  def setUnaryEnergy(self, u) -> None:
    """Sets the energies -log p, (labels, variables)."""
    u = np.asarray(u)
    if u.shape != self._shape:
      raise InputError(f'unary energies have shape {u.shape}; they are {self._shape}')
    if not np.isfinite(u).all():
      raise InputError('unary energies hold NaN or infinity')
    self._unary = jnp.asarray(u.T, jnp.float32)
    self._assembled = None

  def addPairwiseEnergy(
    self, features, compat, kernel=DIAG_KERNEL, normalization=NORMALIZE_SYMMETRIC
  ) -> None:
    """Adds a Gaussian kernel.

    Args:
      features: (d, variables), in units of their standard deviations.
      compat: a weight, (labels,) or (labels, labels).
      kernel: of no account.
      normalization: one of the four constants.
    """
    features = np.asarray(features)
    if features.ndim != 2 or features.shape[1] != self._shape[1]:
      raise InputError(f'features have shape {features.shape}; they are (d, {self._shape[1]})')
    self._add(lattice.build(features.T), compat, normalization)

  def inference(self, niter: int) -> np.ndarray:
    """Marginals (labels, variables) after so many iterations."""
    if niter < 0:
      raise InputError(f'niter is {niter}; it must be 0 or more')
    return np.array(dense.mean_field(self._problem(), niter).T)

  def map(self, niter: int) -> np.ndarray:
    """The most probable labels (variables,) after so many iterations."""
    return self.inference(niter).argmax(0)

  def startInference(self):
    """Marginals before the first iteration, and two arrays that `stepInference` asks for."""
    return np.array(jax.nn.softmax(-self._problem().unary).T), np.empty(0), np.empty(0)

  def stepInference(self, Q, tmp1=None, tmp2=None) -> None:
    """One iteration, in place."""
    del tmp1, tmp2
    Q[...] = jax.nn.softmax(-_update(self._problem(), jnp.asarray(Q.T))).T

  def klDivergence(self, Q) -> float:
    """The divergence of marginals (labels, variables) from the model, up to a constant."""
    return float(dense.free_energy(self._problem(), jnp.asarray(np.asarray(Q).T)))

  def _add(self, kernel, compat, normalization):
    labels, _ = self._shape
    try:
      compatibility_matrix = np.asarray(compat, np.float32)
    except (TypeError, ValueError):
      compatibility_matrix = np.full((), np.nan)
    if not np.isfinite(compatibility_matrix).all():
      raise InputError(f'compat is {compat!r}; give numbers')
    if compatibility_matrix.shape not in ((), (labels,), (labels, labels)):
      raise InputError(
        f'compat has shape {compatibility_matrix.shape}; a weight, {labels} or {labels} x {labels}'
      )
    if normalization not in range(4):
      raise InputError(f'normalization is {normalization}; take one of the four constants')
    if compatibility_matrix.ndim == 0:
      compatibility_matrix = np.full(labels, -compatibility_matrix)
    self._kernels.append(kernel)
    self._costs.append((compatibility_matrix + compatibility_matrix.T) / 2)
    self._normalizations.append(dense.NORMALIZATIONS[normalization])
    self._assembled = None

  def _problem(self) -> dense.Problem:
    if self._unary is None:
      raise InputError('no unary energies: call setUnaryEnergy first')
    if self._assembled is None:
      self._assembled = dense.assemble(
        self._unary, tuple(self._kernels), tuple(self._costs), tuple(self._normalizations)
      )
    return self._assembled


class DenseCRF2D(DenseCRF):
  """A dense CRF of the pixels of a picture of `w` x `h`."""

  def __init__(self, w: int, h: int, nlabels: int):
    super().__init__(w * h, nlabels)
    self._size = (h, w)

  def addPairwiseGaussian(
    self, sxy, compat, kernel=DIAG_KERNEL, normalization=NORMALIZE_SYMMETRIC
  ) -> None:
    """Adds the smoothness kernel, of deviation `sxy` (a number, or two for x and y) in pixels."""
    features = dense.positions(*self._size) / _deviations(sxy, 2)
    self._add(lattice.build(features), compat, normalization)

  def addPairwiseBilateral(
    self, sxy, srgb, rgbim, compat, kernel=DIAG_KERNEL, normalization=NORMALIZE_SYMMETRIC
  ) -> None:
    """Adds the appearance kernel of the picture `rgbim` (h, w, 3)."""
    image = np.asarray(rgbim)
    if image.shape != (*self._size, 3):
      raise InputError(f'the picture has shape {image.shape}; it is {(*self._size, 3)}')
    places = dense.positions(*self._size) / _deviations(sxy, 2)
    colors = image.reshape(-1, 3).astype(np.float32) / _deviations(srgb, 3)
    self._add(lattice.build(np.concatenate([places, colors], 1)), compat, normalization)


def unary_from_labels(labels, n_labels: int, gt_prob: float, zero_unsure: bool = True):
  """Energies (n_labels, variables) float32 of a label map that is right with probability `gt_prob`.

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


def unary_from_softmax(sm, scale: float | None = None, clip: float | None = 1e-5):
  """Energies (classes, variables) float32 of probabilities (classes, ...).

  With `scale` they become scale p + (1 - scale) / classes; what is below `clip` counts as that.
  """
  sm = np.asarray(sm)
  if scale is not None:
    if not 0 < scale <= 1:
      raise InputError(f'scale is {scale}; it is above 0 and at most 1')
    sm = scale * sm + (1 - scale) / len(sm)
  if clip is not None:
    sm = np.clip(sm, clip, 1.0)
  return -np.log(sm).reshape(len(sm), -1).astype(np.float32)


def create_pairwise_gaussian(sdims, shape) -> np.ndarray:
  """Features (dimensions, variables) of places in an array of any shape, by deviations `sdims`."""
  mesh = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij')).astype(np.float32)
  return (mesh.reshape(len(shape), -1).T / _deviations(sdims, len(shape))).T


def create_pairwise_bilateral(sdims, schan, img, chdim: int = -1) -> np.ndarray:
  """Features (dimensions + channels, variables) of places and values of an array.

  Args:
    sdims: deviations of the places, one a dimension.
    schan: deviations of the values, a number or one a channel.
    img: the array.
    chdim: the axis of its channels; -1 where it has none.
  """
  img = np.asarray(img)
  channels = img[None] if chdim == -1 else np.moveaxis(img, chdim, 0)
  values = channels.reshape(len(channels), -1).astype(np.float32)
  values = (values.T / _deviations(schan, len(channels))).T
  return np.concatenate([create_pairwise_gaussian(sdims, channels.shape[1:]), values])


_update = jax.jit(dense.update)


def _deviations(given, count: int) -> np.ndarray:
  given = np.full(count, given) if np.ndim(given) == 0 else np.asarray(given)
  if given.shape != (count,) or not (given > 0).all():
    raise InputError(f'deviations are {given.tolist()}; give {count} above 0')
  return given.astype(np.float32)

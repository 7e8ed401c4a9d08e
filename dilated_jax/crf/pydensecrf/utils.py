"""The functions of pydensecrf.utils, its deprecated names included."""

from collections.abc import Sequence
import warnings

from jaxtyping import Float32, Integer, Real
import numpy as np

from dilated_jax.crf.checks import check_color_scale, check_probabilities
from dilated_jax.crf.pydensecrf.densecrf import Deviations, deviations
from dilated_jax.errors import InputError


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


def compute_unary(
  labels: Integer[np.ndarray, '...'], M: int, GT_PROB: float = 0.5
) -> Float32[np.ndarray, '{M} variables']:
  """The old name of `unary_from_labels`."""
  _deprecated('compute_unary', 'unary_from_labels')
  return unary_from_labels(labels, M, GT_PROB)


def unary_from_softmax(
  sm: Real[np.ndarray, 'classes ...'], scale: float | None = None, clip: float | None = 1e-5
) -> Float32[np.ndarray, 'classes variables']:
  """Energies of probabilities.

  With `scale` they become scale p + (1 - scale) / classes. Those below `clip` are raised to it.
  """
  sm = np.asarray(sm)
  check_probabilities(sm)
  if scale is not None:
    if not 0 < scale <= 1:
      raise InputError(f'scale is {scale}; it is above 0 and at most 1')
    sm = scale * sm + (1 - scale) / len(sm)
  if clip is not None:
    sm = np.clip(sm, clip, 1.0)
  return -np.log(sm).reshape(len(sm), -1).astype(np.float32)


def softmax_to_unary(
  sm: Real[np.ndarray, 'classes ...'], GT_PROB: float = 1
) -> Float32[np.ndarray, 'classes variables']:
  """The old name of `unary_from_softmax`, without its `clip`."""
  _deprecated('softmax_to_unary', 'unary_from_softmax')
  return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def create_pairwise_gaussian(
  sdims: Deviations, shape: Sequence[int]
) -> Float32[np.ndarray, 'dimensions variables']:
  """Features of the positions in an array of any shape, with standard deviations `sdims`."""
  mesh = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij')).astype(np.float32)
  return (mesh.reshape(len(shape), -1).T / deviations(sdims, len(shape))).T


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
  check_color_scale(np.moveaxis(channels, 0, -1), schan)
  values = channels.reshape(len(channels), -1).astype(np.float32)
  values = (values.T / deviations(schan, len(channels))).T
  return np.concatenate([create_pairwise_gaussian(sdims, channels.shape[1:]), values])


def _deprecated(old: str, new: str) -> None:
  warnings.warn(f'pydensecrf: {old} is deprecated; use {new}', DeprecationWarning, stacklevel=3)

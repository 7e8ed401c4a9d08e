"""Sliding windows: an image is labeled in overlapping pieces, and their probabilities are averaged.

Networks that pad inside, or average over the image, see another image at another size. They were
trained on crops, and their authors feed them windows of that size.
"""

from collections.abc import Callable

from jaxtyping import Float, UInt8
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.models.protocol import SegmentationModel


def check_window(model: SegmentationModel, window: tuple[int, int], tile) -> None:
  """Refuses windows for networks that need none.

  Raises:
    InputError: the network pads nothing, has a CRF-RNN, or a tile is given too.
  """
  if min(window) < model.stride:
    raise InputError(f'window {window[0]}x{window[1]} is too small: give {model.stride} or more')
  if tile is not None:
    raise InputError('`window` and `tile` both say what the network is fed; give one')
  if model.margin:
    raise InputError('`window` is for networks that pad inside; this one pads nothing: give `tile`')
  if 'crf' in model.parts:
    raise InputError('`window` is for networks without a CRF-RNN, which sees whole images')


def averaged(
  probabilities_of: Callable,
  images: UInt8[np.ndarray, 'n h w 3'],
  window: tuple[int, int],
  fill: UInt8[np.ndarray, '3'],
) -> Float[np.ndarray, 'n h w c']:
  """The means of the probabilities of all windows that a pixel lies in.

  Windows lie two thirds of their size apart; the last one of a row or a column ends with the image.

  Args:
    probabilities_of: takes windows (N, h, w, 3) uint8 to probabilities of all their pixels.
    images: images of one size.
    window: height and width of a window.
    fill: color beyond the bottom and the right of an image that is smaller than a window.

  Returns:
    float32 probabilities.

  Source: Zhao et al. 2017; scale_process.m of github.com/hszhao/PSPNet.
  """
  size = images.shape[1:3]
  rest = [(0, max(0, side - n)) for side, n in zip(window, size, strict=True)]
  inside = np.pad(np.ones(size, bool), rest)
  padded = np.where(inside[..., None], np.pad(images, ((0, 0), *rest, (0, 0))), fill)
  total, counts = None, np.zeros((*inside.shape, 1), np.float32)
  for top in _starts(inside.shape[0], window[0]):
    for left in _starts(inside.shape[1], window[1]):
      rows, columns = slice(top, top + window[0]), slice(left, left + window[1])
      found = np.asarray(probabilities_of(padded[:, rows, columns]))
      if total is None:
        total = np.zeros((len(images), *inside.shape, found.shape[-1]), np.float32)
      total[:, rows, columns] += found
      counts[rows, columns] += 1
  assert total is not None, 'an axis has one window or more'
  return (total / counts)[:, : size[0], : size[1]]


def _starts(length: int, side: int) -> list[int]:
  """The first pixels of windows along an axis that is at least as long as one."""
  step = -(-2 * side // 3)
  return [min(start, length - side) for start in range(0, length - side + step, step)]

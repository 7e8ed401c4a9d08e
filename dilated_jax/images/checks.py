"""Whether arrays are images and label maps, not the floats that other libraries make of them."""

from collections.abc import Sequence

import numpy as np

from dilated_jax.errors import InputError


def as_images(images, name: str = 'an image', *, ndim: int = 3) -> np.ndarray:
  """Returns images as an array if they are uint8 RGB.

  Floats are refused, since 0..1 would be taken for black.

  Args:
    images: (H, W, 3), or (N, H, W, 3) with `ndim` 4.
    name: what the message calls them.
    ndim: number of axes.

  Raises:
    InputError: another dtype or shape.
  """
  try:
    images = np.asarray(images)
  except ValueError:  # A list of arrays of several shapes.
    raise InputError(f'{name} is one array; give images of several sizes one by one') from None
  wanted = 'uint8 (H, W, 3) RGB' if ndim == 3 else 'uint8 (N, H, W, 3) RGB'
  if images.ndim != ndim or images.shape[-1] != 3:
    hint = ''
    if images.ndim == ndim and images.shape[-3] == 3:
      hint = ': move the axis of colors to the end'
    elif images.ndim == ndim - 1 or images.shape[-1:] in ((1,), (4,)):
      hint = ": convert it with Pillow's image.convert('RGB')"
    raise InputError(f'{name} is {wanted}, not {images.dtype} {images.shape}{hint}')
  if not images.size:
    raise InputError(f'{name} is {wanted}, not {images.shape}, without a pixel')
  if images.dtype != np.uint8:
    raise InputError(f'{name} is {wanted}, not {images.dtype}{_values_and_remedy(images)}')
  return images


def _values_and_remedy(images: np.ndarray) -> str:
  """Of images of another dtype, what values they have and what makes colors of 0..255 of them."""
  finite = images[np.isfinite(images)] if images.dtype.kind in 'fiub' else np.empty(0)
  if not finite.size:
    return ': give colors of 0 to 255'
  low, high = float(finite.min()), float(finite.max())
  if low < 0 or (high > 255 and images.dtype != np.uint16):
    remedy = 'undo what was subtracted and divided by, down to colors of 0 to 255 as uint8'
  elif high > 255:
    remedy = 'give (image // 257).astype(np.uint8), if they go up to 65535'
  elif high <= 1 and images.dtype.kind in 'fb':
    remedy = 'give (255.0 * image).round().astype(np.uint8)'
  else:
    remedy = 'give image.round().astype(np.uint8)'
  return f' of values from {low:g} to {high:g}: {remedy}'


def is_of_unit_scale(mean: Sequence[float]) -> bool:
  """Whether a mean color is that of images of 0..1, as other libraries have them.

  >>> is_of_unit_scale((0.485, 0.456, 0.406)), is_of_unit_scale((0, 0, 0))
  (True, False)
  """
  return 0 < max(mean) <= 1


def as_class_ids(ids, name: str = 'a label map') -> np.ndarray:
  """Returns class ids as an array if they are whole numbers.

  Raises:
    InputError: they are floats, such as scores or probabilities.
  """
  ids = np.asarray(ids)
  if ids.dtype.kind not in 'iub':
    raise InputError(
      f'{name} holds class ids, whole numbers, not {ids.dtype}: of scores or probabilities take '
      'argmax over the classes, and round ids that were read as floats'
    )
  return ids

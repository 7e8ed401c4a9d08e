"""Whether arrays are images and label maps, not the floats that other libraries make of them."""

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
  images = np.asarray(images)
  wanted = 'uint8 (H, W, 3) RGB' if ndim == 3 else 'uint8 (N, H, W, 3) RGB'
  if images.ndim != ndim or images.shape[-1] != 3:
    hint = ''
    if images.ndim == ndim and images.shape[-3] == 3:
      hint = ': move the axis of colors to the end'
    elif images.ndim == ndim - 1 or images.shape[-1:] in ((1,), (4,)):
      hint = ": convert it with Pillow's image.convert('RGB')"
    raise InputError(f'{name} is {wanted}, not {images.dtype} {images.shape}{hint}')
  if images.dtype != np.uint8:
    peak = np.nanmax(np.abs(images), initial=0) if images.dtype.kind in 'fiub' else 0
    factor = '255 * ' if images.dtype.kind == 'f' and peak <= 1 else ''
    raise InputError(
      f'{name} is {wanted}, not {images.dtype} of values up to {peak:g}: give '
      f'({factor}image).round().astype(np.uint8)'
    )
  return images


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

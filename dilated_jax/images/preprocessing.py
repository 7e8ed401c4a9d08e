"""Preprocessing of images for a network: reflected margins and downscaling."""

import numpy as np
import PIL.Image

from dilated_jax.images.checks import as_images


def reflect_pad(images, margin: int, stride: int, more: tuple[int, int] = (0, 0), xp=np):
  """Pads images by reflection, so that a network of valid convolutions predicts every pixel.

  All sides are padded by `margin`. Then bottom and right are padded further, until the height and
  width without the margins are multiples of `stride`; this second step reflects the result of the
  first one, as in the original.

  Args:
    images: (N, H, W, 3).
    margin: pixels on each side.
    stride: output stride of the network in pixels.
    more: rows and columns, at the bottom and right, by which this pads further.
    xp: NumPy, or `jax.numpy` within a program, whose sizes may be those of its input.

  Returns:
    (N, H' + 2 * margin, W' + 2 * margin, 3); H' and W' are H and W, and `more`, rounded up to
    multiples of `stride`.

  Source: `predict.py` of github.com/fyu/dilation (OpenCV's BORDER_REFLECT_101, twice).
  """
  rows, columns = (
    reflect_pad_indices(size, margin, 2 * margin - -(size + fill) // stride * stride, xp=xp)
    for size, fill in zip(images.shape[1:3], more, strict=True)
  )
  return images[:, rows[:, None], columns]


def reflect_pad_indices(size: int, margin: int, length: int, start: int = 0, xp=np):
  """Returns the source pixels of a tile of a padded image, along one axis.

  The axis is padded by `margin` at both ends. A tile that reaches beyond the padded end is
  completed by reflecting it once more.

  Args:
    size: pixels of the image along the axis.
    margin: pixels of padding at each end.
    length: pixels of the tile.
    start: first pixel of the tile, counted from the padded start.
    xp: as for `reflect_pad`.

  Returns:
    (length,) integers in 0..size-1.
  """
  padded = reflect_indices(xp.arange(-margin, size + margin), size, xp)
  tile = padded[start : start + length]
  return tile[reflect_indices(xp.arange(length), tile.size, xp)]


def reflect_indices(indices, size, xp=np):
  """Maps indices outside 0..size-1 into it by reflection that doesn't repeat the border pixel.

  Args:
    indices: integers of any shape and range.
    size: pixels of the image along the axis: an integer, or an array that broadcasts.
    xp: as for `reflect_pad`.

  Returns:
    integers in 0..size-1, of the shape of `indices`.
  """
  period = xp.maximum(1, 2 * (size - 1))
  folded = indices % period
  return xp.minimum(folded, period - folded)


def downscale_image(image: np.ndarray, image_scale: float) -> np.ndarray:
  """Scales an image down by averaging.

  Args:
    image: (H, W, 3) uint8.
    image_scale: s, above 0 and at most 1.

  Returns:
    (round(H * s), round(W * s), 3) uint8.

  Raises:
    InputError: the image is not uint8 RGB.
  """
  image = as_images(image)
  height, width = scaled_size(image.shape, image_scale)
  if (height, width) == image.shape[:2]:
    return image
  pil_image = PIL.Image.fromarray(image)
  if image.shape[0] % height == image.shape[1] % width == 0:
    # The exact mean of whole blocks; `resize` would round it once per axis.
    return np.asarray(pil_image.reduce((image.shape[1] // width, image.shape[0] // height)))
  return np.asarray(pil_image.resize((width, height), PIL.Image.Resampling.BOX))


def scaled_size(shape, image_scale: float) -> tuple[int, int]:
  """Returns the height and width of an image of `shape` (H, W, ...) after scaling."""
  height, width = (max(1, round(side * image_scale)) for side in shape[:2])
  return height, width

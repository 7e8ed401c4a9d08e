"""What is done to an image before a network sees it: reflected margins and downscaling."""

import numpy as np
import PIL.Image


def _reflect(coordinates, length):
  """Folds coordinates into 0..length-1, without repeating the border (reflection-101)."""
  period = max(1, 2 * (length - 1))
  folded = coordinates % period
  return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(coordinates)


def reflect(images: np.ndarray, margin: int, stride: int) -> np.ndarray:
  """Pads pictures at the borders so that a network with valid convolutions answers for each pixel.

  First all sides by `margin`, then bottom and right until the picture without the margins is a
  multiple of `stride`: the second step reflects what the first one made, as in the original.

  Args:
    images: (N, H, W, 3).
    margin: pixels a side.
    stride: pixels.

  Returns:
    (N, H' + 2 * margin, W' + 2 * margin, 3), H' and W' the next multiples of `stride`.

  Source: `predict.py` of github.com/fyu/dilation (OpenCV's BORDER_REFLECT_101, twice).
  """
  rows, columns = (
    reflected(size, margin, size + 2 * margin + -size % stride) for size in images.shape[1:3]
  )
  return images[:, rows[:, None], columns]


def reflected(size: int, margin: int, length: int, start: int = 0) -> np.ndarray:
  """Says which pixel of a side stands at each place of a tile of the padded side.

  The side is padded by `margin` at both ends. What the tile needs beyond that is reflected once
  more, at the end of the padded side.

  Args:
    size: pixels of the side.
    margin: pixels at each end.
    length: of the tile.
    start: of the tile, in places of the padded side.

  Returns:
    (length,) integers in 0..size-1.
  """
  padded = _reflect(np.arange(-margin, size + margin), size)
  tile = padded[start : start + length]
  return tile[_reflect(np.arange(length), tile.size)]


def downscale_image(image: np.ndarray, image_scale: float) -> np.ndarray:
  """Reduces a picture by averaging: uint8 (H, W, 3) to (round(H * s), round(W * s), 3)."""
  height, width = _scaled_size(image.shape, image_scale)
  if (height, width) == image.shape[:2]:
    return image
  picture = PIL.Image.fromarray(image)
  if image.shape[0] % height == image.shape[1] % width == 0:
    # The exact mean of whole blocks; resize would round it once an axis.
    return np.asarray(picture.reduce((image.shape[1] // width, image.shape[0] // height)))
  return np.asarray(picture.resize((width, height), PIL.Image.Resampling.BOX))


def _scaled_size(shape, image_scale):
  return tuple(max(1, round(side * image_scale)) for side in shape[:2])

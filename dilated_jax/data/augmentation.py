"""Random rotation, zoom, crop, flip, color jitter and blur of one training example."""

from collections.abc import Sequence
import dataclasses
import math
from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageFilter

from dilated_jax.errors import InputError
from dilated_jax.images.preprocessing import reflect_indices
from dilated_jax.label_spec import IGNORE
from dilated_jax.options import Options, option


@dataclasses.dataclass(frozen=True)
class Augmentation(Options):
  """What `augment` may do to an image.

  Attributes:
    random_flip: whether every other image is turned left to right.
    random_scale: smallest and largest zoom; drawn evenly in its logarithm.
    color_jitter: strength of the jitter of brightness, contrast and saturation, 0 (none) to 1.
    random_rotation: largest angle of the rotation about the middle of the image, in degrees; drawn
      evenly in both directions.
    random_blur: largest standard deviation of the Gaussian by which every other image is blurred,
      in pixels; drawn evenly from 0 on.
    border: what lies beyond an image: 'reflect', its reflection, with an image that is smaller than
      the crop in its middle; 'mean', the mean color, with the image at the top left (as FCN,
      DeepLab and PSPNet are trained).
  """

  random_flip: bool = option(True, 'Mirror every other image.')
  random_scale: tuple[float, float] = option(
    (1.0, 1.0), 'Smallest and largest factor of the random zoom.', above=0
  )
  color_jitter: float = option(0.0, 'Strength of the color jitter.', low=0, high=1)
  random_rotation: float = option(
    0.0, 'Largest angle of the random rotation, in degrees.', low=0, high=180
  )
  random_blur: float = option(
    0.0, 'Largest standard deviation of the random Gaussian blur, in pixels.', low=0, high=100
  )
  border: Literal['reflect', 'mean'] = option(
    'reflect', 'What lies beyond a training image: its reflection, or the mean color.'
  )

  def __post_init__(self):
    super().__post_init__()
    low, high = self.random_scale
    if low > high:
      raise InputError(f'`random_scale={low:g},{high:g}`: give the smaller first')

  def fill(self, mean: Sequence[float]) -> np.ndarray | None:
    """The uint8 RGB color beyond an image, from the mean; None where it is reflected."""
    return np.rint(mean).astype(np.uint8) if self.border == 'mean' else None


def augment(
  example: dict,
  rng: np.random.Generator,
  *,
  crop: tuple[int, int],
  margin: int = 0,
  mean: Sequence[float] = (0.0, 0.0, 0.0),
  options: Augmentation = Augmentation(),
) -> dict:
  """Turns, zooms, crops, flips, colors and blurs one image at random, and extends its borders.

  As in the paper's data layer (image_label_data_layer of the authors' Caffe), what the network sees
  outside the image is its reflection without the border pixel (reflection-101), `margin` pixels of
  it on each side; labels there are 255. An image smaller than the crop is centered in it, and what
  is still missing is a reflection of the image with its margins. See `Augmentation` for the other
  `border`, the mean.

  Args:
    example: 'image' uint8 (H, W, 3) and 'label' uint8 (H, W).
    rng: source of all random numbers.
    crop: height h and width w of the label area, in pixels.
    margin: m, pixels of context on every side of it that the network consumes.
    mean: RGB of the border 'mean', 0..255; rounded, since images are bytes.
    options: what is left to chance.

  Returns:
    'image' uint8 (h + 2m, w + 2m, 3) and 'label' uint8 (h, w).

  Raises:
    InputError: the crop is empty or the margin negative.
  """
  if min(crop) < 1 or margin < 0:
    raise InputError(f'crop {crop} must be 1x1 or more, margin {margin} 0 or more')
  image, label = example['image'], example['label']
  fill = options.fill(mean)
  if options.random_rotation:
    angle = rng.uniform(-options.random_rotation, options.random_rotation)
    image, label = _rotated(image, label, angle, fill)
  zoom = math.exp(rng.uniform(*np.log(options.random_scale)))
  height, width = (max(1, round(side * zoom)) for side in label.shape)
  before = 0, 0  # The image at the top left, if it is smaller than the crop.
  if options.border == 'reflect':  # In the middle; an odd pixel is below, and on the left (sic).
    before = (crop[0] - height) // 2, (crop[1] - width + 1) // 2
  rows = _window(rng, height, crop[0], before[0])
  columns = _window(rng, width, crop[1], before[1])
  if options.random_flip and rng.random() < 0.5:
    columns = columns[::-1]

  image_rows = _reflect(_extend(rows, margin), height, margin)
  image_columns = _reflect(_extend(columns, margin), width, margin)
  # Only the part of the zoomed image that the crop shows is computed.
  top, bottom = image_rows.min(), image_rows.max() + 1
  left, right = image_columns.min(), image_columns.max() + 1
  part = PIL.Image.fromarray(image)
  if (height, width) == label.shape:
    part = part.crop((left, top, right, bottom))
  else:
    y, x = label.shape[0] / height, label.shape[1] / width
    size, box = (right - left, bottom - top), (left * x, top * y, right * x, bottom * y)
    part = part.resize(size, PIL.Image.Resampling.BILINEAR, box)
  if options.color_jitter:
    part = _jitter_color(part, rng, options.color_jitter)
  if options.random_blur and rng.random() < 0.5:
    part = part.filter(PIL.ImageFilter.GaussianBlur(rng.uniform(0, options.random_blur)))
  image = _gather(np.asarray(part), image_rows - top, image_columns - left)
  if fill is not None:
    seen = _inside(_extend(rows, margin), _extend(columns, margin), height, width)
    image = np.where(seen[..., None], image, fill)

  inside = _inside(rows, columns, height, width)
  # Nearest neighbor: pixel centers (i + 1/2) are mapped, as Pillow does.
  rows = np.clip((2 * rows + 1) * label.shape[0] // (2 * height), 0, label.shape[0] - 1)
  columns = np.clip((2 * columns + 1) * label.shape[1] // (2 * width), 0, label.shape[1] - 1)
  label = np.where(inside, label[rows[:, None], columns], np.uint8(IGNORE))
  return {'image': image, 'label': label}


def _window(rng, length, crop, before):
  """The coordinates of a random crop; if the image is smaller, of one with `before` before it."""
  start = rng.integers(length - crop + 1) if length >= crop else -before
  return start + np.arange(crop)


def _reflect(coordinates, length, margin):
  """Maps coordinates into the image, which is reflected by `margin`, and with that once more."""
  extended = reflect_indices(coordinates + margin, length + 2 * margin)
  return reflect_indices(extended - margin, length)


def _inside(rows, columns, height, width):
  """(rows, columns) whether the image has the pixel."""
  return ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))


def _rotated(image, label, angle, fill):
  """Image and label turned about their middle, at their size.

  Args:
    image: (H, W, 3) uint8.
    label: (H, W) uint8.
    angle: in degrees, counterclockwise.
    fill: color of what was outside; None: reflected.
  """
  height, width = label.shape
  turned = PIL.Image.fromarray(label).rotate(angle, fillcolor=IGNORE)
  pad = 0
  if fill is None:  # As far as a corner moves.
    pad = math.ceil(math.radians(abs(angle)) * math.hypot(height, width) / 2) + 1
    rows, columns = (reflect_indices(np.arange(-pad, n + pad), n) for n in (height, width))
    image = image[rows[:, None], columns]
  color = None if fill is None else tuple(fill.tolist())
  whole = PIL.Image.fromarray(image).rotate(angle, PIL.Image.Resampling.BILINEAR, fillcolor=color)
  return np.asarray(whole)[pad : pad + height, pad : pad + width], np.asarray(turned)


def _extend(coordinates, margin):
  """Extends consecutive coordinates, ascending or descending, by `margin` at both ends."""
  step = 1 if coordinates[-1] >= coordinates[0] else -1
  return coordinates[0] + step * np.arange(-margin, len(coordinates) + margin)


def _gather(image, rows, columns):
  """Returns image[rows][:, columns]; taking from whole rows is the fastest way to do it."""
  columns = (3 * columns[:, None] + np.arange(3)).ravel()
  wide = image.reshape(len(image), -1).take(columns, axis=1).take(rows, axis=0)
  return wide.reshape(len(rows), -1, 3)


def _jitter_color(image, rng, strength):
  """Multiplies brightness, contrast and saturation by 1 - strength to 1 + strength each."""
  brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
  gray = np.array([0.299, 0.587, 0.114])
  histogram = np.reshape(image.histogram(), (3, 256))  # The fastest way to an exact mean.
  middle = gray @ histogram @ np.arange(256) / histogram[0].sum()
  matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * gray)
  offset = np.full((3, 1), brightness * (1 - contrast) * middle)
  return image.convert('RGB', tuple(np.hstack([matrix, offset]).ravel().tolist()))

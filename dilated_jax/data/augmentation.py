"""Random rotation, zoom, crop, flip, color jitter and blur of one training example."""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageFilter

from dilated_jax.errors import InputError
from dilated_jax.images.preprocessing import reflect_indices
from dilated_jax.label_spec import IGNORE
from dilated_jax.options import Options, option

GRAY = np.array([0.299, 0.587, 0.114])  # Of RGB, ITU-R BT.601.


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


class View(NamedTuple):
  """What chance has chosen to show of an image; the pixels follow from it.

  Of several images, see `stack`: every array has an axis more in front, and each size is (n, 1).

  Attributes:
    angle: of the rotation, in degrees, counterclockwise.
    size: height and width of the zoomed image.
    rows, columns: (h,), (w,) the place in the zoomed image of each row and column of the label
      area, outside of it too; columns descend where the image is flipped.
    jitter: factors on brightness, contrast and saturation.
    blur: standard deviation of the Gaussian, in pixels.
  """

  angle: float
  size: tuple[int, int]
  rows: np.ndarray
  columns: np.ndarray
  jitter: tuple[float, float, float]
  blur: float

  def source(self, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """The row and column of the zoomed image that is seen in each one of the area with margins."""
    axes = zip((self.rows, self.columns), self.size, strict=True)
    rows, columns = (_reflect(_extend(places, margin), side, margin) for places, side in axes)
    return rows, columns

  def inside(self, margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whether each row, and each column, of the area with margins is one of the image itself."""
    axes = zip((self.rows, self.columns), self.size, strict=True)
    extended = ((_extend(places, margin), side) for places, side in axes)
    rows, columns = ((places >= 0) & (places < side) for places, side in extended)
    return rows, columns

  def label_source(self, shape) -> tuple[np.ndarray, np.ndarray]:
    """The row and column of the image, of a shape (H, W), whose label each of the area has.

    Args:
      shape: height and width of the image; of several, (n, 1) each.
    """
    # Nearest neighbor: pixel centers (i + 1/2) are mapped, as Pillow does.
    axes = zip((self.rows, self.columns), self.size, shape, strict=True)
    rows, columns = (
      np.clip((2 * places + 1) * length // (2 * side), 0, length - 1)
      for places, side, length in axes
    )
    return rows, columns


def draw(
  shape: tuple[int, int],
  rng: np.random.Generator,
  crop: tuple[int, int],
  options: Augmentation = Augmentation(),
) -> View:
  """Draws what `augment` shows of an image.

  Args:
    shape: height and width of the image.
    rng: source of all random numbers.
    crop: height and width of the label area.
    options: what is left to chance.

  Returns:
    The view.
  """
  angle = jitter = blur = 0.0
  if options.random_rotation:
    angle = rng.uniform(-options.random_rotation, options.random_rotation)
  zoom = math.exp(rng.uniform(*np.log(options.random_scale)))
  height, width = (max(1, round(side * zoom)) for side in shape)
  before = 0, 0  # The image at the top left, if it is smaller than the crop.
  if options.border == 'reflect':  # In the middle; an odd pixel is below, and on the left (sic).
    before = (crop[0] - height) // 2, (crop[1] - width + 1) // 2
  rows = _window(rng, height, crop[0], before[0])
  columns = _window(rng, width, crop[1], before[1])
  if options.random_flip and rng.random() < 0.5:
    columns = columns[::-1]
  if options.color_jitter:
    jitter = options.color_jitter * rng.uniform(-1, 1, 3)
  if options.random_blur and rng.random() < 0.5:
    blur = rng.uniform(0, options.random_blur)
  brightness, contrast, saturation = (1 + np.broadcast_to(jitter, 3)).tolist()
  return View(angle, (height, width), rows, columns, (brightness, contrast, saturation), blur)


def stack(views: Sequence[View]) -> View:
  """Several views of areas of one size, as one."""
  angles, sizes, rows, columns, jitters, blurs = zip(*views, strict=True)
  several: Any = (
    np.array(angles), tuple(np.transpose(sizes)[..., None]), np.stack(rows), np.stack(columns),
    tuple(np.transpose(jitters)), np.array(blurs),
  )  # fmt: skip
  return View(*several)


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
  `border`, the mean. `device_augmentation` computes the same pixels in a compiled program.

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
  check_area(crop, margin)
  image, label = example['image'], example['label']
  fill = options.fill(mean)
  view = draw(label.shape, rng, crop, options)
  if view.angle:
    image, label = _rotated(image, label, view.angle, fill)

  rows, columns = view.source(margin)
  # Only the part of the zoomed image that the crop shows is computed.
  top, left = rows.min(), columns.min()
  part = _zoomed(image, view.size, (top, rows.max() + 1), (left, columns.max() + 1))
  if options.color_jitter:
    part = _jitter_color(part, view.jitter)
  if view.blur:
    part = part.filter(PIL.ImageFilter.GaussianBlur(view.blur))
  image = _gather(np.asarray(part), rows - top, columns - left)
  if fill is not None:
    image = np.where(np.logical_and.outer(*view.inside(margin))[..., None], image, fill)

  rows, columns = view.label_source(label.shape)
  inside = np.logical_and.outer(*view.inside())
  label = np.where(inside, label[rows[:, None], columns], np.uint8(IGNORE))
  return {'image': image, 'label': label}


def check_area(crop: tuple[int, int], margin: int) -> None:
  """Raises an InputError for a label area, or a margin around it, that can't be."""
  if min(crop) < 1 or margin < 0:
    raise InputError(f'crop {crop} must be 1x1 or more, margin {margin} 0 or more')


class ZoomedAxis(NamedTuple):
  """What `resize` is told to make a part of a zoomed axis.

  Attributes:
    first, last: the pixels of the image that are blended lie from here to before there.
    box: where the part begins and ends, in pixels from `first` on.
  """

  first: int
  last: int
  box: tuple[float, float]


def zoomed_axis(length, side, start, stop) -> ZoomedAxis:
  """The pixels `start` to `stop` of an axis of an image that is zoomed.

  Args:
    length: of the axis; this and all others are integers, or arrays of them.
    side: its length when it is zoomed.
    start: first pixel of the part, in the zoomed image.
    stop: the pixel behind it.
  """
  scale = length / side
  reach = np.maximum(1, np.ceil(scale).astype(int)) + 1
  first = np.maximum(0, np.floor(start * scale).astype(int) - reach)
  last = np.minimum(length, np.ceil(stop * scale).astype(int) + reach)
  return ZoomedAxis(first, last, (start * scale - first, stop * scale - first))


def _zoomed(image, size, rows, columns):
  """A part of a zoomed image, as an image of Pillow.

  Args:
    image: (H, W, 3) uint8.
    size: height and width of the zoomed image.
    rows: first row of the part, and the row behind it.
    columns: the same of columns.
  """
  if size == image.shape[:2]:
    return PIL.Image.fromarray(image[slice(*rows), slice(*columns)])
  y, x = (zoomed_axis(*sides, *part) for *sides, part in zip(image.shape, size, (rows, columns)))
  part = PIL.Image.fromarray(image[y.first : y.last, x.first : x.last])
  # One axis after the other: in which order Pillow takes them depends on sizes and its version.
  width, bilinear = columns[1] - columns[0], PIL.Image.Resampling.BILINEAR
  part = part.resize((width, part.height), bilinear, (x.box[0], 0, x.box[1], part.height))
  return part.resize((width, rows[1] - rows[0]), bilinear, (0, y.box[0], width, y.box[1]))


def _window(rng, length, crop, before):
  """The coordinates of a random crop; if the image is smaller, of one with `before` before it."""
  start = rng.integers(length - crop + 1) if length >= crop else -before
  return start + np.arange(crop)


def _reflect(coordinates, length, margin):
  """Maps coordinates into the image, which is reflected by `margin`, and with that once more."""
  extended = reflect_indices(coordinates + margin, length + 2 * margin)
  return reflect_indices(extended - margin, length)


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
  first = coordinates[..., :1]
  step = np.where(coordinates[..., -1:] >= first, 1, -1)
  return first + step * np.arange(-margin, coordinates.shape[-1] + margin)


def _gather(image, rows, columns):
  """Returns image[rows][:, columns]; taking from whole rows is the fastest way to do it."""
  columns = (3 * columns[:, None] + np.arange(3)).ravel()
  wide = image.reshape(len(image), -1).take(columns, axis=1).take(rows, axis=0)
  return wide.reshape(len(rows), -1, 3)


def _jitter_color(image, jitter):
  """Multiplies brightness, contrast and saturation by their factors."""
  histogram = np.reshape(image.histogram(), (3, 256))  # The fastest way to an exact mean.
  middle = GRAY @ histogram @ np.arange(256) / histogram[0].sum()
  matrix, offset = color_matrix(jitter)
  columns = np.hstack([matrix, np.full((3, 1), offset * middle)])
  return image.convert('RGB', tuple(columns.ravel().tolist()))


def color_matrix(jitter) -> tuple[np.ndarray, np.ndarray]:
  """The (3, 3) matrix on RGB, and the factor on the mean gray that is added to all three.

  Args:
    jitter: factors on brightness, contrast and saturation; of several images, (n,) each.
  """
  brightness, contrast, saturation = np.asarray(jitter)[..., None, None]
  matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * GRAY)
  return matrix, (brightness * (1 - contrast))[..., 0, 0]

"""`augmentation.augment` in a compiled program, from images that are on the device.

  numbers = plan(shapes, rngs, crop=(256, 256), taps=taps(shapes, options))
  batch = render(images, numbers)  # In the program.

The host draws the same random numbers and says which row, column and label each pixel comes from;
the program gathers them. The pixels are those of `augment`, to the last bit: zoom is the integer
arithmetic of Pillow. With color jitter, single values may differ by one level of 255 (fewer than
one in 10,000), since that is computed in float32 on both sides, in another order.
"""

from collections.abc import Iterable, Sequence
import math

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.data import augmentation
from dilated_jax.data.augmentation import Augmentation, View
from dilated_jax.label_spec import IGNORE

# Options that change pixels in ways that are done on the host alone.
ON_HOST = ('random_rotation', 'random_blur')

_BITS = 22  # Of Pillow's weights: 32 less 8 of the pixels and 2 for the sum.


def plan(
  shapes: Sequence[tuple[int, int]],
  rngs: Sequence[np.random.Generator],
  *,
  crop: tuple[int, int],
  margin: int = 0,
  options: Augmentation,
  taps: int,
) -> dict[str, np.ndarray]:
  """Draws the training images of a batch; `render` makes their pixels.

  Args:
    shapes: height and width of each image.
    rngs: source of all random numbers of each, from which `augment` would draw the same.
    crop: height h and width w of the label area, in pixels.
    margin: pixels of context on every side of it.
    options: what is left to chance; none of `ON_HOST`.
    taps: from `taps`.

  Returns:
    Arrays by name, stacked; all that is the same for every image of a data set but its values.

  Raises:
    InputError: the crop is empty or the margin negative.
  """
  augmentation.check_area(crop, margin)
  pairs = zip(shapes, rngs, strict=True)
  # Of all images at once: of small arrays, NumPy's calls take longer than their arithmetic.
  view = augmentation.stack([augmentation.draw(shape, rng, crop, options) for shape, rng in pairs])
  sizes = tuple(np.transpose(shapes)[..., None])
  numbers = {}
  for axis, places, label_places, label_inside in zip(
    ('rows', 'columns'), view.source(margin), view.label_source(sizes), view.inside(), strict=True
  ):
    numbers[f'label_{axis}'] = np.where(label_inside, label_places, -1).astype(np.int32)
    numbers[axis] = places.astype(np.int32)
    if options.color_jitter:
      numbers[f'{axis}_once'] = _first_times(places)
  if options.random_scale != (1, 1):
    _add_zoom(numbers, view, sizes, taps)
  if options.border == 'mean':
    numbers['rows_inside'], numbers['columns_inside'] = view.inside(margin)
  if options.color_jitter:
    matrix, offset = augmentation.color_matrix(view.jitter)
    numbers['color'] = matrix.astype(np.float32)
    numbers['gray'] = offset.astype(np.float32)
  return numbers


def render(images: dict, numbers: dict, fill: Sequence[int] | None = None) -> dict:
  """Makes the pixels of a batch; to be compiled.

  Args:
    images: 'image' uint8 (N, H, W, 3) and 'label' uint8 (N, H, W): the whole data set, smaller ones
      at the top left.
    numbers: of `plan`, and 'index' (n,) int32: which image each is of.
    fill: RGB beyond an image, of the border 'mean'; None: its reflection.

  Returns:
    'image' uint8 (n, h + 2m, w + 2m, 3) and 'label' uint8 (n, h, w).
  """

  def one(numbers):
    image, label = (images[name][numbers['index']] for name in ('image', 'label'))
    if 'rows_weights' in numbers:
      # As Pillow does: first along the rows, and rounded before the second pass.
      image = _resize(image, numbers['columns'], numbers['columns_weights'], axis=1)
      image = _resize(image, numbers['rows'], numbers['rows_weights'], axis=0)
    else:
      image = image[numbers['rows'][:, None], numbers['columns'][None]]
    if 'color' in numbers:
      image = _jitter_color(image, numbers)
    if fill is not None:
      inside = numbers['rows_inside'][:, None] & numbers['columns_inside'][None]
      image = jnp.where(inside[..., None], image, jnp.asarray(fill, jnp.uint8)[None, None])
    rows, columns = numbers['label_rows'][:, None], numbers['label_columns'][None]
    label = label[rows, columns]
    return {
      'image': image,
      'label': jnp.where((rows >= 0) & (columns >= 0), label, jnp.uint8(IGNORE)),
    }

  return jax.vmap(one)(numbers)


def taps(sizes: Iterable[tuple[int, int]], options: Augmentation) -> int:
  """How many pixels in a row the zoom blends into one, at most.

  Args:
    sizes: height and width of all images.
    options: what is left to chance.
  """
  # Pixels of the image to one of the zoomed image.
  scales = (side / max(1, round(side * options.random_scale[0])) for size in sizes for side in size)
  return math.ceil(2 * max(1, *scales) - 1e-6)


def _add_zoom(numbers: dict, view: View, sizes, taps: int) -> None:
  """Replaces the rows and columns of the zoomed image by those of the image that each blends."""
  untouched = (view.size[0] == sizes[0]) & (view.size[1] == sizes[1])
  alone = np.zeros(taps, np.int32)
  alone[0] = 1 << _BITS
  for axis, side, length in zip(('rows', 'columns'), view.size, sizes, strict=True):
    places = numbers[axis]
    first, weights = _pillow_weights(places, side, length, taps)
    # Where the size is the same, Pillow has nothing to do, and does nothing.
    numbers[axis] = np.where(untouched, places, first).astype(np.int32)
    numbers[f'{axis}_weights'] = np.where(untouched[..., None], alone, weights)


def _pillow_weights(places, side, length, taps):
  """First pixel and integer weights by which Pillow's bilinear `resize` makes pixels of an axis.

  Args:
    places: (n, k) pixels of the zoomed axis.
    side: (n, 1) length of the zoomed axis.
    length: (n, 1) of the axis of the image.
    taps: the largest number of pixels that are blended.

  Returns:
    (n, k) integers and (n, k, taps) int32, in units of 2^-22.

  Source: precompute_coeffs and normalize_coeffs_8bpc of Pillow's Resample.c, whose box is float32.
  """
  start, stop = places.min(1, keepdims=True), places.max(1, keepdims=True) + 1
  part = augmentation.zoomed_axis(length, side, start, stop)
  low, high = np.asarray(part.box, np.float32)
  scale = (high - low).astype(np.float64) / (stop - start)
  support = np.maximum(scale, 1.0)
  center = low + (places - start + 0.5) * scale
  first = np.maximum(np.trunc(center - support + 0.5), 0)
  last = np.minimum(np.trunc(center + support + 0.5), part.last - part.first)
  pixels = first[..., None] + np.arange(taps)
  weights = 1.0 - np.abs((pixels - center[..., None] + 0.5) * (1.0 / support)[..., None])
  weights = np.maximum(0.0, weights) * (pixels < last[..., None])
  # In the order of Pillow's sum: weights are rounded to the last bit.
  total = np.add.accumulate(weights, axis=-1)[..., -1:]
  return part.first + first, (0.5 + weights / total * (1 << _BITS)).astype(np.int32)


def _resize(image, first, weights, axis):
  """Blends pixels along an axis by integers, as Pillow does."""
  total = jnp.int32(1 << (_BITS - 1))
  shape = (1, -1, 1) if axis else (-1, 1, 1)
  for tap in range(weights.shape[1]):
    # Beyond the border the last pixel is taken, with a weight of zero.
    pixels = jnp.take(image, first + tap, axis=axis, mode='clip').astype(jnp.int32)
    total = total + pixels * weights[:, tap].reshape(shape)
  return jnp.clip(total >> _BITS, 0, 255).astype(jnp.uint8)


def _first_times(places):
  """Whether each of the integers (n, k) is seen for the first time in its row."""
  order = np.argsort(places, axis=1, kind='stable')
  ordered = np.take_along_axis(places, order, 1)
  new = np.ones(places.shape, bool)
  new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
  found = np.empty_like(new)
  np.put_along_axis(found, order, new, 1)
  return found


def _jitter_color(image, numbers):
  """The color matrix, with the mean gray of what is seen, of each pixel once."""
  once = numbers['rows_once'][:, None] & numbers['columns_once'][None]
  # Sums of integers, exact.
  sums = jnp.where(once[..., None], image, jnp.uint8(0)).sum((0, 1), jnp.int32)
  gray = jnp.asarray(augmentation.GRAY, jnp.float32)
  middle = (sums.astype(jnp.float32) * gray).sum() / once.sum(dtype=jnp.int32).astype(jnp.float32)
  red, green, blue = jnp.moveaxis(image.astype(jnp.float32), -1, 0)
  channels = [
    row[0] * red + row[1] * green + row[2] * blue + (numbers['gray'] * middle + 0.5)
    for row in numbers['color']
  ]
  return jnp.clip(jnp.stack(channels, -1), 0, 255).astype(jnp.uint8)

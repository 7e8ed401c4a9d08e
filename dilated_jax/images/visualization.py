"""Draws label maps: colors, overlays, legends, and grids of images."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dilated_jax.errors import InputError
from dilated_jax.images.checks import as_class_ids, as_images
from dilated_jax.label_spec import IGNORE


def colorize(ids, palette) -> np.ndarray:
  """Colors a label map by class.

  Args:
    ids: (H, W) uint8 class ids; 255 (ignore) becomes black.
    palette: RGB colors of C classes, 0..255.

  Returns:
    (H, W, 3) uint8.

  Raises:
    InputError: an id has no color in the palette, ids are no whole numbers, or the palette holds
      something else than colors.
  """
  ids = as_class_ids(ids)
  given = np.asarray(palette)
  if given.ndim != 2 or given.shape[1] != 3 or not np.isin(given, np.arange(256)).all():
    raise InputError('a palette holds a color of three whole numbers, 0..255, for each class')
  colors = np.zeros((256, 3), np.uint8)
  colors[: len(palette)] = given
  colors[IGNORE] = 0
  unknown = np.unique(ids[(ids >= len(palette)) & (ids != IGNORE)])
  if unknown.size:
    raise InputError(f'class id {unknown[0]} has no color: the palette has {len(palette)} colors')
  return colors[ids]


def overlay(image, ids, palette, alpha: float = 0.5) -> np.ndarray:
  """Blends an image with the colors of its label map; ignored pixels keep their color.

  Args:
    image: (H, W, 3) uint8.
    ids: (H, W) uint8 class ids, 255 = ignore.
    palette: RGB colors of C classes, 0..255.
    alpha: weight of the class colors, 0..1.

  Returns:
    (H, W, 3) uint8.

  Raises:
    InputError: the image is not uint8 RGB, it and the label map differ in size, an id has no
      color, or alpha is outside 0..1.
  """
  if not 0 <= alpha <= 1:
    raise InputError(f'alpha is {alpha}; it is 0 to 1')
  image, colors = as_images(image), colorize(ids, palette)
  if image.shape != colors.shape:
    raise InputError(
      f'the image has height and width {image.shape[:2]} and its label map {colors.shape[:2]}; '
      'an overlay needs equal sizes'
    )
  mixed = np.rint((1 - alpha) * image.astype(np.float32) + alpha * colors.astype(np.float32))
  return np.where((np.asarray(ids) == IGNORE)[..., None], image, mixed.astype(np.uint8))


def difference(labels, predictions, image=None) -> np.ndarray:
  """Shows where a prediction is wrong: in red, on the pale gray image.

  Args:
    labels: (H, W) uint8 class ids of the truth, 255 = ignore, which becomes dark gray.
    predictions: (H, W) uint8 class ids.
    image: (H, W, 3) uint8, or None.

  Returns:
    (H, W, 3) uint8.

  Raises:
    InputError: the sizes differ, ids are no whole numbers, or the image is not uint8 RGB.
  """
  labels, predictions = as_class_ids(labels), as_class_ids(predictions)
  gray = np.full(labels.shape, 235.0)
  if image is not None:
    gray = 130 + as_images(image) @ np.array([0.299, 0.587, 0.114]) * (125 / 255)
  if not labels.shape == predictions.shape == gray.shape:
    raise InputError(
      f'the truth has height and width {labels.shape}, the prediction {predictions.shape} and the '
      f'image {gray.shape}; a difference needs equal sizes'
    )
  result = np.repeat(np.rint(gray).astype(np.uint8)[..., None], 3, axis=-1)
  result[labels != predictions] = 213, 43, 30
  result[labels == IGNORE] = 90
  return result


def legend(names, palette, width: int = 640, size: int = 14) -> np.ndarray:
  """Draws color swatches with class names, in as many rows as needed, on white.

  Args:
    names: C class names.
    palette: RGB colors of C classes, 0..255.
    width: width in pixels; it grows if a single name is wider.
    size: font size in pixels.

  Returns:
    (height, width, 3) uint8.
  """
  font, swatch, gap, row = ImageFont.load_default(size=size), size, size // 2, size * 8 // 5
  lengths = [swatch + gap + int(np.ceil(font.getlength(name))) for name in names]
  width = max([width] + [length + 2 * gap for length in lengths])
  places, x, y = [], gap, 0
  for length in lengths:
    if x > gap and x + length + gap > width:
      x, y = gap, y + row
    places.append((x, y))
    x += length + 2 * gap
  strip = Image.new('RGB', (width, y + row + gap), 'white')
  draw = ImageDraw.Draw(strip)
  for name, color, (x, y) in zip(names, palette, places, strict=True):
    top = y + (row + gap - swatch) // 2
    box = (x, top, x + swatch - 1, top + swatch - 1)
    draw.rectangle(box, fill=tuple(int(c) for c in color), outline='gray')
    draw.text((x + swatch + gap, top + swatch / 2), name, 'black', font, anchor='lm')
  return np.asarray(strip)


def with_legend(image, ids, names, palette) -> np.ndarray:
  """Adds a legend of the classes that occur in a label map below an image.

  Args:
    image: (H, W, 3) uint8, usually an overlay.
    ids: (H, W) uint8 class ids, 255 = ignore.
    names: C class names.
    palette: RGB colors of C classes, 0..255.

  Returns:
    (H + height of the legend, W or more, 3) uint8: the image at the top left on white, and below it
    the legend, which gives the share of each class, largest first.
  """
  image, ids = as_images(image), as_class_ids(ids)
  counts = np.bincount(np.ravel(ids), minlength=256)[: len(names)]
  present = [int(index) for index in np.argsort(-counts, kind='stable') if counts[index]]
  shares = 100 * counts / np.size(ids)
  texts = [
    f'{names[index]} ' + (f'{shares[index]:.0f}%' if shares[index] >= 1 else '<1%')
    for index in present
  ]
  height, width = np.shape(image)[:2]
  strip = legend(texts, [palette[index] for index in present], width=max(width, 200))
  result = np.full((height + strip.shape[0], strip.shape[1], 3), 255, np.uint8)
  result[:height, :width] = image
  result[height:] = strip
  return result


def image_grid(rows, titles=(), *, side: int = 240, size: int = 16, gap: int = 8) -> np.ndarray:
  """Arranges images in a grid with a title over each column.

  Small images are enlarged by a whole factor with nearest-neighbor interpolation, to stay sharp.

  Args:
    rows: list of rows, each a list of (H, W, 3) uint8 images; sizes may differ.
    titles: one title for each column, or none.
    side: largest size in pixels to which the longer side of a small image is enlarged.
    size: font size in pixels.
    gap: pixels between images.

  Returns:
    (height, width, 3) uint8 on white.

  Raises:
    InputError: an image is not uint8 RGB.
  """
  rows = [[_enlarge(as_images(image), side) for image in row] for row in rows]
  columns = max([len(row) for row in rows] + [len(titles)])
  font = ImageFont.load_default(size=size)
  widths = [0] * columns
  for column, title in enumerate(titles):
    widths[column] = int(np.ceil(font.getlength(title)))
  for row in rows:
    for column, image in enumerate(row):
      widths[column] = max(widths[column], image.shape[1])
  heights = [max(image.shape[0] for image in row) for row in rows]
  head = 2 * size if len(titles) else gap
  total = (sum(widths) + gap * (columns + 1), head + sum(heights) + gap * len(rows))
  page = Image.new('RGB', total, 'white')
  draw = ImageDraw.Draw(page)
  lefts = [gap + sum(widths[:column]) + gap * column for column in range(columns)]
  for title, left in zip(titles, lefts):
    draw.text((left, head / 2), title, 'black', font, anchor='lm')
  top = head
  for row, height in zip(rows, heights, strict=True):
    for image, left in zip(row, lefts):
      page.paste(Image.fromarray(image), (left, top))
    top += height + gap
  return np.asarray(page)


def _enlarge(image, side):
  factor = max(1, side // max(image.shape[:2]))
  return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)

"""Label maps as colors, overlays, legends and grids of images."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE


def colorize(ids, palette) -> np.ndarray:
  """Paints a label map.

  Args:
    ids: (H, W) uint8 class ids; 255 (ignore) becomes black.
    palette: C RGB colors, 0..255.

  Returns:
    (H, W, 3) uint8.

  Raises:
    InputError: an id has no color.
  """
  ids = np.asarray(ids)
  colors = np.zeros((256, 3), np.uint8)
  colors[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
  colors[IGNORE] = 0
  strange = np.unique(ids[(ids >= len(palette)) & (ids != IGNORE)])
  if strange.size:
    raise InputError(f'class id {strange[0]} has no color: the palette has {len(palette)}')
  return colors[ids]


def overlay(image, ids, palette, alpha: float = 0.5) -> np.ndarray:
  """Blends a picture with the colors of its label map; ignored pixels stay as they are.

  Args:
    image: (H, W, 3) uint8.
    ids: (H, W) uint8 class ids, 255 = ignore.
    palette: C RGB colors.
    alpha: weight of the colors, 0..1.

  Returns:
    (H, W, 3) uint8.
  """
  image, colors = np.asarray(image), colorize(ids, palette)
  if image.shape != colors.shape:
    raise InputError(f'a picture {image.shape[:2]} and a label map {colors.shape[:2]} do not fit')
  mixed = np.rint((1 - alpha) * image.astype(np.float32) + alpha * colors.astype(np.float32))
  return np.where((np.asarray(ids) == IGNORE)[..., None], image, mixed.astype(np.uint8))


def legend(names, palette, width: int = 640, size: int = 14) -> np.ndarray:
  """Draws a strip of color swatches with class names, on white, in as many rows as they need.

  Args:
    names: the texts.
    palette: as many RGB colors.
    width: of the strip in pixels; it grows where a single name is wider.
    size: of the letters in pixels.

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
  """Puts under a picture a legend of the classes that occur in its label map.

  Args:
    image: (H, W, 3) uint8, as a rule an overlay.
    ids: (H, W) uint8 class ids, 255 = ignore.
    names: C class names.
    palette: C RGB colors.

  Returns:
    (H + legend, W or more, 3) uint8: the picture at the top left on white, then the legend with the
    share of each class, largest first.
  """
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
  """Lays out pictures as a table with a title over each column.

  Small pictures are enlarged by a whole factor, each pixel a square, so that nothing is blurred.

  Args:
    rows: list of rows, each a list of (H, W, 3) uint8 pictures; sizes may differ.
    titles: one text a column, or none.
    side: pictures are enlarged until the next factor would make their longer side exceed this.
    size: of the letters in pixels.
    gap: between pictures in pixels.

  Returns:
    (height, width, 3) uint8 on white.
  """
  rows = [[_enlarged(np.asarray(picture), side) for picture in row] for row in rows]
  columns = max([len(row) for row in rows] + [len(titles)])
  font = ImageFont.load_default(size=size)
  widths = [0] * columns
  for column, title in enumerate(titles):
    widths[column] = int(np.ceil(font.getlength(title)))
  for row in rows:
    for column, picture in enumerate(row):
      widths[column] = max(widths[column], picture.shape[1])
  heights = [max(picture.shape[0] for picture in row) for row in rows]
  head = 2 * size if len(titles) else gap
  total = (sum(widths) + gap * (columns + 1), head + sum(heights) + gap * len(rows))
  page = Image.new('RGB', total, 'white')
  draw = ImageDraw.Draw(page)
  lefts = [gap + sum(widths[:column]) + gap * column for column in range(columns)]
  for title, left in zip(titles, lefts):
    draw.text((left, head / 2), title, 'black', font, anchor='lm')
  top = head
  for row, height in zip(rows, heights, strict=True):
    for picture, left in zip(row, lefts):
      page.paste(Image.fromarray(picture), (left, top))
    top += height + gap
  return np.asarray(page)


def _enlarged(picture, side):
  factor = max(1, side // max(picture.shape[:2]))
  return np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)

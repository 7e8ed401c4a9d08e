"""Picture files: finding, pairing, reading and writing them; label maps made visible."""

import contextlib
import glob
import io
import os
import pathlib
import re
import struct
from typing import NamedTuple
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps

from dilated_jax.datasets.classes import IGNORE
from dilated_jax.errors import InputError

SUFFIXES = (
  '.bmp', '.gif', '.jp2', '.jpeg', '.jpg', '.pgm', '.png', '.pnm', '.ppm', '.tif', '.tiff', '.webp',
)  # fmt: skip

# What official tools append to a picture's name: Cityscapes (leftImg8bit, gtFine, gtCoarse) and
# CamVid (_L); and what `predict` appends to colour masks. The kinds are in the order of preference
# where several stand side by side.
KINDS = ('labelIds', 'labelTrainIds', 'instanceIds', 'color', 'colours')
_OFFICIAL = re.compile(
  rf'_(?:leftImg8bit|L|gt(?:Fine|Coarse)_(?P<kind>{"|".join(KINDS[:4])})|(?P<ours>{KINDS[4]}))$'
)
_FRAME = re.compile(
  r'.+_\d{6}_\d{6}(?=_)'
)  # CITY_SEQUENCE_FRAME of Cityscapes; any end may follow.


# Reading.

# What a damaged file makes Pillow raise.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)


class Head(NamedTuple):
  """How a photograph is stored.

  Attributes:
    format: of the file, in Pillow's words: 'PNG', 'JPEG', ...
    mode: of the picture, in Pillow's words: 'L', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16', ...
    bits: of each channel.
    orientation: of EXIF; 1 is upright.
    transparent: whether something shines through a pixel.
  """

  format: str
  mode: str
  bits: int
  orientation: int
  transparent: bool

  @property
  def plain(self) -> bool:
    """Whether any decoder makes the same of the file: 8-bit RGB as PNG or JPEG, upright, opaque."""
    known = self.format in ('PNG', 'JPEG') and self.mode == 'RGB' and self.bits == 8
    return known and self.orientation == 1 and not self.transparent


def read_image(path) -> np.ndarray:
  """Reads a photograph, whatever its mode, the way a viewer shows it.

  Grey becomes RGB; 16-bit grey is divided by 257; transparent pixels (RGBA, or a palette or grey
  picture with a transparent colour) are laid over white; EXIF rotation is applied; of an animation
  the first frame counts.

  Args:
    path: file in any format that Pillow reads.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: the file is missing, not a picture, cut short or too large to be meant.
  """
  return read_image_and_head(path)[0]


def read_image_and_head(path) -> tuple[np.ndarray, Head]:
  """Reads a photograph as `read_image` does, and tells how it is stored."""
  with opened(path) as image:
    bits = 1 if image.mode == '1' else 16 if image.mode.startswith('I;16') else 8
    if image.format == 'PNG' and image.mode != 'P':
      bits = _png_bits(path)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    head = Head(image.format, image.mode, bits, orientation, False)
    rotated = ImageOps.exif_transpose(image)
    if rotated.mode == 'F' or rotated.mode.startswith('I'):
      grey = np.asarray(rotated)
      if grey.dtype.kind == 'f' or grey.min() < 0 or grey.max() > 65535:
        raise InputError(
          f'{path}: holds grey values of {grey.dtype} from {grey.min()} to {grey.max()}; '
          'save it as 8- or 16-bit'
        )
      grey = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
      return np.repeat(grey[..., None], 3, axis=-1), head
    if rotated.has_transparency_data:
      rotated = rotated.convert('RGBA')
      head = head._replace(transparent=rotated.getextrema()[-1][0] < 255)
      white = Image.new('RGBA', rotated.size, 'white')
      rotated = Image.alpha_composite(white, rotated)
    return np.array(rotated.convert('RGB')), head


def read_label(path) -> np.ndarray:
  """Reads a label picture as it is stored: the numbers in the file, no colours.

  A palette picture gives its indices, a grey one its values (1 to 16 bits, if none is above 255).

  Args:
    path: picture file, as a rule PNG.

  Returns:
    (H, W) uint8 raw ids.

  Raises:
    InputError: the file is missing or damaged, holds colours instead of ids, values above 255, or
      was compressed with loss.
  """
  wanted = 'store class ids as 8-bit grey or palette PNG'
  with opened(path) as image:
    _refuse_loss(image, path)
    if image.mode in ('1', 'P', 'L', 'F') or image.mode.startswith('I'):
      ids = np.asarray(image)
    elif image.mode == 'LA':
      ids = np.asarray(_opaque(image, path))[..., 0]
    else:
      raise InputError(f'{path}: is a colour mask (mode {image.mode}), not a label map; {wanted}')
    if ids.dtype.kind == 'f':
      raise InputError(f'{path}: holds {ids.dtype} values; {wanted}')
    if ids.dtype.kind != 'b' and (ids.min() < 0 or ids.max() > 255):
      raise InputError(f'{path}: holds label values {ids.min()}..{ids.max()}, above 255; {wanted}')
    if image.format == 'PNG' and image.mode == 'L':
      ids = unstretched(ids, _png_bits(path))
    return ids.astype(np.uint8)


def read_colours(path) -> np.ndarray:
  """Reads a colour mask: the exact colours, of a palette picture those of its palette.

  Args:
    path: picture file, as a rule PNG.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: the file is missing or damaged, has no colours or transparent ones, or was
      compressed with loss.
  """
  with opened(path) as image:
    _refuse_loss(image, path)
    if image.mode not in ('P', 'RGB', 'RGBA'):
      raise InputError(f'{path}: is no colour mask but a grey picture (mode {image.mode})')
    return np.array(_opaque(image, path).convert('RGB'))


def read_instances(path) -> np.ndarray:
  """Reads an instance map of Cityscapes, as a rule a 16-bit grey PNG.

  Args:
    path: picture file.

  Returns:
    (H, W) int32: 1000 * label + number, or the label alone for stuff and groups.

  Raises:
    InputError: the file is missing or damaged, or is no map of integers.
  """
  with opened(path) as image:
    if image.mode != 'L' and not image.mode.startswith('I'):
      raise InputError(f'{path}: is no instance map (mode {image.mode}): those are 16-bit grey PNG')
    return np.asarray(image).astype(np.int32)


def stored_as(path) -> tuple[str, np.ndarray | None]:
  """Tells from the head of a label picture what it stores.

  Args:
    path: picture file.

  Returns:
    ('grey', None), ('colours', None), or ('palette', the palette as (n, 3) uint8).

  Raises:
    InputError: the file is missing or not a picture.
  """
  with opened(path, decode=False) as image:
    if image.mode == 'P':
      return 'palette', np.reshape(image.getpalette('RGB'), (-1, 3)).astype(np.uint8)
    return ('colours' if image.mode in ('RGB', 'RGBA') else 'grey'), None


def _refuse_loss(image, path):
  if image.format == 'JPEG':
    raise InputError(
      f'{path}: JPEG changes label values; store class ids as 8-bit grey or palette PNG'
    )


def _opaque(image, path):
  """A picture whose alpha channel, if any, hides nothing."""
  if image.mode in ('LA', 'RGBA') and image.getextrema()[-1] != (255, 255):
    raise InputError(
      f'{path}: has an alpha channel (mode {image.mode}) with transparent pixels; store label '
      'pictures without one'
    )
  return image


def unstretched(grey, bits: int) -> np.ndarray:
  """Grey values of a PNG with 2 or 4 bits as stored; Pillow stretches them to fill 0..255."""
  return grey // (255 // (2**bits - 1)) if bits < 8 else grey


def png_bits(start: bytes) -> int:
  """The bit depth of a PNG that starts so: signature 8, chunk head 8, width 4, height 4, depth."""
  return start[24]


def _png_bits(path) -> int:
  with open(path, 'rb') as file:
    return png_bits(file.read(25))


@contextlib.contextmanager
def opened(path, decode: bool = True):
  """Opens a picture for a `with`, decoded or only its head.

  Args:
    path: file in any format that Pillow reads.
    decode: whether to read all of it.

  Yields:
    Pillow's picture.

  Raises:
    InputError: whatever Pillow finds wrong, in one line.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    raise InputError(f'{path}: is a folder, not a picture file')
  try:
    if path.stat().st_size == 0:
      raise InputError(f'{path}: is an empty file (0 bytes)')
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Warnings about size and metadata of pictures still read.
      with Image.open(path) as image:
        if decode:
          image.load()
        yield image
  except InputError:
    raise
  except FileNotFoundError:
    raise InputError(f'{path}: no such file') from None
  except PermissionError:
    raise InputError(f'{path}: no permission to read it') from None
  except Image.DecompressionBombError as error:
    raise InputError(f'{path}: too large to be meant as one picture: {_one_line(error)}') from None
  except Image.UnidentifiedImageError:
    raise InputError(f'{path}: is not a picture in a format that Pillow reads') from None
  except DAMAGE as error:
    raise InputError(f'{path}: damaged picture: {_one_line(error)}') from None


def _one_line(error) -> str:
  return ' '.join(str(error).split()) or type(error).__name__


# Writing and drawing. Pictures are uint8 (H, W, 3) RGB, label maps uint8 (H, W).


def encode_png(array) -> bytes:
  """Packs a picture or a label map as PNG.

  Args:
    array: uint8, (H, W) for grey or (H, W, 3) for RGB.

  Returns:
    the content of a PNG file.
  """
  array = np.ascontiguousarray(array)
  if array.dtype != np.uint8 or (array.ndim != 2 and array.shape[2:] != (3,)):
    raise ValueError(f'a PNG needs uint8 (H, W) or (H, W, 3), not {array.dtype} {array.shape}')
  content = io.BytesIO()
  Image.fromarray(array).save(content, 'PNG')
  return content.getvalue()


def colourise(ids, palette) -> np.ndarray:
  """Paints a label map.

  Args:
    ids: (H, W) uint8 class ids; 255 (ignore) becomes black.
    palette: C RGB colours, 0..255.

  Returns:
    (H, W, 3) uint8.

  Raises:
    InputError: an id has no colour.
  """
  ids = np.asarray(ids)
  colours = np.zeros((256, 3), np.uint8)
  colours[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
  colours[IGNORE] = 0
  strange = np.unique(ids[(ids >= len(palette)) & (ids != IGNORE)])
  if strange.size:
    raise InputError(f'class id {strange[0]} has no colour: the palette has {len(palette)}')
  return colours[ids]


def overlay(image, ids, palette, alpha: float = 0.5) -> np.ndarray:
  """Blends a picture with the colours of its label map; ignored pixels stay as they are.

  Args:
    image: (H, W, 3) uint8.
    ids: (H, W) uint8 class ids, 255 = ignore.
    palette: C RGB colours.
    alpha: weight of the colours, 0..1.

  Returns:
    (H, W, 3) uint8.
  """
  image, colours = np.asarray(image), colourise(ids, palette)
  if image.shape != colours.shape:
    raise InputError(f'a picture {image.shape[:2]} and a label map {colours.shape[:2]} do not fit')
  mixed = np.rint((1 - alpha) * image.astype(np.float32) + alpha * colours.astype(np.float32))
  return np.where((np.asarray(ids) == IGNORE)[..., None], image, mixed.astype(np.uint8))


def legend(names, palette, width: int = 640, size: int = 14) -> np.ndarray:
  """Draws a strip of colour swatches with class names, on white, in as many rows as they need.

  Args:
    names: the texts.
    palette: as many RGB colours.
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
  for name, colour, (x, y) in zip(names, palette, places, strict=True):
    top = y + (row + gap - swatch) // 2
    box = (x, top, x + swatch - 1, top + swatch - 1)
    draw.rectangle(box, fill=tuple(int(c) for c in colour), outline='grey')
    draw.text((x + swatch + gap, top + swatch / 2), name, 'black', font, anchor='lm')
  return np.asarray(strip)


def with_legend(image, ids, names, palette) -> np.ndarray:
  """Puts under a picture a legend of the classes that occur in its label map.

  Args:
    image: (H, W, 3) uint8, as a rule an overlay.
    ids: (H, W) uint8 class ids, 255 = ignore.
    names: C class names.
    palette: C RGB colours.

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


def sheet(rows, titles=(), *, side: int = 240, size: int = 16, gap: int = 8) -> np.ndarray:
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


# Finding and pairing files.


def find(inputs) -> list[pathlib.Path]:
  """Lists picture files.

  Args:
    inputs: FILE, FOLDER (its pictures, not those of its subfolders) or GLOB (`**` goes through
      subfolders), several separated by commas, or a list of them.

  Returns:
    paths without repetition, in the order of `inputs`, those of one folder or glob sorted as people
    count (2 before 10).

  Raises:
    InputError: one of them names nothing, or no picture is there.
  """
  if isinstance(inputs, (str, os.PathLike)):
    text = os.fspath(inputs)
    inputs = [text] if os.path.exists(text) else text.split(',')
  inputs = [os.path.expanduser(os.fspath(each).strip()) for each in inputs]
  inputs = [each for each in inputs if each]
  if not inputs:
    raise InputError('no pictures given: name a file, a folder or a glob')
  found = {}
  for each in inputs:
    path = pathlib.Path(each)
    if path.is_dir():
      pictures = [file for file in path.iterdir() if _is_picture(file)]
      missing = f'{each}: no pictures in this folder ({", ".join(SUFFIXES)})'
    elif path.exists():
      pictures, missing = [path], ''
    elif glob.has_magic(each):
      pictures = [pathlib.Path(name) for name in glob.glob(each, recursive=True)]
      pictures = [file for file in pictures if _is_picture(file)]
      missing = f'{each}: no picture matches'
    else:
      pictures, missing = [], f'{each}: no such file or folder'
    if not pictures:
      raise InputError(missing)
    found.update((file.absolute(), file) for file in sorted(pictures, key=_natural))
  return list(found.values())


def pairs(predictions_dir, labels_dir) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Pairs predicted label maps with true ones by file name.

  Subfolders are searched too. Names are equal when their stems are, without the suffixes that
  official tools append: Cityscapes `_leftImg8bit`, `_gtFine_labelIds`, `_gtFine_labelTrainIds`,
  `_gtFine_instanceIds`, `_gtFine_color` (and gtCoarse) or, as in the official evaluation, whatever
  follows CITY_123456_123456; CamVid `_L`; and `_colours`, the masks that `predict` writes. Where a
  folder holds several of these for one picture, label maps go before colours, and labelIds before
  labelTrainIds. Overlays of `predict` are passed over.

  Args:
    predictions_dir: folder of predicted label maps.
    labels_dir: folder of true label maps.

  Returns:
    (prediction, label) paths, sorted by name.

  Raises:
    InputError: a folder is missing or without pictures, a name stands for two files, or a file has
      no partner.
  """
  predictions, labels = _by_name(predictions_dir), _by_name(labels_dir)
  for there, here, what, folder in (
    (labels, predictions, 'prediction', predictions_dir),
    (predictions, labels, 'label', labels_dir),
  ):
    alone = [there[name] for name in there if name not in here]
    if alone:
      first = ', '.join(file.name for file in alone[:3]) + (', ...' if len(alone) > 3 else '')
      raise InputError(
        f'{folder}: no {what} for {len(alone)} of {len(there)} files: {first}; '
        'names must be equal but for official suffixes'
      )
  return [(predictions[name], labels[name]) for name in sorted(labels, key=_natural)]


def _by_name(folder) -> dict:
  """Label files of a folder by their names without official suffixes."""
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    found = 'is a file; name its folder' if folder.exists() else 'no such folder'
    raise InputError(f'{folder}: {found}')
  files = below(folder)
  stems = {file.stem for file in files}
  ranked = {}
  for file in files:
    pure = file.stem.removesuffix('_overlay')
    if pure != file.stem and {pure, f'{pure}_colours'} & stems:
      continue
    name, kind = _split(file.stem)
    ranked.setdefault(name, []).append((KINDS.index(kind) if kind else 0, file))
  if not ranked:
    raise InputError(f'{folder}: no pictures in this folder ({", ".join(SUFFIXES)})')
  chosen = {}
  for name, files in ranked.items():
    best = min(rank for rank, _ in files)
    files = [file for rank, file in files if rank == best]
    if len(files) > 1:
      raise InputError(f'{folder}: {files[0].name} and {files[1].name} stand for the same picture')
    chosen[name] = files[0]
  return chosen


def below(folder) -> list[pathlib.Path]:
  """All pictures of a folder and its subfolders, sorted as people count; hidden files are not."""
  files = pathlib.Path(folder).rglob('*')
  return sorted((file for file in files if _is_picture(file)), key=_natural)


def name(path) -> str:
  """A picture's name without its file suffix and those that official tools append, see `pairs`."""
  return _split(pathlib.Path(path).stem)[0]


def kind(path) -> str | None:
  """What an official suffix says of a label picture: labelIds, color, ...; None without one."""
  return _split(pathlib.Path(path).stem)[1]


def instances_of(label) -> pathlib.Path | None:
  """The instance map that stands beside a label picture of Cityscapes; None if there is none."""
  label = pathlib.Path(label)
  said = kind(label)
  if said is None:
    return None
  path = label.with_stem(label.stem.removesuffix(said) + 'instanceIds')
  return path if path.exists() else None


def _split(stem: str) -> tuple[str, str | None]:
  """A picture's name without official suffixes, and the kind that they tell."""
  name, kind = stem, None
  while official := _OFFICIAL.search(name):
    name, kind = name[: official.start()], kind or official['kind'] or official['ours']
  frame = _FRAME.match(name)
  return (frame[0] if frame else name), kind


def _is_picture(path) -> bool:
  return path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()


def _natural(path):
  """Sorting key: digits count as numbers, letters regardless of case."""
  parts = re.split(r'([0-9]+)', str(path))
  return [(0, int(part), '') if part.isdigit() else (1, 0, part.lower()) for part in parts if part]

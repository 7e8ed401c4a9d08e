"""Picture files: finding, pairing, reading and writing them; label maps made visible."""

import contextlib
import io
import pathlib
import struct
from typing import NamedTuple
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps

from dilated_jax.errors import InputError

# Reading.

# What a damaged file makes Pillow raise.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)


class ImageInfo(NamedTuple):
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

  Gray becomes RGB; 16-bit gray is divided by 257; transparent pixels (RGBA, or a palette or gray
  picture with a transparent color) are laid over white; EXIF rotation is applied; of an animation
  the first frame counts.

  Args:
    path: file in any format that Pillow reads.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: the file is missing, not a picture, cut short or too large to be meant.
  """
  return read_image_and_info(path)[0]


def read_image_and_info(path) -> tuple[np.ndarray, ImageInfo]:
  """Reads a photograph as `read_image` does, and tells how it is stored."""
  with open_image(path) as image:
    bits = 1 if image.mode == '1' else 16 if image.mode.startswith('I;16') else 8
    if image.format == 'PNG' and image.mode != 'P':
      bits = _png_bits(path)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    head = ImageInfo(image.format, image.mode, bits, orientation, False)
    rotated = ImageOps.exif_transpose(image)
    if rotated.mode == 'F' or rotated.mode.startswith('I'):
      gray = np.asarray(rotated)
      if gray.dtype.kind == 'f' or gray.min() < 0 or gray.max() > 65535:
        raise InputError(
          f'{path}: holds gray values of {gray.dtype} from {gray.min()} to {gray.max()}; '
          'save it as 8- or 16-bit'
        )
      gray = ((gray.astype(np.uint32) + 128) // 257).astype(np.uint8)
      return np.repeat(gray[..., None], 3, axis=-1), head
    if rotated.has_transparency_data:
      rotated = rotated.convert('RGBA')
      head = head._replace(transparent=rotated.getextrema()[-1][0] < 255)
      white = Image.new('RGBA', rotated.size, 'white')
      rotated = Image.alpha_composite(white, rotated)
    return np.array(rotated.convert('RGB')), head


def read_label(path) -> np.ndarray:
  """Reads a label picture as it is stored: the numbers in the file, no colors.

  A palette picture gives its indices, a gray one its values (1 to 16 bits, if none is above 255).

  Args:
    path: picture file, as a rule PNG.

  Returns:
    (H, W) uint8 raw ids.

  Raises:
    InputError: the file is missing or damaged, holds colors instead of ids, values above 255, or
      was compressed with loss.
  """
  wanted = 'store class ids as 8-bit gray or palette PNG'
  with open_image(path) as image:
    _refuse_loss(image, path)
    if image.mode in ('1', 'P', 'L', 'F') or image.mode.startswith('I'):
      ids = np.asarray(image)
    elif image.mode == 'LA':
      ids = np.asarray(_opaque(image, path))[..., 0]
    else:
      raise InputError(f'{path}: is a color mask (mode {image.mode}), not a label map; {wanted}')
    if ids.dtype.kind == 'f':
      raise InputError(f'{path}: holds {ids.dtype} values; {wanted}')
    if ids.dtype.kind != 'b' and (ids.min() < 0 or ids.max() > 255):
      raise InputError(f'{path}: holds label values {ids.min()}..{ids.max()}, above 255; {wanted}')
    if image.format == 'PNG' and image.mode == 'L':
      ids = unstretched(ids, _png_bits(path))
    return ids.astype(np.uint8)


def read_colors(path) -> np.ndarray:
  """Reads a color mask: the exact colors, of a palette picture those of its palette.

  Args:
    path: picture file, as a rule PNG.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: the file is missing or damaged, has no colors or transparent ones, or was
      compressed with loss.
  """
  with open_image(path) as image:
    _refuse_loss(image, path)
    if image.mode not in ('P', 'RGB', 'RGBA'):
      raise InputError(f'{path}: is no color mask but a gray picture (mode {image.mode})')
    return np.array(_opaque(image, path).convert('RGB'))


def read_instances(path) -> np.ndarray:
  """Reads an instance map of Cityscapes, as a rule a 16-bit gray PNG.

  Args:
    path: picture file.

  Returns:
    (H, W) int32: 1000 * label + number, or the label alone for stuff and groups.

  Raises:
    InputError: the file is missing or damaged, or is no map of integers.
  """
  with open_image(path) as image:
    if image.mode != 'L' and not image.mode.startswith('I'):
      raise InputError(f'{path}: is no instance map (mode {image.mode}): those are 16-bit gray PNG')
    return np.asarray(image).astype(np.int32)


def stored_as(path) -> tuple[str, np.ndarray | None]:
  """Tells from the head of a label picture what it stores.

  Args:
    path: picture file.

  Returns:
    ('gray', None), ('colors', None), or ('palette', the palette as (n, 3) uint8).

  Raises:
    InputError: the file is missing or not a picture.
  """
  with open_image(path, decode=False) as image:
    if image.mode == 'P':
      return 'palette', np.reshape(image.getpalette('RGB'), (-1, 3)).astype(np.uint8)
    return ('colors' if image.mode in ('RGB', 'RGBA') else 'gray'), None


def _refuse_loss(image, path):
  if image.format == 'JPEG':
    raise InputError(
      f'{path}: JPEG changes label values; store class ids as 8-bit gray or palette PNG'
    )


def _opaque(image, path):
  """A picture whose alpha channel, if any, hides nothing."""
  if image.mode in ('LA', 'RGBA') and image.getextrema()[-1] != (255, 255):
    raise InputError(
      f'{path}: has an alpha channel (mode {image.mode}) with transparent pixels; store label '
      'pictures without one'
    )
  return image


def unstretched(gray, bits: int) -> np.ndarray:
  """Gray values of a PNG with 2 or 4 bits as stored; Pillow stretches them to fill 0..255."""
  return gray // (255 // (2**bits - 1)) if bits < 8 else gray


def png_bits(start: bytes) -> int:
  """The bit depth of a PNG that starts so: signature 8, chunk head 8, width 4, height 4, depth."""
  return start[24]


def _png_bits(path) -> int:
  with open(path, 'rb') as file:
    return png_bits(file.read(25))


@contextlib.contextmanager
def open_image(path, decode: bool = True):
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
  except DECODING_ERRORS as error:
    raise InputError(f'{path}: damaged picture: {_one_line(error)}') from None


def _one_line(error) -> str:
  return ' '.join(str(error).split()) or type(error).__name__


# Writing and drawing. Pictures are uint8 (H, W, 3) RGB, label maps uint8 (H, W).


def encode_png(array) -> bytes:
  """Packs a picture or a label map as PNG.

  Args:
    array: uint8, (H, W) for gray or (H, W, 3) for RGB.

  Returns:
    the content of a PNG file.
  """
  array = np.ascontiguousarray(array)
  if array.dtype != np.uint8 or (array.ndim != 2 and array.shape[2:] != (3,)):
    raise ValueError(f'a PNG needs uint8 (H, W) or (H, W, 3), not {array.dtype} {array.shape}')
  content = io.BytesIO()
  Image.fromarray(array).save(content, 'PNG')
  return content.getvalue()

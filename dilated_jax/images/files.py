"""Reads images, label maps, color masks and instance maps from files; encodes PNG."""

import contextlib
import functools
import io
import pathlib
import struct
from typing import NamedTuple
import warnings
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageOps

from dilated_jax.errors import InputError, one_line
from dilated_jax.images import label_images

# What Pillow raises for damaged files: each format has its own ways.
DECODING_ERRORS = (
  OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, RuntimeError,
  ArithmeticError, AssertionError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
# Formats that are programs or that other programs read: Ghostscript runs what stands in an EPS, and
# its name may end in .png.
_NOT_READ = ('EPS', 'WMF', 'BUFR', 'GRIB', 'HDF5', 'MPEG', 'MIC', 'FPX')
_STORE_IDS = 'store class ids as 8-bit gray or palette PNG'  # Advice for wrong label images.
_INEXACT = ('CMYK', 'HSV', 'LAB', 'YCbCr')  # Modes that are converted to RGB with rounding.


class ImageInfo(NamedTuple):
  """How an image file stores its image.

  Attributes:
    format: Pillow's name of the file format: 'PNG', 'JPEG', ...
    mode: Pillow's mode of the image: 'L', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16', ...
    bits: bits of each channel.
    orientation: EXIF orientation; 1 is upright.
    transparent: whether any pixel is not fully opaque.
    frames: number of frames or pages, of which the first is read.
  """

  format: str
  mode: str
  bits: int
  orientation: int
  transparent: bool
  frames: int = 1

  @property
  def is_plain_rgb(self) -> bool:
    """Whether every decoder reads the same image: 8-bit RGB PNG or JPEG, upright, opaque."""
    known = self.format in ('PNG', 'JPEG') and self.mode == 'RGB' and self.bits == 8
    return known and self.orientation == 1 and not self.transparent and self.frames == 1


def read_image(path) -> np.ndarray:
  """Reads an image of any mode as RGB, as an image viewer shows it.

  Gray becomes RGB, and 16-bit gray is divided by 257. Transparent images (RGBA, or palette or gray
  with a transparent color) are composited over white. EXIF rotation is applied. Animations give
  their first frame.

  Args:
    path: file in any format that Pillow reads.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: the file is missing, not an image, truncated, or implausibly large.
  """
  return read_image_and_info(path)[0]


def read_image_and_info(path) -> tuple[np.ndarray, ImageInfo]:
  """Reads an image like `read_image`, and returns how the file stores it too."""
  with open_image(path, decode=False) as image:
    frames = label_images.count_frames(image) if image.format != 'MPO' else 1
  with open_image(path) as image:
    bits = label_images.bits_per_channel(image, path)
    orientation = orientation_of(image)
    info = ImageInfo(image.format or '', image.mode, bits, orientation, False, frames)
    rotated = ImageOps.exif_transpose(image) if orientation != 1 else image
    if rotated.mode == 'F' or rotated.mode.startswith('I'):
      gray = np.asarray(rotated)
      if gray.dtype.kind == 'f' or gray.min() < 0 or gray.max() > 65535:
        raise InputError(
          f'{path}: has gray values of {gray.dtype} from {gray.min()} to {gray.max()}; '
          'save it with 8 or 16 bits'
        )
      gray = ((gray.astype(np.uint32) + 128) // 257).astype(np.uint8)
      return np.repeat(gray[..., None], 3, axis=-1), info
    if rotated.mode == 'LAB':
      raise InputError(f'{path}: has the color space LAB, which is not read; save it as RGB')
    if rotated.has_transparency_data:
      rotated = rotated.convert('RGBA')
      info = info._replace(transparent=bool(np.asarray(rotated)[..., 3].min() < 255))
      white = Image.new('RGBA', rotated.size, 'white')
      rotated = Image.alpha_composite(white, rotated)
    return np.array(rotated.convert('RGB')), info


def read_label(path) -> np.ndarray:
  """Reads the raw ids of a label image: palette indices, or gray values of 1 to 16 bits.

  As for images, EXIF rotation is applied. What could change ids is refused: lossy compression of
  any name, several frames, channels of 16 bits.

  Args:
    path: image file, usually PNG.

  Returns:
    (H, W) uint8 raw ids, as the file stores them.

  Raises:
    InputError: the file is missing or damaged, has colors instead of ids or values above 255, is
      compressed with loss, or has several frames.
  """
  with _open_label(path) as image:
    if image.mode in ('1', 'P', 'L', 'F') or image.mode.startswith('I'):
      ids = np.asarray(image)
    elif image.mode in ('LA', 'PA'):
      ids = np.asarray(_require_opaque(image, path))[..., 0]
    else:
      raise InputError(
        f'{path}: is a color mask (mode {image.mode}), not a label map; {_STORE_IDS}'
      )
    if ids.dtype.kind == 'f':
      raise InputError(f'{path}: has {ids.dtype} values; {_STORE_IDS}')
    if ids.dtype.kind != 'b' and (ids.min() < 0 or ids.max() > 255):
      raise InputError(
        f'{path}: has label values {ids.min()}..{ids.max()}, '
        f'{"below 0" if ids.min() < 0 else "above 255"}; {_STORE_IDS}'
      )
    return ids.astype(np.uint8)


def read_colors(path) -> np.ndarray:
  """Reads the exact colors of a color mask; palette images give the colors of their palette.

  As for images, EXIF rotation is applied; see `read_label`. Transparent colors of a palette are
  colors like others.

  Args:
    path: image file, usually PNG.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: the file is missing or damaged, is gray, has transparent pixels, is compressed with
      loss, or has several frames.
  """
  with _open_label(path) as image:
    if image.mode in _INEXACT:
      raise InputError(
        f'{path}: has mode {image.mode}, whose colors change when they become RGB; save color '
        'masks as RGB PNG'
      )
    if image.mode not in ('P', 'PA', 'RGB', 'RGBA', 'RGBX'):
      raise InputError(f'{path}: is a gray image (mode {image.mode}), not a color mask')
    return np.array(_require_opaque(image, path).convert('RGB'))


def read_instances(path) -> np.ndarray:
  """Reads an instance map of Cityscapes, usually a 16-bit gray PNG.

  Args:
    path: image file.

  Returns:
    (H, W) int32: 1000 * label + instance number, or the label alone for stuff and groups.

  Raises:
    InputError: the file is missing or damaged, or does not store integers; or as in `read_label`.
  """
  with _open_label(path) as image:
    if image.mode != 'L' and not image.mode.startswith('I'):
      raise InputError(f'{path}: has mode {image.mode}; instance maps are 16-bit gray PNG')
    return np.asarray(image).astype(np.int32)


def read_mode_and_palette(path) -> tuple[str, np.ndarray | None]:
  """Reads from the header of a label image whether it stores gray values, indices or colors.

  Args:
    path: image file.

  Returns:
    ('gray', None), ('colors', None), or ('palette', palette as (n, 3) uint8).

  Raises:
    InputError: the file is missing or not an image.
  """
  with open_image(path, decode=False) as image:
    if label_images.gray_of_palette(image) is not None:
      return 'gray', None
    if image.mode in ('P', 'PA'):
      return 'palette', np.reshape(image.getpalette('RGB') or [], (-1, 3)).astype(np.uint8)
    return ('colors' if image.mode in ('RGB', 'RGBA', 'RGBX', *_INEXACT) else 'gray'), None


@contextlib.contextmanager
def _open_label(path):
  """Opens a label image as it is shown, with the gray values that are stored, for `with`."""
  with open_image(path, decode=False) as image:
    problem = label_problem(image, path)
    if problem:
      raise InputError(f'{path}: {problem}')
    image.load()
    orientation = orientation_of(image)
    label = stored_label(image, path)
    if orientation != 1:
      label.getexif()[ExifTags.Base.Orientation] = orientation
      label = ImageOps.exif_transpose(label)
    yield label


def orientation_of(image: Image.Image) -> int:
  """Returns the EXIF orientation; 1, upright, if there is none or EXIF is damaged."""
  try:
    return image.getexif().get(ExifTags.Base.Orientation, 1)
  except DECODING_ERRORS:
    return 1  # As viewers do: the image itself is whole.


def label_problem(image: Image.Image, file: label_images.File) -> str | None:
  """Returns why a file can't be trusted as a label image, whatever its values are, or None."""
  if codec := label_images.lossy_codec(image, file):
    return f'{codec} changes label values; {_STORE_IDS}'
  frames = label_images.count_frames(image)
  if frames > 1:
    return f'has {frames} frames or pages, and a label image is one; {_STORE_IDS}'
  bits = label_images.bits_per_channel(image, file)
  if bits > 8 and image.mode in ('LA', 'RGB', 'RGBA'):
    return f'has {bits} bits in each of several channels, of which 8 would be lost; {_STORE_IDS}'
  return None


def stored_label(image: Image.Image, file: label_images.File) -> Image.Image:
  """Returns a label image with the gray values that its file stores.

  Pillow may scale them, and a GIF stores them in a palette.
  """
  grays = label_images.gray_of_palette(image)
  if grays is not None:
    return Image.fromarray(grays[np.asarray(image)])
  if image.mode not in ('L', 'I'):
    return image
  values = np.asarray(image)
  stored = label_images.unscale(values, image, file)
  return image if stored is values else Image.fromarray(stored)


def _require_opaque(image, path):
  """Returns the image, after a check that its alpha channel, if any, is opaque everywhere."""
  if image.mode in ('LA', 'PA', 'RGBA') and image.getchannel('A').getextrema() != (255, 255):
    raise InputError(
      f'{path}: has an alpha channel (mode {image.mode}) with transparent pixels; store label '
      'images without one'
    )
  return image


@functools.cache
def formats() -> tuple[str, ...]:
  """Pillow's names of the formats that are read."""
  Image.init()
  return tuple(name for name in Image.ID if name not in _NOT_READ)


@contextlib.contextmanager
def open_image(path, decode: bool = True):
  """Opens an image with Pillow, for `with`.

  Args:
    path: file in any format that Pillow reads.
    decode: whether to decode all pixels; False reads the header only.

  Yields:
    a Pillow image.

  Raises:
    InputError: Pillow can't read the file; the message is Pillow's in one line.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    raise InputError(f'{path}: is a folder, not an image file')
  try:
    if path.stat().st_size == 0:
      raise InputError(f'{path}: is an empty file (0 bytes)')
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # About size and metadata of images that are read anyway.
      # A file, not its name: Pillow would map raw TIFF and read gray ones wrongly if rotated.
      with open(path, 'rb') as file, Image.open(file, formats=formats()) as image:
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
    raise InputError(f'{path}: too large for one image: {one_line(error)}') from None
  except Image.UnidentifiedImageError:
    raise InputError(f'{path}: is not an image in a format that Pillow reads') from None
  except DECODING_ERRORS as error:
    raise InputError(f'{path}: damaged image: {one_line(error)}') from None


def encode_png(array) -> bytes:
  """Encodes an image or a label map as PNG.

  Args:
    array: uint8, (H, W) for gray or (H, W, 3) for RGB.

  Returns:
    the bytes of a PNG file.

  Raises:
    ValueError: `array` has another shape or dtype.
  """
  array = np.ascontiguousarray(array)
  if array.dtype != np.uint8 or (array.ndim != 2 and array.shape[2:] != (3,)):
    raise ValueError(f'a PNG needs uint8 (H, W) or (H, W, 3), not {array.dtype} {array.shape}')
  content = io.BytesIO()
  Image.fromarray(array).save(content, 'PNG')
  return content.getvalue()

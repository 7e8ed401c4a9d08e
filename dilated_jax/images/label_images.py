"""What a file may do to the numbers in a label image: lossy compression, frames, scaled values."""

import io
import pathlib
import re
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

File = str | pathlib.Path | bytes

# Formats that keep every value, by Pillow's names; TIFF, WebP and JPEG 2000 can be lossy too.
_LOSSLESS = (
  'APNG', 'BMP', 'DIB', 'GIF', 'PCX', 'PNG', 'PPM', 'SGI', 'TGA', 'TIFF', 'WEBP', 'JPEG2000',
)  # fmt: skip
_TIFF_LOSSLESS = {1, 2, 3, 4, 5, 8, 32771, 32773, 32946, 34661, 34925, 50000}
_TIFF_NAMES = {6: 'JPEG', 7: 'JPEG', 33003: 'JPEG 2000', 33005: 'JPEG 2000', 34712: 'JPEG 2000',
               34887: 'LERC', 34892: 'JPEG', 50001: 'WebP', 50002: 'JPEG XL'}  # fmt: skip
_HEADER = 2**16  # Bytes that hold the headers of JPEG 2000.


def lossy_codec(image: Image.Image, file: File) -> str | None:
  """Returns the name of the lossy codec of an image file, whatever the file is called.

  A JPEG 2000 file with the reversible 5-3 wavelet counts as lossless, though it may be cut short.

  Args:
    image: the image, opened by Pillow.
    file: its path, or its bytes.

  Returns:
    a name such as 'JPEG'; None if the codec keeps every value.
  """
  name = image.format or 'unknown'
  if name == 'WEBP' and _is_lossy_webp(file):
    return 'lossy WebP'
  if name == 'JPEG2000' and _is_lossy_jpeg2000(file):
    return 'JPEG 2000 with the 9-7 wavelet'
  if isinstance(image, TiffImagePlugin.TiffImageFile):
    code = image.tag_v2.get(TiffImagePlugin.COMPRESSION, 1)
    if code not in _TIFF_LOSSLESS:
      return f'TIFF with {_TIFF_NAMES.get(code, f"the compression {code}")}'
  return None if name in _LOSSLESS else {'MPO': 'JPEG'}.get(name, name)


def count_frames(image: Image.Image) -> int:
  """Returns the number of frames or pages of an image; overviews of a TIFF are not counted.

  Args:
    image: the image, opened by Pillow and not decoded yet.
  """
  frames = getattr(image, 'n_frames', 1)
  if frames == 1 or not isinstance(image, TiffImagePlugin.TiffImageFile):
    return frames
  full = 0
  for frame in range(frames):
    image.seek(frame)
    # Bits of NewSubfileType: 1 is a reduced image, 4 a mask.
    full += not image.tag_v2.get(254, 0) & 5
  image.seek(0)
  return full


def bits_per_channel(image: Image.Image, file: File) -> int:
  """Returns how many bits the file has for each channel; Pillow reads most as 8."""
  if image.mode == '1':
    return 1
  if image.format == 'PNG' and image.mode != 'P':
    return png_bit_depth(_start(file, 25))
  if isinstance(image, TiffImagePlugin.TiffImageFile):
    return max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
  return 16 if image.mode.startswith('I;16') else 8


def unscale(values: np.ndarray, image: Image.Image, file: File) -> np.ndarray:
  """Returns the gray values that a file stores, where Pillow scales them to 0..255 or 0..65535.

  Pillow scales PNG and TIFF of 2 and 4 bits, and PGM with another maximum.

  Args:
    values: (H, W) as Pillow reads them.
    image: the image, opened by Pillow.
    file: its path, or its bytes.
  """
  if image.mode not in ('L', 'I'):
    return values
  limit = 255 if image.mode == 'L' else 65535
  maximum = limit
  if image.format == 'PPM':
    header = re.sub(rb'#[^\n]*', b'', _start(file, 1000))
    maximum = int(header.split(maxsplit=4)[3])
  elif image.format in ('PNG', 'TIFF') and image.mode == 'L':
    maximum = 2 ** min(bits_per_channel(image, file), 8) - 1
  if maximum in (255, 65535) and maximum == limit:
    return values
  stored = (values.astype(np.int64) * maximum + limit // 2) // limit
  return stored.astype(np.uint8 if maximum < 256 else np.int32)


def gray_of_palette(image: Image.Image) -> np.ndarray | None:
  """Returns the gray value of each index of a GIF whose palette has grays only, else None.

  A GIF has no gray values: programs that write one number the grays that occur. What they mean is
  the grays, as an image viewer shows them.
  """
  if image.format != 'GIF' or image.mode != 'P':
    return None
  palette = np.reshape(image.getpalette('RGB') or [], (-1, 3)).astype(np.uint8)
  if (palette != palette[:, :1]).any():
    return None
  return np.pad(palette[:, 0], (0, 256 - len(palette)))


def png_bit_depth(content: bytes) -> int:
  """Returns the bit depth of a PNG from its first 25 bytes."""
  return content[24]  # After the signature (8 bytes), chunk header (8), width (4) and height (4).


def _open(file: File) -> BinaryIO:
  return io.BytesIO(file) if isinstance(file, bytes) else open(file, 'rb')


def _start(file: File, size: int) -> bytes:
  with _open(file) as stream:
    return stream.read(size)


def _is_lossy_webp(file: File) -> bool:
  """Whether a chunk of the file is 'VP8 ', not 'VP8L', in one of its frames too."""
  with _open(file) as stream:
    stream.seek(12)  # 'RIFF', size, 'WEBP'.
    while len(head := stream.read(8)) == 8:
      if head[:4] == b'VP8 ':
        return True
      size = int.from_bytes(head[4:], 'little')
      # The chunks of a frame follow its 16 bytes of position and duration.
      stream.seek(16 if head[:4] == b'ANMF' else size + size % 2, io.SEEK_CUR)
  return False


def _is_lossy_jpeg2000(file: File) -> bool:
  """Whether the marker COD of the codestream names the irreversible wavelet, 0."""
  start = _start(file, _HEADER)
  siz = start.find(b'\xff\x4f\xff\x51')  # Start of the codestream, and its first marker.
  place = siz + 2
  while 0 < place + 14 <= len(start) and start[place] == 0xFF:
    if start[place + 1] == 0x52:
      return start[place + 13] == 0
    place += 2 + int.from_bytes(start[place + 2 : place + 4], 'big')
  return True  # No such marker: not known to be lossless.

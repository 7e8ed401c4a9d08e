"""Label images are read by the rules of images, and refused where a file may change their values.

Every test writes such a file and compares with the ids that went into it.
"""

import numpy as np
from PIL import Image
import pytest

from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files

RNG = np.random.default_rng(0)

IDS = RNG.integers(0, 5, (24, 32), np.uint8)

COLORS = RNG.integers(0, 256, (5, 3), np.uint8)

TWO_FRAMES = {'save_all': True, 'append_images': [Image.fromarray(IDS[::-1])]}


def save(content, path, **options):
  image = content if isinstance(content, Image.Image) else Image.fromarray(content)
  image.save(path, **options)
  return path


def tiff(*pages, bits=8):
  """Writes a TIFF by hand: (H, W) gray values of each page, and its NewSubfileType."""
  content, link = b'II*\0' + bytes(4), 4  # The place of the offset of the next page.
  for ids, kind in pages:
    rows = np.unpackbits(ids[..., None], axis=-1)[..., -bits:].reshape(len(ids), -1)
    rows = np.packbits(rows, axis=-1).tobytes()
    entries = {254: kind, 256: ids.shape[1], 257: len(ids), 258: bits, 259: 1, 262: 1,
               273: len(content), 277: 1, 278: len(ids), 279: len(rows)}  # fmt: skip
    content += rows
    content = content[:link] + len(content).to_bytes(4, 'little') + content[link + 4 :]
    content += len(entries).to_bytes(2, 'little') + b''.join(
      tag.to_bytes(2, 'little') + b'\4\0\1\0\0\0' + value.to_bytes(4, 'little')
      for tag, value in entries.items()
    )
    link = len(content)
    content += bytes(4)
  return content


def palette_image(ids=IDS, colors=COLORS):
  image = Image.fromarray(ids)
  image.putpalette(colors.ravel().tolist())
  return image


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['.png', '.tif', '.webp'])
def test_labels_are_rotated_as_images_are(tmp_path, suffix, orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  options = {'exif': exif} | ({'lossless': True} if suffix == '.webp' else {})
  colors = COLORS[IDS]
  image = image_files.read_image(save(colors, tmp_path / f'image{suffix}', **options))
  assert (image.shape[:2] == IDS.shape) == (orientation < 5)
  np.testing.assert_array_equal(image_files.read_colors(tmp_path / f'image{suffix}'), image)
  if suffix != '.webp':  # It stores no gray.
    label = image_files.read_label(save(IDS, tmp_path / f'label{suffix}', **options))
    np.testing.assert_array_equal(COLORS[label], image)
    path = save(palette_image(), tmp_path / f'palette{suffix}', **options)
    np.testing.assert_array_equal(image_files.read_label(path), label)
    np.testing.assert_array_equal(image_files.read_colors(path), image)


@pytest.mark.parametrize(
  'name, options, codec',
  [
    ('a.jpg', {}, 'JPEG'),
    ('a.png', {'format': 'JPEG', 'quality': 100}, 'JPEG'),
    ('a.png', {'format': 'MPO', **TWO_FRAMES}, 'JPEG'),
    ('a.webp', {'quality': 80}, 'lossy WebP'),
    ('a.webp', {'quality': 80, 'exif': b'Exif\0\0'}, 'lossy WebP'),  # Behind a chunk VP8X.
    ('a.webp', {'quality': 80, **TWO_FRAMES}, 'lossy WebP'),
    ('a.jp2', {'irreversible': True}, 'JPEG 2000 with the 9-7 wavelet'),
    ('a.j2k', {'irreversible': True, 'no_jp2': True}, 'JPEG 2000 with the 9-7 wavelet'),
    ('a.tif', {'compression': 'jpeg'}, 'TIFF with JPEG'),
    ('a.avif', {}, 'AVIF'),
  ],
)
def test_lossy_codecs_are_refused_by_any_name(tmp_path, name, options, codec):
  path = save(COLORS[IDS], tmp_path / name, **options)
  for read in (image_files.read_colors, image_files.read_label):
    with pytest.raises(InputError, match=f'{name}: {codec} changes label values; store') as raised:
      read(path)
    assert '\n' not in str(raised.value)
  assert image_files.read_image(path).shape == (*IDS.shape, 3)


@pytest.mark.parametrize(
  'name, options',
  [
    ('a.png', {}), ('a.bmp', {}), ('a.gif', {}), ('a.tga', {}), ('a.pgm', {}), ('a.dib', {}),
    ('a.jp2', {}), ('a.tif', {}), ('a.tif', {'compression': 'tiff_lzw'}),
    ('a.tif', {'compression': 'tiff_adobe_deflate'}), ('a.tif', {'compression': 'packbits'}),
    ('a.png', {'format': 'TIFF'}),
  ],
)  # fmt: skip
def test_lossless_formats_keep_every_id(tmp_path, name, options):
  np.testing.assert_array_equal(image_files.read_label(save(IDS, tmp_path / name, **options)), IDS)


@pytest.mark.parametrize('exact', [{}, {'exif': b'Exif\0\0'}])
def test_lossless_webp(tmp_path, exact):
  path = save(COLORS[IDS], tmp_path / 'a.webp', lossless=True, **exact)
  np.testing.assert_array_equal(image_files.read_colors(path), COLORS[IDS])


@pytest.mark.parametrize('name', ['a.gif', 'a.png', 'a.tif'])
def test_several_frames_are_refused(tmp_path, name):
  path = tmp_path / name
  if name == 'a.tif':
    path.write_bytes(tiff((IDS, 0), (IDS[::-1], 2)))
  else:
    save(palette_image(), path, **TWO_FRAMES)
  with pytest.raises(InputError, match='has 2 frames or pages, and a label image is one'):
    image_files.read_label(path)
  image, info = image_files.read_image_and_info(path)
  assert image.shape == (*IDS.shape, 3) and info.frames == 2 and not info.is_plain_rgb


def test_overviews_of_a_tiff_are_no_pages(tmp_path):
  (tmp_path / 'a.tif').write_bytes(tiff((IDS, 0), (IDS[::2, ::2].copy(), 1)))
  np.testing.assert_array_equal(image_files.read_label(tmp_path / 'a.tif'), IDS)


@pytest.mark.parametrize('largest', [4, 20, 200, 1000])
@pytest.mark.parametrize('plain', [False, True])
def test_pgm_with_another_maximum(tmp_path, largest, plain):
  """Pillow scales such values to 0..255 or 0..65535."""
  if plain:
    body = b' '.join(b'%d' % value for value in IDS.ravel())
  else:
    body = IDS.astype(np.uint8 if largest < 256 else '>u2').tobytes()
  kind = b'P2' if plain else b'P5'
  (tmp_path / 'a.pgm').write_bytes(b'%b\n# by hand\n32 24\n%d\n' % (kind, largest) + body)
  np.testing.assert_array_equal(image_files.read_label(tmp_path / 'a.pgm'), IDS)


@pytest.mark.parametrize('bits', [2, 4])
def test_tiff_of_few_bits(tmp_path, bits):
  ids = IDS % 2**bits
  (tmp_path / 'a.tif').write_bytes(tiff((ids, 0), bits=bits))
  np.testing.assert_array_equal(image_files.read_label(tmp_path / 'a.tif'), ids)


def test_modes(tmp_path):
  opaque = np.full_like(IDS, 255)
  hidden = np.where(IDS == 1, 0, 255).astype(np.uint8)
  both = palette_image().convert('PA')
  for name, image, options in (
    ('gray.png', IDS, {}),
    ('opaque.png', np.dstack([IDS, opaque]), {}),
    ('palette.png', palette_image(), {}),
    ('palette.gif', palette_image(), {'transparency': 1}),
    ('transparent.png', palette_image(), {'transparency': 1}),
    ('some.png', palette_image(), {'transparency': bytes([0, 128, 255, 255, 255])}),
    ('key.png', IDS, {'transparency': 1}),
    ('palette and alpha.tif', both, {}),
    ('deep.png', IDS.astype(np.uint16), {}),
    ('big-endian.tif', Image.fromarray(IDS.astype('>u2')), {}),
    ('signed.tif', IDS.astype(np.int32), {}),
  ):
    path = save(image, tmp_path / name, **options)
    np.testing.assert_array_equal(image_files.read_label(path), IDS, err_msg=name)
    if image_files.read_mode_and_palette(path)[0] == 'palette':
      np.testing.assert_array_equal(image_files.read_colors(path), COLORS[IDS], err_msg=name)
  for name, image, words in (
    ('alpha.png', np.dstack([IDS, hidden]), 'alpha channel'),
    ('cmyk.tif', Image.fromarray(COLORS[IDS]).convert('CMYK'), 'CMYK, whose colors change'),
    ('ycc.tif', Image.fromarray(COLORS[IDS]).convert('YCbCr'), 'YCbCr, whose colors change'),
    ('alpha.tif', np.dstack([COLORS[IDS], hidden]), 'alpha channel'),
  ):
    path = save(image, tmp_path / name)
    read = image_files.read_label if name == 'alpha.png' else image_files.read_colors
    with pytest.raises(InputError, match=words):
      read(path)


def test_colors_of_16_bits(tmp_path):
  """Pillow keeps the upper 8 of them, which makes every id 0."""
  import struct
  import zlib

  def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

  rows = np.repeat(IDS[..., None], 3, -1).astype('>u2')
  lines = b''.join(b'\0' + row.tobytes() for row in rows)
  head = struct.pack('>IIBBBBB', 32, 24, 16, 2, 0, 0, 0)
  content = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(lines))
  (tmp_path / 'a.png').write_bytes(content + chunk(b'IEND', b''))
  with pytest.raises(InputError, match='has 16 bits in each of several channels'):
    image_files.read_colors(tmp_path / 'a.png')

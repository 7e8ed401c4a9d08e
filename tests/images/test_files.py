"""Images of every mode are read as a viewer shows them, labels as they are stored."""

import io

import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files

RNG = np.random.default_rng(0)

COLOR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)

GRAY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


@pytest.fixture
def save(tmp_path):
  def saved(image, name='picture.png', **options):
    if not isinstance(image, Image.Image):
      image = Image.fromarray(image)
    image.save(tmp_path / name, **options)
    return tmp_path / name

  return saved


def test_rgb_and_gray(save):
  np.testing.assert_array_equal(image_files.read_image(save(COLOR)), COLOR)
  np.testing.assert_array_equal(
    image_files.read_image(save(GRAY)), np.repeat(GRAY[..., None], 3, axis=-1)
  )


def test_one_bit(save):
  image = image_files.read_image(save(Image.fromarray(GRAY > 128)))
  np.testing.assert_array_equal(image[..., 0], np.where(GRAY > 128, 255, 0))


def test_sixteen_bit_gray(save):
  deep = GRAY.astype(np.uint16) * 257
  for name in ('deep.png', 'deep.tif'):
    image = image_files.read_image(save(deep, name))
    np.testing.assert_array_equal(image, np.repeat(GRAY[..., None], 3, axis=-1))


def test_transparency_is_laid_over_white(save):
  alpha = np.full((5, 7, 1), 255, np.uint8)
  alpha[0, 0], alpha[1, 1] = 0, 51
  image = image_files.read_image(save(np.concatenate([COLOR, alpha], axis=-1)))
  part = alpha / 255.0
  np.testing.assert_allclose(image, part * COLOR + (1 - part) * 255, atol=1)
  assert image[0, 0].tolist() == [255, 255, 255]
  np.testing.assert_array_equal(image[2:], COLOR[2:])


def test_gray_with_alpha(save):
  alpha = np.where(GRAY > 128, 255, 0).astype(np.uint8)
  image = image_files.read_image(save(np.stack([GRAY, alpha], axis=-1)))
  np.testing.assert_array_equal(image[..., 1], np.where(alpha, GRAY, 255))


def test_palette_with_and_without_transparency(save):
  ids = Image.fromarray(GRAY % 3).convert('P')
  ids.putdata((GRAY % 3).ravel().tolist())
  ids.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
  table = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])
  np.testing.assert_array_equal(image_files.read_image(save(ids)), table[GRAY % 3])
  table[1] = 255
  image = image_files.read_image(save(ids, transparency=1))
  np.testing.assert_array_equal(image, table[GRAY % 3])


def test_cmyk_and_jpeg(save):
  smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
  for name in ('picture.jpg', 'picture.tif'):
    image = image_files.read_image(save(Image.fromarray(smooth).convert('CMYK'), name))
    np.testing.assert_allclose(image.astype(int), smooth, atol=4)
  image = image_files.read_image(save(smooth, 'rgb.jpg'))
  np.testing.assert_allclose(image.astype(int), smooth, atol=4)


@pytest.mark.parametrize(
  'array, name, options, expected',
  [
    (COLOR, 'a.png', {}, ('PNG', 'RGB', 8, 1, False)),
    (COLOR, 'a.jpg', {}, ('JPEG', 'RGB', 8, 1, False)),
    (COLOR, 'a.bmp', {}, ('BMP', 'RGB', 8, 1, False)),
    (GRAY, 'a.png', {}, ('PNG', 'L', 8, 1, False)),
    (GRAY.astype(np.uint16) * 257, 'a.png', {}, ('PNG', 'I;16', 16, 1, False)),
    (np.concatenate([COLOR, GRAY[..., None]], -1), 'a.png', {}, ('PNG', 'RGBA', 8, 1, True)),
    (np.dstack([COLOR, 255 + 0 * GRAY]), 'a.png', {}, ('PNG', 'RGBA', 8, 1, False)),
    (COLOR, 'a.png', {'transparency': tuple(COLOR[0, 0].tolist())}, ('PNG', 'RGB', 8, 1, True)),
    (COLOR, 'turned.jpg', {'exif': b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01'
                                    b'\0\x06\0\0\0\0\0\0'}, ('JPEG', 'RGB', 8, 6, False)),
  ],
)  # fmt: skip
def test_heads(save, array, name, options, expected):
  image, info = image_files.read_image_and_info(save(array, name, **options))
  assert info == (*expected, 1)
  np.testing.assert_array_equal(image, image_files.read_image(save(array, name, **options)))
  assert info.is_plain_rgb == (
    name == 'a.jpg' or (name == 'a.png' and expected[1:] == ('RGB', 8, 1, False))
  )


def test_damaged_exif_is_no_orientation(save):
  np.testing.assert_array_equal(image_files.read_image(save(COLOR, exif=b'no EXIF')), COLOR)
  np.testing.assert_array_equal(image_files.read_label(save(GRAY, exif=b'no EXIF')), GRAY)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_rotation(save, orientation):
  """Orientation by the Exif standard: which side of the scene the first row and column are."""
  exif = Image.Exif()
  exif[0x0112] = orientation
  image = image_files.read_image(save(COLOR, exif=exif))
  expected = {
    1: COLOR,
    2: COLOR[:, ::-1],
    3: COLOR[::-1, ::-1],
    4: COLOR[::-1],
    5: COLOR.swapaxes(0, 1),
    6: np.rot90(COLOR, -1),
    7: np.rot90(COLOR, 2).swapaxes(0, 1),
    8: np.rot90(COLOR),
  }[orientation]
  np.testing.assert_array_equal(image, expected)


def test_bad_pictures_get_one_line(save, tmp_path, monkeypatch):
  whole = save(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8), 'whole.png')
  content = whole.read_bytes()
  files = {
    'cut.png': content[: len(content) // 2],
    'cut.jpg': save(np.resize(COLOR, (64, 64, 3)), 'whole.jpg').read_bytes()[:700],
    'flipped.png': content[:40] + b'garbage' + content[47:],
    'text.png': b'this is no picture',
    'empty.png': b'',
  }
  for name, data in files.items():
    (tmp_path / name).write_bytes(data)
  (tmp_path / 'folder.png').mkdir()
  for name in (*files, 'folder.png', 'missing.png'):
    for read in (image_files.read_image, image_files.read_label):
      with pytest.raises(InputError) as raised:
        read(tmp_path / name)
      assert name in str(raised.value) and '\n' not in str(raised.value)
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
  with pytest.raises(InputError, match='too large'):
    image_files.read_image(whole)
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 3000)  # Pillow only warns: it is read.
  assert image_files.read_image(whole).shape == (64, 64, 3)


def test_pictures_in_lab_are_refused(save):
  with pytest.raises(InputError, match='has the color space LAB'):
    image_files.read_image(save(Image.new('LAB', (4, 4)), 'a.tif'))


def test_float_pictures_are_refused(save):
  with pytest.raises(InputError, match='8 or 16 bits'):
    image_files.read_image(save(GRAY.astype(np.float32) + 1e6, 'float.tif'))


def test_labels_are_the_stored_numbers(save):
  ids = GRAY % 12
  palette = Image.fromarray(ids).convert('P')
  palette.putdata(ids.ravel().tolist())
  palette.putpalette(RNG.integers(0, 256, 36, dtype=np.uint8).tolist())
  for name, image, options in (
    ('gray.png', ids, {}),
    ('palette.png', palette, {}),
    ('palette4.png', palette, {'bits': 4}),
    ('transparent.png', palette, {'transparency': 3}),
    ('deep.png', ids.astype(np.uint16), {}),
    ('int.tif', ids.astype(np.int32), {}),
  ):
    label = image_files.read_label(save(image, name, **options))
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, ids, err_msg=name)
  label = image_files.read_label(save(Image.fromarray(ids > 5), 'bits.png'))
  np.testing.assert_array_equal(label, ids > 5)


@pytest.mark.parametrize('bits', [2, 4])
def test_gray_png_of_few_bits_is_not_stretched(tmp_path, bits):
  """Written by hand, since Pillow doesn't write such files but stretches them when it reads."""
  import struct
  import zlib

  ids = np.arange(16, dtype=np.uint8).reshape(2, 8) % 2**bits
  rows = b''
  for row in ids:
    packed = np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel())
    rows += b'\0' + packed.tobytes()

  def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

  head = struct.pack('>IIBBBBB', 8, 2, bits, 0, 0, 0, 0)
  content = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows))
  (tmp_path / 'few.png').write_bytes(content + chunk(b'IEND', b''))
  np.testing.assert_array_equal(image_files.read_label(tmp_path / 'few.png'), ids)


def test_labels_that_are_none(save):
  for image, name, words in (
    (COLOR, 'color.png', 'color mask'),
    (np.dstack([COLOR, GRAY]), 'rgba.png', 'color mask'),
    (np.dstack([GRAY, GRAY]), 'la.png', 'alpha channel'),
    (GRAY.astype(np.uint16) + 200, 'deep.png', 'above 255'),
    (GRAY, 'lossy.jpg', 'JPEG'),
    (GRAY.astype(np.float32), 'float.tif', 'float32'),
  ):
    with pytest.raises(InputError, match=words) as raised:
      image_files.read_label(save(image, name))
    assert name in str(raised.value)


def test_gray_with_an_alpha_channel_that_hides_nothing(save):
  ids = np.dstack([GRAY, np.full_like(GRAY, 255)])
  np.testing.assert_array_equal(image_files.read_label(save(ids)), GRAY)


def test_color_masks(save):
  opaque = np.dstack([COLOR, np.full_like(GRAY, 255)])
  for name, image in (('rgb.png', COLOR), ('rgba.png', opaque)):
    colors = image_files.read_colors(save(image, name))
    assert colors.dtype == np.uint8
    np.testing.assert_array_equal(colors, COLOR)
  indices = Image.fromarray(GRAY % 3).convert('P')
  indices.putdata((GRAY % 3).ravel().tolist())
  indices.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
  table = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])
  path = save(indices, 'palette.png')
  np.testing.assert_array_equal(image_files.read_colors(path), table[GRAY % 3])
  form, palette = image_files.read_mode_and_palette(path)
  assert form == 'palette' and palette[:3].tolist() == table.tolist()
  assert image_files.read_mode_and_palette(save(COLOR, 'rgb.png')) == ('colors', None)
  assert image_files.read_mode_and_palette(save(GRAY, 'gray.png')) == ('gray', None)
  for image, name, words in (
    (np.dstack([COLOR, GRAY]), 'rgba.png', 'alpha channel'),
    (GRAY, 'gray.png', 'not a color mask'),
    (COLOR, 'lossy.jpg', 'JPEG'),
  ):
    with pytest.raises(InputError, match=words) as raised:
      image_files.read_colors(save(image, name))
    assert name in str(raised.value) and '\n' not in str(raised.value)


def test_instance_maps(save):
  ids = GRAY.astype(np.uint16) + 26000
  for name, image in (('16.png', ids), ('32.tif', ids.astype(np.int32))):
    instances = image_files.read_instances(save(image, name))
    assert instances.dtype == np.int32
    np.testing.assert_array_equal(instances, ids)
  np.testing.assert_array_equal(image_files.read_instances(save(GRAY)), GRAY)
  with pytest.raises(InputError, match='instance maps are'):
    image_files.read_instances(save(COLOR))


@hypothesis.given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (3,)]))
def test_encode_png_round_trip(height, width, channels):
  array = np.random.default_rng(height).integers(0, 256, (height, width, *channels), np.uint8)
  with Image.open(io.BytesIO(image_files.encode_png(array))) as image:
    assert image.mode == ('RGB' if channels else 'L')
    np.testing.assert_array_equal(np.asarray(image), array)


def test_encode_png_refuses_other_arrays():
  for array in (np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8)):
    with pytest.raises(ValueError, match='uint8'):
      image_files.encode_png(array)

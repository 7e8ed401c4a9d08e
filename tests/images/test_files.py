import io

import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files, matching, visualization

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


# Reading photographs.


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
  image, head = image_files.read_image_and_info(save(array, name, **options))
  assert head == expected
  np.testing.assert_array_equal(image, image_files.read_image(save(array, name, **options)))
  assert head.plain == (
    name == 'a.jpg' or (name == 'a.png' and expected[1:] == ('RGB', 8, 1, False))
  )


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


def test_float_pictures_are_refused(save):
  with pytest.raises(InputError, match='8- or 16-bit'):
    image_files.read_image(save(GRAY.astype(np.float32) + 1e6, 'float.tif'))


# Reading labels.


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
  form, palette = image_files.stored_as(path)
  assert form == 'palette' and palette[:3].tolist() == table.tolist()
  assert image_files.stored_as(save(COLOR, 'rgb.png')) == ('colors', None)
  assert image_files.stored_as(save(GRAY, 'gray.png')) == ('gray', None)
  for image, name, words in (
    (np.dstack([COLOR, GRAY]), 'rgba.png', 'alpha channel'),
    (GRAY, 'gray.png', 'no color mask'),
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
  with pytest.raises(InputError, match='no instance map'):
    image_files.read_instances(save(COLOR))


# Drawing.


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


PALETTE = ((10, 20, 30), (200, 100, 0), (0, 0, 255))


def test_colorize():
  ids = np.array([[0, 1], [2, 255]], np.uint8)
  expected = [[PALETTE[0], PALETTE[1]], [PALETTE[2], (0, 0, 0)]]
  np.testing.assert_array_equal(visualization.colorize(ids, PALETTE), expected)
  with pytest.raises(InputError, match='class id 3'):
    visualization.colorize(ids + 1, PALETTE)


def test_overlay_leaves_ignored_pixels():
  image = np.full((1, 2, 3), 100, np.uint8)
  mixed = visualization.overlay(image, np.array([[1, 255]], np.uint8), PALETTE, alpha=0.25)
  assert mixed.tolist() == [[[125, 100, 75], [100, 100, 100]]]
  with pytest.raises(InputError, match='do not fit'):
    visualization.overlay(image, np.zeros((3, 3), np.uint8), PALETTE)


def colors_in(picture):
  return {tuple(color) for color in picture.reshape(-1, 3).tolist()}


def test_legend_has_swatches_and_grows_in_rows():
  wide = visualization.legend(['one', 'two', 'three'], PALETTE, width=400)
  narrow = visualization.legend(['one', 'two', 'three'], PALETTE, width=70)
  assert wide.shape[1] == 400 and narrow.shape[1] == 70
  assert narrow.shape[0] > wide.shape[0]
  assert set(PALETTE) <= colors_in(wide) & colors_in(narrow)
  assert visualization.legend(['a name too long for it'], PALETTE[:1], width=10).shape[1] > 50
  assert visualization.legend([], [], width=10).shape[1] == 10


def test_with_legend_names_only_what_occurs():
  ids = np.full((30, 40), 2, np.uint8)
  ids[0] = 255
  image = np.zeros((30, 40, 3), np.uint8)
  result = visualization.with_legend(image, ids, ['a', 'b', 'c'], PALETTE)
  np.testing.assert_array_equal(result[:30, :40], image)
  assert PALETTE[2] in colors_in(result[30:])
  assert not {PALETTE[0], PALETTE[1]} & colors_in(result[30:])
  assert visualization.with_legend(image, ids * 0 + 255, ['a', 'b', 'c'], PALETTE).shape[0] > 30


def test_sheet_keeps_pixels_square():
  small, large = COLOR, np.full((300, 100, 3), 7, np.uint8)
  page = visualization.image_grid([[small, large], [small]], ['picture', 'other'], side=35, gap=4)
  five = np.repeat(np.repeat(small, 5, axis=0), 5, axis=1)
  top = 32
  np.testing.assert_array_equal(page[top : top + 25, 4 : 4 + 35], five)
  assert page.shape[0] == top + 300 + 4 + 25 + 4
  assert (page[: top - 4] != 255).any()
  assert visualization.image_grid([[small]]).dtype == np.uint8


# Finding and pairing.


@pytest.fixture
def folder(tmp_path):
  for name in ('b10.png', 'b2.JPG', 'a.png', 'notes.txt', '._a.png', 'sub/c.png', 'sub/d/e.tif'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  return tmp_path


def names(paths):
  return [path.name for path in paths]


def test_find(folder):
  assert names(matching.find_images(folder)) == ['a.png', 'b2.JPG', 'b10.png']
  assert names(matching.find_images(f'{folder}/*')) == ['a.png', 'b2.JPG', 'b10.png']
  assert names(matching.find_images(f'{folder}/**/*.png')) == ['a.png', 'b10.png', 'c.png']
  assert names(matching.find_images(f'{folder}/b10.png, {folder}')) == [
    'b10.png',
    'a.png',
    'b2.JPG',
  ]
  assert names(matching.find_images([folder / 'sub', folder / 'notes.txt'])) == [
    'c.png',
    'notes.txt',
  ]


def test_find_takes_names_as_they_are(folder):
  (folder / 'x[1],y.png').touch()
  assert names(matching.find_images(f'{folder}/x[1],y.png')) == ['x[1],y.png']


@pytest.mark.parametrize('wanted', ['nothing.png', '*.webp', 'sub/d/**/*.png', 'void'])
def test_find_nothing(folder, wanted):
  (folder / 'void').mkdir()
  with pytest.raises(InputError, match=wanted.replace('*', r'\*')):
    matching.find_images(f'{folder}/{wanted}')
  with pytest.raises(InputError, match='no pictures given'):
    matching.find_images('')


def touch(folder, *files):
  for file in files:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).touch()
  return folder


def test_pairs_strip_official_suffixes(tmp_path):
  said = touch(
    tmp_path / 'said', 'x2_leftImg8bit.png', 'x10_leftImg8bit.png', 'x10_leftImg8bit_overlay.png',
    'x10_leftImg8bit_color.png', '0016E5_1.png', 'plain.png',
  )  # fmt: skip
  true = touch(
    tmp_path / 'true', 'city/x2_gtFine_labelIds.png', 'city/x2_gtFine_color.png',
    'city/x2_gtFine_labelTrainIds.png', 'city/x10_gtFine_labelTrainIds.png', '0016E5_1_L.png',
    'plain.png', 'city/x2_gtFine_polygons.json',
  )  # fmt: skip
  assert [(a.name, b.name) for a, b in matching.pair_by_name(said, true)] == [
    ('0016E5_1.png', '0016E5_1_L.png'),
    ('plain.png', 'plain.png'),
    ('x2_leftImg8bit.png', 'x2_gtFine_labelIds.png'),
    ('x10_leftImg8bit.png', 'x10_gtFine_labelTrainIds.png'),
  ]


def test_names_and_pictures_below(tmp_path):
  touch(tmp_path, 'b/x10.png', 'b/x2.JPG', 'a.tif', '.hidden.png', 'notes.txt')
  found = matching.list_images(tmp_path)
  assert [path.relative_to(tmp_path).as_posix() for path in found] == [
    'a.tif',
    'b/x2.JPG',
    'b/x10.png',
  ]
  assert (
    matching.image_name('b/x2_leftImg8bit.png')
    == 'x2'
    == matching.image_name('x2_gtFine_labelIds.png')
  )
  assert matching.image_name('0016E5_1_L.png') == '0016E5_1'


def test_kinds_and_instances_by_name(tmp_path):
  touch(tmp_path, 'x_gtFine_labelIds.png', 'x_gtFine_instanceIds.png', 'y_gtFine_labelIds.png')
  assert matching.label_kind('a/x_gtCoarse_labelTrainIds.png') == 'labelTrainIds'
  assert matching.label_kind('x_leftImg8bit_color.png') == 'color'
  assert matching.label_kind('x_leftImg8bit.png') is None and matching.label_kind('x_L.png') is None
  found = matching.instance_file_of(tmp_path / 'x_gtFine_labelIds.png')
  assert found == tmp_path / 'x_gtFine_instanceIds.png'
  assert matching.instance_file_of(tmp_path / 'y_gtFine_labelIds.png') is None
  assert matching.instance_file_of(tmp_path / 'x.png') is None


def test_pairs_by_frames_of_cityscapes(tmp_path):
  said = touch(tmp_path / 'said', 'bonn_000001_000019_said.png', 'bad_x_000001_000019_a_b.png')
  true = touch(tmp_path / 'true', 'bonn_000001_000019_gtFine_labelIds.png',
               'bad_x_000001_000019_gtCoarse_labelIds.png')  # fmt: skip
  assert [(a.name[:7], b.name[:7]) for a, b in matching.pair_by_name(said, true)] == [
    ('bad_x_0',) * 2, ('bonn_00',) * 2
  ]  # fmt: skip
  touch(said, 'bonn_000001_000019.png')
  with pytest.raises(InputError, match='stand for the same picture'):
    matching.pair_by_name(said, true)


def test_pairs_of_color_masks_alone(tmp_path):
  said = touch(tmp_path / 'said', 'a_color.png', 'a_overlay.png', 'b.png', 'b_color.png')
  true = touch(tmp_path / 'true', 'a_L.png', 'b.png')
  assert [(a.name, b.name) for a, b in matching.pair_by_name(said, true)] == [
    ('a_color.png', 'a_L.png'),
    ('b.png', 'b.png'),
  ]


def test_pairs_without_partner(tmp_path):
  said = touch(tmp_path / 'said', 'a.png')
  true = touch(tmp_path / 'true', *(f'{name}.png' for name in 'abcdef'))
  with pytest.raises(InputError, match=r'no prediction for 5 of 6 files: b.png, c.png, d.png, \.'):
    matching.pair_by_name(said, true)
  with pytest.raises(InputError, match='no label for 5 of 6'):
    matching.pair_by_name(true, said)
  with pytest.raises(InputError, match='same picture'):
    matching.pair_by_name(touch(said, 'sub/a.png'), true)
  with pytest.raises(InputError, match='no such folder'):
    matching.pair_by_name(tmp_path / 'other', true)
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError, match='no pictures'):
    matching.pair_by_name(said.parent / 'empty', true)

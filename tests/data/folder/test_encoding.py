"""Labels are read as ids or as colors, as they are stored."""

import numpy as np
from PIL import Image

from dilated_jax import data
from dilated_jax.data import folder
from dilated_jax.data.label_specs import SCENES
from tests.data.folder.folders import (
  COLORS,
  PALETTE,
  check,
  ids,
  load,
  make,
  picture,
  refused,
  save,
  say,
  with_palette,
)


def test_one_bit_labels(tmp_path):
  mask = ids(0, 1)
  root = make(tmp_path, label=Image.fromarray(mask.astype(bool)))
  check(root, mask, ('class 0', 'class 1'))


def test_palette_pictures_bring_their_colors(tmp_path):
  root = make(tmp_path, label=with_palette(ids(0, 1, 2, 255), PALETTE))
  check(root, ids(0, 1, 2, 255))
  assert data.classes('folder', root).palette == SCENES.palette[:3]


def test_palettes_that_disagree_are_read_by_color(tmp_path):
  make(tmp_path, label=with_palette(ids(0, 1), [(9, 9, 9), (200, 0, 0)]))
  save(with_palette(ids(1, 0), [(200, 0, 0), (9, 9, 9)]), tmp_path / 'labels' / 'a.png')
  check(tmp_path, ids(0, 1), ('#090909', '#c80000'))


def test_gif_labels_are_the_grays_that_they_show(tmp_path):
  """Programs number the grays of a GIF in each file anew."""
  first, second = ids(0, 1, 2, 255), ids(0, 2, 255)
  make(tmp_path)
  for name, label in zip('abcdefgh', [first, second] * 4):
    (tmp_path / 'labels' / f'{name}.png').unlink()
    save(label, tmp_path / 'labels' / f'{name}.gif')
  with Image.open(tmp_path / 'labels' / 'b.gif') as stored:
    assert set(np.unique(stored)) == {0, 1, 2}
  for split in ('train', 'val'):
    for example in load(tmp_path, split):
      expected = first if example['name'] in 'aceg' else second
      np.testing.assert_array_equal(example['label'], expected)
  assert folder.scan(tmp_path).spec.num_classes == 3


def test_grays_in_palettes_that_disagree(tmp_path):
  """Lossless compressors of PNG number the grays of each file anew."""
  make(tmp_path, label=with_palette(ids(0, 1), [(0, 0, 0), (2, 2, 2)]))
  save(with_palette(ids(0, 1), [(0, 0, 0), (9, 9, 9)]), tmp_path / 'labels' / 'a.png')
  assert folder.scan(tmp_path).spec.names == ('class 0', 'class 2', 'class 9')
  save(ids(0, 1), tmp_path / 'labels' / 'b.png')
  refused(
    tmp_path, r'\.png: has the gray [29] as number 1 of a palette, and .*b\.png has gray values'
  )


def test_color_masks(tmp_path):
  check(make(tmp_path, label=COLORS[ids(0, 1, 2)]), ids(0, 2, 1), ('#000000', '#00008e', '#804080'))
  found = folder.scan(tmp_path)
  assert found.spec.palette == ((0, 0, 0), (0, 0, 142), (128, 64, 128))
  assert 'color masks, 3 classes' in ' '.join(found.notes)


def test_three_equal_channels_are_numbers(tmp_path):
  gray = np.repeat(ids(0, 1, 2, 255)[..., None], 3, -1)
  check(make(tmp_path, label=gray), ids(0, 1, 2, 255))
  assert folder.scan(tmp_path).encoding == 'channels'
  say(tmp_path, names=['a', 'b'], palette=[[0, 0, 0], [255, 255, 255]])
  make(tmp_path, label=np.repeat(ids(0, 255)[..., None], 3, -1))
  check(tmp_path, ids(0, 1), ('a', 'b'))  # The palette says that these grays are colors.


def test_numbers_and_colors_do_not_mix(tmp_path):
  make(tmp_path)
  save(COLORS[ids(0, 1)], tmp_path / 'labels' / 'c.png')
  refused(tmp_path, r'c\.png is a color mask and .*\.png has class ids')


def test_jpeg_labels(tmp_path):
  for name in 'ab':
    save(picture(), tmp_path / 'images' / f'{name}.jpg')
    save(ids(0, 1), tmp_path / 'labels' / f'{name}.jpg')
  refused(tmp_path, 'JPEG changes label values')


def test_labels_follow_exif_as_images_do(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 3
  shown = np.zeros((12, 20), np.uint8)
  shown[:5, :7] = 1
  for name, image_exif in (('label alone', None), ('both', exif)):
    root = tmp_path / name
    for index in range(4):
      options = {} if image_exif is None else {'exif': image_exif}
      save(picture(), root / 'images' / f'{index}.jpg', **options)
      save(shown[::-1, ::-1].copy(), root / 'labels' / f'{index}.png', exif=exif)
    check(root, shown)


def test_lossy_labels_of_any_name(tmp_path):
  for index in range(4):
    save(picture(), tmp_path / 'images' / f'{index}.jpg')
    save(ids(0, 1), tmp_path / 'labels' / f'{index}.webp', quality=80)
  refused(tmp_path, r'0\.webp: lossy WebP changes label values')


def test_lossless_webp_labels(tmp_path):
  for index in range(4):
    save(picture(), tmp_path / 'images' / f'{index}.jpg')
    save(ids(0, 1), tmp_path / 'labels' / f'{index}.webp', lossless=True)
  check(tmp_path, ids(0, 1), ('class 0', 'class 1'))

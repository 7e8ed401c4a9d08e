"""label_files.py: every kind of folder is read right, or one line says what decides."""

import json

import numpy as np
from PIL import Image
import pytest

from dilated_jax.data.label_specs import (
  CAMVID,
  CAMVID_DILATION8,
  CITYSCAPES,
  CITYSCAPES_LABELS,
  KITTI,
  VOC,
)
from dilated_jax.errors import InputError
from dilated_jax.evaluation import label_files
from dilated_jax.label_spec import IGNORE

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
  """Saves arrays by file name and returns their paths."""

  def saved(**files):
    paths = []
    for name, array in files.items():
      paths.append(tmp_path / f'{name}.png')
      if isinstance(array, Image.Image):
        array.save(paths[-1])
      else:
        Image.fromarray(np.asarray(array)).save(paths[-1])
    return paths

  return saved


def ids(*values, size=(4, 6)):
  """A map in which every value occurs."""
  chosen = RNG.permutation(np.resize(values, size[0] * size[1]))
  return chosen.reshape(size).astype(np.uint8)


def painted(array, classes):
  palette = np.zeros((256, 3), np.uint8)
  palette[: classes.num_classes] = classes.palette
  return palette[array]


def with_palette(array, palette):
  image = Image.fromarray(array).convert('P')
  image.putdata(array.ravel().tolist())
  image.putpalette(np.ravel(palette).astype(np.uint8).tolist())
  return image


def check(paths, classes, expected, words, whose='predictions', **options):
  """Reads all paths; `expected` are class ids and 255."""
  reader = label_files.detect_reader(paths, classes, whose, **options)
  assert reader.description.startswith(f'{whose}: ') and words in reader.description
  for path, array in zip(paths, expected, strict=True):
    read = reader.read(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(classes.to_train_ids(read, path), array)


def fails(paths, classes, words, whose='predictions', **options):
  with pytest.raises(InputError, match=words) as raised:
    reader = label_files.detect_reader(paths, classes, whose, **options)
    for path in paths:
      classes.to_train_ids(reader.read(path), path)
  assert '\n' not in str(raised.value)


# Numbers and colors.


def test_gray_numbers(folder):
  a, b = ids(*range(11)), ids(0, 11, 255)
  ignored = np.where(b == 0, 0, 255)
  check(folder(a=a, b=b), CAMVID, [a, ignored], 'class ids, as the images hold numbers')


def test_colors_of_the_data_set(folder):
  a, b = ids(*range(11)), ids(3, 255)
  paths = folder(a=painted(a, KITTI), b=painted(b, KITTI))
  check(paths, KITTI, [a, b], 'colors, as the images are RGB')
  opaque = np.dstack([painted(a, KITTI), np.full_like(a, 255)])
  check(folder(a=opaque), KITTI, [a], 'RGB')
  opaque[0, 0, 3] = 0
  fails(folder(a=opaque), KITTI, r'a\.png: has an alpha channel')
  strange = painted(a, KITTI)
  strange[2, 3] = 7, 8, 9
  fails(folder(a=strange), KITTI, r'a\.png: the color \(7, 8, 9\) at row 2, column 3')


def test_numbers_in_three_equal_channels(folder):
  a, b = ids(*range(11)), ids(3, 255)
  channels = [np.repeat(each[..., None], 3, -1) for each in (a, b)]
  check(folder(a=channels[0], b=channels[1]), CAMVID, [a, b], 'numbers')
  fails(folder(a=painted(a, KITTI)), CAMVID, 'is a color mask', kind='train_ids')


def test_raw_colors_of_camvid(folder):
  mask = np.full((20, 20, 3), (192, 128, 192), np.uint8)  # Trucks and buses.
  mask[3, :5] = 193, 130, 190  # A smoothed border.
  expected = np.full((20, 20), CAMVID.names.index('car'))
  expected[3, :5] = IGNORE
  check(folder(a_L=mask), CAMVID, [expected], 'colors', 'labels')


def test_palette_of_voc(folder):
  """As the devkit has it; and with other colors, which say nothing."""
  a = ids(*range(21), 255)
  devkit = np.zeros((256, 3), int)
  devkit[:21], devkit[255] = VOC.palette, (224, 224, 192)
  check(folder(a=with_palette(a, devkit)), VOC, [a], 'the palette of voc')
  gray = np.repeat(np.arange(256)[:, None], 3, axis=1)
  check(folder(a=with_palette(a, gray)), VOC, [a], 'numbers')
  check(folder(a=with_palette(a, devkit), b=a), VOC, [a, a], 'numbers')


def test_palettes_in_an_order_of_their_own(folder):
  """What is left of color masks when a program has shrunk them: any number for any color."""
  a, b = ids(2, 5, 7), ids(0, 7, 255)
  indices_a = np.searchsorted([2, 5, 7], a).astype(np.uint8)
  indices_b = np.searchsorted([0, 7, 255], b).astype(np.uint8)
  paths = folder(
    a=with_palette(indices_a, [KITTI.palette[i] for i in (2, 5, 7)]),
    b=with_palette(indices_b, [KITTI.palette[0], KITTI.palette[7], (0, 0, 0)]),
  )
  check(paths, KITTI, [a, b], 'in an order of their own')
  building = np.zeros((3, 4), np.uint8)  # Black means 'ignore', but alone it is no evidence.
  check(folder(a=with_palette(building, [(0, 0, 0), (1, 1, 1)])), KITTI, [building], 'numbers')


def test_folders_of_two_kinds(folder):
  a = ids(*range(11))
  paths = folder(a=a, b=painted(a, KITTI))
  fails(paths, KITTI, r'b\.png is a color mask and .*a\.png is none')


# Cityscapes.

OFFICIAL = np.array([*CITYSCAPES.raw_ids], np.uint8)


def test_official_names(folder):
  a = ids(*range(19))
  paths = folder(
    a_gtFine_labelIds=OFFICIAL[a], b_gtFine_labelTrainIds=a, c_gtCoarse_color=painted(a, CITYSCAPES)
  )
  check(paths, CITYSCAPES, [a] * 3, 'official ids and train ids and colors, by their names')
  check(paths[:1], CITYSCAPES, [a], 'official ids, by their names', kind='ids')
  fails(paths[:1], CITYSCAPES, "its name says ids, which contradicts `kind='train_ids'`", 'labels',
        kind='train_ids')  # fmt: skip
  instances = folder(a_gtFine_instanceIds=np.full((4, 6), 26001, np.uint16))
  fails(instances, CITYSCAPES, 'is an instance map')


def test_colors_of_labels_that_are_not_evaluated(folder):
  colors = np.array([[label.color for label in CITYSCAPES_LABELS]], np.uint8)
  by_color = {color: index for index, color in enumerate(CITYSCAPES.palette)}
  expected = [[by_color.get(label.color, IGNORE) for label in CITYSCAPES_LABELS]]
  check(folder(a_gtFine_color=colors), CITYSCAPES, [expected], 'colors')


def test_values_that_are_no_train_ids(folder):
  """Seen in the second picture only; the first could be either."""
  a, b = ids(0, 1, 2), ids(2, 18)
  check(folder(a=OFFICIAL[a], b=OFFICIAL[b]), CITYSCAPES, [a, b], 'official ids, as 33 occurs')
  unknown = ids(2, 18) + 20
  fails(folder(a=unknown), CITYSCAPES, r'a\.png: invalid label values 38')


def test_values_that_are_no_evaluated_official_ids(folder):
  a, b = ids(8, 11, 13), ids(0, 8, 255)
  check(folder(a=a, b=b), CITYSCAPES, [a, b], '0, 255 as official ids would be void')


def test_values_that_are_both(folder):
  a = ids(8, 11, 13)
  paths = folder(a=a)
  fails(paths, CITYSCAPES, r'\(8, 11, 13\) can be official ids or train ids: .*kind=.ids',
        'labels')  # fmt: skip
  check(paths, CITYSCAPES, [a], 'train ids, as requested', kind='train_ids')
  check(paths, CITYSCAPES, [CITYSCAPES.to_train_ids(a, 'a')], 'official ids', kind='ids')


def test_palette_of_train_ids(folder):
  a = ids(8, 11, 13)
  check(folder(a=with_palette(a, CITYSCAPES.palette)), CITYSCAPES, [a], 'palette of cityscapes')


def test_official_ids_survive(folder):
  """Those that aren't evaluated too: the official protocol knows a caravan from a trailer."""
  raw = ids(*range(34), 255)
  [path] = folder(a=raw)
  reader = label_files.detect_reader([path], CITYSCAPES, 'labels')
  np.testing.assert_array_equal(reader.read(path), raw)


# Another order.


@pytest.mark.parametrize('kind', ['ids', 'train_ids', None])
def test_order_of_published_weights(folder, kind):
  a = ids(*range(11), 255)
  sky = CAMVID_DILATION8.names.index('sky')
  expected = np.array([CAMVID.names.index(name) for name in CAMVID_DILATION8.names] + [255] * 245)
  assert expected[sky] == 0
  check(folder(a=a), CAMVID, [expected[a]], 'by name from camvid_dilation8 (building, tree, sky',
        order=CAMVID_DILATION8, kind=kind)  # fmt: skip
  check(folder(a=painted(a, KITTI)), CAMVID, [expected[a]], 'colors', order=CAMVID_DILATION8)


def test_orders_that_do_not_fit(folder):
  fails(folder(a=ids(0, 1)), CAMVID, 'the predictions have 21 classes', order=VOC)
  paths = folder(a_gtFine_labelIds=ids(7, 8))
  fails(paths, CITYSCAPES, 'gives them another order', order=CITYSCAPES)
  a = ids(0, 1)
  check(folder(a=a), CITYSCAPES, [a], 'train ids', order=CITYSCAPES)


def test_order_beside_predictions(folder, tmp_path):
  assert label_files.read_class_order(tmp_path) is None
  turned = np.roll(np.arange(21), 5)
  content = {
    'classes': [VOC.names[i].upper() for i in turned],
    'palette': [VOC.palette[i] for i in turned],
    'dataset': 'voc',
  }
  (tmp_path / 'predictions.json').write_text(json.dumps(content))
  order = label_files.read_class_order(tmp_path)
  a = ids(*range(21))
  check(folder(a=a), VOC, [turned[a]], 'predictions.json (', order=order)
  check(folder(a=painted(a, VOC)), VOC, [a], 'predictions.json', order=order)


@pytest.mark.parametrize(
  'content',
  ['', '[]', '{', '{"classes": ["a"]}', '{"classes": ["a"], "palette": []}', '\xff', '5', 'null',
   '{"classes": ["a"], "palette": [[1, 2]]}', '{"classes": [], "palette": []}', '[' * 100000,
   '{"classes": ["a"], "palette": [[0, 0, 256]]}',
   '{"classes": ["a"], "palette": [[0, 0, Infinity]]}'],
)  # fmt: skip
def test_damaged_order(tmp_path, content):
  (tmp_path / 'predictions.json').write_bytes(content.encode('latin-1'))
  with pytest.raises(InputError, match=r'predictions\.json: ') as raised:
    label_files.read_class_order(tmp_path)
  assert '\n' not in str(raised.value)

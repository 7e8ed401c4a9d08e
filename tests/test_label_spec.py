"""classes.py: the tables are consistent, and raw labels become train ids or a clear error."""

from cityscapesscripts.helpers.labels import labels as official
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as npst
import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.errors import InputError
from dilated_jax.label_spec import (
  CAMVID,
  CAMVID_DILATION8,
  CITYSCAPES,
  CITYSCAPES_LABELS,
  KITTI,
  VOC,
)

OTHER_PICTURES = {'camvid_full': 'camvid', 'kitti2015': 'cityscapes', 'coco': 'voc'}


@pytest.mark.parametrize('name', data.ORDERS)
def test_table_is_consistent(name):
  table = data.classes(name)
  assert table.name == OTHER_PICTURES.get(name, name)
  assert table.num_classes == len(table.names) == len(set(table.names))
  assert len(table.palette) == len(set(table.palette)) == table.num_classes
  assert all(0 <= value <= 255 for color in table.palette for value in color)
  assert all(0 < value < 255 for value in table.mean)
  assert {whose for _, whose in table.other_colors} <= {*table.names, None}
  painted = np.array(table.palette, np.uint8)[None]
  assert table.from_colors(painted, 'a.png').tolist() == [list(range(table.num_classes))]


def test_names_of_data_sets_and_orders():
  assert data.NAMES == (
    'scenes', 'camvid', 'voc', 'kitti', 'cityscapes', 'camvid_full', 'kitti2015', 'coco',
    'folder',
  )  # fmt: skip
  assert set(data.ORDERS) - set(data.NAMES) == {'camvid_dilation8'}


def test_unknown_name_lists_the_known_ones():
  with pytest.raises(InputError, match=r"'camvit'.*scenes, camvid"):
    data.classes('camvit')


@pytest.mark.parametrize('call', [data.load, data.prepare])
def test_an_order_of_classes_is_no_data_set(tmp_path, call):
  with pytest.raises(InputError, match=r"^no data set 'camvid_dilation8': choose .* camvid,"):
    call('camvid_dilation8', 'val', tmp_path)


# The facts, written down a second time.


def test_voc_palette():
  """The colors that the originals list, and the one that borders of objects have in VOC."""
  listed = {
    'background': (0, 0, 0), 'aeroplane': (128, 0, 0), 'boat': (0, 0, 128), 'cat': (64, 0, 0),
    'chair': (192, 0, 0), 'person': (192, 128, 128), 'pottedplant': (0, 64, 0),
    'train': (128, 192, 0), 'tvmonitor': (0, 64, 128),
  }  # fmt: skip
  assert {name: VOC.palette[VOC.names.index(name)] for name in listed} == listed
  assert VOC.num_classes == 21 and VOC.other_colors == (((224, 224, 192), None),)


def test_published_orders_and_means():
  """SegNet id -> Dilation8 id, and the authors' BGR means."""
  to_dilation8 = CAMVID_DILATION8.class_order(CAMVID.names, 'the labels').tolist()
  assert to_dilation8 == [2, 0, 8, 5, 9, 1, 4, 7, 3, 6, 10]
  assert [CAMVID_DILATION8.palette[i] for i in to_dilation8] == list(CAMVID.palette)
  assert (KITTI.names, KITTI.palette) == (CAMVID_DILATION8.names, CAMVID_DILATION8.palette)
  assert KITTI.num_classes == 11
  for table, mean in (
    (VOC, (102.93, 111.36, 116.52)),
    (CAMVID_DILATION8, (110.70313206, 108.77808759, 105.41212523)),
    (KITTI, (96.19429688, 95.55136972, 91.34692262)),
    (CITYSCAPES, (72.39, 82.91, 73.16)),
  ):
    assert table.mean == mean[::-1]


def test_cityscapes_is_the_official_table():
  assert len(CITYSCAPES_LABELS) == len(official) == 35
  for ours, theirs in zip(CITYSCAPES_LABELS, sorted(official, key=lambda label: label.id)):
    assert (ours.id, ours.name, ours.category) == (theirs.id, theirs.name, theirs.category)
    assert (ours.color, ours.evaluated) == (theirs.color, not theirs.ignoreInEval)
    assert bool(ours.instance_size) == (theirs.hasInstances and not theirs.ignoreInEval)
  by_train_id = sorted((label for label in official if label.trainId in range(19)),
                       key=lambda label: label.trainId)  # fmt: skip
  assert CITYSCAPES.names == tuple(label.name for label in by_train_id)
  assert CITYSCAPES.raw_ids == tuple(label.id for label in by_train_id)


# Label files.


@given(npst.arrays(np.uint8, (5, 7), elements=st.sampled_from([*range(12), 255])))
def test_void_becomes_255_and_the_rest_stays(mask):
  ids = CAMVID.to_train_ids(mask, 'a.png')
  assert ids.dtype == np.uint8
  expected = [[255 if value in (11, 255) else value for value in row] for row in mask.tolist()]
  assert ids.tolist() == expected


def test_official_ids_become_train_ids():
  ids = np.array([[7, 8, 33, 0], [6, 29, -1, 255]], np.int16)
  assert CITYSCAPES.to_train_ids(ids, 'a.png').tolist() == [[0, 1, 18, 255], [255] * 4]
  with pytest.raises(
    InputError, match=r'illegal label values 34, 256; .* values -1\.\.33, and 255 '
  ):
    CITYSCAPES.to_train_ids(ids + 1, 'a.png')


@given(st.integers(12, 254))
def test_illegal_value_is_named(value):
  mask = np.zeros((4, 4), np.uint8)
  mask[1, 2] = value
  with pytest.raises(InputError, match=rf'^a\.png: illegal label values {value};.* 0\.\.10.* 11 '):
    CAMVID.to_train_ids(mask, 'a.png')


def test_colors_and_floats_are_no_labels():
  with pytest.raises(InputError, match=r'^a\.png: .*\(4, 4, 3\)'):
    CAMVID.to_train_ids(np.zeros((4, 4, 3), np.uint8), 'a.png')
  with pytest.raises(InputError, match='float32'):
    CAMVID.to_train_ids(np.zeros((4, 4), np.float32), 'a.png')


# Color masks.


@pytest.mark.parametrize(
  'table, color, expected',
  [
    (CAMVID, (64, 128, 192), 'car'),  # SUVs and pickups.
    (CAMVID_DILATION8, (64, 128, 192), 'car'),
    (CAMVID, (0, 0, 0), None),
    (VOC, (0, 0, 0), 'background'),
    (VOC, (224, 224, 192), None),
    (KITTI, (0, 0, 0), None),
    (CITYSCAPES, (81, 0, 81), None),
    (CITYSCAPES, (0, 0, 142), 'car'),  # And license plates.
  ],
)
def test_colors(table, color, expected):
  mask = np.full((2, 3, 3), color, np.uint8)
  ids = table.from_colors(mask, 'a.png')
  assert ids.dtype == np.uint8
  wanted = 255 if expected is None else table.names.index(expected)
  assert ids.tolist() == [[wanted] * 3] * 2


@given(npst.arrays(np.uint8, (6, 5), elements=st.sampled_from([*range(21), 255])))
def test_colors_undo_painting(ids):
  palette = [(0, 0, 0)] * 256
  palette[:21], palette[255] = VOC.palette, (224, 224, 192)
  picture = np.array(palette, np.uint8)[ids]
  np.testing.assert_array_equal(VOC.from_colors(picture, 'a.png'), ids)


def test_strange_colors_are_named(caplog):
  picture = np.full((10, 11, 3), (128, 128, 128), np.uint8)
  picture[3, 4:] = 1, 2, 3
  with pytest.raises(InputError, match=r'^a\.png: the color \(1, 2, 3\) at row 3, column 4 '):
    KITTI.from_colors(picture, 'a.png')
  ids = CAMVID.from_colors(picture, 'a.png')  # One of its frames was smoothed.
  assert (ids == 255).sum() == 7 and ids[3, 4] == 255 and ids[0, 0] == 0
  assert '7 pixels' in caplog.text and '(1, 2, 3)' in caplog.text
  with pytest.raises(InputError, match='belongs to no class of camvid'):
    CAMVID.from_colors(picture[3:5], 'a.png')


def test_names_that_differ():
  with pytest.raises(InputError, match='only in the weights: cow; only in camvid: bicyclist'):
    CAMVID.class_order((*CAMVID.names[:-1], 'cow'), 'the weights')
  assert CAMVID.class_order([name.upper() for name in CAMVID.names], 'x').tolist() == [*range(11)]

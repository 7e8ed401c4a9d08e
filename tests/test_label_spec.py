"""Raw labels and color masks become class ids, or one line says what is wrong."""

from hypothesis import given, strategies as st
from hypothesis.extra import numpy as npst
import numpy as np
import pytest

from dilated_jax.data.label_specs import CAMVID, CAMVID_DILATION8, CITYSCAPES, KITTI, VOC
from dilated_jax.errors import InputError


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
    InputError, match=r'invalid label values 34, 256; .* values -1\.\.33, and 255 '
  ):
    CITYSCAPES.to_train_ids(ids + 1, 'a.png')


@given(st.integers(12, 254))
def test_illegal_value_is_named(value):
  mask = np.zeros((4, 4), np.uint8)
  mask[1, 2] = value
  with pytest.raises(InputError, match=rf'^a\.png: invalid label values {value};.* 0\.\.10.* 11 '):
    CAMVID.to_train_ids(mask, 'a.png')


def test_colors_and_floats_are_no_labels():
  with pytest.raises(InputError, match=r'^a\.png: .*\(4, 4, 3\)'):
    CAMVID.to_train_ids(np.zeros((4, 4, 3), np.uint8), 'a.png')
  with pytest.raises(InputError, match='float32'):
    CAMVID.to_train_ids(np.zeros((4, 4), np.float32), 'a.png')


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
  ids = table.colors_to_train_ids(mask, 'a.png')
  assert ids.dtype == np.uint8
  wanted = 255 if expected is None else table.names.index(expected)
  assert ids.tolist() == [[wanted] * 3] * 2


@given(npst.arrays(np.uint8, (6, 5), elements=st.sampled_from([*range(21), 255])))
def test_colors_undo_painting(ids):
  palette = [(0, 0, 0)] * 256
  palette[:21], palette[255] = VOC.palette, (224, 224, 192)
  picture = np.array(palette, np.uint8)[ids]
  np.testing.assert_array_equal(VOC.colors_to_train_ids(picture, 'a.png'), ids)


def test_strange_colors_are_named(caplog):
  picture = np.full((10, 11, 3), (128, 128, 128), np.uint8)
  picture[3, 4:] = 1, 2, 3
  with pytest.raises(InputError, match=r'^a\.png: the color \(1, 2, 3\) at row 3, column 4 '):
    KITTI.colors_to_train_ids(picture, 'a.png')
  ids = CAMVID.colors_to_train_ids(picture, 'a.png')  # One of its frames was smoothed.
  assert (ids == 255).sum() == 7 and ids[3, 4] == 255 and ids[0, 0] == 0
  assert '7 pixels' in caplog.text and '(1, 2, 3)' in caplog.text
  with pytest.raises(InputError, match='belongs to no class of camvid'):
    CAMVID.colors_to_train_ids(picture[3:5], 'a.png')


def test_names_that_differ():
  with pytest.raises(InputError, match='only in the weights: cow; only in camvid: bicyclist'):
    CAMVID.class_order((*CAMVID.names[:-1], 'cow'), 'the weights')
  assert CAMVID.class_order([name.upper() for name in CAMVID.names], 'x').tolist() == [*range(11)]

"""The tables of classes are consistent, and agree with the published ones."""

from cityscapesscripts.helpers.labels import labels as official
import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.data.label_specs import (
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
  assert table.colors_to_train_ids(painted, 'a.png').tolist() == [list(range(table.num_classes))]


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

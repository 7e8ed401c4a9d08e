"""The classes of every published data set: names, palette, mean, raw ids, official labels."""

import itertools
from typing import NamedTuple

from dilated_jax.label_spec import IGNORE, LabelSpec

SCENES = LabelSpec(
  name='scenes',
  names=('sea', 'snow', 'sail', 'tent', 'lighthouse', 'cabin', 'pole'),
  palette=(
    (0, 105, 200),
    (185, 225, 250),
    (255, 205, 0),
    (255, 120, 40),
    (215, 20, 60),
    (125, 70, 25),
    (190, 0, 190),
  ),
  mean=(172.63, 192.18, 206.6),
)

# The raw masks have 32 classes, each with its own color, which are merged into 11. A merged class
# keeps the color of one of its members; this table has the colors of all others.
_CAMVID_COLORS = (
    ((0, 128, 64), 'building'), ((64, 192, 0), 'building'),
    ((64, 0, 64), 'building'), ((192, 0, 128), 'building'),
    ((0, 0, 64), 'pole'),
    ((128, 0, 192), 'road'), ((192, 0, 64), 'road'),
    ((64, 192, 128), 'sidewalk'), ((128, 128, 192), 'sidewalk'),
    ((192, 192, 0), 'tree'),
    ((128, 128, 64), 'sign'), ((0, 64, 64), 'sign'),
    ((64, 128, 192), 'car'), ((192, 128, 192), 'car'),
    ((192, 64, 128), 'car'), ((128, 64, 64), 'car'),
    ((192, 128, 64), 'pedestrian'), ((64, 0, 192), 'pedestrian'), ((64, 128, 64), 'pedestrian'),
    ((192, 0, 192), 'bicyclist'),
    ((0, 0, 0), None),
)  # fmt: skip

# In the order of the label files that SegNet distributes. The unknown colors are those of frame
# Seq05VD_f02610, whose mask was saved with smoothed borders.
CAMVID = LabelSpec(
    name='camvid',
    names=(
        'sky', 'building', 'pole', 'road', 'sidewalk', 'tree',
        'sign', 'fence', 'car', 'pedestrian', 'bicyclist',
    ),
    palette=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    mean=(105.03, 108.41, 110.33),
    void=(11,),
    other_colors=_CAMVID_COLORS,
    unknown_color_tolerance=0.1,
)  # fmt: skip

# In the order of the published Dilation8 weights, with their mean (datasets/camvid.json in
# github.com/fyu/dilation, where means are BGR). The names are those of CAMVID, so that label maps
# of the two can be matched by name.
CAMVID_DILATION8 = LabelSpec(
    name='camvid_dilation8',
    names=(
        'building', 'tree', 'sky', 'car', 'sign', 'road',
        'pedestrian', 'fence', 'pole', 'sidewalk', 'bicyclist',
    ),
    palette=(
        (128, 0, 0), (128, 128, 0), (128, 128, 128), (64, 0, 128), (192, 128, 128), (128, 64, 128),
        (64, 64, 0), (64, 64, 128), (192, 192, 128), (0, 0, 192), (0, 128, 192),
    ),
    mean=(105.41212523, 108.77808759, 110.70313206),
    other_colors=_CAMVID_COLORS,
    unknown_color_tolerance=0.1,
)  # fmt: skip

# The labels of KITTI by Ros et al., in the order of the published Dilation7 weights. Dilation8 has
# the same order for CamVid (datasets/kitti.json in github.com/fyu/dilation).
KITTI = LabelSpec(
  name='kitti',
  names=CAMVID_DILATION8.names,
  palette=CAMVID_DILATION8.palette,
  mean=(91.34692262, 95.55136972, 96.19429688),
)


VOC_VOID = (224, 224, 192)  # The color of the borders to ignore, the id 255, in VOC's label files.


def voc_color(index: int) -> tuple[int, int, int]:
  """Returns the RGB color of a class id in the palette of PASCAL VOC.

  The bits of the id, lowest first, go to R, G and B in turn and fill each channel from its highest
  bit down.
  """
  channels = [0, 0, 0]
  for bit in range(8):
    channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
  red, green, blue = channels
  return red, green, blue


VOC = LabelSpec(
    name='voc',
    names=(
        'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat',
        'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant',
        'sheep', 'sofa', 'train', 'tvmonitor',
    ),
    palette=tuple(map(voc_color, range(21))),
    mean=(116.52, 111.36, 102.93),
    other_colors=((voc_color(IGNORE), None),),
)  # fmt: skip


class CityscapesLabel(NamedTuple):
  """One of the official labels of Cityscapes.

  Attributes:
    id: value in the *_labelIds.png files.
    name: official name.
    color: RGB in the *_color.png files.
    category: official category; labels of the category 'void' are never evaluated.
    evaluated: whether this is one of the 19 classes; pixels of all other labels are ignored.
    instance_size: mean size of an instance in pixels, for iIoU; 0 for labels without iIoU.
  """

  id: int
  name: str
  color: tuple[int, int, int]
  category: str
  evaluated: bool = False
  instance_size: float = 0.0


# Source: github.com/mcordts/cityscapesScripts, helpers/labels.py and, for the instance sizes,
# evaluation/evalPixelLevelSemanticLabeling.py.
CITYSCAPES_LABELS = tuple(itertools.starmap(CityscapesLabel, (
    (-1, 'license plate', (0, 0, 142), 'vehicle'),
    (0, 'unlabeled', (0, 0, 0), 'void'),
    (1, 'ego vehicle', (0, 0, 0), 'void'),
    (2, 'rectification border', (0, 0, 0), 'void'),
    (3, 'out of roi', (0, 0, 0), 'void'),
    (4, 'static', (0, 0, 0), 'void'),
    (5, 'dynamic', (111, 74, 0), 'void'),
    (6, 'ground', (81, 0, 81), 'void'),
    (7, 'road', (128, 64, 128), 'flat', True),
    (8, 'sidewalk', (244, 35, 232), 'flat', True),
    (9, 'parking', (250, 170, 160), 'flat'),
    (10, 'rail track', (230, 150, 140), 'flat'),
    (11, 'building', (70, 70, 70), 'construction', True),
    (12, 'wall', (102, 102, 156), 'construction', True),
    (13, 'fence', (190, 153, 153), 'construction', True),
    (14, 'guard rail', (180, 165, 180), 'construction'),
    (15, 'bridge', (150, 100, 100), 'construction'),
    (16, 'tunnel', (150, 120, 90), 'construction'),
    (17, 'pole', (153, 153, 153), 'object', True),
    (18, 'polegroup', (153, 153, 153), 'object'),
    (19, 'traffic light', (250, 170, 30), 'object', True),
    (20, 'traffic sign', (220, 220, 0), 'object', True),
    (21, 'vegetation', (107, 142, 35), 'nature', True),
    (22, 'terrain', (152, 251, 152), 'nature', True),
    (23, 'sky', (70, 130, 180), 'sky', True),
    (24, 'person', (220, 20, 60), 'human', True, 3462.4756337644),
    (25, 'rider', (255, 0, 0), 'human', True, 3930.4788056518),
    (26, 'car', (0, 0, 142), 'vehicle', True, 12794.0202738185),
    (27, 'truck', (0, 0, 70), 'vehicle', True, 27855.1264367816),
    (28, 'bus', (0, 60, 100), 'vehicle', True, 35732.1511111111),
    (29, 'caravan', (0, 0, 90), 'vehicle'),
    (30, 'trailer', (0, 0, 110), 'vehicle'),
    (31, 'train', (0, 80, 100), 'vehicle', True, 67583.7075812274),
    (32, 'motorcycle', (0, 0, 230), 'vehicle', True, 6298.7200839748),
    (33, 'bicycle', (119, 11, 32), 'vehicle', True, 4672.3249222261),
)))  # fmt: skip

_TRAIN = tuple(label for label in CITYSCAPES_LABELS if label.evaluated)
_IGNORED = tuple(label for label in CITYSCAPES_LABELS if not label.evaluated)

CITYSCAPES = LabelSpec(
  name='cityscapes',
  names=tuple(label.name for label in _TRAIN),
  palette=tuple(label.color for label in _TRAIN),
  mean=(73.16, 82.91, 72.39),
  void=tuple(label.id for label in _IGNORED),
  raw_ids=tuple(label.id for label in _TRAIN),
  other_colors=tuple((label.color, None) for label in _IGNORED),
)

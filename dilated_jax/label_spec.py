"""What the labels of a data set mean: one table each, and the only place where it is written."""

import dataclasses
from typing import NamedTuple

from absl import logging
import numpy as np

from dilated_jax.errors import InputError

IGNORE = 255  # Label of pixels that count neither in a loss nor in a score.


@dataclasses.dataclass(frozen=True)
class LabelSpec:
  """The classes of a data set, or the order in which published weights have them.

  Attributes:
    name: of the data set.
    names: of the classes, in the order of their ids.
    palette: one RGB color a class, 0..255.
    mean: RGB mean of the training pictures, 0..255.
    void: values in raw label files that mean 'ignore', besides 255.
    raw_ids: the value of each class in raw label files; empty where that is the class id itself.
    other_colors: further RGB colors in raw color masks, each with the name of the class that it
      belongs to, or None for pixels to ignore.
    stray_colors: the share of a color mask's pixels that may have yet other colors and are then
      ignored.
  """

  name: str
  names: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  mean: tuple[float, float, float]
  void: tuple[int, ...] = ()
  raw_ids: tuple[int, ...] = ()
  other_colors: tuple[tuple[tuple[int, int, int], str | None], ...] = ()
  stray_colors: float = 0.0

  @property
  def num_classes(self) -> int:
    return len(self.names)

  @property
  def colors(self) -> dict[tuple[int, int, int], int]:
    """What RGB colors mean in masks: class ids, or 255 for pixels to ignore.

    Black is ignored where no class has it, because that is how pixels to ignore are painted.
    """
    others = {
      color: IGNORE if name is None else self.names.index(name) for color, name in self.other_colors
    }
    palette = {color: index for index, color in enumerate(self.palette)}
    return {(0, 0, 0): IGNORE} | others | palette

  def to_train_ids(self, mask: np.ndarray, path) -> np.ndarray:
    """Checks a raw label map and turns it into class ids, every void value into 255.

    Args:
      mask: integers (H, W), as stored in the label file.
      path: the label file, for the error message.

    Returns:
      uint8 (H, W) with values 0..num_classes-1 and 255 for ignored pixels.

    Raises:
      InputError: `mask` is not a map of integers, or holds other values.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
      raise InputError(
        f'{path}: a label picture of {self.name} has one channel of class ids, found shape '
        f'{mask.shape} of {mask.dtype}; store class ids as 8-bit gray or palette PNG'
      )
    class_ids = dict.fromkeys((*self.void, IGNORE), IGNORE)
    class_ids |= {raw: index for index, raw in enumerate(self.raw_ids or range(self.num_classes))}
    illegal = [int(value) for value in np.unique(mask) if value not in class_ids]
    if illegal:
      values = ', '.join(map(str, illegal[:8])) + (', ...' if len(illegal) > 8 else '')
      if self.raw_ids:
        legal = f'values {min(self.raw_ids + self.void)}..{max(self.raw_ids + self.void)}'
        ignored = IGNORE
      else:
        legal = f'classes 0..{self.num_classes - 1}'
        ignored = ' and '.join(map(str, (*self.void, IGNORE)))
      raise InputError(
        f'{path}: illegal label values {values}; {self.name} has {legal}, and {ignored} to ignore'
      )
    table = np.full(256, IGNORE, np.uint8)
    for raw, index in class_ids.items():
      table[raw] = index  # -1 is the last element, 255.
    return table[mask]

  def from_colors(self, picture: np.ndarray, path) -> np.ndarray:
    """Turns a color mask into class ids; see `colors`.

    Args:
      picture: uint8 (H, W, 3) RGB.
      path: the file, for messages.

    Returns:
      uint8 (H, W) with values 0..num_classes-1 and 255 for ignored pixels.

    Raises:
      InputError: a color belongs to no class, on more than `stray_colors` of the pixels.
    """
    class_ids = {_packed(color): index for color, index in self.colors.items()}
    known = np.array(sorted(class_ids), np.uint32)
    codes = _packed(np.moveaxis(np.asarray(picture, np.uint32), -1, 0))
    places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    ids = np.array([class_ids[code] for code in known.tolist()], np.uint8)[places]
    strange = known[places] != codes
    if strange.any():
      row, column = np.argwhere(strange)[0].tolist()
      color = tuple(picture[row, column].tolist())
      if strange.mean() > self.stray_colors:
        raise InputError(
          f'{path}: the color {color} at row {row}, column {column} belongs to no class of '
          f'{self.name}; save color masks without smoothing, or store class ids'
        )
      logging.warning(
        '%s: %d pixels of colors that belong to no class, such as %s, are ignored',
        path, strange.sum(), color,
      )  # fmt: skip
      ids[strange] = IGNORE
    return ids

  def class_order(self, names, whose: str) -> np.ndarray:
    """Where each of `names` stands in this table: equal names, whatever their order and case.

    Args:
      names: the names of the same classes, in another order.
      whose: who has them, in the plural, for the error message.

    Returns:
      (C,) uint8; element i is the class id of the class called names[i].

    Raises:
      InputError: they aren't the same names.
    """
    ours, theirs = [[name.casefold() for name in each] for each in (self.names, names)]
    if sorted(ours) != sorted(theirs):
      alone = [name for name in names if name.casefold() not in ours]
      missing = [name for name in self.names if name.casefold() not in theirs]
      raise InputError(
        f'{whose} have {len(theirs)} classes and {self.name} has {len(ours)}: only in {whose}: '
        f'{", ".join(alone) or "none"}; only in {self.name}: {", ".join(missing) or "none"}; '
        f'evaluate on the data set that {whose} were made for'
      )
    return np.array([ours.index(name) for name in theirs], np.uint8)


def _packed(color):
  """One number for a color; works on three arrays too."""
  red, green, blue = color
  return (red << 16) | (green << 8) | blue


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

# The 11 classes that the 32 of the raw masks are merged into, with the colors of the members that
# don't have the color of the class. Frame Seq05VD_f02610 was saved with smoothed borders.
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

# The order of the label files that SegNet distributes.
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
    stray_colors=0.1,
)  # fmt: skip

# The order and the mean of the published Dilation8 weights (datasets/camvid.json in
# github.com/fyu/dilation, where means are BGR). Its names are those of CAMVID, so that label maps
# of the two are matched by name.
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
    stray_colors=0.1,
)  # fmt: skip

# Ros et al.'s labels of KITTI, in the order of the published Dilation7 weights, which is that of
# Dilation8 for CamVid (datasets/kitti.json in github.com/fyu/dilation).
KITTI = LabelSpec(
  name='kitti',
  names=CAMVID_DILATION8.names,
  palette=CAMVID_DILATION8.palette,
  mean=(91.34692262, 95.55136972, 96.19429688),
)


def bitwise_color(index: int) -> tuple[int, int, int]:
  """The color of a VOC id: its bits in turn are bits of R, G and B, the highest ones first."""
  channels = [0, 0, 0]
  for bit in range(8):
    channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
  return tuple(channels)


VOC = LabelSpec(
    name='voc',
    names=(
        'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat',
        'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant',
        'sheep', 'sofa', 'train', 'tvmonitor',
    ),
    palette=tuple(map(bitwise_color, range(21))),
    mean=(116.52, 111.36, 102.93),
    other_colors=((bitwise_color(IGNORE), None),),
)  # fmt: skip


class CityscapesLabel(NamedTuple):
  """One of the official labels of Cityscapes.

  Attributes:
    id: its value in the *_labelIds.png files.
    name: official name.
    color: RGB in the *_color.png files.
    category: official category; those of 'void' are never evaluated.
    evaluated: whether it is one of the 19 classes; pixels of the others are ignored.
    instance_size: mean number of pixels of an instance, for iIoU; 0 where there is no iIoU.
  """

  id: int
  name: str
  color: tuple[int, int, int]
  category: str
  evaluated: bool = False
  instance_size: float = 0.0


# Source: github.com/mcordts/cityscapesScripts, helpers/labels.py and, for the sizes,
# evaluation/evalPixelLevelSemanticLabeling.py.
CITYSCAPES_LABELS = tuple(CityscapesLabel(*row) for row in (
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
))  # fmt: skip

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

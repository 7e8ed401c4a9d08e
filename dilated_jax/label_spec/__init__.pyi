from . import spec as spec, tables as tables
from .spec import IGNORE as IGNORE, LabelSpec as LabelSpec
from .tables import (
  CAMVID as CAMVID,
  CAMVID_DILATION8 as CAMVID_DILATION8,
  CITYSCAPES as CITYSCAPES,
  CITYSCAPES_LABELS as CITYSCAPES_LABELS,
  KITTI as KITTI,
  SCENES as SCENES,
  VOC as VOC,
  CityscapesLabel as CityscapesLabel,
  voc_color as voc_color,
)

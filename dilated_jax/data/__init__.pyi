from . import (
  archive_index as archive_index,
  archives as archives,
  audit as audit,
  augmentation as augmentation,
  builders as builders,
  device_augmentation as device_augmentation,
  folder as folder,
  label_specs as label_specs,
  pipeline as pipeline,
  prepared as prepared,
  records as records,
  registry as registry,
  sequences as sequences,
  slices as slices,
  statistics as statistics,
)
from .prepared import (
  Source as Source,
  default_dir as default_dir,
  is_prepared as is_prepared,
)
from .registry import (
  NAMES as NAMES,
  ORDERS as ORDERS,
  classes as classes,
  describe_folder as describe_folder,
  fingerprint as fingerprint,
  load as load,
  parts as parts,
  prepare as prepare,
  splits as splits,
)

from . import (
  builder as builder,
  classes as classes,
  classes_file as classes_file,
  dataset as dataset,
  encoding as encoding,
  label_stats as label_stats,
  layouts as layouts,
  lists as lists,
  names as names,
  notes as notes,
  pairing as pairing,
  splits as splits,
  void as void,
)
from .classes import NAME as NAME
from .classes_file import (
  CLASSES_FILE as CLASSES_FILE,
  StatedClasses as StatedClasses,
  read_classes_file as read_classes_file,
)
from .dataset import FolderDataset as FolderDataset, load_split as load_split, scan as scan
from .layouts import (
  LAYOUTS as LAYOUTS,
  find_pairs as find_pairs,
  pair_folders as pair_folders,
)
from .pairing import Pair as Pair, Pairing as Pairing, Problem as Problem

"""KITTI with the labels of Ros et al.: 11 classes, about 1226x370, 100 + 46 images.

The data set of the paper (appendix A.2). Labels are color masks in the colors of CamVid, with black
to ignore. Images and labels are PNG files of the same names, in one of these layouts:

  KITTI_SEMANTIC/{Training_00,Validation_07}/{RGB,GT}/   as the authors have it, or a .zip of that
  KITTI_SEMANTIC/{RGB,GT}/ and {train,test}.txt          lists of file names, one on each line
  kitti_semseg_unizg/{train,test}/{rgb,labels}/          as extended by the University of Zagreb
  kitti/{train,test}/{images,labels}/                    your own copy

Outer folders may be missing. KITTI's own benchmark, with the classes of Cityscapes, is kitti2015.

Source: Ros et al., Vision-based Offline-Online Perception Paradigm for Autonomous Driving, WACV
2015. Its site, adas.cvc.uab.es/s2uad, is gone; the layout is the one that other programs read, such
as github.com/fvisin/dataset_loaders. The folder GT_ind/ next to GT/ is not read.
"""

import pathlib

from dilated_jax.data import archives
from dilated_jax.data.builders import base, raw_images
from dilated_jax.data.label_specs import KITTI
from dilated_jax.errors import InputError

SPLITS = {'train': 100, 'test': 46}
ARCHIVE = 'KITTI_SEMANTIC.zip'
# Folder of images and folder of labels for each split, and its list if the folders are shared.
LAYOUTS = (
  {
    'train': ('KITTI_SEMANTIC/Training_00/RGB', 'KITTI_SEMANTIC/Training_00/GT'),
    'test': ('KITTI_SEMANTIC/Validation_07/RGB', 'KITTI_SEMANTIC/Validation_07/GT'),
  },
  {
    'train': ('KITTI_SEMANTIC/RGB', 'KITTI_SEMANTIC/GT', 'KITTI_SEMANTIC/train.txt'),
    'test': ('KITTI_SEMANTIC/RGB', 'KITTI_SEMANTIC/GT', 'KITTI_SEMANTIC/test.txt'),
  },
  {
    'train': ('kitti_semseg_unizg/train/rgb', 'kitti_semseg_unizg/train/labels'),
    'test': ('kitti_semseg_unizg/test/rgb', 'kitti_semseg_unizg/test/labels'),
  },
  {
    'train': ('kitti/train/images', 'kitti/train/labels'),
    'test': ('kitti/test/images', 'kitti/test/labels'),
  },
)


class Kitti(base.PairBuilder):
  """Street scenes of Karlsruhe with the labels of Ros et al., 11 classes."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'KITTI_SEMANTIC/ with Training_00 and Validation_07, each with RGB and GT, or one of the other '
    'layouts that the module dilated_jax.data.builders.kitti lists'
  )

  def check_raw(self, folder):
    tree, layout = open_layout(folder)
    return tree, base.check_splits(tree, find_pairs(tree, layout), read_label, SPLITS)


def has_raw_files(folder) -> bool:
  """Returns whether a folder has any part of the raw data set, in any layout."""
  return any(archives.exists(folder, **_files(layout)) for layout in LAYOUTS)


def open_layout(folder) -> tuple[archives.Tree, dict[str, tuple[str, ...]]]:
  """Opens the raw data set; returns its files and the one of `LAYOUTS` that they have."""
  errors = []
  present = [layout for layout in LAYOUTS if archives.exists(folder, **_files(layout))]
  for layout in present or LAYOUTS:
    try:
      tree = archives.open_tree(
        folder, **_files(layout), name='KITTI of Ros et al.', source='its authors'
      )
      return tree, layout
    except InputError as error:
      errors.append(error)
  raise errors[0]


def _files(layout):
  folders = tuple(dict.fromkeys(file for files in layout.values() for file in files))
  return {'folders': folders, 'archives': (ARCHIVE,)}


def find_pairs(tree, layout) -> dict[str, list[base.FilePair]]:
  """Pairs the files of each split by their names."""
  splits = {}
  for split, (image_folder, label_folder, *lists) in layout.items():
    files = [base.png_files(tree, folder) for folder in (image_folder, label_folder)]
    for file in lists:
      lines = tree.read(file).decode(errors='replace').splitlines()
      names = [pathlib.PurePosixPath(line.split()[0]).stem for line in lines if line.strip()]
      missing = [name for name in names if name not in files[0]]
      if missing:
        raise tree.error(file, f'names {missing[0]}, and {image_folder} has no such file')
      files = [{name: each[name] for name in names if name in each} for each in files]
    splits[split] = base.match_files(tree, *files)
  return splits


def read_label(tree, pair: base.FilePair, size):
  """Reads the class ids of a pair, for `base.check_splits`."""
  del size
  mask = raw_images.read_colors(tree, pair.label)
  return KITTI.colors_to_train_ids(mask, tree.locate(pair.label)), None

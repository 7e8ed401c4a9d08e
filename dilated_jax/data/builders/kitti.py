"""KITTI with the labels of Ros et al.: 11 classes, about 1226x370, 100 + 46 pictures.

The data set of the paper (appendix A.2). Labels are color masks with the colors of CamVid, black
to ignore. Read from one of these, in which PNG pictures and labels have the same names:

  KITTI_SEMANTIC/{Training_00,Validation_07}/{RGB,GT}/   as the authors have it, or a .zip of that
  KITTI_SEMANTIC/{RGB,GT}/ and {train,test}.txt          lists of file names, one a line
  kitti_semseg_unizg/{train,test}/{rgb,labels}/          as the University of Zagreb extends it
  kitti/{train,test}/{images,labels}/                    as you like

Outer folders may be missing. KITTI's own benchmark, with the classes of Cityscapes, is kitti2015.

Source: Ros et al., Vision-based Offline-Online Perception Paradigm for Autonomous Driving, WACV
2015. Its site, adas.cvc.uab.es/s2uad, is gone; the layout is that of programs that read it, such as
github.com/fvisin/dataset_loaders. Their GT_ind/, where it stands beside GT/, isn't read.
"""

import pathlib

from dilated_jax.data import archives, pairs
from dilated_jax.errors import InputError
from dilated_jax.label_spec import KITTI

SPLITS = {'train': 100, 'test': 46}
ARCHIVE = 'KITTI_SEMANTIC.zip'
# Pictures, labels and, where they are not by split, the list of each split.
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


def find(folder):
  """Returns `folder` if the raw data set is there, else None."""
  present = (archives.exists(folder, **_files(layout)) for layout in LAYOUTS)
  return folder if any(present) else None


def opened(folder) -> tuple[archives.Tree, dict[str, tuple[str, ...]]]:
  """Returns the files of the raw data set and the one of `LAYOUTS` that they have."""
  problems = []
  begun = [layout for layout in LAYOUTS if archives.exists(folder, **_files(layout))]
  for layout in begun or LAYOUTS:
    try:
      tree = archives.find(
        folder, **_files(layout), name='KITTI of Ros et al.', where='its authors'
      )
      return tree, layout
    except InputError as error:
      problems.append(error)
  raise problems[0]


def _files(layout):
  folders = tuple(dict.fromkeys(file for files in layout.values() for file in files))
  return {'folders': folders, 'archives': (ARCHIVE,)}


def paired(tree, layout) -> dict[str, list[pairs.Pair]]:
  """Pairs the files of each split by their names."""
  splits = {}
  for split, (pictures, labels, *lists) in layout.items():
    files = [pairs.pngs(tree, folder) for folder in (pictures, labels)]
    for file in lists:
      lines = tree.read(file).decode(errors='replace').splitlines()
      names = [pathlib.PurePosixPath(line.split()[0]).stem for line in lines if line.strip()]
      missing = [name for name in names if name not in files[0]]
      if missing:
        raise InputError(f'{tree.where(file)}: names {missing[0]}, and {pictures} has no such file')
      files = [{name: each[name] for name in names if name in each} for each in files]
    splits[split] = pairs.match(tree, *files)
  return splits


def read(tree, pair: pairs.Pair, size):
  """Returns the class ids of a pair; for `pairs.check`."""
  del size
  return KITTI.from_colors(pairs.read_colors(tree, pair.label), tree.where(pair.label)), None


class Kitti(pairs.Builder):
  """Street scenes of Karlsruhe with the labels of Ros et al., 11 classes."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'KITTI_SEMANTIC/ with Training_00 and Validation_07, in each RGB and GT, or another layout of '
    'those that the head of dilated_jax/datasets/kitti.py tells'
  )

  def checked(self, folder):
    tree, layout = opened(folder)
    return tree, pairs.check(tree, paired(tree, layout), read, SPLITS)

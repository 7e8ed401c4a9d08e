"""Assigns the pairs of a folder to splits, and chooses a validation split if there is none."""

from collections.abc import Sequence
import hashlib

from dilated_jax.data.folder.names import SPLITS
from dilated_jax.data.folder.notes import count_images, shorten
from dilated_jax.data.folder.pairing import Pair, split_frame_number
from dilated_jax.errors import InputError

VALIDATION_SHARE = 0.15  # Of the training images, where a folder has no val split.
FILE_NAME_CODEC = 'utf-8', 'surrogateescape'  # File names may be any bytes.


def assign_splits(pairs: Sequence[Pair]) -> tuple[dict[str, tuple[Pair, ...]], str]:
  """Assigns pairs to splits: 'train', 'val' and, if the folder has one, 'test'.

  Args:
    pairs: pairs; those without a split become training images.

  Returns:
    pairs by split, without empty splits; and a note for people.

  Raises:
    InputError: only some pairs have a split, or there are no training images.
  """
  splits = {split: tuple(p for p in pairs if p.split == split) for split in SPLITS}
  rest = tuple(pair for pair in pairs if pair.split is None)
  if rest and any(splits.values()):
    raise InputError(
      f'{rest[0].image}: is in no split, and other images are; put it into train/, val/ or test/'
    )
  splits['train'] += rest
  if not splits['train']:
    raise InputError(f'{pairs[0].image.parent}: there is no train split; add training images')
  note = ''
  if not splits['val']:
    chosen, how = choose_validation([pair.name for pair in splits['train']])
    splits['val'] = tuple(pair for pair in splits['train'] if pair.name in chosen)
    splits['train'] = tuple(pair for pair in splits['train'] if pair.name not in chosen)
    note = f'; there is no val split; held out for validation, and never trained on: {how}'
    if not chosen:
      note = '; there is no val split, and too few images to hold some out'
  splits = {split: members for split, members in splits.items() if members}
  counts = ', '.join(f'{len(members)} {split}' for split, members in splits.items())
  return splits, f'splits: {counts}{note}'


def choose_validation(names: Sequence[str]) -> tuple[set[str], str]:
  """Chooses images for validation; the choice depends on nothing but the names.

  Whole video sequences are chosen if the names show them ('0016E5_07959' is a frame of 0016E5) and
  enough sequences remain for training: similar frames in both splits would make scores too good.
  Otherwise single images are chosen.

  Args:
    names: names of all images.

  Returns:
    about `VALIDATION_SHARE` of the names, and a description of the choice for people.
  """
  wanted = max(1, round(VALIDATION_SHARE * len(names))) if len(names) > 1 else 0
  sequences = {}
  for name in names:
    sequences.setdefault(_sequence(name), []).append(name)
  chosen = set()
  if 1 < len(sequences) < len(names):
    for sequence in sorted(sequences, key=_name_hash):
      fits = len(chosen) + len(sequences[sequence]) <= 1.5 * wanted
      if fits and len(chosen) < wanted:
        chosen.update(sequences[sequence])
  if 2 * len(chosen) >= wanted > 0:
    whole = sorted({_sequence(name) for name in chosen})
    return chosen, f'{count_images(len(chosen))}, all of {shorten(whole)}'
  chosen = set(sorted(names, key=_name_hash)[:wanted])
  return chosen, f'{count_images(len(chosen))}, chosen by a hash of the names'


def _sequence(name) -> str:
  return (split_frame_number(name) or (name,))[0]


def _name_hash(name) -> bytes:
  return hashlib.sha256(name.encode(*FILE_NAME_CODEC)).digest()

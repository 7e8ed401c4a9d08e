"""Finding image files, and pairing predictions with labels by name."""

import glob
import os
import pathlib
import re

from dilated_jax.errors import InputError

SUFFIXES = (
  '.bmp', '.gif', '.jp2', '.jpeg', '.jpg', '.pgm', '.png', '.pnm', '.ppm', '.tif', '.tiff', '.webp',
)  # fmt: skip

# What official tools append to a picture's name: Cityscapes (leftImg8bit, gtFine, gtCoarse) and
# CamVid (_L); and what `predict` appends to color masks. The kinds are in the order of preference
# where several stand side by side.
KINDS = ('labelIds', 'labelTrainIds', 'instanceIds', 'color')
_OFFICIAL = re.compile(
  rf'_(?:leftImg8bit|L|gt(?:Fine|Coarse)_(?P<kind>{"|".join(KINDS)})|(?P<color>color))$'
)
_FRAME = re.compile(
  r'.+_\d{6}_\d{6}(?=_)'
)  # CITY_SEQUENCE_FRAME of Cityscapes; any end may follow.


# Finding and pairing files.


def find_images(inputs) -> list[pathlib.Path]:
  """Lists picture files.

  Args:
    inputs: FILE, FOLDER (its pictures, not those of its subfolders) or GLOB (`**` goes through
      subfolders), several separated by commas, or a list of them.

  Returns:
    paths without repetition, in the order of `inputs`, those of one folder or glob sorted as people
    count (2 before 10).

  Raises:
    InputError: one of them names nothing, or no picture is there.
  """
  if isinstance(inputs, (str, os.PathLike)):
    text = os.fspath(inputs)
    inputs = [text] if os.path.exists(text) else text.split(',')
  inputs = [os.path.expanduser(os.fspath(each).strip()) for each in inputs]
  inputs = [each for each in inputs if each]
  if not inputs:
    raise InputError('no pictures given: name a file, a folder or a glob')
  found = {}
  for each in inputs:
    path = pathlib.Path(each)
    if path.is_dir():
      pictures = [file for file in path.iterdir() if _is_picture(file)]
      missing = f'{each}: no pictures in this folder ({", ".join(SUFFIXES)})'
    elif path.exists():
      pictures, missing = [path], ''
    elif glob.has_magic(each):
      pictures = [pathlib.Path(name) for name in glob.glob(each, recursive=True)]
      pictures = [file for file in pictures if _is_picture(file)]
      missing = f'{each}: no picture matches'
    else:
      pictures, missing = [], f'{each}: no such file or folder'
    if not pictures:
      raise InputError(missing)
    found.update((file.absolute(), file) for file in sorted(pictures, key=_natural))
  return list(found.values())


def pair_by_name(predictions_dir, labels_dir) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Pairs predicted label maps with true ones by file name.

  Subfolders are searched too. Names are equal when their stems are, without the suffixes that
  official tools append: Cityscapes `_leftImg8bit`, `_gtFine_labelIds`, `_gtFine_labelTrainIds`,
  `_gtFine_instanceIds`, `_gtFine_color` (and gtCoarse) or, as in the official evaluation, whatever
  follows CITY_123456_123456; CamVid `_L`; and `_color`, the masks that `predict` writes. Where a
  folder holds several of these for one picture, label maps go before colors, and labelIds before
  labelTrainIds. Overlays of `predict` are passed over.

  Args:
    predictions_dir: folder of predicted label maps.
    labels_dir: folder of true label maps.

  Returns:
    (prediction, label) paths, sorted by name.

  Raises:
    InputError: a folder is missing or without pictures, a name stands for two files, or a file has
      no partner.
  """
  predictions, labels = _by_name(predictions_dir), _by_name(labels_dir)
  for there, here, what, folder in (
    (labels, predictions, 'prediction', predictions_dir),
    (predictions, labels, 'label', labels_dir),
  ):
    alone = [there[name] for name in there if name not in here]
    if alone:
      first = ', '.join(file.name for file in alone[:3]) + (', ...' if len(alone) > 3 else '')
      raise InputError(
        f'{folder}: no {what} for {len(alone)} of {len(there)} files: {first}; '
        'names must be equal but for official suffixes'
      )
  return [(predictions[name], labels[name]) for name in sorted(labels, key=_natural)]


def _by_name(folder) -> dict:
  """Label files of a folder by their names without official suffixes."""
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    found = 'is a file; name its folder' if folder.exists() else 'no such folder'
    raise InputError(f'{folder}: {found}')
  files = list_images(folder)
  stems = {file.stem for file in files}
  ranked = {}
  for file in files:
    pure = file.stem.removesuffix('_overlay')
    if pure != file.stem and {pure, f'{pure}_color'} & stems:
      continue
    name, kind = _split(file.stem)
    ranked.setdefault(name, []).append((KINDS.index(kind) if kind else 0, file))
  if not ranked:
    raise InputError(f'{folder}: no pictures in this folder ({", ".join(SUFFIXES)})')
  chosen = {}
  for name, files in ranked.items():
    best = min(rank for rank, _ in files)
    files = [file for rank, file in files if rank == best]
    if len(files) > 1:
      raise InputError(f'{folder}: {files[0].name} and {files[1].name} stand for the same picture')
    chosen[name] = files[0]
  return chosen


def list_images(folder) -> list[pathlib.Path]:
  """All pictures of a folder and its subfolders, sorted as people count; hidden files are not."""
  files = pathlib.Path(folder).rglob('*')
  return sorted((file for file in files if _is_picture(file)), key=_natural)


def image_name(path) -> str:
  """A picture's name without its file suffix and those that official tools append, see `pairs`."""
  return _split(pathlib.Path(path).stem)[0]


def label_kind(path) -> str | None:
  """What an official suffix says of a label picture: labelIds, color, ...; None without one."""
  return _split(pathlib.Path(path).stem)[1]


def instance_file_of(label) -> pathlib.Path | None:
  """The instance map that stands beside a label picture of Cityscapes; None if there is none."""
  label = pathlib.Path(label)
  said = label_kind(label)
  if said is None:
    return None
  path = label.with_stem(label.stem.removesuffix(said) + 'instanceIds')
  return path if path.exists() else None


def _split(stem: str) -> tuple[str, str | None]:
  """A picture's name without official suffixes, and the kind that they tell."""
  name, kind = stem, None
  while official := _OFFICIAL.search(name):
    name, kind = name[: official.start()], kind or official['kind'] or official['color']
  frame = _FRAME.match(name)
  return (frame[0] if frame else name), kind


def _is_picture(path) -> bool:
  return path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()


def _natural(path):
  """Sorting key: digits count as numbers, letters regardless of case."""
  parts = re.split(r'([0-9]+)', str(path))
  return [(0, int(part), '') if part.isdigit() else (1, 0, part.lower()) for part in parts if part]

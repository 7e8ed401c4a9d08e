"""Finds image files, and pairs predictions with labels by file name."""

import glob
import os
import pathlib
import re

from dilated_jax.errors import InputError

SUFFIXES = (
  '.bmp', '.gif', '.jp2', '.jpeg', '.jpg', '.pgm', '.png', '.pnm', '.ppm', '.tif', '.tiff', '.webp',
)  # fmt: skip

# Kinds of label images that the official tools of Cityscapes write; where a folder has several
# kinds for one image, the first of these is preferred.
LABEL_KINDS = ('labelIds', 'labelTrainIds', 'instanceIds', 'color')

# What tools append to the name of an image: those of Cityscapes (leftImg8bit, gtFine, gtCoarse),
# of CamVid (_L), and `predict` for color masks (_color).
_OFFICIAL_SUFFIX = re.compile(
  rf'_(?:leftImg8bit|L|gt(?:Fine|Coarse)_(?P<kind>{"|".join(LABEL_KINDS)})|(?P<color>color))$'
)
# CITY_SEQUENCE_FRAME of Cityscapes, whatever follows it.
_CITYSCAPES_FRAME = re.compile(r'.+_\d{6}_\d{6}(?=_)')


def find_images(inputs) -> list[pathlib.Path]:
  """Lists image files.

  Args:
    inputs: a file, a folder (the images in it, not those in its subfolders) or a glob (`**` also
      matches subfolders); several separated by commas, or a list.

  Returns:
    paths without duplicates, in the order of `inputs`. The images of one folder or glob are in
    natural order: 2 before 10.

  Raises:
    InputError: an input does not exist, or has no images.
  """
  if isinstance(inputs, (str, os.PathLike)):
    text = os.fspath(inputs)
    inputs = [text] if os.path.exists(text) else text.split(',')
  inputs = [os.path.expanduser(os.fspath(each).strip()) for each in inputs]
  inputs = [each for each in inputs if each]
  if not inputs:
    raise InputError('no images given: name a file, a folder or a glob')
  found = {}
  for each in inputs:
    path = pathlib.Path(each)
    if path.is_dir():
      images = [file for file in path.iterdir() if _is_image(file)]
      missing = f'{each}: no images in this folder ({", ".join(SUFFIXES)})'
    elif path.exists():
      images, missing = [path], ''
    elif glob.has_magic(each):
      images = [pathlib.Path(name) for name in glob.glob(each, recursive=True)]
      images = [file for file in images if _is_image(file)]
      missing = f'{each}: no image matches'
    else:
      images, missing = [], f'{each}: no such file or folder'
    if not images:
      raise InputError(missing)
    found.update((file.absolute(), file) for file in sorted(images, key=_natural_order))
  return list(found.values())


def pair_by_name(predictions_dir, labels_dir) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Pairs predicted label maps with true label maps by file name, in subfolders too.

  Two files match if their names are equal without the suffixes that official tools append. For
  Cityscapes, these are `_leftImg8bit`, `_gtFine_labelIds`, `_gtFine_labelTrainIds`,
  `_gtFine_instanceIds`, `_gtFine_color` (and gtCoarse) or, as in the official evaluation, whatever
  follows CITY_123456_123456; for CamVid `_L`; for color masks of `predict` `_color`. If a folder
  has several label images for one image, label maps are preferred to colors, and labelIds to
  labelTrainIds. Overlays that `predict` wrote are ignored.

  Args:
    predictions_dir: folder of predicted label maps.
    labels_dir: folder of true label maps.

  Returns:
    (prediction, label) paths, sorted by name.

  Raises:
    InputError: a folder is missing or has no images, two files have the same name, or a file has
      no partner.
  """
  predictions, labels = _label_files_by_name(predictions_dir), _label_files_by_name(labels_dir)
  for there, here, what, folder in (
    (labels, predictions, 'prediction', predictions_dir),
    (predictions, labels, 'label', labels_dir),
  ):
    unpaired = [there[name] for name in there if name not in here]
    if unpaired:
      first = ', '.join(file.name for file in unpaired[:3]) + (', ...' if len(unpaired) > 3 else '')
      raise InputError(
        f'{folder}: no {what} for {len(unpaired)} of {len(there)} files: {first}; '
        'names must be equal except for official suffixes'
      )
  return [(predictions[name], labels[name]) for name in sorted(labels, key=_natural_order)]


def _label_files_by_name(folder) -> dict:
  """Returns the preferred label file of each image name in a folder."""
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    problem = 'is a file; name its folder' if folder.exists() else 'no such folder'
    raise InputError(f'{folder}: {problem}')
  files = list_images(folder)
  stems = {file.stem for file in files}
  ranked = {}
  for file in files:
    base = file.stem.removesuffix('_overlay')
    if base != file.stem and {base, f'{base}_color'} & stems:
      continue
    name, kind = _parse_stem(file.stem)
    ranked.setdefault(name, []).append((LABEL_KINDS.index(kind) if kind else 0, file))
  if not ranked:
    raise InputError(f'{folder}: no images in this folder ({", ".join(SUFFIXES)})')
  chosen = {}
  for name, files in ranked.items():
    best = min(rank for rank, _ in files)
    files = [file for rank, file in files if rank == best]
    if len(files) > 1:
      raise InputError(
        f'{folder}: {files[0].name} and {files[1].name} belong to the same image; remove one'
      )
    chosen[name] = files[0]
  return chosen


def list_images(folder) -> list[pathlib.Path]:
  """Returns all images of a folder and its subfolders in natural order, except hidden files."""
  files = pathlib.Path(folder).rglob('*')
  return sorted((file for file in files if _is_image(file)), key=_natural_order)


def image_name(path) -> str:
  """Returns a file's name without extension and official suffixes; see `pair_by_name`."""
  return _parse_stem(pathlib.Path(path).stem)[0]


def label_kind(path) -> str | None:
  """Returns which of `LABEL_KINDS` the official suffix of a label image names, if any."""
  return _parse_stem(pathlib.Path(path).stem)[1]


def instance_file(label) -> pathlib.Path | None:
  """Returns the instance map next to a label image of Cityscapes, or None if there is none."""
  label = pathlib.Path(label)
  kind = label_kind(label)
  if kind is None:
    return None
  path = label.with_stem(label.stem.removesuffix(kind) + 'instanceIds')
  return path if path.exists() else None


def _parse_stem(stem: str) -> tuple[str, str | None]:
  """Splits a stem into the image's name and the label kind that its official suffixes name."""
  name, kind = stem, None
  while suffix := _OFFICIAL_SUFFIX.search(name):
    name, kind = name[: suffix.start()], kind or suffix['kind'] or suffix['color']
  frame = _CITYSCAPES_FRAME.match(name)
  return (frame[0] if frame else name), kind


def _is_image(path) -> bool:
  return path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()


def _natural_order(path):
  """Sorting key: digits count as numbers, and upper and lower case are the same."""
  parts = re.split(r'([0-9]+)', str(path))
  return [(0, int(part), '') if part.isdigit() else (1, 0, part.lower()) for part in parts if part]

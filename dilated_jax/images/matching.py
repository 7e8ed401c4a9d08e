"""Finds image files, and pairs predictions with labels by file name."""

import collections
from collections.abc import Sequence
import glob
import os
import pathlib
import re
from typing import NamedTuple

from absl import logging

from dilated_jax.errors import InputError
from dilated_jax.files import walk
from dilated_jax.images import similar_names

SUFFIXES = (
  '.apng', '.avif', '.bmp', '.dib', '.gif', '.j2k', '.jfif', '.jp2', '.jpe', '.jpeg', '.jpg',
  '.jpx', '.pbm', '.pgm', '.png', '.pnm', '.ppm', '.tga', '.tif', '.tiff', '.webp',
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


class ImageFiles(NamedTuple):
  """The images of a folder and its subfolders.

  Attributes:
    images: image files in natural order: 2 before 10.
    others: files without the ending of an image, sorted.
    unread: (path, reason) of subfolders and links that could not be looked into.
  """

  images: list[pathlib.Path]
  others: list[pathlib.Path]
  unread: list[tuple[pathlib.Path, str]]


def find_images(
  inputs, suffixes: Sequence[str] = SUFFIXES, *, may_lack: bool = False
) -> list[pathlib.Path]:
  """Lists image files.

  Args:
    inputs: a file, a folder (the images in it, not those in its subfolders) or a glob (`**` also
      matches subfolders); several separated by commas, or a list.
    suffixes: endings of the files that are meant.
    may_lack: whether inputs that do not exist, or have no images, are passed over in silence.

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
    path, others = pathlib.Path(each), []
    if path.is_dir():
      files = [file for file in path.iterdir() if not file.name.startswith('.')]
      images, others = _divide(files, suffixes)
    elif path.exists():
      images = [path]
    elif glob.has_magic(each):
      images, others = _divide(_glob(each), suffixes)
    elif may_lack:
      continue
    else:
      raise InputError(f'{each}: no such file or folder')
    over = '' if may_lack else describe_others(others)
    if not images and not may_lack:
      problem = 'no images in this folder' if path.is_dir() else 'no image matches'
      raise InputError(f'{each}: {problem} ({", ".join(suffixes)}){over and f", only {over}"}')
    if over:
      hint = f' ({path / "**"} takes subfolders too)' if 'subfolder' in over else ''
      logging.info('%s: passed over %s%s', each, over, hint)
    found.update((file.absolute(), file) for file in sorted(images, key=_natural_order))
  return list(found.values())


def _divide(files, suffixes=SUFFIXES) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
  """Divides files, links and folders into images and others."""
  images, others = [], []
  for file in files:
    (images if _is_image(file, suffixes) else others).append(file)
  return images, others


def _glob(pattern: str) -> list[pathlib.Path]:
  """Like `glob.glob`, which never ends where links make loops."""
  parts = pathlib.Path(pattern).parts
  if '**' not in parts:
    return [pathlib.Path(name) for name in glob.glob(pattern)]
  first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
  root, inner = pathlib.Path(*parts[:first]), parts[first:]
  if inner[-1] == '**':
    inner = (*inner, '*')
  wanted = re.compile('/'.join(map(_part_pattern, inner)).replace('**/', '([^/]+/)*'))
  files = walk(root).files if root.is_dir() else ()
  return [file for file in files if wanted.fullmatch(file.relative_to(root).as_posix())]


def _part_pattern(part: str) -> str:
  """Returns the regular expression of a part of a glob; ** stays, for all parts together."""
  if part == '**':
    return part
  characters = {'*': '[^/]*', '?': '[^/]'}
  return ''.join(
    characters.get(each) or (each.replace('[!', '[^') if each[0] == '[' else re.escape(each))
    for each in re.findall(r'\[!?\]?[^\]]*\]|.', part)
  )


def describe_others(others: Sequence[pathlib.Path]) -> str:
  """Describes what is no image: '2 subfolders (a, b) and 3 files with other endings (.txt 3)'."""
  folders = sorted(path.name for path in others if path.is_dir())
  files = [path for path in others if not path.is_dir()]
  texts = []
  if folders:
    more = ', ...' if len(folders) > 3 else ''
    plural = 's' * (len(folders) > 1)
    texts.append(f'{len(folders)} subfolder{plural} ({", ".join(folders[:3])}{more})')
  if files:
    endings = collections.Counter(path.suffix.lower() or path.name for path in files)
    listed = ', '.join(f'{ending} {count}' for ending, count in endings.most_common(5))
    more = ', ...' if len(endings) > 5 else ''
    plural = 's' * (len(files) > 1)
    texts.append(f'{len(files)} file{plural} with other endings ({listed}{more})')
  return ' and '.join(texts)


def pair_by_name(predictions_dir, labels_dir) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Pairs predicted label maps with true label maps by file name, in subfolders too.

  Two files match if their names are equal without the suffixes that official tools append. For
  Cityscapes, these are `_leftImg8bit`, `_gtFine_labelIds`, `_gtFine_labelTrainIds`,
  `_gtFine_instanceIds`, `_gtFine_color` (and gtCoarse) or, as in the official evaluation, whatever
  follows CITY_123456_123456; for CamVid `_L`; for color masks of `predict` `_color`. If a folder
  has several label images for one image, label maps are preferred to colors, and labelIds to
  labelTrainIds. Overlays that `predict` wrote are ignored. Names that nearly match are matched
  where that is unambiguous, see `similar_names.match`.

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
  matches = similar_names.match(predictions, labels)
  for note in matches.notes:
    logging.info('%s and %s: %s', predictions_dir, labels_dir, note)
  ours, theirs = ({pair[side] for pair in matches.pairs} for side in (0, 1))
  for there, matched, here, what, folder in (
    (labels, theirs, predictions, 'prediction', predictions_dir),
    (predictions, ours, labels, 'label', labels_dir),
  ):
    unpaired = [name for name in there if name not in matched]
    if unpaired:
      first = ', '.join(there[name].name for name in unpaired[:3])
      similar = similar_names.nearest(unpaired[0], here)
      raise InputError(
        f'{folder}: no {what} for {len(unpaired)} of {len(there)} files: {first}'
        f'{", ..." if len(unpaired) > 3 else ""}; names must be equal except for official suffixes'
        + (f'; nearest to {unpaired[0]} is {similar}' if similar else '')
      )
  order = sorted(matches.pairs, key=lambda pair: _natural_order(pair[1]))
  return [(predictions[ours], labels[theirs]) for ours, theirs in order]


def _label_files_by_name(folder) -> dict:
  """Returns the preferred label file of each image name in a folder."""
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    problem = 'is a file; name its folder' if folder.exists() else 'no such folder'
    raise InputError(f'{folder}: {problem}')
  images, _, unread = list_images(folder)
  for path, reason in unread:
    logging.warning('%s: %s', path, reason)
  stems = {file.stem for file in images}
  ranked = {}
  for file in images:
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
      one, other = (file.relative_to(folder) for file in files[:2])
      raise InputError(
        f'{folder}: {one} and {other} belong to the same image; remove one, or name the folder of '
        'one split'
      )
    chosen[name] = files[0]
  return chosen


def list_images(folder) -> ImageFiles:
  """Lists the images of a folder and its subfolders, through links too, except hidden files."""
  found, unread = walk(folder)
  images, others = _divide(found)
  return ImageFiles(sorted(images, key=_natural_order), others, list(unread))


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


def _is_image(path, suffixes) -> bool:
  return path.suffix.lower() in suffixes and not path.name.startswith('.') and path.is_file()


def _natural_order(path):
  """Sorting key: digits count as numbers, and upper and lower case are the same."""
  parts = filter(None, re.split(r'([0-9]+)', str(path)))
  return [(0, int(part), '') if part.isdecimal() else (1, 0, part.lower()) for part in parts]

"""Which label belongs to which picture, and to which split, in folders that people make themselves.

Only names are looked at here. Subfolders, official suffixes and list files are understood; what
does not fit together is told, not dropped in silence.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import pathlib
import re
from typing import NamedTuple

from dilated_jax.errors import InputError
from dilated_jax.images import matching

SPLITS = ('train', 'val', 'test')

# How people call them, in lower case.
_SPLITS = {
  'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val',
  'test': 'test', 'testing': 'test',
}  # fmt: skip
_IMAGES = ('images', 'image', 'imgs', 'img', 'pictures', 'photos', 'jpegimages')
_LABELS = (
  'labels', 'label', 'masks', 'mask', 'annotations', 'annot', 'gt', 'segmentationclass',
)  # fmt: skip
# Endings of names that say what a picture is, where the names alone don't match.
_ENDINGS = re.compile(
  r'[_-](masks?|labels?|gt|seg|segmentation|annotations?|annot|image|img|rgb|sat)$', re.IGNORECASE
)
LAYOUTS = (
  'images/ and labels/ (or masks/), with train/, val/ and test/ below or above them if there are '
  'splits, or train.txt, val.txt and test.txt with one name or "picture label" a line'
)


class Pair(NamedTuple):
  """A picture and its label; `split` is one of `SPLITS`, or None where nothing tells it."""

  name: str
  image: pathlib.Path
  label: pathlib.Path
  split: str | None


class Problem(NamedTuple):
  """What does not fit together: `kind` is one of `PROBLEMS`, `found` says it in words."""

  kind: str
  path: pathlib.Path
  found: str


PROBLEMS = (
  'no label', 'no picture', 'two files of one name', 'listed but missing', 'in two splits',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Pairing:
  """The pairs, sorted by split and name.

  Attributes:
    pairs: whose files exist.
    problems: whatever does not fit together.
    unlisted: names of pictures that no list file names; they are not among `pairs`.
    where: says in words where pictures and labels were found.
  """

  pairs: tuple[Pair, ...]
  problems: tuple[Problem, ...]
  unlisted: tuple[str, ...]
  where: str


def find(root) -> Pairing:
  """Pairs the pictures and labels of a folder, see `LAYOUTS`.

  Args:
    root: folder; nothing is written to it. Folders may also be called train/ and trainannot/, as
      in SegNet's CamVid, and lists train_images.txt and train_labels.txt, as the authors' Caffe
      takes them.

  Returns:
    a Pairing.

  Raises:
    InputError: no such folder, nothing in it that is laid out in one of these ways, or a damaged
      list.
  """
  root = pathlib.Path(root)
  if not root.is_dir():
    raise InputError(f'{root}: no such folder')
  folders = _folders(root)
  lists = _lists(root)
  if not folders and not lists:
    raise InputError(f'{root}: no pictures with labels are found here; expected {LAYOUTS}')
  pairs, problems = [], []
  for images, labels, split in folders:
    found, wrong = match(images, labels)
    pairs += [pair._replace(split=split or pair.split) for pair in found]
    problems += wrong
  where = ', '.join(f'{images.name}/ and {labels.name}/' for images, labels, _ in folders)
  if folders and folders[0][0].parent != root:
    where = ', '.join(f'{images.parent.name}/' for images, _, _ in folders) + f' with {where}'
  if lists:
    names = ' and '.join(path.name for files in lists.values() for path in files)
    where = f'{where}, as {names} say' if where else f'as {names} say'
    roots = [[root, *(three[side] for three in folders)] for side in (0, 1)]
    return _listed(lists, pairs, problems, roots, where)
  return _finished(pairs, problems, (), where)


def of_folders(images, labels, lists: Sequence = ()) -> Pairing:
  """Pairs the pictures of one folder with the labels of another.

  Args:
    images: folder of pictures; subfolders called train, val and test are splits.
    labels: folder of labels with the same names, but for official suffixes.
    lists: files, each the list of the split that it is named after.

  Returns:
    a Pairing.

  Raises:
    InputError: a folder or list is missing, empty or damaged.
  """
  images, labels = pathlib.Path(images), pathlib.Path(labels)
  named = {}
  for path in map(pathlib.Path, lists):
    split = _SPLITS.get(path.stem.lower(), path.stem)
    if split in named:
      raise InputError(f'{path}: a second list of {split}, beside {named[split][0]}')
    named[split] = (path,)
  for folder in (images, labels):
    if not folder.is_dir():
      raise InputError(f'{folder}: no such folder')
  same = images.resolve() == labels.resolve()
  if same and not lists:
    raise InputError(f'{images}: pictures and labels are in one folder; give a list of pairs')
  pairs, problems = ([], []) if same else match(images, labels)
  where = f'{images} and {labels}'
  if lists:
    return _listed(named, pairs, problems, ([images], [labels]), where)
  return _finished(pairs, problems, (), where)


def match(images, labels) -> tuple[list[Pair], list[Problem]]:
  """Pairs the pictures below one folder with those below another by name.

  Where a name occurs in several subfolders, the subfolders must be the same too. Of several label
  pictures of one name, label maps go before colors, as in `pictures.pairs`.
  """
  images, labels = pathlib.Path(images), pathlib.Path(labels)
  files = [path for path in matching.list_images(images) if labels not in path.parents]
  masks = [path for path in matching.list_images(labels) if images not in path.parents]
  for folder, some in ((images, files), (labels, masks)):
    if not some:
      raise InputError(f'{folder}: no pictures in this folder ({", ".join(matching.SUFFIXES)})')
  names = [matching.image_name(path) for path in files]
  deep = len(set(names)) < len(names)
  problems, chosen = [], []
  for folder, some in ((images, files), (labels, masks)):
    ranked = {}
    for path in some:
      kind = matching.label_kind(path)
      rank = matching.KINDS.index(kind) if kind else 0
      ranked.setdefault(_key(path, folder, deep), []).append((rank, path))
    best = {}
    for key, several in ranked.items():
      first = min(rank for rank, _ in several)
      best[key], *others = [path for rank, path in several if rank == first]
      problems += [
        Problem('two files of one name', path, f'{path.name} and {best[key].name}')
        for path in others
      ]
    chosen.append(best)
  found, masks = chosen
  # Names as they are go first, so that only those without a partner lose their endings.
  pairs = {key: (key, found.pop(key), masks.pop(key)) for key in list(found) if key in masks}
  bare = {_ENDINGS.sub('', key): key for key in masks}
  for key in list(found):
    short = _ENDINGS.sub('', key)
    if short in bare:
      pairs[key] = short, found.pop(key), masks.pop(bare.pop(short))
  problems += [Problem('no label', path, f'{path.name} has no label') for path in found.values()]
  problems += [
    Problem('no picture', path, f'{path.name} has no picture') for path in masks.values()
  ]
  return [Pair(*three, _split(three[1], images)) for three in pairs.values()], problems


def sequence(name: str) -> tuple[str, int] | None:
  """Splits a name into what stands before its last number, and that: '0016E5_07959' has 7959."""
  numbered = re.fullmatch(r'(.*?)[_-]?([0-9]+)', name)
  return (numbered[1], int(numbered[2])) if numbered else None


def _key(path, folder, deep):
  name = matching.image_name(path)
  return (path.relative_to(folder).parent / name).as_posix() if deep else name


def _split(path, folder):
  """The split that the first subfolder says."""
  parts = path.relative_to(folder).parts
  return _SPLITS.get(parts[0].lower()) if len(parts) > 1 else None


def _folders(root) -> list:
  """(pictures, labels, split or None) of a layout."""
  children = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
  if sides := _sides(root):
    return [(*sides, None)]
  folders = []
  for name, path in children.items():
    split = _SPLITS.get(name)
    if not split:
      continue
    beside = (children.get(f'{name}{bar}{label}') for bar in ('', '_', '-') for label in _LABELS)
    sides = _sides(path) or next(((path, other) for other in beside if other), None)
    if sides:
      folders.append((*sides, split))
  return sorted(folders, key=lambda three: SPLITS.index(three[2]))


def _sides(folder):
  children = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
  sides = [
    next((children[name] for name in names if name in children), None)
    for names in (_IMAGES, _LABELS)
  ]
  return sides if all(sides) else None


def _lists(root) -> dict:
  """Lists by split: one file, or one of pictures and one of labels."""
  files = {path.stem.lower(): path for path in sorted(root.glob('*.txt'))}
  lists = {}
  for name, split in _SPLITS.items():
    if name in files:
      lists[split] = (files[name],)
    for plural in ('', 's'):
      two = tuple(files.get(f'{name}_{side}{plural}') for side in ('image', 'label'))
      if all(two):
        lists[split] = two
  return {split: lists[split] for split in SPLITS if split in lists}


def _listed(lists: Mapping, pairs, problems, roots, where) -> Pairing:
  """What the lists name, and in which split."""
  short = collections.Counter(matching.image_name(pair.image) for pair in pairs)
  by_name = {matching.image_name(pair.image): pair for pair in pairs}
  by_name = {name: pair for name, pair in by_name.items() if short[name] == 1}
  by_name |= {pair.name: pair for pair in pairs}
  by_path = {pair.image.resolve(): pair for pair in pairs}
  alone = [matching.image_name(problem.path) for problem in problems if problem.kind == 'no label']
  problems = [problem for problem in problems if problem.kind == 'two files of one name']
  listed, split_of = [], {}
  for split, files in lists.items():
    for line in _lines(files):
      paths = [_resolve(text, *of_side) for text, of_side in zip(line, roots)]
      pair = None
      if len(line) == 2 and all(paths):
        pair = Pair(matching.image_name(paths[0]), *paths, split)
      elif len(line) == 1:
        place = paths[0] and paths[0].resolve()
        pair = by_path.get(place) or by_name.get(line[0]) or by_name.get(_name(line[0]))
      if pair is None:
        missing = next((text for text, path in zip(line, paths) if not path), line[0])
        there = len(line) == 1 and (paths[0] or _name(line[0]) in alone)
        found = f'{missing} has no label' if there else f'{missing} is not there'
        problems.append(Problem('listed but missing', files[0], found))
        continue
      place = pair.image.resolve()
      if place not in split_of:
        listed.append(pair._replace(split=split))
      elif split_of[place] != split:
        found = f'{pair.name} is in {split_of[place]} and {split}'
        problems.append(Problem('in two splits', pair.image, found))
      split_of.setdefault(place, split)
  rest = [pair.name for pair in pairs if pair.image.resolve() not in split_of]
  return _finished(listed, problems, (*rest, *alone), where)


def _lines(files) -> Iterable[tuple[str, ...]]:
  """One or two fields a line: of one list, or of two lists line by line."""
  contents = []
  for path in files:
    try:
      text = path.read_text('utf-8-sig')
    except UnicodeDecodeError:
      raise InputError(
        f'{path}: is not text; a list has one name or "picture label" a line'
      ) from None
    lines = [line.strip() for line in text.splitlines()]
    contents.append([line for line in lines if line and not line.startswith('#')])
    if not contents[-1]:
      raise InputError(f'{path}: this list is empty')
  if len(files) == 2:
    pictures_, labels = contents
    if len(pictures_) != len(labels):
      raise InputError(
        f'{files[1]}: names {len(labels)} labels and {files[0].name} {len(pictures_)} pictures; '
        'line by line they belong together'
      )
    return list(zip(pictures_, labels))
  return [_fields(line) for line in contents[0]]


def _fields(line) -> tuple[str, ...]:
  """Two fields where the first one ends like a picture; names may have blanks otherwise."""
  for separator in re.finditer(r'[\s,]+', line):
    first, second = line[: separator.start()], line[separator.end() :]
    if pathlib.PurePosixPath(first).suffix.lower() in matching.SUFFIXES and second:
      return first, second
  return (line,)


def _resolve(text, *roots) -> pathlib.Path | None:
  """The file that a list names: paths of another machine are found by their last parts."""
  path = pathlib.Path(text)
  if path.suffix.lower() not in matching.SUFFIXES:
    return None
  if path.is_absolute() and path.is_file():
    return path
  parts = [part for part in path.parts if part != path.anchor]
  for first in range(len(parts)):
    for root in roots:
      file = pathlib.Path(root, *parts[first:])
      if file.is_file():
        return file
  return None


def _name(text) -> str:
  path = pathlib.PurePosixPath(text)
  return matching.image_name(path) if path.suffix.lower() in matching.SUFFIXES else path.name


def _finished(pairs, problems, unlisted, where) -> Pairing:
  order = {split: index for index, split in enumerate(SPLITS)}
  pairs = sorted(pairs, key=lambda pair: (order.get(pair.split, len(SPLITS)), pair.name))
  return Pairing(tuple(pairs), tuple(problems), tuple(unlisted), where)

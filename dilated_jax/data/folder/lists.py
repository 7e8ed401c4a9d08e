"""List files: train.txt, val.txt and test.txt say which images belong to which split."""

import collections
from collections.abc import Mapping, Sequence
import pathlib
import re

from dilated_jax.data.folder.pairing import SPLIT_NAMES, SPLITS, Pair, Pairing, Problem
from dilated_jax.errors import InputError
from dilated_jax.images import matching


def find_lists(root) -> dict[str, tuple[pathlib.Path, ...]]:
  """Finds the list files of each split in a folder: one, or one of images and one of labels."""
  files = {path.stem.lower(): path for path in sorted(pathlib.Path(root).glob('*.txt'))}
  lists = {}
  for name, split in SPLIT_NAMES.items():
    if name in files:
      lists[split] = (files[name],)
    for plural in ('', 's'):
      two = tuple(files.get(f'{name}_{kind}{plural}') for kind in ('image', 'label'))
      if all(two):
        lists[split] = two
  return {split: lists[split] for split in SPLITS if split in lists}


def apply_lists(
  lists: Mapping[str, tuple[pathlib.Path, ...]],
  pairs: Sequence[Pair],
  problems: Sequence[Problem],
  roots: tuple[Sequence[pathlib.Path], Sequence[pathlib.Path]],
  layout: str,
) -> Pairing:
  """Selects the pairs that list files name, and sets their splits.

  Args:
    lists: list files of each split.
    pairs: pairs that were matched by name.
    problems: problems of that matching.
    roots: folders in which listed images and listed labels are looked up.
    layout: where images and labels were found, for messages.

  Returns:
    the pairs that are listed, and pairs of files that only the lists put together.

  Raises:
    InputError: a list is empty, is not text, or has another number of lines than its partner.
  """
  count = collections.Counter(matching.image_name(pair.image) for pair in pairs)
  by_name = {matching.image_name(pair.image): pair for pair in pairs}
  by_name = {name: pair for name, pair in by_name.items() if count[name] == 1}
  by_name |= {pair.name: pair for pair in pairs}
  by_path = {pair.image.resolve(): pair for pair in pairs}
  unlabeled = [
    matching.image_name(problem.path) for problem in problems if problem.kind == 'no label'
  ]
  problems = [problem for problem in problems if problem.kind == 'duplicate name']
  listed, split_of = [], {}
  for split, files in lists.items():
    for fields in _read_lists(files):
      paths = [_find_file(text, *folders) for text, folders in zip(fields, roots)]
      pair = None
      if len(fields) == 2:
        image, label = paths
        if image and label:
          pair = Pair(matching.image_name(image), image, label, split)
      else:
        pair = by_path.get(paths[0].resolve()) if paths[0] else None
        pair = pair or by_name.get(fields[0]) or by_name.get(_name(fields[0]))
      if pair is None:
        missing = next((text for text, path in zip(fields, paths) if not path), fields[0])
        image_exists = len(fields) == 1 and (paths[0] or _name(fields[0]) in unlabeled)
        detail = f'{missing} has no label' if image_exists else f'{missing} does not exist'
        problems.append(Problem('listed but missing', files[0], detail))
        continue
      path = pair.image.resolve()
      if path not in split_of:
        listed.append(pair._replace(split=split))
      elif split_of[path] != split:
        detail = f'{pair.name} is in {split_of[path]} and {split}'
        problems.append(Problem('in two splits', pair.image, detail))
      split_of.setdefault(path, split)
  unlisted = [pair.name for pair in pairs if pair.image.resolve() not in split_of]
  return Pairing.sorted(listed, problems, (*unlisted, *unlabeled), layout)


def _read_lists(files) -> list[tuple[str, ...]]:
  """Reads one or two fields a line: from one list, or from two lists line by line."""
  contents = []
  for path in files:
    try:
      text = path.read_text('utf-8-sig')
    except UnicodeDecodeError:
      raise InputError(
        f'{path}: is not text; a list has one name or "image label" on each line'
      ) from None
    lines = [line.strip() for line in text.splitlines()]
    contents.append([line for line in lines if line and not line.startswith('#')])
    if not contents[-1]:
      raise InputError(f'{path}: this list is empty; write one name on each line, or remove it')
  if len(files) == 2:
    images, labels = contents
    if len(images) != len(labels):
      raise InputError(
        f'{files[1]}: names {len(labels)} labels and {files[0].name} {len(images)} images; '
        'every line of one must belong to the same line of the other'
      )
    return list(zip(images, labels))
  return [_split_line(line) for line in contents[0]]


def _split_line(line) -> tuple[str, ...]:
  """Returns two fields if the first one ends like an image file; other names may have blanks."""
  for separator in re.finditer(r'[\s,]+', line):
    first, second = line[: separator.start()], line[separator.end() :]
    if pathlib.PurePosixPath(first).suffix.lower() in matching.SUFFIXES and second:
      return first, second
  return (line,)


def _find_file(text, *roots) -> pathlib.Path | None:
  """Finds a listed file; paths of another machine are found by their last parts."""
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

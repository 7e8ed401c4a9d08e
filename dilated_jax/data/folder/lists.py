"""List files: train.txt, val.txt and test.txt say which images belong to which split."""

import collections
from collections.abc import Mapping, Sequence
import os
import pathlib
import re
import unicodedata

from dilated_jax.data.folder import names
from dilated_jax.data.folder.names import SPLITS
from dilated_jax.data.folder.pairing import Pair, Pairing, Problem
from dilated_jax.errors import InputError
from dilated_jax.files import decode_text
from dilated_jax.images import matching, similar_names

_LIST_SUFFIXES = ('.txt', '.lst', '.list', '.csv')
# Subfolders of lists, in the order in which they are searched; the second one is VOC's.
_LIST_FOLDERS = ('', 'ImageSets/Segmentation', 'ImageSets', 'splits', 'lists')
# Problems of matching by name that lists don't solve.
_STILL_PROBLEMS = ('duplicate name', 'unreadable folder', 'broken link')
_JPEG_SUFFIXES = ('.jfif', '.jpe', '.jpeg', '.jpg')
_NEAREST = 20  # Missing files whose nearest name is searched.
_DEEPEST = 100  # Folders above a listed file that are looked at.
# Heads of columns, in the first line of a table.
_HEADS = re.compile(
  r'(images?|pictures?|labels?|masks?|file_?names?|files?|paths?|names?|ids?)(_?(path|file|name|id))?'
)


def find_lists(root) -> tuple[dict[str, tuple[pathlib.Path, ...]], list[Problem]]:
  """Finds the list files of each split in a folder: one, or one of images and one of labels.

  They may end in .txt, .lst, .list or .csv, and lie in the folder or in one of `_LIST_FOLDERS`.

  Returns:
    lists by split, and a remark on text files that are none.
  """
  root, lists, others = pathlib.Path(root), {}, []
  for folder in (root / name for name in _LIST_FOLDERS):
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {}
    # The plainest name first: of train.txt and train_old.txt or 'train (1).txt' the first. Tables
    # last, which may be something else.
    for path in sorted(files, key=lambda path: (len(path.stem), _is_table(path), path.name)):
      if path.suffix.lower() in _LIST_SUFFIXES and path.is_file() and path.name[0] != '.':
        split, kind = names.parse(path.stem)
        if not split or found.setdefault(split, {}).setdefault(kind, path) != path:
          others.append(path.relative_to(root).as_posix())
    if found:
      for split, kinds in found.items():
        if 'images' in kinds and 'labels' in kinds:
          lists[split] = kinds['images'], kinds['labels']
        else:
          lists[split] = (kinds.get(None) or kinds.get('images') or kinds['labels'],)
        unused = [path for path in kinds.values() if path not in lists[split]]
        others += [path.relative_to(root).as_posix() for path in unused]
      break
  remarks = []
  if others:
    more = ', ...' if len(others) > 5 else ''
    detail = f'not read as lists of a split: {", ".join(sorted(others)[:5])}{more}'
    remarks.append(Problem('passed over', root, detail))
  return {split: lists[split] for split in SPLITS if split in lists}, remarks


def apply_lists(
  lists: Mapping[str, tuple[pathlib.Path, ...]],
  pairs: Sequence[Pair],
  problems: Sequence[Problem],
  roots: tuple[Sequence[pathlib.Path], Sequence[pathlib.Path]],
  layout: str,
  remarks: Sequence[Problem] = (),
) -> Pairing:
  """Selects the pairs that list files name, and sets their splits.

  Args:
    lists: list files of each split.
    pairs: pairs that were matched by name.
    problems: problems of that matching.
    roots: folders in which listed images and listed labels are looked up.
    layout: where images and labels were found, for messages.
    remarks: remarks on that matching.

  Returns:
    the pairs that are listed, and pairs of files that only the lists put together.

  Raises:
    InputError: a list is empty, is not text, or has another number of lines than its partner.
  """
  count = collections.Counter(matching.image_name(pair.image) for pair in pairs)
  by_name = {matching.image_name(pair.image): pair for pair in pairs}
  by_name = {name: pair for name, pair in by_name.items() if count[name] == 1}
  by_name |= {pair.name: pair for pair in pairs}
  simple_names = collections.Counter(map(similar_names.simplify, by_name))
  by_simple_name = {
    simple: pair
    for name, pair in by_name.items()
    if simple_names[simple := similar_names.simplify(name)] == 1
  }
  by_path = {pair.image.resolve(): pair for pair in pairs}
  unlabeled = [
    matching.image_name(problem.path) for problem in problems if problem.kind == 'no label'
  ]
  problems = [problem for problem in problems if problem.kind in _STILL_PROBLEMS]
  finder, listed, split_of = _Finder(), [], {}
  for split, files in lists.items():
    swapped, lines = [], _read_lists(files)
    for number, fields in lines:
      paths = [finder.find(text, folders) for text, folders in zip(fields, roots)]
      pair = None
      if len(fields) == 2:
        image, label = paths
        if image and label:
          if _are_swapped(image, label):
            swapped.append((number, fields[0]))
            split_of.setdefault(label.resolve(), split)
            continue
          pair = Pair(matching.image_name(image), image, label, split)
      else:
        pair = by_path.get(paths[0].resolve()) if paths[0] else None
        name = _name(fields[0])
        pair = pair or by_name.get(fields[0]) or by_name.get(name)
        pair = pair or by_simple_name.get(similar_names.simplify(name))
      if pair is None:
        missing = next((text for text, path in zip(fields, paths) if not path), fields[0])
        image_exists = len(fields) == 1 and (paths[0] or _name(fields[0]) in unlabeled)
        if len(fields) == 2 and all(map(finder.find, fields, roots[::-1])):
          swapped.append((number, fields[0]))
          continue
        detail = f'{missing} has no label' if image_exists else f'{missing} does not exist'
        if number == lines[0][0] and _is_table(files[0]) and not _is_image(fields[0]):
          detail = (
            f'{fields[0]!r} names no image and no columns that are known; write image,label there '
            'or remove this line, or rename the file if it is no list'
          )
        elif not image_exists and len(problems) < _NEAREST:
          similar = finder.nearest(missing, roots[missing != fields[0]]) or similar_names.nearest(
            _name(missing), by_name
          )
          detail += f' (nearest: {similar})' if similar else ''
        problems.append(Problem('listed but missing', files[0], f'line {number}: {detail}'))
        continue
      path = pair.image.resolve()
      if path not in split_of:
        listed.append(pair._replace(split=split))
      elif split_of[path] != split:
        detail = f'{pair.name} is in {split_of[path]} and {split}'
        problems.append(Problem('in two splits', pair.image, detail))
      split_of.setdefault(path, split)
    if swapped:
      number, label = swapped[0]
      where = f'line {number}' + (f' and {len(swapped) - 1} more' if len(swapped) > 1 else '')
      detail = (
        f'{where}: the columns are swapped, {label} is a label; write the image first, then its '
        'label'
      )
      problems.append(Problem('swapped columns', files[0], detail))
  unlisted = [pair.name for pair in pairs if pair.image.resolve() not in split_of]
  return Pairing.sorted(listed, problems, (*unlisted, *unlabeled), layout, remarks)


def _are_swapped(image, label) -> bool:
  """Whether what is listed as image and label is a label and its image, by folders or endings."""
  of_image, of_label = (
    {names.parse(folder.name).kind for folder in path.absolute().parents} for path in (image, label)
  )
  if of_image != of_label:
    return of_image - of_label == {'labels'} or of_label - of_image == {'images'}
  # No label can be a JPEG.
  return label.suffix.lower() in _JPEG_SUFFIXES and image.suffix.lower() not in _JPEG_SUFFIXES


def _read_lists(files) -> list[tuple[int, tuple[str, ...]]]:
  """Reads one or two fields a line, with its number: from one list, or from two line by line."""
  contents = []
  for path in files:
    try:
      text = decode_text(path.read_bytes())
    except UnicodeError:
      raise InputError(
        f'{path}: is not text; a list has one name or "image label" on each line'
      ) from None
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    contents.append([(i, line) for i, line in lines if line and not line.startswith('#')])
    if _is_table(path) and all(_is_head(line) for _, line in contents[-1]):
      contents[-1] = []
    if not contents[-1]:
      raise InputError(f'{path}: this list is empty; write one name on each line, or remove it')
  if len(files) == 2:
    images, labels = contents
    if len(images) != len(labels):
      raise InputError(
        f'{files[1]}: names {len(labels)} labels and {files[0].name} {len(images)} images; '
        'every line of one must belong to the same line of the other'
      )
    pairs = zip(images, labels)
    return [(i, (_unquote(image), _unquote(label))) for (i, image), (_, label) in pairs]
  rows, head = [(i, _split_line(line)) for i, line in contents[0]], contents[0][0][1]
  if _is_table(files[0]) and _is_head(head):
    del rows[0]
    if re.match(r'\W*(label|mask)', head.lower()):
      rows = [(i, row[::-1]) for i, row in rows]
  return rows


def _is_table(path) -> bool:
  return path.suffix.lower() == '.csv'


def _is_image(text) -> bool:
  return pathlib.PurePosixPath(text).suffix.lower() in matching.SUFFIXES


def _is_head(line: str) -> bool:
  return all(_HEADS.fullmatch(head.strip(' "')) for head in re.split(r'[,;\t]', line.lower()))


def _unquote(text: str) -> str:
  text = text.strip()
  return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in '"\'' else text


def _split_line(line) -> tuple[str, ...]:
  """Returns two fields if the first one ends like an image file; other names may have blanks."""
  if quoted := re.fullmatch(r'"([^"]+)"[\s,;]+"([^"]+)"[\s,;]*', line):
    return quoted[1], quoted[2]
  line = line.rstrip(' \t,;')
  for separator in re.finditer(r'[\s,;]+', line):
    first, second = _unquote(line[: separator.start()]), _unquote(line[separator.end() :])
    if _is_image(first) and second:
      return first, second
  return (_unquote(line),)


class _Finder:
  """Finds listed files; paths of another machine by their last parts, names that nearly match."""

  def __init__(self):
    self._folders = {}

  def find(self, text: str, roots) -> pathlib.Path | None:
    """Returns the file that a list names, or None."""
    path = pathlib.Path(text)
    if path.suffix.lower() not in matching.SUFFIXES:
      return None
    if path.is_absolute() and os.path.isfile(path):
      return path
    for candidate in (path, pathlib.PureWindowsPath(text)):
      parts = [part for part in candidate.parts if part not in (candidate.anchor, '.')]
      parts = parts[-_DEEPEST:]
      for first in range(len(parts)):
        for root in roots:
          file = pathlib.Path(root, *parts[first:])
          if os.path.isfile(file):  # Also of names that no file can have.
            return file
          if similar := self._similar(file):
            return similar
    return None

  def nearest(self, text: str, roots) -> str | None:
    """Returns the name of the most similar file in the folders where `text` was looked up."""
    name = pathlib.PureWindowsPath(text).name
    return similar_names.nearest(
      name, [file for root in roots for same in self._files(root).values() for file in same]
    )

  def _similar(self, file) -> pathlib.Path | None:
    """Returns the one file of the same folder that differs in case and Unicode form only."""
    found = self._files(file.parent).get(_simple(file.name), [])
    return file.with_name(found[0]) if len(found) == 1 else None

  def _files(self, folder) -> dict[str, list[str]]:
    """Returns the names in a folder by `_simple`."""
    if folder not in self._folders:
      names_in = self._folders[folder] = {}
      for path in folder.iterdir() if os.path.isdir(folder) else ():
        names_in.setdefault(_simple(path.name), []).append(path.name)
    return self._folders[folder]


def _simple(name: str) -> str:
  return unicodedata.normalize('NFC', name).casefold()


def _name(text) -> str:
  path = pathlib.PurePosixPath(text.replace('\\', '/'))
  return matching.image_name(path) if path.suffix.lower() in matching.SUFFIXES else path.name

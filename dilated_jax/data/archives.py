"""Reads raw data sets as their publishers distribute them: unpacked folders, .zip, .tar or .tgz.

  tree = archives.open_tree(
    manual_dir, folders=('gtFine', 'leftImg8bit'),
    archives=('gtFine_trainvaltest.zip', 'leftImg8bit_trainvaltest.zip'),
    name='Cityscapes', source='www.cityscapes-dataset.com',
  )
  tree.read('gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png')  # bytes

Files have the names that they have inside the archives, with /, in an unpacked copy too. A file at
the top of an archive gets the name of the archive as its folder: a/1.png is 1.png of a.zip. Nothing
is unpacked. A compressed tar can only be read from its start, so it is read once, and the files in
the requested folders are kept in an unnamed temporary file (in TMPDIR) while the tree is in use.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import pathlib
from typing import BinaryIO

from absl import logging

from dilated_jax.data import archive_index
from dilated_jax.errors import InputError, one_line
from dilated_jax.files import walk


class Tree:
  """The files of a raw data set, by name; made by `open_tree`."""

  def __init__(self, location: str, advice: str, members: Mapping[str, tuple[str, Callable]]):
    """Makes a tree.

    Args:
      location: folder or archives that contain the files, for messages.
      advice: what to do if a file is missing or damaged, for messages.
      members: for each name, its location (for messages) and a function that opens the file.
    """
    self.location, self._advice, self._members = location, advice, members

  def __or__(self, other: 'Tree') -> 'Tree':
    """Returns a tree that contains the files of both."""
    return Tree(
      ' and '.join(dict.fromkeys((self.location, other.location))),
      f'{self._advice}, or {other._advice}',
      {**self._members, **other._members},
    )

  def names(self) -> list[str]:
    """Returns the names of all files, sorted."""
    return sorted(self._members)

  def has(self, name: str) -> bool:
    return name in self._members

  def read(self, name: str) -> bytes:
    """Returns the bytes of a file.

    Raises:
      InputError: there is no such file, or it is damaged or larger than `archive_index.LIMIT`.
    """
    with self.open(name) as file:
      content = file.read(archive_index.LIMIT + 1)
      if len(content) > archive_index.LIMIT:
        raise self.error(name, f'has more than {archive_index.LIMIT >> 20} MiB')
      return content

  @contextlib.contextmanager
  def open(self, name: str) -> Iterator[BinaryIO]:
    """Opens a file for reading from start to end, for `with`; raises the same errors as `read`."""
    if name not in self._members:
      raise InputError(f'{self.location}: has no {name}; {self._advice}')
    try:
      with self._members[name][1]() as file:
        yield file
    except InputError:
      raise
    except archive_index.UNREADABLE as error:
      raise self.error(name, f'is damaged ({one_line(error)})') from error

  def locate(self, name: str) -> str:
    """Returns the path of a file, or its archive and name in it, for messages."""
    return self._members[name][0]

  def error(self, name: str, problem: str) -> InputError:
    """Returns an error that names the file, its problem and what to do."""
    return InputError(f'{self.locate(name)}: {problem}; {self._advice}')


def exists(manual_dir, *, folders, archives) -> bool:
  """Returns whether a folder has any part of a raw data set, without reading files.

  Args:
    manual_dir: as in `open_tree`.
    folders: as in `open_tree`.
    archives: as in `open_tree`.
  """
  root = pathlib.Path(manual_dir).expanduser()
  unpacked = any(path.exists() for paths in _candidates(root, folders) for path in paths)
  return unpacked or any((root / archive).is_file() for archive in archives)


def open_tree(manual_dir, *, folders, archives, name: str, source: str) -> Tree:
  """Opens a raw data set: its unpacked folders if they all exist, or else its archives.

  Args:
    manual_dir: folder of the archives, or of what was unpacked from them. Outer folders may be
      missing: 'VOCdevkit/VOC2012/JPEGImages' is found in a folder that contains JPEGImages.
    folders: folders, or single files, that the tree is to contain, as the archives name them.
    archives: file names of the archives, which together contain all of `folders`.
    name: name of the data set, for messages.
    source: where to download it, for messages.

  Returns:
    a tree of all files in `folders`, and no others.

  Raises:
    InputError: a folder or archive is missing or damaged, or an archive has members that could do
      harm and that no data set needs: links, devices, names that lead out of the archive.
  """
  root = pathlib.Path(manual_dir).expanduser()
  if not root.is_dir():
    raise InputError(f'{root}: no such folder; get {name} from {source}')
  for paths in _candidates(root, folders):
    if all(path.exists() for path in paths):
      return _open_unpacked(root, folders, paths, f'unpack {name} again, from {source}')
  missing = [archive for archive in archives if not (root / archive).is_file()]
  if missing:
    raise InputError(
      f'{root}: {name} is not complete: no {" and no ".join(missing)} here, and of its unpacked '
      f'folders no {_missing_folders(root, folders)}; get it from {source}'
    )

  advice = f'get the archive again, from {source}'
  members = {}
  for archive in archives:
    members |= archive_index.read_index(root / archive, folders, advice)
  location = ' and '.join(str(root / archive) for archive in archives)
  tree = Tree(location, advice, members)
  for folder in folders:
    if not any(archive_index.is_inside(member, (folder,)) for member in members):
      raise InputError(f'{location}: has no {folder}; {advice}')
  return tree


def _candidates(root, folders) -> Iterator[list[pathlib.Path]]:
  """Yields where the folders may be: at their full path, or without 1, 2, ... outer folders."""
  parts = [pathlib.PurePosixPath(folder).parts for folder in folders]
  for outer in range(min(map(len, parts))):
    paths = [root.joinpath(*each[outer:]) for each in parts]
    if len(set(paths)) == len(paths):  # Otherwise train/a and test/a would be the same folder.
      yield paths


def _missing_folders(root, folders) -> str:
  """Lists the missing folders, judging by the candidate paths of which most exist."""
  most = max(_candidates(root, folders), key=lambda paths: sum(path.exists() for path in paths))
  missing = [folder for folder, path in zip(folders, most) if not path.exists()]
  return ' and no '.join(missing)


def _open_unpacked(root, folders, paths, advice) -> Tree:
  members = {}

  def add(name, path):
    members[name] = str(path), functools.partial(open, path, 'rb')

  for folder, path in zip(folders, paths):
    if path.is_file():
      add(folder, path)
      continue
    files, passed_over = walk(path)
    for inner, reason in passed_over:
      if inner.is_dir() and 'link' not in reason:
        raise InputError(f'{inner}: {reason}; give permission to read it, or {advice}')
      logging.warning('%s: passed over: %s', inner, reason)
    for inner in files:
      add(f'{folder}/{inner.relative_to(path).as_posix()}', inner)
  return Tree(str(root), advice, members)

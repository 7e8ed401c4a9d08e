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
import gzip
import io
import lzma
import os
import pathlib
import stat
import tarfile
import tempfile
from typing import BinaryIO
import weakref
import zipfile
import zlib

from dilated_jax.errors import InputError, one_line

LIMIT = 2**28  # Bytes of the largest file that `read` accepts; the largest images have a tenth.

# What the standard library raises for damaged members, and for damaged archives.
_UNREADABLE = (
  OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError,
)  # fmt: skip
_DAMAGED = (
  *_UNREADABLE, tarfile.TarError, ValueError, LookupError, ArithmeticError, MemoryError,
)  # fmt: skip


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
      InputError: there is no such file, or it is damaged or larger than `LIMIT`.
    """
    with self.open(name) as file:
      content = file.read(LIMIT + 1)
      if len(content) > LIMIT:
        raise self.error(name, f'has more than {LIMIT >> 20} MiB')
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
    except _UNREADABLE as error:
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
    members |= _read_index(root / archive, folders, advice)
  location = ' and '.join(str(root / archive) for archive in archives)
  tree = Tree(location, advice, members)
  for folder in folders:
    if not any(_inside(member, (folder,)) for member in members):
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


def _inside(name, folders) -> bool:
  return any(name == folder or name.startswith(f'{folder}/') for folder in folders)


def _open_unpacked(root, folders, paths, advice) -> Tree:
  members = {}

  def add(name, path):
    members[name] = str(path), functools.partial(open, path, 'rb')

  for folder, path in zip(folders, paths):
    if path.is_file():
      add(folder, path)
      continue
    for parent, _, files in os.walk(path, onerror=_raise):
      for file in files:
        inner = pathlib.Path(parent, file)
        add(f'{folder}/{inner.relative_to(path).as_posix()}', inner)
  return Tree(str(root), advice, members)


def _raise(error):  # os.walk would skip an unreadable folder in silence.
  raise error


def _read_index(path, folders, advice) -> dict[str, tuple[str, Callable]]:
  """Returns the members of an archive that are in `folders`, after checks of all members."""
  try:
    with open(path, 'rb') as file:
      start = file.read(4)
    if start.startswith(b'PK'):
      return _index_zip(path, folders)
    if start.startswith(b'\x1f\x8b'):
      return _index_tgz(path, folders)
    return _index_tar(path, folders)
  except InputError:
    raise
  except _DAMAGED as error:
    raise InputError(f'{path}: the archive is damaged ({one_line(error)}); {advice}') from error


def _index_zip(path, folders):
  members, archive = {}, zipfile.ZipFile(path)
  weakref.finalize(archive, archive.fp.close)  # Its own __del__ runs too late if it is in a cycle.
  for info in archive.infolist():
    name = _member_name(path, info.filename)
    if info.is_dir():
      continue
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
      raise _bad_member(path, info.filename, 'is a link or device')
    if _inside(name, folders):
      members[name] = f'{path}: {name}', functools.partial(archive.open, info)
  return members


def _index_tar(path, folders):
  members = {}
  with open(path, 'rb') as file:
    for name, member in _tar_members(path, file, folders):
      place = member.offset_data, member.size
      members[name] = f'{path}: {name}', functools.partial(_read_range, path, *place)
  return members


def _index_tgz(path, folders):
  members, storage = {}, _TemporaryStorage()
  with gzip.open(path) as file:
    for name, member in _tar_members(path, file, folders):
      if member.size > LIMIT:
        raise InputError(f'{path}: {name} has more than {LIMIT >> 20} MiB')
      place = storage.add(file.read(member.size)), member.size
      members[name] = f'{path}: {name}', functools.partial(storage.open, *place)
    while file.read(2**20):  # To the end, where gzip compares the checksum.
      pass
  return members


def _tar_members(path, file, folders) -> Iterator[tuple[str, tarfile.TarInfo]]:
  """Yields the members in `folders` while the file's position is at their content."""
  last = -1
  with tarfile.open(fileobj=file, mode='r:') as tar:
    for member in tar:
      name = _member_name(path, member.name)
      if member.size < 0 or member.offset <= last:  # Would make the loop endless.
        raise tarfile.ReadError(f'{name} has {member.size} bytes')
      last = member.offset
      if member.isdir():
        continue
      if not member.isfile() or member.issparse():
        raise _bad_member(path, member.name, 'is a link or device')
      if _inside(name, folders):
        yield name, member
    # tarfile stops at anything that is not a header; a complete archive ends with a zero block.
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
      raise tarfile.ReadError(f'truncated at byte {tar.offset}')


def _read_range(path, offset, size) -> BinaryIO:
  with open(path, 'rb') as file:
    file.seek(offset)
    return io.BytesIO(file.read(size))


class _TemporaryStorage:
  """Contents in a temporary file, which is deleted with the last reference to this object."""

  def __init__(self):
    self._file = tempfile.TemporaryFile()  # noqa: SIM115
    weakref.finalize(self, self._file.close)

  def add(self, content: bytes) -> int:
    offset = self._file.seek(0, os.SEEK_END)
    self._file.write(content)
    return offset

  def open(self, offset, size) -> BinaryIO:
    self._file.seek(offset)
    return io.BytesIO(self._file.read(size))


def _member_name(path, name) -> str:
  """Checks the name of a member and returns it as `Tree.names` gives it."""
  parts = [part for part in name.split('/') if part not in ('', '.')]
  if name.startswith('/') or '..' in parts:
    raise _bad_member(path, name, 'leads out of the archive')
  if not name.isprintable():
    raise _bad_member(path, ascii(name), 'has unprintable characters in its name')
  return '/'.join(parts if len(parts) > 1 else [path.stem, *parts])


def _bad_member(path, name, problem) -> InputError:
  return InputError(
    f'{path}: the member {name} {problem}; no data set needs that, so this is not the original '
    'archive: download it again'
  )

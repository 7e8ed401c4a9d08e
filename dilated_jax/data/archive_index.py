"""Finds the members of an archive: .zip, .tar or .tgz, told apart by their first bytes.

Members that could do harm, or can't belong to the original archive, are an error: links, devices,
names that lead out of the archive.
"""

from collections.abc import Callable, Iterator
import functools
import gzip
import io
import lzma
import os
import stat
import tarfile
import tempfile
from typing import BinaryIO
import weakref
import zipfile
import zlib

from dilated_jax.errors import InputError, one_line

LIMIT = 2**28  # Bytes of the largest file that is read; the largest images have a tenth of that.

# Bytes to unpack, in sizes of the archive, beside a room that any archive has.
_GROWTH, _ROOM = 20, 2**28

# What the standard library raises for damaged members, and for damaged archives.
UNREADABLE = (
  OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, UnicodeError,
)  # fmt: skip
_DAMAGED = (
  *UNREADABLE, tarfile.TarError, ValueError, LookupError, ArithmeticError, MemoryError,
)  # fmt: skip


def read_index(path, folders, advice: str) -> dict[str, tuple[str, Callable[[], BinaryIO]]]:
  """Finds the members of an archive that are in some folders; all members are checked.

  Args:
    path: archive.
    folders: folders, or single files.
    advice: what to do if the archive is damaged, for messages.

  Returns:
    for each name, its location (for messages) and a function that opens the member.

  Raises:
    InputError: the archive is damaged, or has members that could do harm.
  """
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
  if archive.fp:
    weakref.finalize(archive, archive.fp.close)  # Its own __del__ is too late if it is in a cycle.
  for info in archive.infolist():
    name = _member_name(path, info.filename)
    if info.is_dir():
      continue
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
      raise _bad_member(path, info.filename, 'is a link or device')
    if is_inside(name, folders):
      members[name] = f'{path}: {name}', functools.partial(archive.open, info)
  return members


def _index_tar(path, folders):
  members = {}
  with open(path, 'rb') as file:
    for name, member in _tar_members(path, _ShortReads(file), folders):
      place = member.offset_data, member.size
      members[name] = f'{path}: {name}', functools.partial(_read_range, path, *place)
  return members


def _index_tgz(path, folders):
  members, storage = {}, _TemporaryStorage()
  room = _ROOM + _GROWTH * os.path.getsize(path)
  with gzip.open(path) as packed:
    file = _ShortReads(packed)
    for name, member in _tar_members(path, file, folders):
      if member.size > LIMIT:
        raise InputError(f'{path}: {name} has more than {LIMIT >> 20} MiB')
      room -= member.size
      if room < 0:
        raise InputError(
          f'{path}: unpacks to more than {_GROWTH} times its size, and images hardly shrink: this '
          'is not the original archive; download it again'
        )
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
      if is_inside(name, folders):
        yield name, member
    # tarfile stops at anything that is not a header; a complete archive ends with a zero block.
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
      raise tarfile.ReadError(f'truncated at byte {tar.offset}')


def _read_range(path, offset, size) -> BinaryIO:
  with open(path, 'rb') as file:
    file.seek(offset)
    return io.BytesIO(file.read(size))


class _ShortReads(io.RawIOBase):
  """A packed file of which no more is read at a time than the largest file that is wanted.

  tarfile reads a header of any length that the archive claims, and zeros pack a thousand times.
  """

  def __init__(self, file):
    self._file = file
    self.seek, self.tell = file.seek, file.tell

  def read(self, size=-1):
    if not 0 <= size <= LIMIT:
      raise ValueError(f'a header of {size} bytes')
    return self._file.read(size)


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


def is_inside(name: str, folders) -> bool:
  """Returns whether a name is one of some files, or in one of some folders."""
  return any(name == folder or name.startswith(f'{folder}/') for folder in folders)

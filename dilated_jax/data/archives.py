"""Raw data sets as their publishers pack them, read in place: unpacked folders, .zip, .tar, .tgz.

  tree = archives.find(
    manual_dir, folders=('gtFine', 'leftImg8bit'),
    archives=('gtFine_trainvaltest.zip', 'leftImg8bit_trainvaltest.zip'),
    name='Cityscapes', where='www.cityscapes-dataset.com',
  )
  tree.read('gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png')  # bytes

Names are those inside the archives, with /, and the same for an unpacked copy. Files that lie in no
folder of their archive have its name before theirs: a/1.png is 1.png of a.zip. Nothing is unpacked.
A compressed tar, which can only be read from its start, is read once, and what was asked for is
kept in an unnamed temporary file (in TMPDIR) while the tree is in use.
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

from dilated_jax.errors import InputError

LIMIT = 2**28  # Bytes of one file that `read` takes; the largest pictures have a tenth of that.

# What the standard library raises on a damaged member, and on a damaged archive.
_UNREADABLE = (
  OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError,
)  # fmt: skip
_DAMAGED = (
  *_UNREADABLE, tarfile.TarError, ValueError, LookupError, ArithmeticError, MemoryError,
)  # fmt: skip


class Tree:
  """The files of a raw data set, by name."""

  def __init__(self, place: str, advice: str, members: Mapping[str, tuple[str, Callable]]):
    """Takes what `find` has found.

    Args:
      place: where the files are, for messages.
      advice: what to do if one is missing or damaged, for messages.
      members: of each name, where it lies (for messages) and a function that opens it.
    """
    self.place, self._advice, self._members = place, advice, members

  def __or__(self, other: 'Tree') -> 'Tree':
    """Returns a tree with the files of both."""
    return Tree(
      ' and '.join(dict.fromkeys((self.place, other.place))),
      f'{self._advice}, or {other._advice}',
      {**self._members, **other._members},
    )

  def names(self) -> list[str]:
    """Returns the names of all files, sorted."""
    return sorted(self._members)

  def has(self, name: str) -> bool:
    return name in self._members

  def read(self, name: str) -> bytes:
    """Returns a file's content.

    Raises:
      InputError: there is no such file, or it is damaged or larger than `LIMIT`.
    """
    with self.open(name) as file:
      content = file.read(LIMIT + 1)
      if len(content) > LIMIT:
        raise self.fail(name, f'has more than {LIMIT >> 20} MiB')
      return content

  @contextlib.contextmanager
  def open(self, name: str) -> Iterator[BinaryIO]:
    """Opens a file to be read from its start to its end, for `with`; else as `read`."""
    if name not in self._members:
      raise InputError(f'{self.place}: holds no {name}; {self._advice}')
    try:
      with self._members[name][1]() as file:
        yield file
    except InputError:
      raise
    except _UNREADABLE as error:
      raise self.fail(name, f'is damaged ({_words(error)})') from error

  def where(self, name: str) -> str:
    """Returns where a file lies, for messages."""
    return self._members[name][0]

  def fail(self, name: str, what: str) -> InputError:
    """Returns the error that says where the file `name` is, `what` is wrong and what to do."""
    return InputError(f'{self.where(name)}: {what}; {self._advice}')


def exists(manual_dir, *, folders, archives) -> bool:
  """Whether anything of a raw data set is in a folder; arguments as of `find`. Reads no file."""
  root = pathlib.Path(manual_dir).expanduser()
  unpacked = any(path.exists() for paths in _places(root, folders) for path in paths)
  return unpacked or any((root / archive).is_file() for archive in archives)


def within(folder, **files):
  """Returns the folder if anything of a raw data set is in it, else None; `files` as of `find`."""
  return folder if exists(folder, **files) else None


def find(manual_dir, *, folders, archives, name: str, where: str) -> Tree:
  """Opens a raw data set: its unpacked folders if they are there, or else its archives.

  Args:
    manual_dir: the folder that holds the archives or what was unpacked from them. Outer folders
      may be missing: 'VOCdevkit/VOC2012/JPEGImages' is found in a folder that holds JPEGImages.
    folders: what is needed, as the archives name it: folders, or single files. The tree holds
      nothing else.
    archives: file names of the archives, in which all of `folders` are together.
    name: what people call the data set.
    where: to get it, for messages.

  Returns:
    A tree with files of all `folders`.

  Raises:
    InputError: something is missing or damaged, or an archive holds members that no data set
      needs and that could harm: links, devices, names that lead out of it.
  """
  root = pathlib.Path(manual_dir).expanduser()
  if not root.is_dir():
    raise InputError(f'{root}: no such folder; get {name} from {where}')
  for paths in _places(root, folders):
    if all(path.exists() for path in paths):
      return _unpacked(root, folders, paths, f'unpack {name} again, from {where}')
  absent = [archive for archive in archives if not (root / archive).is_file()]
  if absent:
    raise InputError(
      f'{root}: {name} is not complete: no {" and no ".join(absent)} here, and of its unpacked '
      f'folders no {_absent(root, folders)}; get it from {where}'
    )

  advice = f'get the archive again, from {where}'
  members = {}
  for archive in archives:
    members |= _read_index(root / archive, folders, advice)
  place = ' and '.join(str(root / archive) for archive in archives)
  tree = Tree(place, advice, members)
  for folder in folders:
    if not any(_inside(member, (folder,)) for member in members):
      raise InputError(f'{place}: holds no {folder}; {advice}')
  return tree


def _places(root, folders) -> Iterator[list[pathlib.Path]]:
  """Where the folders may be: as they are named, or without their first 1, 2, ... outer ones."""
  parts = [pathlib.PurePosixPath(folder).parts for folder in folders]
  for outer in range(min(map(len, parts))):
    places = [root.joinpath(*each[outer:]) for each in parts]
    if len(set(places)) == len(places):  # Else outer folders tell them apart: train/a and test/a.
      yield places


def _absent(root, folders) -> str:
  """Names the folders that are missing where most of them are."""
  most = max(_places(root, folders), key=lambda paths: sum(path.exists() for path in paths))
  missing = [folder for folder, path in zip(folders, most) if not path.exists()]
  return ' and no '.join(missing)


def _inside(name, folders) -> bool:
  return any(name == folder or name.startswith(f'{folder}/') for folder in folders)


def _unpacked(root, folders, paths, advice) -> Tree:
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


def _raise(error):
  raise error


def _read_index(path, folders, advice) -> dict[str, tuple[str, Callable]]:
  """Returns the members of an archive that are in `folders`; looks at all of them."""
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
    raise InputError(f'{path}: the archive is damaged ({_words(error)}); {advice}') from error


def _index_zip(path, folders):
  members, archive = {}, zipfile.ZipFile(path)
  weakref.finalize(archive, archive.fp.close)  # Its own __del__ comes too late in a cycle.
  for info in archive.infolist():
    name = _checked(path, info.filename)
    if info.is_dir():
      continue
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
      raise _refused(path, info.filename, 'is a link or device')
    if _inside(name, folders):
      members[name] = f'{path}: {name}', functools.partial(archive.open, info)
  return members


def _index_tar(path, folders):
  members = {}
  with open(path, 'rb') as file:
    for name, member in _tar_members(path, file, folders):
      where = member.offset_data, member.size
      members[name] = f'{path}: {name}', functools.partial(_part_of_file, path, *where)
  return members


def _index_tgz(path, folders):
  members, kept = {}, _Kept()
  with gzip.open(path) as file:
    for name, member in _tar_members(path, file, folders):
      if member.size > LIMIT:
        raise InputError(f'{path}: {name} has more than {LIMIT >> 20} MiB')
      where = kept.add(file.read(member.size)), member.size
      members[name] = f'{path}: {name}', functools.partial(kept.open, *where)
    while file.read(2**20):  # To the end, where the checksum stands.
      pass
  return members


def _tar_members(path, file, folders) -> Iterator[tuple[str, tarfile.TarInfo]]:
  """Yields the members in `folders` as the file is read; it then stands at their content."""
  last = -1
  with tarfile.open(fileobj=file, mode='r:') as tar:
    for member in tar:
      name = _checked(path, member.name)
      if member.size < 0 or member.offset <= last:  # Would lead back, and round and round.
        raise tarfile.ReadError(f'{name} has {member.size} bytes')
      last = member.offset
      if member.isdir():
        continue
      if not member.isfile() or member.issparse():
        raise _refused(path, member.name, 'is a link or device')
      if _inside(name, folders):
        yield name, member
    # tarfile takes anything that is no header for the end, which is really a block of zeros.
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
      raise tarfile.ReadError(f'breaks off at byte {tar.offset}')


def _part_of_file(path, offset, size) -> BinaryIO:
  with open(path, 'rb') as file:
    file.seek(offset)
    return io.BytesIO(file.read(size))


class _Kept:
  """Contents in a temporary file, which goes with the last function that needs it."""

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


def _checked(path, name) -> str:
  """Returns the name of a member as `names` has it."""
  parts = [part for part in name.split('/') if part not in ('', '.')]
  if name.startswith('/') or '..' in parts:
    raise _refused(path, name, 'leads out of the archive')
  if not name.isprintable():
    raise _refused(path, ascii(name), 'has a name of other than letters')
  return '/'.join(parts if len(parts) > 1 else [path.stem, *parts])


def _refused(path, name, what) -> InputError:
  return InputError(
    f'{path}: the member {name} {what}, which no data set needs: this is not the original archive'
  )


def _words(error) -> str:
  return ' '.join(str(error).split())[:200] or type(error).__name__

"""Writes files and folders whole or not at all, and walks through folders."""

import codecs
import collections
import contextlib
import ctypes
import errno
import json
import os
import pathlib
import re
import signal
import threading
from typing import NamedTuple
import unicodedata

from dilated_jax.temporary import (
  COMPLETE,
  finish_replacement,
  name_beside,
  remove,
  temporary_file,
)


def decode_text(content: bytes) -> str:
  """Decodes a text in UTF-8, in UTF-16 as PowerShell writes it, or in the code page of Windows.

  Args:
    content: bytes of a text file, with or without a byte order mark.

  Raises:
    UnicodeError: this is no text.
  """
  encodings = ['utf-8-sig', 'cp1252']
  if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
    encodings = ['utf-32']
  elif content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    encodings = ['utf-16']
  elif b'\0' in content[:200]:  # Every second byte of English text, if there is no mark.
    encodings = ['utf-16-be' if content[:1] == b'\0' else 'utf-16-le']
  for encoding in encodings:
    with contextlib.suppress(UnicodeDecodeError):
      text = content.decode(encoding).replace('\ufeff', '')  # Also between texts put together.
      if all(map(_is_text, text)):
        return text
  raise UnicodeError('not text in UTF-8, UTF-16 or the code page of Windows')


_LARGEST = 1 << 24  # Bytes.


def read_small(path) -> bytes:
  """The content of a file that is small when it is ours: 16 MiB at most of a stranger's."""
  with open(path, 'rb') as file:
    return file.read(_LARGEST)


def decode_json(content: bytes | str):
  """Decodes JSON of anyone's.

  Raises:
    ValueError: it is none, or nested deeper than anything that is written here.
  """
  try:
    return json.loads(content)
  except RecursionError:
    raise ValueError('nested too deeply') from None


def _is_text(character: str) -> bool:
  invisible = unicodedata.category(character) == 'Cf'  # As in names of some scripts.
  return character.isprintable() or character.isspace() or invisible


# Folders and files that operating systems and notebooks leave behind, besides those with a dot.
_METADATA = ('__MACOSX', 'Thumbs.db', 'desktop.ini', '@eaDir')


_MOST_WAYS = 16


class Walk(NamedTuple):
  """What a walk through a folder found.

  Attributes:
    files: all files, sorted by path; metadata of operating systems and hidden files are left out.
    passed_over: (path, reason) of everything else that was not looked into.
  """

  files: tuple[pathlib.Path, ...]
  passed_over: tuple[tuple[pathlib.Path, str], ...]


def walk(folder) -> Walk:
  """Lists the files of a folder and its subfolders, through symbolic links too.

  A link back to a folder above it is not followed, nor are the ways to a folder beyond the first
  16: where folders link to each other, there are more than can be walked. A folder that can't be
  read does not end the walk: it is among `passed_over`, as are links to nothing.

  Args:
    folder: existing folder; the paths begin with it.
  """
  files, passed_over, visits = [], [], collections.Counter()

  def visit(path, above):
    identity = os.path.realpath(path)
    if identity in above:
      passed_over.append((path, 'a link back to a folder above it'))
      return
    visits[identity] += 1
    if visits[identity] > _MOST_WAYS:
      passed_over.append((path, f'links lead to this folder in over {_MOST_WAYS} ways'))
      return
    try:
      entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
      passed_over.append((path, f'can not be read ({error.strerror})'))
      return
    for entry in entries:
      if entry.name.startswith('.') or entry.name in _METADATA:
        continue
      inner = path / entry.name
      if entry.is_dir():
        visit(inner, {*above, identity})
      elif entry.is_file():
        files.append(inner)
      else:
        reason = 'a link to nothing' if entry.is_symlink() else 'neither file nor folder'
        passed_over.append((inner, reason))

  visit(pathlib.Path(folder), frozenset())
  return Walk(tuple(files), tuple(passed_over))


def write_atomic(path, content: bytes) -> None:
  """Writes a file atomically: a reader sees the old content or the new one, never a part.

  So does who looks after a power cut: the content is on disk before it gets its name.

  Args:
    path: file to write; missing parent folders are created.
    content: bytes to write.

  Raises:
    OSError: the folder can't be created or written to. An old file at `path` is untouched.
  """
  path = pathlib.Path(path)
  with temporary_file(path) as temporary:
    with naming(path), open(temporary, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)


def check_writable(folder) -> None:
  """Tries to write to a folder, before work whose results it is for; leaves nothing.

  Args:
    folder: if it is not there, the next one above it that is.

  Raises:
    OSError: nothing can be written there; it names `folder`.
  """
  path = pathlib.Path(folder).absolute()
  while not path.exists():
    path = path.parent
  try:
    if not path.is_dir():
      raise NotADirectoryError(errno.ENOTDIR, '')
    with temporary_file(path / 'results'):
      pass
  except OSError as error:
    raise OSError(error.errno, os.strerror(error.errno or 0), str(folder)) from error


@contextlib.contextmanager
def naming(path):
  """Puts the name of a file into errors of writing to it, which have none."""
  try:
    yield
  except OSError as error:
    if error.filename is None and error.errno is not None:
      error.filename = str(path)
    raise


@contextlib.contextmanager
def system_errors(path):
  """Turns what TensorStore tells of a full disk, among others, into the OSError that it was.

  Args:
    path: what is written, for the message.
  """
  try:
    yield
  except (ValueError, RuntimeError) as error:
    found = re.search(r"os_error_code='(\d+)'", str(error))
    if not found:
      raise
    number = int(found[1])
    raise OSError(number, os.strerror(number), str(path)) from error


def format_json(content: dict) -> bytes:
  """Formats a dict as JSON that people can read, with one line for each key.

  Args:
    content: values that `json` can serialize.

  Returns:
    the bytes of the JSON file.
  """
  lines = (f'  {json.dumps(key)}: {json.dumps(value)}' for key, value in content.items())
  return ('{\n' + ',\n'.join(lines) + '\n}\n').encode()


def replace_folder(new, target) -> None:
  """Renames the folder `new` to `target` and removes the old folder of that name, if any.

  Whoever is killed meanwhile, or loses power, leaves the old folder or the new one under that name.
  Where a file system can not exchange two names in one step, as NFS, there may be none for a
  moment; `temporary.finish_replacement` then finishes what was begun.

  Args:
    new: complete folder from `temporary.temporary_folder`.
    target: the new name.

  Raises:
    OSError: the old folder can't be moved; both folders are unchanged.
  """
  new, target = pathlib.Path(new), pathlib.Path(target)
  finish_replacement(target)
  sync_folder(new)
  if not target.exists():
    os.rename(new, target)
  elif not _exchange(new, target):
    new = _replace_in_steps(new, target)
  _sync(target.parent)  # Before the old folder goes.
  remove(new)


def _replace_in_steps(new: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
  """Replaces a folder where names can't be exchanged; returns where the old one is now."""
  complete, old = name_beside(target, COMPLETE), name_beside(target)
  remove(complete)
  os.rename(new, complete)
  try:
    os.rename(target, old)
  except OSError:
    os.rename(complete, new)
    raise
  finish_replacement(target)
  return old


def _exchange(one: pathlib.Path, other: pathlib.Path) -> bool:
  """Exchanges the names of two folders in one step; returns False where that is not possible."""
  library = ctypes.CDLL(None, use_errno=True)
  names = [os.fsencode(one), os.fsencode(other)]
  here, exchange = -100, 2  # AT_FDCWD; RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS.
  if hasattr(library, 'renameat2'):
    failed = library.renameat2(here, names[0], here, names[1], exchange)
  elif hasattr(library, 'renamex_np'):
    failed = library.renamex_np(*names, exchange)
  else:
    return False
  number = ctypes.get_errno()
  if failed and number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
    raise OSError(number, os.strerror(number), str(other))
  return not failed


def sync_folder(folder) -> None:
  """Waits until all that is in a folder is on disk."""
  for path, _, names in os.walk(folder):
    for name in names:
      _sync(os.path.join(path, name))
    _sync(path)


def _sync(path) -> None:
  """Waits until a file, or the names in a folder, are on disk."""
  try:
    handle = os.open(path, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
  except OSError as error:
    if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
      raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    # Others say that this file system can't, or that we may write but not read.


@contextlib.contextmanager
def defer_signals():
  """Delays Ctrl-C and SIGTERM until the end of the block.

  For writes that a library carries out in its own threads: these would go on after the exception,
  into files that are already being removed.
  """
  if threading.current_thread() is not threading.main_thread():  # Others never get signals.
    yield
    return
  pending = []
  handlers = {
    number: signal.signal(number, lambda number, _: pending.append(number))
    for number in (signal.SIGINT, signal.SIGTERM)
  }
  try:
    yield
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
    for number in pending:
      signal.raise_signal(number)

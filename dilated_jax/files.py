"""Writes files and folders whole or not at all, and walks through folders."""

import codecs
import collections
import contextlib
import json
import os
import pathlib
import shutil
import signal
import tempfile
import threading
from typing import NamedTuple
import unicodedata


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

  Args:
    path: file to write; missing parent folders are created.
    content: bytes to write.

  Raises:
    OSError: the folder can't be created or written to. An old file at `path` is untouched.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # In the same folder, because os.replace is atomic only within one file system.
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(content)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)  # mkstemp makes files private; results are for sharing.
    os.replace(name, path)
  except BaseException:
    os.unlink(name)
    raise


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

  Args:
    new: complete folder, on the same file system as `target`.
    target: the new name.

  Raises:
    OSError: the old folder can't be moved; both folders are unchanged.
  """
  new, target, old = pathlib.Path(new), pathlib.Path(target), None
  if target.exists():
    old = tempfile.mkdtemp(dir=target.parent, prefix=f'.{target.name}.')
    os.rename(target, old)  # Replaces the empty folder that mkdtemp made.
  os.rename(new, target)
  if old:
    shutil.rmtree(old, ignore_errors=True)


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

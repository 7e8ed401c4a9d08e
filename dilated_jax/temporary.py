"""Temporary files and folders, which the next process removes if the one that made them was killed.

A temporary has the name of what it will become, a dot in front and eight random letters behind, and
lies in the same folder, because renames are atomic only within one file system. The process that
made it holds a lock on it, which the system lets go when the process ends, however it ends: what
nobody holds is a leftover.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import re
import secrets
import shutil
import threading
import time

from dilated_jax import locks

COMPLETE = 'complete'  # Behind the name of a folder that only has to replace an older one.
_NAME = re.compile(rf'\.(.+)\.dilated_jax-([0-9a-f]{{8}}|{COMPLETE})', re.DOTALL)
_OLD = 24 * 3600  # Seconds; where a file system has no locks, older ones are leftovers.
_cleaned, _cleaning = set(), threading.Lock()


@contextlib.contextmanager
def temporary_file(target) -> Iterator[pathlib.Path]:
  """An empty file beside `target`; what is left of it at the end of the block is removed.

  Args:
    target: what the file will become; missing parent folders are created.

  Raises:
    OSError: the folder can't be created or written to; it names `target`, not the temporary.
  """
  with _made(target, _make_file) as temporary:
    yield temporary


@contextlib.contextmanager
def temporary_folder(target) -> Iterator[pathlib.Path]:
  """An empty folder beside `target`, as `temporary_file`."""
  with _made(target, _make_folder) as temporary:
    yield temporary


@contextlib.contextmanager
def _made(target, make):
  target = pathlib.Path(target)
  target.parent.mkdir(parents=True, exist_ok=True)
  _clean_once(target.parent)
  temporary = name_beside(target)
  try:
    lock = make(temporary)
    while not _lock(lock, temporary):  # Taken for a leftover before it was locked.
      os.close(lock)
      temporary = name_beside(target)
      lock = make(temporary)
    try:
      yield temporary
    finally:
      remove(temporary)
      if lock is not None:
        os.close(lock)
  except OSError as error:
    # The user knows the target. Names of files inside it follow it.
    for attribute in ('filename', 'filename2'):
      name = getattr(error, attribute)
      if isinstance(name, str) and name.startswith(str(temporary)):
        setattr(error, attribute, str(target) + name.removeprefix(str(temporary)))
    raise


def name_beside(target: pathlib.Path, state: str = '') -> pathlib.Path:
  """A name for a temporary that `remove_leftovers` knows; of its own, if no state is given."""
  return target.with_name(f'.{target.name}.dilated_jax-{state or secrets.token_hex(4)}')


def _make_file(path) -> int:
  return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # Less the umask.


def _make_folder(path) -> int | None:
  os.mkdir(path)
  return None if os.name == 'nt' else os.open(path, os.O_RDONLY)  # Windows opens no folders.


def _lock(handle: int | None, path) -> bool:
  """Locks what was just made; False if it was removed meanwhile."""
  if handle is None:
    return True
  try:
    if not locks.lock(handle):
      return False  # `remove_leftovers` has it, and is about to remove it.
  except OSError:  # No locks here, as for folders on NFS.
    return True
  return os.path.exists(path)


def _clean_once(folder: pathlib.Path) -> None:
  """Removes leftovers the first time that this process writes into a folder."""
  with _cleaning:
    key = os.path.realpath(folder)
    if key in _cleaned:
      return
    _cleaned.add(key)
  remove_leftovers(folder)


def remove_leftovers(folder) -> None:
  """Removes the temporaries in a folder whose processes have ended; never fails.

  Args:
    folder: existing folder; those below it are left alone.
  """
  with contextlib.suppress(OSError):
    for name in os.listdir(folder):
      if found := _NAME.fullmatch(name):
        if found[2] == COMPLETE:
          finish_replacement(pathlib.Path(folder, found[1]))
        _remove_leftover(os.path.join(folder, name))


def finish_replacement(target) -> None:
  """Finishes a `files.replace_folder` that was killed; for readers of folders that are replaced.

  Args:
    target: the folder; nothing is done if it is there, or if nothing was to replace it.
  """
  target = pathlib.Path(target)
  if not target.exists():
    with contextlib.suppress(OSError):
      os.rename(name_beside(target, COMPLETE), target)


def _remove_leftover(path) -> None:
  with contextlib.suppress(OSError):
    if os.name == 'nt':
      if _is_old(path):
        remove(path)
      return
    # To lock a file on NFS one must be allowed to write to it.
    writes = os.O_RDONLY if os.path.isdir(path) else os.O_RDWR
    handle = os.open(path, writes | os.O_NOFOLLOW)
    try:
      if locks.lock(handle):  # Its process has ended.
        remove(path)
    except OSError:
      if _is_old(path):
        remove(path)
    finally:
      os.close(handle)


def _is_old(path) -> bool:
  return time.time() - os.stat(path).st_mtime > _OLD


def remove(path) -> None:
  """Removes a file or a folder with all that is in it, if it is there; never fails."""
  if os.path.isdir(path) and not os.path.islink(path):
    shutil.rmtree(path, ignore_errors=True)
  else:
    with contextlib.suppress(OSError):
      os.unlink(path)

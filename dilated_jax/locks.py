"""Locks between processes, which end with the process that holds them however it ends.

They are those of `flock`: of a file or folder that processes on one host see, and on NFS of Linux
those on several hosts. A process that is started with the file open holds the lock too, until both
have ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import time

from dilated_jax.errors import InputError

try:
  import fcntl
except ImportError:  # Windows has none.
  fcntl = None


class NoLocks(InputError):
  """The system, or this file system, has no locks between processes."""


def lock(handle: int, *, shared: bool = False) -> bool:
  """Locks an open file or folder until it is closed; does not wait.

  Args:
    handle: its file descriptor.
    shared: whether others may hold it too, who share it as well.

  Returns:
    Whether it is locked now; if not, somebody else holds it.

  Raises:
    OSError: there are no locks here.
  """
  if fcntl is None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
  try:
    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
      return False
    raise
  return True


class Lock:
  """A lock on a file or an existing folder, held or not."""

  def __init__(self, path):
    """Names what is locked; a file is made when the lock is taken."""
    self.path = pathlib.Path(path)
    self.handle: int | None = None

  def take(self, *, shared: bool = False, patience: float = 0) -> bool:
    """Takes the lock, if it is free or gets free soon.

    Args:
      shared: as for `lock`.
      patience: seconds to wait for whoever holds it.

    Returns:
      Whether it is held now.

    Raises:
      NoLocks: there are none here.
      OSError: the file can't be made.
    """
    end = time.monotonic() + patience
    while self.handle is None:
      if self._try(shared):
        break
      if time.monotonic() >= end:
        return False
      time.sleep(0.02)
    return True

  def _try(self, shared: bool) -> bool:
    how = os.O_RDONLY if self.path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(self.path, how, 0o666)
    try:
      free = lock(handle, shared=shared)
    except OSError as error:
      os.close(handle)
      raise NoLocks(
        f'{self.path}: there are no locks between processes here ({error.strerror}): take a '
        'folder on another file system'
      ) from error
    if free:
      self.handle = handle
    else:
      os.close(handle)
    return free

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.release()

  def release(self) -> None:
    """Lets go of the lock; a process that was started with it holds it still."""
    if self.handle is not None:
      os.close(self.handle)
      self.handle = None

  def note(self, text: str) -> None:
    """Writes into the file who holds the lock."""
    assert self.handle is not None
    os.ftruncate(self.handle, 0)
    os.pwrite(self.handle, text.encode(), 0)

  def noted(self) -> str:
    """What `note` has written; '' if nothing."""
    with contextlib.suppress(OSError, UnicodeError):
      return self.path.read_text()[:200]
    return ''

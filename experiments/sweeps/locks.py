"""Locks between processes, which end with the process that holds them however it ends.

They are those of `flock`: of a file that processes on one host see, and on NFS of Linux those on
several hosts. A process that is started with the file open holds the lock too, until both have
ended.
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


class Lock:
  """A lock on a file, held or not."""

  def __init__(self, path):
    """Names the file; it is made when the lock is taken."""
    self.path = pathlib.Path(path)
    self.handle: int | None = None

  def take(self, shared: bool = False) -> bool:
    """Takes the lock if nobody holds it; does not wait.

    Args:
      shared: whether others may hold it too, who share it as well.

    Returns:
      Whether it is held now.

    Raises:
      InputError: there are no such locks here.
    """
    if self.handle is not None:
      return True
    if fcntl is None:
      raise InputError('sweep needs locks between processes, which this system does not have')
    handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
      fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
      os.close(handle)
      if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
        return False
      raise InputError(
        f'{self.path}: this file system has no locks between processes ({error.strerror}): take a '
        'workdir on another one'
      ) from error
    self.handle = handle
    return True

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


@contextlib.contextmanager
def held(path, seconds: float = 60.0):
  """Holds a lock, for `with`; waits for it.

  Raises:
    InputError: it is not free within these seconds.
  """
  lock, end = Lock(path), time.monotonic() + seconds
  while not lock.take():
    if time.monotonic() > end:
      raise InputError(f'{path}: another process has held this lock for {seconds:g} seconds')
    time.sleep(0.02)
  try:
    yield
  finally:
    lock.release()

"""A file of weights, mapped into memory: half a gigabyte is looked at without being read."""

import math
import mmap
import pathlib

import numpy as np

from dilated_jax.errors import InputError


class MappedFile:
  """A file as an array of bytes.

  Attributes:
    path: the file.
    size: its length in bytes.
    data: (size,) uint8, read-only; pages are read when they are looked at.
  """

  def __init__(self, path):
    """Maps a file.

    Args:
      path: the file.

    Raises:
      InputError: there is no such file, it is a folder or empty.
    """
    self.path = pathlib.Path(path)
    if self.path.is_dir():
      raise InputError(f'{path}: is a folder; name a file of weights')
    if not self.path.exists():
      raise InputError(f'{path}: no such file')
    self.size = self.path.stat().st_size
    if not self.size:
      raise self.fail('is empty; fetch it again')
    with self.path.open('rb') as file:
      self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    self.data = np.frombuffer(self._map, np.uint8)
    self._attached = []

  def fail(self, message: str) -> InputError:
    """The error that names this file, to be raised; names from a damaged file can be anything."""
    plain = ''.join(letter if letter.isprintable() else '?' for letter in message)
    return InputError(f'{self.path}: {plain if len(plain) < 600 else plain[:600] + " ..."}')

  def attach(self, path) -> 'MappedFile':
    """Maps another file, whose pages `release` lets go of as well; it may be deleted afterwards."""
    self._attached.append(MappedFile(path))
    return self._attached[-1]

  def release(self) -> None:
    """Lets go of the pages read so far; arrays stay valid, and read them again when looked at."""
    for other in self._attached:
      other.release()
    if hasattr(mmap, 'MADV_DONTNEED'):
      self._map.madvise(mmap.MADV_DONTNEED)

  def bytes(self, offset: int, length: int, what: str) -> bytes:
    """Copies out a short piece.

    Args:
      offset: first byte.
      length: number of bytes.
      what: name of the piece, for the error message.

    Raises:
      InputError: the file ends before it does.
    """
    return self.array(offset, (length,), np.uint8, what).tobytes()

  def array(self, offset: int, shape, dtype, what: str) -> np.ndarray:
    """Looks at a piece of the file as an array, without copying.

    Args:
      offset: first byte; need not be aligned.
      shape: of the array, C order.
      dtype: of the array, byte order included.
      what: name of the piece, for the error message.

    Raises:
      InputError: the file ends before it does.
    """
    dtype, shape = np.dtype(dtype), tuple(int(side) for side in shape)
    # Python's integers don't overflow, whatever the file claims.
    length = dtype.itemsize * math.prod(shape)
    if offset < 0 or min(shape, default=1) < 0 or offset + length > self.size:
      raise self.fail(
        f'{what} should have {length} bytes from byte {offset} on, and the file has {self.size}: '
        'it is cut short or damaged; fetch it again'
      )
    if not length:
      # NumPy refuses empty arrays with absurd other sides.
      raise self.fail(f'{what} is empty, of shape {shape}')
    return np.ndarray(shape, dtype, self._map, offset)

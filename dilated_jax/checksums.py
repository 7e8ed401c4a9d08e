"""Checksums of the files of a folder, which say later that none of them has changed.

They find what disks and copies do to files: a flipped bit, a lost end, a file that is missing. They
keep nobody out who changes files on purpose.
"""

from collections.abc import Collection, Iterator
import concurrent.futures
import contextlib
import os
import pathlib
import sys
import zlib

from dilated_jax.errors import InputError
from dilated_jax.files import decode_json, format_json, read_small, write_atomic

FILE = 'checksums.json'
_BLOCK = 1 << 18  # Bytes: what a core keeps close while it is read and summed up.


def write_checksums(folder, leave_out: Collection[str] = ()) -> None:
  """Writes `checksums.json` into a folder: the CRC-32 of every other file in it.

  Args:
    folder: existing folder, all of whose files are written.
    leave_out: names of files that may still change, by their path in the folder.

  Raises:
    OSError: a file can't be read, or `checksums.json` can't be written.
  """
  folder = pathlib.Path(folder)
  names = [name for name in _names(folder) if name not in leave_out]
  write_atomic(folder / FILE, format_json({name: _checksum(folder / name) for name in names}))


_ADVICE = f'copy it again, or if you have edited it, remove {FILE}'


def check_checksums(folder, names: Collection[str] | None = None, *, advice: str = _ADVICE) -> None:
  """Checks the files of a folder, if it has a `checksums.json`.

  Args:
    folder: existing folder.
    names: files to check, by their path in the folder; None for all.
    advice: what to do about a damaged file, for the message.

  Raises:
    InputError: names the first file that is missing or is not as it was written.
  """
  folder = pathlib.Path(folder)
  try:
    if not (folder / FILE).is_file():
      return  # Of an older version, or made by someone else.
    content = read_small(folder / FILE)
  except OSError:
    return
  try:
    expected = {name: int(value, 16) for name, value in decode_json(content).items()}
    written = format_json({name: f'{value:08x}' for name, value in expected.items()}) == content
  except (ValueError, AttributeError, TypeError):
    written = False
  if not written:
    raise InputError(f'{folder / FILE}: is damaged: not as it was written; {advice}')
  for name, value in expected.items():
    if names is not None and name not in names:
      continue
    if pathlib.PurePosixPath(name).is_absolute() or '..' in pathlib.PurePosixPath(name).parts:
      raise InputError(f'{folder / FILE}: names a file outside of its folder, {name}; {advice}')
    if not (folder / name).is_file():
      raise InputError(f'{folder / name}: is missing; {advice}')
    if int(_checksum(folder / name), 16) != value:
      raise InputError(f'{folder / name}: is damaged: not as it was written; {advice}')


@contextlib.contextmanager
def checked_meanwhile(folder, *, advice: str = _ADVICE) -> Iterator[None]:
  """Checks the files of a folder in another thread while the block reads them.

  That thread takes what the block leaves of the processor's cores: both together take less time
  than if it took its share.

  Raises:
    InputError: as `check_checksums`, in place of what the block raises of damaged files.
  """
  with concurrent.futures.ThreadPoolExecutor(1, initializer=_step_back) as pool:
    checked = pool.submit(check_checksums, folder, advice=advice)
    try:
      yield
    finally:
      checked.result()


def _step_back() -> None:
  if sys.platform == 'linux':  # Elsewhere the whole process would be meant.
    with contextlib.suppress(OSError):
      os.nice(10)


def _names(folder: pathlib.Path) -> list[str]:
  return sorted(
    pathlib.Path(path, name).relative_to(folder).as_posix()
    for path, _, names in os.walk(folder)
    for name in names
    if not (name.startswith('.') or (name == FILE and path == str(folder)))
  )


def _checksum(path) -> str:
  value, block = 0, memoryview(bytearray(_BLOCK))
  with open(path, 'rb', buffering=0) as file:
    while count := file.readinto(block):
      value = zlib.crc32(block[:count], value)
  return f'{value:08x}'

"""Workdirs in a bucket, gs://BUCKET/FOLDER: checkpoints there, everything else in a copy here.

Orbax reads and writes checkpoints in the bucket itself. The other files of a run need a file
system: lines that are added to, a data base, weights that are filled in piece by piece. They are
written to a copy in the cache folder of the user, which is taken from the bucket when the run
begins and carried back at each checkpoint and at the end.
"""

import importlib.util
import logging
import pathlib
import re
import tempfile
from typing import Any

from absl import logging as absl_logging

from dilated_jax import temporary
from dilated_jax.errors import InputError, first_line

from . import compilation_cache


def is_in_bucket(folder: str) -> bool:
  """Whether a folder is an address.

  Raises:
    InputError: it is one, but not of a bucket, or the package for buckets is missing.
  """
  if '://' not in folder:
    return False
  if not re.fullmatch('gs://[^/]+/.*[^/]/*', folder):
    raise InputError(f'--workdir={folder}: give a folder, or gs://BUCKET/FOLDER')
  if importlib.util.find_spec('gcsfs') is None:
    raise InputError(
      f"--workdir={folder}: buckets are read by gcsfs: pip install 'dilated_jax[gcs]'"
    )
  return True


class Copy:
  """The files of a workdir in a bucket, without its checkpoints, as a folder of this machine.

  Attributes:
    folder: of this machine, for one process.
  """

  def __init__(self, address: str, process: int):
    """Says where the copy is; nothing is in it yet.

    Args:
      address: gs://BUCKET/FOLDER.
      process: number of this process; each has a copy of its own.
    """
    self._address = address.rstrip('/')
    self._place = self._address.removeprefix('gs://')
    cache = compilation_cache.user_folder()
    root = cache.parent if cache else pathlib.Path(tempfile.gettempdir()) / 'dilated_jax'
    self.folder = root / 'workdirs' / f'process{process}' / self._place

  def fetch(self) -> None:
    """Takes the files of the workdir from the bucket, in place of what an earlier run left here.

    Raises:
      InputError: the bucket can't be read.
    """
    import gcsfs

    logging.getLogger('gcsfs').setLevel(logging.ERROR)  # It warns of buckets without an account.
    self.folder.mkdir(parents=True, exist_ok=True)
    for path in self.folder.iterdir():
      temporary.remove(path)
    try:
      self._files: Any = gcsfs.GCSFileSystem(use_listings_cache=False)
      self._files.info(self._place.partition('/')[0])  # Is there such a bucket?
      names = (path.removeprefix(f'{self._place}/') for path in self._files.find(self._place))
      for name in filter(_is_carried, names):
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        self._files.get_file(f'{self._place}/{name}', f'{self.folder / name}')
    except Exception as error:  # Of accounts, of networks, of buckets.
      raise InputError(
        f'--workdir={self._address}: can not be read: {first_line(error)}'
      ) from error
    self._carried = self._states()

  def carry_back(self) -> None:
    """Carries what has changed to the bucket; where that fails a warning says so."""
    now = self._states()
    changed = {name for name, state in now.items() if self._carried.get(name) != state}
    gone = self._carried.keys() - now.keys()
    # A weights folder is one that has a model.json: it is taken away first and put back last.
    models = {name for name in changed if name.endswith('model.json')}
    try:
      for name in gone | models & self._carried.keys():
        self._files.rm_file(f'{self._place}/{name}')
        del self._carried[name]
      for name in [*sorted(changed - models), *sorted(models)]:
        self._files.put_file(f'{self.folder / name}', f'{self._place}/{name}')
        self._carried[name] = now[name]
    except Exception as error:  # The next time may be better, and checkpoints are not concerned.
      absl_logging.warning('%s: not all was written: %s', self._address, first_line(error))

  def _states(self) -> dict[str, tuple[int, int]]:
    """Sizes and times of the files here, by name."""
    found = {}
    for path in self.folder.rglob('*'):
      name = path.relative_to(self.folder).as_posix()
      if path.is_file() and _is_carried(name):
        found[name] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


def _is_carried(name: str) -> bool:
  """Checkpoints are Orbax's, maps of a frozen front end are made anew, .names are half written."""
  _, *inner = parts = name.split('/')
  apart = inner[:1] in (['checkpoints'], ['features'])
  return bool(name) and not apart and not any(part.startswith('.') for part in parts)

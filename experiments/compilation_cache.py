"""Compiled programs, kept on disk from one command to the next by JAX's own cache.

JAX keys each program by its operations, the versions of JAX and XLA, their flags, and the device
with its features, instruction sets of a CPU included: what one machine compiled, another of a
different kind does not load. This file says where the cache is, keeps it small, and sees to it that
it never ends a command: an entry that can't be read is compiled anew and replaced.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import os
import pathlib
import re
import sys
import time
import warnings

from absl import flags, logging

from dilated_jax.errors import InputError

from . import path_flags

LIMIT = 1 << 30  # Bytes, beyond which the programs that were not used for longest are removed.
_BEING_WRITTEN = 60  # Seconds. Another process may not be done with an entry younger than that.
_CACHE = 'cache of compiled programs'
_REMEDY = 'compiled anew (--compilation_cache=FOLDER keeps them elsewhere, none nowhere)'
_ERROR = r"Error (reading|writing) persistent compilation cache entry for '(.+?)': (.*)"


def define_flag(values: flags.FlagValues) -> None:
  """Defines --compilation_cache, a flag of every command and of none in particular."""
  path_flags.define(
    'compilation_cache', None,
    'Folder of compiled programs, which make the next start quicker; none: keep none. Default: '
    'dilated_jax/compiled in the cache folder of the user, or what JAX_COMPILATION_CACHE_DIR says.',
    flag_values=values,
  )  # fmt: skip


def use(folder: str | None) -> None:
  """Has JAX keep compiled programs in a folder, in the commands that this one runs too.

  Args:
    folder: of the cache; 'none' for no cache; None for that of the user, unless JAX was told
      already where or whether to have one.

  Raises:
    InputError: it is a file, or no folder of this machine.
  """
  if folder == 'none':
    _tell_jax('enable_compilation_cache', False)
    return
  if folder is None and _is_told():
    _tell_once(os.environ.get('JAX_COMPILATION_CACHE_DIR', ''), lambda name: False)
    return
  place = pathlib.Path(folder) if folder else user_folder()
  if place is None:
    return
  if '://' in f'{folder}':
    raise InputError(f'--compilation_cache={folder}: give a folder of this machine, or none')
  if os.path.isfile(place):
    raise InputError(f'--compilation_cache={folder or place}: is a file; name a folder, or none')
  if any(os.path.isfile(parent) for parent in place.parents):  # JAX may say nothing of it.
    logging.warning('%s %s: is below a file; %s', _CACHE, place, _REMEDY)
    _tell_jax('enable_compilation_cache', False)
    return
  _tell_jax('compilation_cache_dir', f'{place.absolute()}')
  # Reading a program takes less time than compiling one of any size.
  _tell_jax('persistent_cache_min_compile_time_secs', 0.0)
  prune(place)
  # JAX would not write over an entry that it can't read.
  _tell_once(place, lambda name: _remove(place.glob(f'{name}-*-cache')))


@dataclasses.dataclass
class Programs:
  """Numbers of programs.

  Attributes:
    total: that were needed.
    cached: of these, that were in the cache.
  """

  total: int = 0
  cached: int = 0

  def __str__(self):
    plural = 's' * (self.total != 1)
    cached = f' ({self.cached} of them found in the cache)' if self.cached else ''
    return f'{self.total} program{plural} compiled{cached}'


@contextlib.contextmanager
def counted() -> Iterator[Programs]:
  """Counts the programs that JAX compiles, or finds in the cache, until the end of the block."""
  import jax.monitoring

  found = Programs()

  def compiled(event, *_, **__):
    found.total += event == '/jax/core/compile/backend_compile_duration'

  def cached(event, **_):
    found.cached += event == '/jax/compilation_cache/cache_hits'

  jax.monitoring.register_event_duration_secs_listener(compiled)
  jax.monitoring.register_event_listener(cached)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(compiled)
    jax.monitoring.unregister_event_listener(cached)


def user_folder() -> pathlib.Path | None:
  """Where programs are kept if nothing else is said; None for a user without a home folder."""
  try:
    home = pathlib.Path.home()
  except RuntimeError:
    return None
  folder = home / ('Library/Caches' if sys.platform == 'darwin' else '.cache')
  given = os.environ.get('LOCALAPPDATA' if os.name == 'nt' else 'XDG_CACHE_HOME', '')
  if os.path.isabs(given):  # Others are to be ignored, says the XDG specification.
    folder = pathlib.Path(given)
  return folder / 'dilated_jax' / 'compiled'


def prune(folder: pathlib.Path, limit: int = LIMIT) -> None:
  """Removes the programs that were not used for longest until half of the limit is left.

  JAX's own bound (`jax_compilation_cache_max_size`) needs another package and locks the folder for
  every program that is read.

  Args:
    folder: of the cache; may be missing.
    limit: in bytes; up to it nothing is removed.
  """
  with contextlib.suppress(OSError):  # Another process may have removed a file, or the folder.
    found = [(file, file.stat()) for file in folder.glob('*-cache')]
    size = sum(stat.st_size for _, stat in found)
    if size <= limit:
      return
    for file, stat in sorted(found, key=lambda entry: max(entry[1].st_atime, entry[1].st_mtime)):
      file.unlink(missing_ok=True)
      size -= stat.st_size
      if size <= limit // 2:
        return


def _is_told() -> bool:
  """Whether the user, or the command that started this one, has told JAX of a cache."""
  if {'JAX_COMPILATION_CACHE_DIR', 'JAX_ENABLE_COMPILATION_CACHE'} & os.environ.keys():
    return True
  jax = sys.modules.get('jax')
  return jax is not None and bool(jax.config.jax_compilation_cache_dir)


def _tell_jax(name: str, value) -> None:
  """Sets an option of JAX, for this process and those that it starts."""
  os.environ[f'JAX_{name.upper()}'] = f'{value}'.lower() if value is False else f'{value}'
  if 'jax' in sys.modules:  # It has read the environment.
    sys.modules['jax'].config.update(f'jax_{name}', value)


def _tell_once(folder: pathlib.Path | str, remove: Callable[[str], bool]) -> None:
  """Turns JAX's warnings of the cache, one or more a program, into one line altogether.

  JAX goes on without the cache.

  Args:
    folder: of the cache.
    remove: removes the entries of a name that can't be read; whether another process may be writing
      one, of which nothing needs to be told.
  """
  show, told = warnings.showwarning, []

  def show_once(message, *place, **options):
    found = re.match(_ERROR, f'{message}', re.DOTALL)
    if not found:
      show(message, *place, **options)
      return
    deed, name, reason = found.groups()
    if deed == 'reading' and remove(name):
      return
    if not told:
      told.append(name)
      logging.warning('%s %s: %s; %s', _CACHE, folder, ' '.join(reason.split())[:200], _REMEDY)

  warnings.filterwarnings('always', 'Error (reading|writing) persistent compilation cache')
  warnings.showwarning = show_once


def _remove(entries) -> bool:
  """Removes entries, but those that another process may be writing; whether there are such."""
  busy = False
  for file in entries:
    with contextlib.suppress(OSError):
      if file.stat().st_mtime > time.time() - _BEING_WRITTEN:
        busy = True
      else:
        file.unlink()
  return busy

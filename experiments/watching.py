"""Watches for files that are new or have changed, by looking again and again.

Looking works on every file system, network shares too, which tell nobody of new files.
"""

from collections.abc import Callable, Iterable, Iterator
import glob
import itertools
import os
import pathlib
import time

from dilated_jax.errors import InputError

_PAUSE = 1.0  # Seconds between two looks, at least.
_SHARE = 0.1  # Of the time that is spent looking, at most, where a folder is large or far away.


def watch(
  find: Callable[[], Iterable[pathlib.Path]], sleep: Callable[[float], object] = time.sleep
) -> Iterator[list[pathlib.Path]]:
  """Yields the files that are new or have changed since they were yielded, after each look.

  A file is yielded once it was the same in two looks one after the other and is not empty: nobody
  writes to it any more. (Who pauses longer than that in the middle of a file is noticed when he
  goes on: the file has changed.)

  Args:
    find: lists the files there are.
    sleep: waits for some seconds; what it raises ends the watch.
  """
  before, given = {}, {}
  while True:
    start = time.monotonic()
    now = {path: signature for path in find() if (signature := signature_of(path))}
    given = {path: given[path] for path in given if path in now}
    ready = [path for path in now if now[path] == before.get(path) != given.get(path)]
    given.update((path, now[path]) for path in ready)
    before, seconds = now, time.monotonic() - start
    yield ready
    sleep(max(_PAUSE, seconds / _SHARE))


def check(inputs: str, output) -> None:
  """Refuses to watch for files in a folder that is not there, or among one's own results.

  Args:
    inputs: files, folders and globs, separated by commas.
    output: folder of the results.

  Raises:
    InputError: names it.
  """
  output = pathlib.Path(output).resolve()
  for each in [inputs] if os.path.exists(inputs) else filter(None, inputs.split(',')):
    path = pathlib.Path(os.path.expanduser(each.strip()))
    if not path.exists() and glob.has_magic(each):
      fixed = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
      path = pathlib.Path(*fixed)
    if not path.exists():
      raise InputError(f'{path}: no such file or folder to watch')
    folder = (path if path.is_dir() else path.parent).resolve()
    if output in (folder, *folder.parents):
      raise InputError(
        f'{each.strip()}: lies in --output={output}, and results would be labeled too; choose '
        'another --output, such as a folder below it'
      )


def signature_of(path) -> tuple[int, int, int] | None:
  """What differs when a file has changed: its size, time and number; None if it is not there."""
  try:
    found = os.stat(path)
  except OSError:
    return None
  return (found.st_size, found.st_mtime_ns, found.st_ino) if found.st_size else None

"""Files are written whole or not at all."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import tempfile
import threading


def write_atomic(path, content: bytes) -> None:
  """Writes `content` to `path` so that a reader sees the old file or the new one, never a part.

  Args:
    path: file to write; its folder is made if it is missing.
    content: the bytes.

  Raises:
    OSError: the folder can't be made or written. The old file, if any, is untouched.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # The same folder, because os.replace is atomic only within one file system.
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(content)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)  # mkstemp makes private files; results are for sharing.
    os.replace(name, path)
  except BaseException:
    os.unlink(name)
    raise


def json_by_key(content: dict) -> bytes:
  """Packs a dict as JSON for people: one line a key.

  Args:
    content: what `json` can pack.

  Returns:
    the content of a file.
  """
  lines = (f'  {json.dumps(key)}: {json.dumps(value)}' for key, value in content.items())
  return ('{\n' + ',\n'.join(lines) + '\n}\n').encode()


def replace_folder(new, target) -> None:
  """Puts folder `new` in the place of `target`, by renaming; the old one, if any, is removed.

  Args:
    new: complete folder on the same file system.
    target: its name from now on.

  Raises:
    OSError: the old folder can't be moved; both are as they were.
  """
  new, target, old = pathlib.Path(new), pathlib.Path(target), None
  if target.exists():
    old = tempfile.mkdtemp(dir=target.parent, prefix=f'.{target.name}.')
    os.rename(target, old)  # An empty folder gives way.
  os.rename(new, target)
  if old:
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def uninterrupted():
  """Holds Ctrl-C and SIGTERM back until the end of the block, for writes that others carry out.

  Their threads would go on writing after the exception, into what is being cleared away.
  """
  if threading.current_thread() is not threading.main_thread():  # Others get no signals.
    yield
    return
  waiting = []
  before = {
    number: signal.signal(number, lambda number, _: waiting.append(number))
    for number in (signal.SIGINT, signal.SIGTERM)
  }
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    for number in waiting:
      signal.raise_signal(number)

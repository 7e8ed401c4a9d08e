"""Files are written whole or not at all."""

import os
import pathlib
import tempfile


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

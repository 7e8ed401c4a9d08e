"""Flag files: one --flag=value a line, # begins a comment, --flagfile includes another one.

`preset:NAME` is the one that comes with the project as presets/NAME.flags, wherever it is
installed. A file that is included is looked for beside the one that includes it.
"""

import difflib
import itertools
import os
import pathlib
import re

from dilated_jax.errors import InputError

PRESETS = pathlib.Path(__file__).parent / 'presets'


_MOST = 1000  # Inclusions: files that include others twice, and so on, would never end.


def expand(arguments, beside='.', including=(), count=None) -> list[str]:
  """Replaces each --flagfile by the flags in the file, in its place: what comes later wins.

  Args:
    arguments: of a command line or a flag file.
    beside: folder to which the names of files are relative.
    including: the files that are being read.
    count: of the inclusions so far.

  Raises:
    InputError: a file is missing, is not text, or includes itself.
  """
  result, rest, count = [], list(arguments), count or itertools.count()
  while rest:
    argument = rest.pop(0)
    if argument == '--':
      return [*result, argument, *rest]
    found = re.fullmatch('--?flagfile(?:=(.*))?', argument)
    if not found:
      result.append(argument)
      continue
    name = found[1] if found[1] is not None else rest.pop(0) if rest else ''
    if not name:
      raise InputError('--flagfile: name a file, or preset:NAME; dilated-jax presets lists those')
    path = locate('flagfile', name, beside).resolve()  # So that one file has one path.
    if path in including:
      raise InputError(f'--flagfile={name}: {path} includes itself')
    if next(count) >= _MOST:
      raise InputError(f'--flagfile={name}: flag files include each other over {_MOST} times')
    result += expand(_read(name, path), path.parent, (*including, path), count)
  return result


def locate(flag: str, name: str, beside='.') -> pathlib.Path:
  """The path of a flag file, or of a folder of them.

  Args:
    flag: that has the name as its value.
    name: a path, or `preset:` and the name of a preset: that of its file in presets/ without
      .flags, or of a folder there.
    beside: folder to which a path is relative.

  Raises:
    InputError: there is no such file, folder or preset; names the preset that is meant.
  """
  if not name.startswith('preset:'):
    path = (pathlib.Path(beside) / pathlib.Path(name).expanduser()).absolute()
    if not os.path.exists(path):  # Also of names that no file can have.
      raise InputError(f'--{flag}={name}: no such file or folder{_hint(name)}')
    return path
  wanted = name.removeprefix('preset:')
  paths = recipes() if flag == 'recipe' else presets()
  if wanted in paths:
    return paths[wanted]
  (near,) = difflib.get_close_matches(wanted, paths, 1, cutoff=0)
  raise InputError(
    f'--{flag}={name}: there is no such preset; did you mean preset:{near}? See dilated-jax presets'
  )


def _hint(name: str) -> str:
  """Which preset a path that is not there may mean: installed, they lie elsewhere."""
  stem = pathlib.PurePath(name.replace('\\', '/')).with_suffix('').as_posix()
  meant = [preset for preset in presets() | recipes() if f'/{stem}'.endswith(f'/{preset}')]
  if not meant:
    return '; dilated-jax presets lists those that come with the project'
  return f'; that of the project is preset:{max(meant, key=len)}, from any folder'


def presets() -> dict[str, pathlib.Path]:
  """The flag files that come with the project, by name."""
  files = sorted(PRESETS.rglob('*.flags'))
  return {file.relative_to(PRESETS).with_suffix('').as_posix(): file for file in files}


def recipes() -> dict[str, pathlib.Path]:
  """The folders of flag files for `compare`, by name."""
  files = sorted(PRESETS.rglob('common.flags'))
  return {file.parent.relative_to(PRESETS).as_posix(): file.parent for file in files}


def _read(name: str, path: pathlib.Path) -> list[str]:
  """The flags in a file."""
  try:
    lines = [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
  except OSError as error:
    raise InputError(f'--flagfile={name}: {error.strerror}') from error
  except UnicodeDecodeError as error:
    raise InputError(
      f'--flagfile={name}: is not text; a flag file holds one --flag=value a line'
    ) from error
  return [line for line in lines if line and not line.startswith(('#', '//'))]

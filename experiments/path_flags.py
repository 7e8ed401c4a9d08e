"""Flags that are paths. ~ is a home folder there, which shells leave alone in --flag=~/x."""

import os
from typing import Any

from absl import flags

from dilated_jax import files
from dilated_jax.errors import InputError

flags.disclaim_key_flags()  # They are flags of the command that calls these functions.


def define(name: str, default: str | None, help: str, **options: Any) -> None:
  """Defines a flag that is a path, or a pattern of paths.

  Args:
    name: of the flag.
    default: a path or None.
    help: for `--help`.
    **options: `flag_values`, `required`, as of `flags.DEFINE_string`.
  """
  flags.DEFINE(_Path(), name, default, help, serializer=flags.ArgumentSerializer(), **options)


def define_multi(name: str, default: list[str] | None, help: str, **options: Any) -> None:
  """The same for a flag that may be given several times."""
  flags.DEFINE_multi(_Path(), flags.ArgumentSerializer(), name, default, help, **options)


def define_list(name: str, default: list[str] | None, help: str, **options: Any) -> None:
  """The same for a flag of paths that are separated by commas."""
  flags.DEFINE(_Paths(), name, default, help, serializer=flags.CsvListSerializer(','), **options)


def define_inputs(name: str, default: str | None, help: str, **options: Any) -> None:
  """The same for one text of paths and patterns that are separated by commas."""
  flags.DEFINE(_Inputs(), name, default, help, serializer=flags.ArgumentSerializer(), **options)


def has_several_paths(flag: flags.Flag) -> bool:
  """Whether a flag is of several paths, separated by commas."""
  return isinstance(flag.parser, (_Paths, _Inputs))


def check_folder(values: flags.FlagValues, name: str, *, at_once: bool = False) -> None:
  """Refuses a folder that could not be written, before work whose results it is for.

  Args:
    values: the flags.
    name: of the flag, which may be left out.
    at_once: whether it is written before any work; then only its kind is checked.

  Raises:
    InputError: the flag names a file.
    OSError: nothing can be written there.
  """
  path = values[name].value
  if path and os.path.exists(path) and not os.path.isdir(path):
    raise InputError(f'--{name}={path}: is a file; name a folder')
  if path and not at_once:
    files.check_writable(path)


def check_file(values: flags.FlagValues, name: str) -> None:
  """Refuses a file that could not be written, before work whose results it is for.

  Raises:
    InputError: the flag names a folder.
    OSError: nothing can be written beside it.
  """
  for path in paths_of(values[name]):
    if os.path.isdir(path):
      raise InputError(f'--{name}={path}: is a folder; name a file')
    files.check_writable(os.path.dirname(path) or '.')


def paths_of(flag: flags.Flag) -> list[str]:
  """The paths that a flag was given, whether it takes one or several."""
  given = flag.value if isinstance(flag.value, list) else [flag.value]
  return [path for path in given if path]


class _Path(flags.ArgumentParser):
  syntactic_help = 'a path'

  def parse(self, argument: str) -> str:
    return _expanded(argument)

  def flag_type(self) -> str:
    return 'string'


class _Inputs(_Path):
  pass


class _Paths(flags.ListParser):
  def parse(self, argument):
    return [_expanded(path) for path in super().parse(argument)]


def _expanded(path: str) -> str:
  """The path with the home folder in place of ~.

  Raises:
    ValueError: it is empty, or begins with ~ and a name that no user has.
  """
  if not path.strip():
    raise ValueError('is empty; name a path, or leave the flag out')
  path = os.path.expanduser(path)
  if path.startswith('~'):
    raise ValueError('there is no such home folder; ./~... is a path that begins with ~')
  return path

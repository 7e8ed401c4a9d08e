"""Which settings a sweep tries: a grid on the command line, or a function in a file.

A space is a function of an optuna trial that returns flags by name. `--grid` becomes one too, so
that everything else knows only functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import pathlib
import re
import runpy
import traceback
from typing import Any, NamedTuple

from dilated_jax.errors import InputError, one_line

# name=value,value; a value in quotes may hold anything but that quote.
_ITEM = re.compile(r"""(\w+)=((?:"[^"]*"|'[^']*'|[^\s"'])*)(?=\s|$)\s*""")
_VALUE = re.compile(r"""((?:"[^"]*"|'[^']*'|[^,"'])*)(?:,|$)""")


class Space(NamedTuple):
  """The settings that there are.

  Attributes:
    function: of an optuna trial; returns values of flags by name.
    text: what defines it: when that changes, it is another sweep.
    where: what messages call it.
  """

  function: Callable[[Any], Mapping[str, Any]]
  text: str
  where: str

  def flags(self, trial) -> dict[str, str]:
    """The flags that a trial gets, as they are typed.

    Args:
      trial: of optuna.

    Raises:
      InputError: the function fails, or does not return flags; says where.
    """
    try:
      found = self.function(trial)
    except InputError:
      raise
    except Exception as error:  # Whatever the user's own function may raise.
      raise InputError(_told(self.where, error)) from error
    if not isinstance(found, Mapping) or not found:
      raise InputError(f'{self.where}: `space` must return flags by name, as {{"seed": 1}}')
    flags = {}
    for name, value in found.items():
      if not isinstance(name, str) or not re.fullmatch(r'[A-Za-z]\w*', name):
        raise InputError(f'{self.where}: {name!r} is no name of a flag')
      if value is not None:
        flags[name] = typed(value)
    return flags


def typed(value) -> str:
  """The value of a flag as it is typed: true, 0.001, a,b."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, (list, tuple)):
    return ','.join(map(typed, value))
  return str(value)


def of_grid(text: str) -> Space:
  """The space of `--grid`, whose values are choices without an order.

  Args:
    text: 'learning_rate=1e-3,1e-4 stage="front_end,context",joint': flags with spaces between,
      values with commas between; quotes keep commas and spaces within a value.

  Raises:
    InputError: it is something else.
  """
  choices: dict[str, list[str]] = {}
  text, at = text.strip(), 0
  while at < len(text):
    found = _ITEM.match(text, at)
    if not found:
      raise InputError(
        f'--grid: {text[at:].split()[0]!r}: write NAME=VALUE,VALUE, with spaces between flags; a '
        'value with commas or spaces stands in quotes, as in stage="front_end,context",joint'
      )
    name, at = found[1], found.end()
    if name in choices:
      raise InputError(f'--grid: {name} is there twice; give its values once, with commas between')
    choices[name] = _values(name, found[2])
  if not choices:
    raise InputError('--grid names no flag; write NAME=VALUE,VALUE')
  lines = ' '.join(f'{name}={values}' for name, values in choices.items())

  def function(trial):
    return {name: trial.suggest_categorical(name, values) for name, values in choices.items()}

  return Space(function, lines, '--grid')


def _values(name: str, text: str) -> list[str]:
  values, at = [], 0
  while at <= len(text):
    found = _VALUE.match(text, at)
    assert found, text
    raw = found[1]
    value = re.sub(r"""(["'])(.*?)\1""", r'\2', raw)
    if not raw:
      raise InputError(f'--grid: {name}={text}: a value is empty; {name}="" means an empty one')
    if value in values:
      raise InputError(f'--grid: {name} has {value!r} twice')
    values.append(value)
    at = found.end() + (found.end() == len(text) and not found[0].endswith(','))
  return values


def of_file(path) -> Space:
  """The space of `--space`, a Python file with a function `space(trial)`; the file is executed.

  Raises:
    InputError: there is no such file, it fails, or it has no such function.
  """
  path = pathlib.Path(path)
  try:
    text = path.read_text(encoding='utf-8')
  except OSError as error:
    raise InputError(f'--space={path}: {error.strerror}') from error
  except UnicodeDecodeError as error:
    raise InputError(f'--space={path}: is not text; give a Python file') from error
  try:
    found = runpy.run_path(str(path))
  except Exception as error:  # Whatever the user's own file may raise.
    raise InputError(f'--space={_told(str(path), error)}') from error
  function = found.get('space')
  if not callable(function):
    raise InputError(f'--space={path}: has no function `space(trial)` that returns flags by name')
  return Space(function, text, str(path))


def _told(path: str, error: Exception) -> str:
  """What went wrong in which line of a user's file."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == path]
  line = lines[-1] if lines else getattr(error, 'lineno', None)
  where = f'{path}: line {line}' if line else path
  return f'{where}: {type(error).__name__}: {one_line(error)}'

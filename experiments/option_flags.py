"""Flags derived from dataclasses of options, and the dataclasses that given flags make.

  option_flags.define_flags(StageConfig, values)
  config = option_flags.from_flags(StageConfig, values, stage='front_end')

Name, type, default, help, choices and bounds of a flag are those of the field, see
`dilated_jax.options`. Flags count as those of the module that calls this one, so that its --help
lists them.
"""

from collections.abc import Iterator
from typing import Any

from absl import flags

from dilated_jax.errors import InputError
from dilated_jax.options import Option, Options, describe, nested

from . import cli, path_flags

flags.disclaim_key_flags()


def define_flags(cls: type[Options], values: flags.FlagValues, **defaults: Any) -> None:
  """Defines a flag for each option of a dataclass, and of those that it contains.

  Args:
    cls: the dataclass.
    values: where to define them.
    **defaults: of options by name, where they are not the dataclass's.
  """
  for option in options_of(cls):
    define_flag(option, values, defaults.get(option.name, option.default))


def define_flag(option: Option, values: flags.FlagValues, default: Any) -> None:
  """Defines the flag of one option, if it has one.

  Args:
    option: from `describe`.
    values: where to define it.
    default: of the flag; None where it shall not have one.
  """
  if not option.flag:
    return
  name, help, into = flag_name(option), option.help, {'flag_values': values}
  if _is_list(option):
    if option.choices:
      help = f'{help.rstrip(".")}: {", ".join(option.choices)}.'
    flags.DEFINE_list(name, None if default is None else _texts(option, default), help, **into)
  elif option.choices:
    flags.DEFINE_enum(name, default, option.choices, help, **into)
  elif option.type is bool:
    flags.DEFINE_bool(name, default, help, **into)
  elif option.path:
    path_flags.define(name, default, help, **into)
  elif option.type is str:
    flags.DEFINE_string(name, default, help, **into)
  else:
    # Bounds that are no values themselves are left to `check`.
    low = option.above if option.low is None else option.low
    high = option.below if option.high is None else option.high
    define = flags.DEFINE_integer if option.type is int else flags.DEFINE_float
    define(name, default, help, low, high, **into)


def from_flags(
  cls: type[Options], values: flags.FlagValues, *, index: int = 0, count: int = 1, **given: Any
) -> Any:
  """Makes a dataclass of options, and those that it contains, from flags.

  Args:
    cls: the dataclass.
    values: the flags.
    index: which stage it is for, of options that each stage may have for itself.
    count: the number of stages.
    **given: values of fields, instead of flags.

  Returns:
    The dataclass.

  Raises:
    InputError: a flag has a value that its option can't have; names the flag.
  """
  for name, inner in nested(cls).items():
    if name not in given:
      given[name] = from_flags(inner, values, index=index, count=count)
  for name, option in describe(cls).items():
    if option.flag and name not in given:
      given[name] = read_flag(option, values, index, count)
  return cls(**given)


def read_flag(option: Option, values: flags.FlagValues, index: int = 0, count: int = 1) -> Any:
  """The value of an option that its flag states, checked; None where it states none.

  Raises:
    InputError: the option can't have this value; names the flag.
  """
  name = flag_name(option)
  value = values[name].value
  if value is None or (value == [] and option.optional):
    return None
  if not _is_list(option):
    return cli.parsed(name, value, option.check)
  parse = cli.size if option.size else option.parse
  found = [cli.parsed(name, text, parse) for text in value]
  if not option.per_stage:
    if option.length and len(found) != option.length:
      raise InputError(f'--{name} has {len(found)} values; give {option.length}')
    return option.check(found)
  if len(found) not in (1, count):
    stages, ways = ('1 stage', '1') if count == 1 else (f'{count} stages', f'1 or {count}')
    raise InputError(f'--{name} has {len(found)} values for {stages}; give {ways}')
  return found[index if len(found) > 1 else 0]


def flag_names(cls: type[Options]) -> list[str]:
  """The flags of a dataclass."""
  return [flag_name(option) for option in options_of(cls) if option.flag]


def flag_name(option: Option) -> str:
  """The flag of an option, without the dashes."""
  return option.flag if isinstance(option.flag, str) else option.name


def options_of(cls: type[Options]) -> Iterator[Option]:
  """The options of a dataclass and of those that it contains."""
  yield from describe(cls).values()
  for inner in nested(cls).values():
    yield from options_of(inner)


def _is_list(option: Option) -> bool:
  """Whether the flag has several values, separated by commas."""
  return option.per_stage or option.length is not None


def _texts(option: Option, default: Any) -> list[str]:
  """A default as the values of a list flag."""
  if option.size:
    height, width = default
    return [f'{height}' if height == width else f'{height}x{width}']
  return [f'{value}' for value in (default if option.length is not None else (default,))]

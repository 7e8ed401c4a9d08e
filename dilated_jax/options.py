"""Options as fields of frozen dataclasses, from which checks, flags and JSON are derived.

  @dataclasses.dataclass(frozen=True)
  class ContextOptions(Options):
    context: Literal['none', 'basic', 'large'] = option('none', 'Context module.')
    dilations: tuple[int, ...] | None = option(None, 'Dilations of its layers.', low=1)

Name, type and default of an option are those of its field; what else there is to say about it
stands in the field's metadata. `ContextOptions(context='huge')` raises an `InputError` that names
the argument. `describe` lists the options of a class, for the command line and for messages.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math
import numbers
import types
import typing
from typing import Any

from dilated_jax.errors import InputError

_NOUNS = {
  bool: ('true or false', 'truth values'),
  int: ('a whole number', 'whole numbers'),
  float: ('a number', 'numbers'),
  str: ('text', 'texts'),
}


def option(
  default: Any,
  help: str,
  *,
  choices: Sequence[str] = (),
  low: float | None = None,
  high: float | None = None,
  above: float | None = None,
  below: float | None = None,
  flag: str | bool = True,
  size: bool = False,
  path: bool = False,
  per_stage: bool = False,
  may_change: bool = False,
) -> Any:
  """Declares a field of a dataclass as an option.

  Args:
    default: its value unless another is given; `dataclasses.MISSING` where one must be given.
    help: one sentence, for `--help`.
    choices: the values that it can have, where its type does not state them by `Literal`.
    low: the smallest value; of a tuple, the smallest of its values.
    high: the largest value.
    above: a bound that all values exceed.
    below: a bound that no value reaches.
    flag: the name of its flag where that is another than the field's; False: it has none.
    size: whether it is a height and a width, written HxW.
    path: whether it is the path of a file or folder.
    per_stage: whether each stage of training can have a value of its own.
    may_change: whether a run of training can be continued with another value.

  Returns:
    A `dataclasses.field`.
  """
  metadata = dict(
    help=help, choices=tuple(choices), low=low, high=high, above=above, below=below,
    flag=flag, size=size, path=path, per_stage=per_stage, may_change=may_change,
  )  # fmt: skip
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Option:
  """What there is to say about one option; see `option` for what is not explained here.

  Attributes:
    name: of the field and of the argument.
    type: bool, int, float or str; of a tuple, the type of its values.
    length: of a tuple; 0 if any, None if it is not a tuple.
    optional: whether None is a value too.
  """

  name: str
  type: type
  length: int | None
  optional: bool
  default: Any
  help: str
  choices: tuple[str, ...]
  low: float | None
  high: float | None
  above: float | None
  below: float | None
  flag: str | bool
  size: bool
  path: bool
  per_stage: bool
  may_change: bool

  def check(self, value: Any) -> Any:
    """The value in its declared type: lists become tuples, and whole numbers floats.

    Raises:
      ValueError: the option can't have this value; says which it can have.
    """
    if value is None and self.optional:
      return None
    if self.length is None:
      return self._check_one(value, 'must be')
    _, several = _NOUNS[self.type]
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
      raise ValueError(f'must be a sequence of {several}')
    if len(value) > _LONGEST:
      raise ValueError(f'must be at most {_LONGEST} {several}')
    if self.length and len(value) != self.length:
      raise ValueError(f'must be {self.length} {several}')
    return tuple(self._check_one(one, 'each must be') for one in value)

  def parse(self, text: str) -> Any:
    """One value from text, checked.

    Raises:
      ValueError: as `check`.
    """
    if self.type not in (int, float):
      return self._check_one(text, 'must be')
    try:
      number = self.type(text)
    except ValueError:
      one, _ = _NOUNS[self.type]
      raise ValueError(f'must be {one}') from None
    return self._check_one(number, 'must be')

  def _check_one(self, value, must: str):
    kind = {bool: bool, int: numbers.Integral, float: numbers.Real, str: str}[self.type]
    fits = isinstance(value, kind) and (self.type is bool or not isinstance(value, bool))
    if self.choices and not (fits and value in self.choices):
      *most, last = self.choices
      raise ValueError(f'choose {", ".join(most)} or {last}')
    if not fits or (self.type is float and not _is_finite(value)):
      one, _ = _NOUNS[self.type]
      raise ValueError(f'{must} {one}')
    if not self._within_bounds(value):
      bounds = {
        f'{self.low} or more': self.low, f'above {self.above}': self.above,
        f'at most {self.high}': self.high, f'below {self.below}': self.below,
      }  # fmt: skip
      words = [words for words, bound in bounds.items() if bound is not None]
      raise ValueError(f'{must} {" and ".join(words)}')
    return self.type(value)

  def _within_bounds(self, value) -> bool:
    return (
      (self.low is None or value >= self.low)
      and (self.above is None or value > self.above)
      and (self.high is None or value <= self.high)
      and (self.below is None or value < self.below)
    )


_LONGEST = 1000  # Values of a tuple: what says more would take hours to make.


def _is_finite(value) -> bool:
  try:
    return math.isfinite(value)
  except OverflowError:  # A whole number beyond all floats.
    return False


@dataclasses.dataclass(frozen=True)
class Options:
  """Base class of dataclasses of options: their values are checked when one is made."""

  def __post_init__(self):
    for name, about in describe(type(self)).items():
      value = getattr(self, name)
      try:
        value = about.check(value)
      except ValueError as error:
        raise InputError(f'{name} is {value!r}; {error}') from error
      object.__setattr__(self, name, value)  # Frozen for everyone else.

  def changes(self, defaults: 'Options') -> dict[str, Any]:
    """The options that are not those of `defaults`, by name; `json.dumps` can write them."""
    return {
      name: getattr(self, name)
      for name in describe(type(self))
      if getattr(self, name) != getattr(defaults, name)
    }


@functools.cache
def describe(cls: type[Options]) -> dict[str, Option]:
  """The options of a dataclass by name, without those of dataclasses that it contains."""
  hints = typing.get_type_hints(cls)
  found = {}
  for field in dataclasses.fields(cls):
    if field.metadata:
      kind, length, optional, choices = _analyze(hints[field.name])
      metadata = {**field.metadata, 'choices': choices or field.metadata['choices']}
      found[field.name] = Option(field.name, kind, length, optional, field.default, **metadata)
  return found


@functools.cache
def nested(cls: type[Options]) -> dict[str, type[Options]]:
  """The fields of a dataclass that are dataclasses of options, by name."""
  hints = typing.get_type_hints(cls)
  return {
    field.name: hints[field.name]
    for field in dataclasses.fields(cls)
    if isinstance(hints[field.name], type) and issubclass(hints[field.name], Options)
  }


def _analyze(hint) -> tuple[type, int | None, bool, tuple[str, ...]]:
  """Type, length, optional and choices of an `Option` from its annotation.

  >>> _analyze(tuple[int, ...] | None)
  (<class 'int'>, 0, True, ())
  >>> _analyze(typing.Literal['small', 'large'])
  (<class 'str'>, None, False, ('small', 'large'))
  """
  union = typing.get_origin(hint) in (types.UnionType, typing.Union)
  kinds = typing.get_args(hint) if union else (hint,)
  (kind,) = (kind for kind in kinds if kind is not types.NoneType)
  optional = types.NoneType in kinds
  if typing.get_origin(kind) is typing.Literal:
    return str, None, optional, typing.get_args(kind)
  if typing.get_origin(kind) is tuple:
    values = typing.get_args(kind)
    return values[0], 0 if values[-1] is Ellipsis else len(values), optional, ()
  return kind, None, optional, ()

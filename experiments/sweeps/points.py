"""Points of a space: all of them in order, one that is chosen, and one that a file tells of."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any, NamedTuple
import warnings

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from dilated_jax.errors import InputError

from .space import Space

_MOST = 100_000

optuna.logging.set_verbosity(optuna.logging.ERROR)  # A sweep tells of its trials itself.


class Point(NamedTuple):
  """One choice of all settings.

  Attributes:
    params: the values, by the name that the function of the space gave them.
    distributions: what they were chosen from.
    flags: what the function made of them.
  """

  params: dict[str, Any]
  distributions: dict[str, BaseDistribution]
  flags: dict[str, str]


def grid(space: Space) -> list[Point]:
  """All points of a space, in the order of an odometer: the setting asked last turns fastest.

  Raises:
    InputError: a setting has no steps, so that there are infinitely many, or there are too many.
  """
  found: list[Point] = []
  sampler = _InOrder()
  study = optuna.create_study(sampler=sampler)
  while True:
    found.append(ask(space, study))
    if len(found) > _MOST:
      raise InputError(f'{space.where} has more than {_MOST:,} points; take --search=random')
    if not sampler.advance():
      return found


def ask(space: Space, study: optuna.Study) -> Point:
  """The next point that the sampler of a study chooses; the study has one more trial then."""
  trial = study.ask()
  flags = space.flags(trial)
  return Point(dict(trial.params), dict(trial.distributions), flags)


def again(space: Space, params: dict, distributions: dict | None = None) -> Point:
  """A point that was chosen before, of which a file tells.

  A file may be anybody's: what is not a point of the space is refused, so that no file can give a
  command flags that its user has not asked for.

  Args:
    space: as it was then.
    params: of the point.
    distributions: of the point, if they are told.

  Raises:
    InputError: the space has no such point.
  """
  trial = optuna.trial.FixedTrial(params)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Of values out of range, which are refused below.
      flags = space.flags(trial)
  except InputError as error:  # It asks for other settings.
    raise InputError(f'{space.where} has no point {params}') from error
  here = trial.distributions
  other = here.keys() != params.keys() or distributions not in (None, here)
  if other or not all(_holds(here[name], params[name]) for name in here):
    raise InputError(f'{space.where} has no point {params}')
  return Point(dict(params), dict(here), flags)


def _holds(distribution: BaseDistribution, value) -> bool:
  if isinstance(distribution, CategoricalDistribution):
    return value in distribution.choices
  return math.isfinite(value) and distribution.low <= value <= distribution.high


class _InOrder(optuna.samplers.BaseSampler):
  """Chooses the points one after the other."""

  def __init__(self):
    self._start: list[int] = []
    self._asked: list[tuple[int, int]] = []

  def infer_relative_search_space(self, study, trial):
    return {}

  def sample_relative(self, study, trial, search_space):
    return {}

  def sample_independent(self, study, trial, param_name, param_distribution):
    options = _options(param_name, param_distribution)
    place = len(self._asked)
    index = self._start[place] if place < len(self._start) else 0
    self._asked.append((index, len(options)))
    return options[index]

  def advance(self) -> bool:
    """Turns to the next point; False after the last."""
    asked, self._asked = self._asked, []
    while asked and asked[-1][0] + 1 == asked[-1][1]:
      asked.pop()
    if not asked:
      return False
    self._start = [index for index, _ in asked]
    self._start[-1] += 1
    return True


def _options(name: str, distribution) -> Sequence:
  """The values of a setting."""
  if isinstance(distribution, CategoricalDistribution):
    return distribution.choices
  low, high, step = distribution.low, distribution.high, distribution.step
  if step is None:
    raise InputError(
      f'--search=grid: {name} has no steps between {low:g} and {high:g}: give suggest_float a '
      '`step`, or take --search=random or tpe'
    )
  kind = type(low)
  return [kind(f'{low + index * step:.12g}') for index in range(round((high - low) / step) + 1)]

"""The command behind `--`: one of the project's own, checked before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
import importlib
import pathlib
import re
from typing import NamedTuple

from absl import flags

from dilated_jax.errors import InputError

from .. import cli, commands, comparison_records, compilation_cache, flag_files

_PACKAGE = __package__.rpartition('.')[0]


class Kind(NamedTuple):
  """A command that can be a trial.

  Attributes:
    output: its flag that says where results go; each trial has a place of its own.
    results: their file within the folder of a trial; '' where the folder is meant.
    scores: the file with what is measured, within that folder.
    metric: what is measured if nothing else is asked for.
    direction: whether it is to become large or small.
  """

  output: str
  results: str
  scores: str
  metric: str
  direction: str


KINDS = {
  'train': Kind('workdir', '', 'metrics.jsonl', 'val_mean_iou', 'maximize'),
  'evaluate': Kind('output', 'scores.json', 'scores.json', 'mean_iou', 'maximize'),
  'wavenet': Kind('output', '', 'results.json', 'bits_per_sample', 'minimize'),
}


class Command(NamedTuple):
  """A command, as it stands behind `--`.

  Attributes:
    name: of the command.
    arguments: its flags, those of flag files in their place.
  """

  name: str
  arguments: tuple[str, ...]

  @property
  def kind(self) -> Kind:
    return KINDS[self.name]

  def line(self, folder: pathlib.Path, given: dict[str, str]) -> list[str]:
    """The arguments of a trial.

    Args:
      folder: of the trial.
      given: its flags, by name; they overrule those of the command.
    """
    place = f'--{self.kind.output}={folder / self.kind.results}'
    return [*self.arguments, *(f'--{name}={value}' for name, value in given.items()), place]

  def check(self, given: dict[str, str]) -> flags.FlagValues:
    """Refuses what the command itself would refuse.

    Args:
      given: flags of a trial, by name.

    Returns:
      the flags as the command reads them.

    Raises:
      InputError: a flag is unknown, has a value that it can't have, or is one that each trial has
        for itself.
    """
    for name in given:
      self._check_name(name)
    values = self._parse(self.line(pathlib.Path('trial'), given))
    if self.name == 'train':
      try:
        _check_training(values)
      except InputError as error:
        raise InputError(cli.as_typed(str(error), values)) from error
    return values

  def record(self) -> dict:
    """What makes it another command: not where data is and how often it reports."""
    return comparison_records.record(self.name, self.arguments)['flags']

  def stages(self, given: dict[str, str]) -> list[str]:
    """The stages of a training, in order; other commands have none."""
    return list(self.check(given).stage) if self.name == 'train' else []

  def _check_name(self, name: str) -> None:
    if name == self.kind.output:
      raise InputError(f'--{name} is not for {self.name} here: each trial gets its own folder')
    if name in ('distributed', 'coordinator', 'processes', 'process'):
      raise InputError(f'--{name} is not for {self.name} here: give it to sweep, before the --')

  def _parse(self, arguments: Sequence[str]) -> flags.FlagValues:
    module = importlib.import_module(f'{_PACKAGE}.{self.name}')
    values = flags.FlagValues()
    module.define_flags(values)
    compilation_cache.define_flag(values)
    # JAX's own flags are left to it.
    known = [each for each in arguments if not re.match('--?(no)?jax_', each)]
    try:
      rest = values([self.name, *known])[1:]
    except flags.Error as error:
      text = str(error).removeprefix('ERROR:: ').rstrip(' .?')
      raise InputError(f'{self.name}: {text}; see {commands.typed(self.name)} --help') from error
    if rest:
      raise InputError(f'{self.name}: unexpected argument {rest[0]!r}: every option is a --flag')
    return values


def parse(words: Sequence[str]) -> Command:
  """The command behind `--`.

  Raises:
    InputError: there is none, it can't be swept, or it refuses its flags.
  """
  if not words:
    raise InputError(
      'name the command behind --, as in: sweep --grid=... --workdir=... -- train --dataset=scenes'
    )
  name, *arguments = words
  if name not in KINDS:
    what = 'leaves no single score' if name in commands.names() else 'is no command'
    raise InputError(f'{name}: {what}; sweep runs {", ".join(KINDS)}')
  command = Command(name, tuple(flag_files.expand(arguments)))
  for argument in command.arguments:
    command._check_name(re.sub('^--?', '', argument).partition('=')[0])
  return command


def _check_training(values) -> None:
  """What train refuses before it has read any data."""
  from dilated_jax import models, training

  from .. import networks, train

  configs = train.stage_configs(values)
  network = dict(model=values.model, options=networks.options(values))
  models.create(values.model, 2, **network['options'])
  spec = models.ModelSpec(**network, classes=('a', 'b'), palette=((0, 0, 0),) * 2, mean=(0.0,) * 3)
  for config in configs:
    training.loop.check_sizes(config, spec)

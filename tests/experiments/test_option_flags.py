"""option_flags.py: flags of the options of training and networks, their help, and wrong values."""

import dataclasses
import re
import subprocess
import sys

from absl import flags
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.options import Options, describe, option
from dilated_jax.training.config import StageConfig
from experiments import explore, networks, option_flags, train
from tests import calling

STAGE = [found for found in option_flags.options_of(StageConfig) if found.flag]
NETWORK = [found for found in models.registry.all_options().values() if found.flag]


def ids(found):
  return found.name


def parsed(*arguments):
  return calling.parsed(train, '--workdir=run', *arguments)


def text_and_value(found):
  """Another value than the default, as it is typed and as it is read."""
  if found.size:
    return '16x32', (16, 32)
  if found.choices:
    return (found.choices[-1],) * 2
  if found.type is bool:
    return str(not found.default), not found.default
  if found.name == 'lr_multipliers':
    return 'fc8:10,fc*:0.5', ('fc8:10', 'fc*:0.5')
  if found.type is str:
    return '/tmp/x', '/tmp/x'
  value = found.type(found.default / 2 or 0.5) if found.type is float else found.default + 1
  if found.length:
    return ','.join([str(value := 1.25)] * found.length), (value,) * found.length
  return str(value), value


def value_in(config, name):
  for part in (config, config.optimizer, config.augmentation):
    if hasattr(part, name):
      return getattr(part, name)
  raise AssertionError(name)


def configs_of(values):
  """The stages as the flags say, read or not."""
  names = values.stage
  return [
    option_flags.from_flags(StageConfig, values, index=index, count=len(names), stage=name)
    for index, name in enumerate(names)
  ]


@pytest.mark.parametrize('found', STAGE, ids=ids)
def test_options_of_stages(found):
  if found.length and not found.size:
    text, value = '0.5,1.5', (0.5, 1.5)
  else:
    text, value = text_and_value(found)
  flag = option_flags.flag_name(found)
  (config,) = configs_of(parsed(f'--{flag}={text}'))
  assert value_in(config, found.name) == value
  (plain,) = configs_of(parsed())
  assert value_in(plain, found.name) == found.default != value
  two = ['--stage=front_end,context']
  if found.per_stage:
    default = option_flags._texts(found, found.default)[0]
    configs = configs_of(parsed(*two, f'--{flag}={default},{text}'))
    assert [value_in(config, found.name) for config in configs] == [found.default, value]
    with pytest.raises(InputError, match=f'^--{flag} has 3 values for 2 stages; give 1 or 2$'):
      configs_of(parsed(*two, f'--{flag}={text},{text},{text}'))
  else:
    configs = configs_of(parsed(*two, f'--{flag}={text}'))
    assert [value_in(config, found.name) for config in configs] == [value, value]


@pytest.mark.parametrize('found', [*STAGE, *NETWORK], ids=ids)
def test_wrong_values_name_the_flag(found):
  if found.type is str and not found.choices:
    return  # Any text will do.
  flag = option_flags.flag_name(found)
  wrong = ['nonsense']
  if found.type in (int, float):
    wrong += [str(found.above if found.low is None else found.low - 1)]
    wrong += [str(bound) for bound in (found.below,) if bound is not None]
    wrong += [str(found.high + 1)] if found.high is not None else []
  for text in wrong:
    with pytest.raises(
      (flags.IllegalFlagValueError, InputError), match=rf'--{flag}={text}(\.0)?: '
    ) as e:
      values = parsed(f'--{flag}={text}')
      train.stage_configs(values)
      networks.options(values)
    assert '\n' not in str(e.value)


def test_nothing_given_is_nothing_said():
  assert networks.options(parsed()) == {}


@pytest.mark.parametrize('command', [train, explore])
def test_help_lists_every_option_once_with_its_help(command):
  values = flags.FlagValues()
  command.define_flags(values)
  own = {flag.name for flag in values.get_key_flags_for_module(command.__name__)}
  options = [*NETWORK, *(STAGE if command is train else [])]
  shown = ''.join(values.module_help(command.__name__).split())  # However lines are broken.
  for found in options:
    flag = option_flags.flag_name(found)
    assert flag in own and found.help[0].isupper() and found.help.endswith('.')
    (entry,) = re.findall(rf'--(?:\[no\])?{flag}:(.*?)(?=--(?:\[no\])?\w+:|$)', shown)
    assert ''.join(found.help.rstrip('.').split()) in entry
    assert all(choice in entry for choice in found.choices)
  assert len(own) == len(values.flags_by_module_dict()[command.__name__])


def test_help_needs_no_jax():
  program = """
import sys
from absl import flags
from experiments import train
train.define_flags(flags.FlagValues())
print({'jax', 'flax', 'optax', 'orbax', 'tensorflow_datasets'} & set(sys.modules))
"""
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
  assert done.stdout == 'set()\n', done.stderr


@dataclasses.dataclass(frozen=True)
class Inner(Options):
  depth: float = option(0.5, 'How deep.', above=0, below=1, flag='how_deep')


@dataclasses.dataclass(frozen=True)
class Outer(Options):
  wobble: tuple[int, ...] = option((1, 2), 'How much it wobbles.', low=1, per_stage=False)
  hidden: int = option(4, 'Without a flag.', flag=False)
  inner: Inner = Inner()


def test_a_new_option_is_one_field():
  values = flags.FlagValues()
  option_flags.define_flags(Outer, values, depth=0.25)
  assert {*values} == {'wobble', 'how_deep'} == {*option_flags.flag_names(Outer)}
  values(['command', '--wobble=3,4,5'])
  assert option_flags.from_flags(Outer, values) == Outer((3, 4, 5), inner=Inner(0.25))
  assert option_flags.from_flags(Outer, values, hidden=6, inner=Inner()).hidden == 6
  values(['command', '--how_deep=1'])
  with pytest.raises(InputError, match=r'^--how_deep=1\.0: must be above 0 and below 1$'):
    option_flags.from_flags(Outer, values)
  assert describe(Outer)['wobble'].help == values['wobble'].help

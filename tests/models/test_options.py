"""Options of networks: every one of every network, from its flag to model.json and back."""

import dataclasses
import inspect
import json

import jax.numpy as jnp
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.models import ModelSpec, front_end, load_spec, registry
from dilated_jax.options import describe, option
from experiments import explore, networks, option_flags
from tests import calling

COLORS = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
# Values with a meaning of their own; others follow from the option's type.
SAMPLES = {
  'fc_kernel': 5, 'stride': 4, 'norm': 'group', 'padding': 'same', 'dilations': (1, 2, 2, 1),
  'multi_grid': (1, 3),
  'context_channels': (3, 3, 6, 3, 3, 3, 3), 'channels': (4, 4, 4, 4, 4, 4, 4),
  'crf_rnn_bandwidths': (80.0, 5.0), 'image_padding': 120, 'axis_name': 'devices',
}  # fmt: skip


def every_option():
  for name in models.NAMES:
    for found in describe(registry._NETWORKS[name].options).values():
      if found.name not in registry._NETWORKS[name].fixed:
        yield pytest.param(name, found, id=f'{name}-{found.name}')


OPTIONS = list(every_option())


def default_of(name, found):
  return registry._NETWORKS[name].defaults.get(found.name, found.default)


def sample_of(name, found):
  """A value that the option does not have already."""
  residual = 'backbone' in describe(registry._NETWORKS[name].options) and name != 'deeplab_v2'
  if found.name == 'blocks':
    return (1, 1, 1, 1) if residual else (1, 1, 1, 1, 1)
  if found.name in SAMPLES:
    return SAMPLES[found.name]
  if found.choices:
    return next(choice for choice in reversed(found.choices) if choice != default_of(name, found))
  if found.type is bool:
    return not default_of(name, found)
  return found.type(1 + (default_of(name, found) or 1)) if found.type is int else 0.25


def needed_by(name, found) -> dict:
  """Options without which this one would have no meaning."""
  if found.name.startswith('crf_rnn'):
    return {'crf': 'rnn'}
  if found.name in ('padding', 'dilations', 'context_channels'):
    return {'context': 'large', 'dilations': (1, 1, 1, 1, 1, 1, 1)}
  if found.name == 'channels':
    return {'blocks': (1, 1, 1, 1, 1)}
  if (name, found.name) == ('deeplab_v2', 'variant'):
    return {'backbone': 'resnet50'}
  return {}


def as_flags(options):
  for name, value in options.items():
    if isinstance(value, tuple):
      value = ','.join(map(str, value))
    yield f'--{option_flags.flag_name(registry.all_options()[name])}={value}'


@pytest.mark.parametrize('name, found', OPTIONS)
def test_from_a_flag_to_the_same_network(name, found, tmp_path):
  needed = needed_by(name, found)
  given = {**needed, found.name: sample_of(name, found)}
  model = models.create(name, 3, **given)
  if (name, found.name) != ('fcn32s', 'at_once'):  # It has no skips to scale.
    assert model != models.create(name, 3, **needed)

  # By its flag
  if found.flag:
    values = calling.parsed(explore, f'--model={name}', *as_flags(given))
    assert networks.options(values) == given

  # In model.json: what is not the network's default
  spec = ModelSpec(name, given, ('a', 'b', 'c'), COLORS, (0.0, 0.0, 0.0))
  written = json.dumps(spec.to_json())
  (tmp_path / 'model.json').write_text(written)
  read = load_spec(tmp_path)
  assert read.create() == model
  assert registry.parse_options(name, read.options) == registry.parse_options(name, given)
  kept = {option for option, value in given.items() if value != defaults(name)[option]}
  assert json.loads(written)['options'].keys() == kept and found.name in kept


def defaults(name) -> dict:
  return dataclasses.asdict(registry.parse_options(name, {}))


@pytest.mark.parametrize('name', models.NAMES)
def test_defaults_are_not_written(name):
  given = {
    option: value
    for option, value in defaults(name).items()
    if option not in registry._NETWORKS[name].fixed
    and not option.startswith('crf_rnn')
    and option not in ('padding', 'dilations', 'context_channels')
  }
  assert registry.changed_options(name, given) == {}
  assert models.create(name, 3, **given) == models.create(name, 3)


@pytest.mark.parametrize('name, found', OPTIONS)
def test_wrong_values_name_the_argument(name, found, tmp_path):
  wrong = -1 if found.type in (int, float) else 7
  given = {**needed_by(name, found), found.name: (wrong,) if found.length is not None else wrong}
  with pytest.raises(InputError, match=f'^{found.name} is ') as raised:
    models.create(name, 3, **given)
  assert '\n' not in str(raised.value)
  # The same checks when model.json is read.
  spec = ModelSpec(name, given, ('a', 'b', 'c'), COLORS, (0.0, 0.0, 0.0))
  (tmp_path / 'model.json').write_text(json.dumps(dataclasses.asdict(spec)))
  with pytest.raises(InputError, match=rf'model.json: .*\({found.name} is ') as raised:
    load_spec(tmp_path)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize('name', models.NAMES)
def test_what_a_name_says_is_no_option(name):
  for fixed in registry._NETWORKS[name].fixed:
    with pytest.raises(InputError, match=f'model {name} has no option {fixed!r}; it has '):
      models.create(name, 3, **{fixed: 1})


@pytest.mark.parametrize('dtype', ['float64', 'float16', 'int8', 'f4', '', None, 16, jnp.float32])
def test_types_of_the_computation(dtype):
  with pytest.raises(InputError, match=r'^dtype is .*; choose float32 or bfloat16$'):
    models.create('front_end', 3, dtype=dtype)
  with pytest.raises(InputError, match=r'^dtype is .*; choose float32 or bfloat16$'):
    models.create('wavenet', 3, dtype=dtype)


def test_every_option_is_declared_once():
  """Options of one name are one field, which the classes of other networks inherit."""
  for network in registry._NETWORKS.values():
    for name, found in describe(network.options).items():
      assert found == registry.all_options()[name]
      owners = [cls for cls in network.options.__mro__ if name in inspect.get_annotations(cls)]
      assert len(owners) == 1, name


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithMore(front_end.DilationOptions):
  wobble: int | None = option(None, 'How much it wobbles.', low=1, high=9)


def test_a_new_option_is_one_field(monkeypatch, tmp_path):
  """That makes a flag with help and bounds, a check, and an entry of model.json."""
  network = dataclasses.replace(registry._NETWORKS['dilation8'], options=WithMore)
  monkeypatch.setitem(registry._NETWORKS, 'dilation8', network)
  values = calling.parsed(explore, '--wobble=3')
  assert networks.options(values) == {'wobble': 3}
  assert values['wobble'].help == 'How much it wobbles.'
  with pytest.raises(explore.flags.IllegalFlagValueError, match=r'--wobble=10: .*\[1, 9\]'):
    calling.parsed(explore, '--wobble=10')
  with pytest.raises(InputError, match='wobble is 10; must be 1 or more and at most 9'):
    models.create('dilation8', 3, wobble=10)
  with pytest.raises(InputError, match="front_end has no option 'wobble'"):
    models.create('front_end', 3, wobble=1)
  spec = ModelSpec('dilation8', {'wobble': 3}, ('a', 'b'), COLORS[:2], (0.0, 0.0, 0.0))
  assert spec.to_json()['options'] == {'wobble': 3}
  (tmp_path / 'model.json').write_text(json.dumps(spec.to_json()))
  assert load_spec(tmp_path) == spec

"""options.py: one field of a dataclass says all there is to say about an option."""

import dataclasses
import json
from typing import Literal

import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.options import Options, describe, nested, option


@dataclasses.dataclass(frozen=True)
class Inner(Options):
  rate: float = option(0.5, 'A rate.', above=0, below=1)


@dataclasses.dataclass(frozen=True)
class Outer(Options):
  kind: Literal['small', 'large'] = option('small', 'A kind.')
  loud: bool = option(False, 'Whether it is loud.')
  count: int = option(3, 'A count.', low=1, high=9)
  name: str | None = option(None, 'A name.')
  sizes: tuple[int, ...] | None = option(None, 'Sizes.', low=1)
  pair: tuple[float, float] = option((1.0, 2.0), 'A pair.', low=0)
  inner: Inner = Inner()
  plain: int = 0


def test_what_a_field_says():
  about = describe(Outer)
  assert list(about) == ['kind', 'loud', 'count', 'name', 'sizes', 'pair']
  assert (about['kind'].type, about['kind'].choices) == (str, ('small', 'large'))
  assert (about['count'].low, about['count'].high, about['count'].help) == (1, 9, 'A count.')
  assert (about['sizes'].type, about['sizes'].length, about['sizes'].optional) == (int, 0, True)
  assert (about['pair'].type, about['pair'].length, about['pair'].optional) == (float, 2, False)
  assert nested(Outer) == {'inner': Inner}


def test_values_take_the_declared_type():
  made = Outer(count=np.int64(4), sizes=[1, 2], pair=[3, 4.5])
  assert made == Outer(count=4, sizes=(1, 2), pair=(3.0, 4.5)) and hash(made)
  assert {type(value) for value in (made.count, *made.sizes)} == {int}
  assert {type(value) for value in made.pair} == {float}


def test_changes_are_what_json_can_hold():
  made = Outer('large', count=4, sizes=[1, 2])
  changes = made.changes(Outer())
  assert changes == {'kind': 'large', 'count': 4, 'sizes': (1, 2)}
  assert Outer(**json.loads(json.dumps(changes))) == made
  assert Outer().changes(Outer()) == {}


@pytest.mark.parametrize(
  'given, words',
  [
    ({'kind': 'huge'}, "kind is 'huge'; choose small or large"),
    ({'kind': None}, 'kind is None; choose small or large'),
    ({'kind': ['small']}, r"kind is \['small'\]; choose small or large"),
    ({'loud': 1}, 'loud is 1; must be true or false'),
    ({'count': True}, 'count is True; must be a whole number'),
    ({'count': 2.0}, r'count is 2\.0; must be a whole number'),
    ({'count': '2'}, "count is '2'; must be a whole number"),
    ({'count': 0}, 'count is 0; must be 1 or more and at most 9'),
    ({'count': 10}, 'count is 10; must be 1 or more and at most 9'),
    ({'name': 7}, 'name is 7; must be text'),
    ({'sizes': 3}, 'sizes is 3; must be a sequence of whole numbers'),
    ({'sizes': '12'}, "sizes is '12'; must be a sequence"),
    ({'sizes': []}, r'sizes is \[\]; must be a sequence'),
    ({'sizes': [1, 'x']}, r"sizes is \[1, 'x'\]; each must be a whole number"),
    ({'sizes': [1, 0]}, r'sizes is \[1, 0\]; each must be 1 or more'),
    ({'pair': [1]}, r'pair is \[1\]; must be 2 numbers'),
    ({'pair': [1, float('nan')]}, 'each must be a number'),
    ({'pair': [1, float('inf')]}, 'each must be a number'),
    ({'pair': [1, -1]}, 'each must be 0 or more'),
  ],
)
def test_wrong_values_are_one_line_that_names_the_argument(given, words):
  with pytest.raises(InputError, match=words) as raised:
    Outer(**given)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize('rate', [0, 1, -1, float('nan')])
def test_open_bounds(rate):
  with pytest.raises(InputError, match=r'^rate is .*; must be '):
    Inner(rate)


@pytest.mark.parametrize(
  'name, text, value', [('count', '4', 4), ('pair', '1e-3', 0.001), ('kind', 'large', 'large')]
)
def test_one_value_from_text(name, text, value):
  assert describe(Outer)[name].parse(text) == value
  with pytest.raises(ValueError, match=r'must be a|choose'):
    describe(Outer)[name].parse('x')

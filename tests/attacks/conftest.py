"""Attacks on files, processes and readers: in short with all tests, in full by `make attacks`.

A test asks the fixture `attempts` how many times it attacks. Those that would be too long even for
one attempt are marked `attack` and run in full alone.
"""

from collections.abc import Callable
import os

import pytest

from tests.attacks.children import Children
from tests.attacks.command_lines import CommandLines

IN_FULL = os.environ.get('ATTACKS') == 'full'


def pytest_collection_modifyitems(config, items):
  left_out = [item for item in items if item.get_closest_marker('attack') and not IN_FULL]
  if left_out:
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope='session')
def attempts() -> Callable[[int, int], int]:
  """A function that picks the first of two numbers in short, and the second in full."""
  return lambda short, full: full if IN_FULL else short


@pytest.fixture(scope='module')
def children(tmp_path_factory):
  """Runs commands that are struck, for all tests of a module."""
  made = Children(tmp_path_factory.mktemp('children'))
  yield made
  made.close()


@pytest.fixture(scope='session')
def command_lines(tmp_path_factory):
  """Flags of commands that write, see `CommandLines`."""
  return CommandLines(tmp_path_factory.mktemp('read'))

"""commands: tables, and commands that run others."""

import pytest

from dilated_jax.errors import InputError
from experiments import commands


def test_markdown_aligns_its_columns():
  lines = commands.markdown(['', 'a', 'long'], [('mean IoU', ['1.0', '22.5']), ('x', ['-', '3.1'])])
  assert lines == [
    '|          |   a | long |',
    '|----------|----:|-----:|',
    '| mean IoU | 1.0 | 22.5 |',
    '| x        |   - |  3.1 |',
  ]


def test_percent():
  assert (commands.percent(0.1234), commands.percent(None)) == ('12.3', '-')


def test_run(capfd):
  done = commands.run('explore', '--help')
  assert done.memory > 1 << 20
  out = capfd.readouterr().out
  assert '$ python -m experiments.explore --help' in out and '--model' in out
  with pytest.raises(InputError, match='explore ended with status 2'):
    commands.run('explore', '--nothing')

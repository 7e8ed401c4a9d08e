"""commands: which there are, and commands that run others."""

import pathlib

import pytest

from dilated_jax.errors import InputError
from experiments import commands


def test_names_are_of_the_files_that_can_be_run():
  names = commands.names()
  assert {'about', 'evaluate', 'predict', 'presets', 'train'} < {*names}
  assert not {'cli', 'commands', 'networks', 'tables', '__main__'} & {*names}
  folder = pathlib.Path(commands.__file__).parent
  assert all('\n  cli.run(main' in (folder / f'{name}.py').read_text() for name in names)


def test_run(capfd):
  done = commands.run('explore', '--help')
  assert done.memory > 1 << 20
  out = capfd.readouterr().out
  assert '$ python -m experiments.explore --help' in out and '--model' in out
  with pytest.raises(InputError, match='explore ended with status 2'):
    commands.run('explore', '--nothing')

"""commands: which there are, and commands that run others."""

import pathlib
import subprocess
import sys

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


def test_a_command_ends_with_the_one_that_started_it():
  child = """if True:
    import time
    from experiments import commands
    commands.end_with_starter()
    time.sleep(60)
  """
  starter = """if True:
    import os, subprocess, sys
    own = {**os.environ, 'DILATED_JAX_STARTED_BY': str(os.getpid())}
    subprocess.Popen([sys.executable, '-c', sys.argv[1]], env=own)
  """
  # Returns when the child, which has the same output, has ended too.
  root = pathlib.Path(__file__).parents[2]
  command = [sys.executable, '-c', starter, child]
  subprocess.run(command, cwd=root, capture_output=True, timeout=30, check=True)

"""`python -m experiments`: the list of commands, and each of them by name."""

import pathlib
import subprocess
import sys

import pytest

from experiments import commands

# Runs a command as `python -m` does, then prints the names of all modules in a line.
LISTING = """
import runpy, sys
name, sys.argv[1:] = sys.argv[1], ['--model=front_end']
try:
  runpy.run_module(name, run_name='__main__', alter_sys=True)
except SystemExit as done:
  assert not done.code, done.code
print(*sys.modules)
"""
ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments):
  """(exit status, stdout, stderr) of a Python in a clone."""
  done = subprocess.run(
    [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
  )
  return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize('arguments', [[], ['--help'], ['-h'], ['help']])
def test_overview(arguments):
  code, out, err = run('-X', 'importtime', '-m', 'experiments', *arguments)
  assert code == 0
  lines = out.splitlines()
  assert lines[0] == 'usage: python -m experiments.NAME --flags'
  listed = [line.split()[0] for line in lines if line.startswith('  ')]
  assert listed == commands.names()
  assert all(len(line) <= 100 and len(line.split()) > 4 for line in lines if line[:2] == '  ')
  imported = {line.rpartition('|')[2].strip() for line in err.splitlines()}
  assert 'experiments.commands' in imported and not {'jax', 'numpy', 'absl'} & imported


def test_help_of_no_command_imports_jax():
  """--help imports a command and defines its flags; rooms load when they are first used."""
  program = """
import importlib, sys
from absl import flags
for name in sys.argv[1:]:
  importlib.import_module(f'experiments.{name}').define_flags(flags.FlagValues())
  heavy = {'jax', 'flax', 'optax', 'orbax', 'tensorflow_datasets'} & {*sys.modules}
  assert not heavy, (name, heavy)
"""
  code, _, err = run('-c', program, *commands.names())
  assert code == 0, err


def test_no_module_is_there_twice():
  """What is run in a clone knows nothing of the name under which it is installed."""
  code, out, err = run('-c', LISTING, 'experiments.explore')
  assert code == 0, err
  imported = {*out.splitlines()[-1].split()}
  assert {'experiments.cli', 'dilated_jax.nn.geometry'} <= imported
  assert not {name for name in imported if name.startswith('dilated_jax.experiments')}
  assert 'experiments.explore' not in imported  # It is __main__.


def test_a_command_runs_as_by_its_own_name():
  by_name = run('-m', 'experiments', 'explore', '--num_classes=5', '--model=front_end')
  assert by_name[0] == 0 and 'front_end: 5 classes' in by_name[1]
  assert by_name == run('-m', 'experiments.explore', '--num_classes=5', '--model=front_end')


def test_an_unknown_command_is_one_line():
  code, out, err = run('-m', 'experiments', 'trian', '--workdir=a')
  assert (code, out, err) == (2, '', "error: there is no command 'trian'; did you mean train?\n")
  code, out, err = run('-m', 'experiments', '--workdir=a')
  assert (code, out, err.count('\n')) == (2, '', 1) and 'experiments --help' in err

"""`python -m experiments`: the list of commands, and each of them by name."""

import pathlib
import subprocess
import sys

import pytest

from experiments import commands

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


def test_a_command_runs_as_by_its_own_name():
  by_name = run('-m', 'experiments', 'explore', '--num_classes=5', '--model=front_end')
  assert by_name[0] == 0 and 'front_end: 5 classes' in by_name[1]
  assert by_name == run('-m', 'experiments.explore', '--num_classes=5', '--model=front_end')


def test_an_unknown_command_is_one_line():
  code, out, err = run('-m', 'experiments', 'trian', '--workdir=a')
  assert (code, out, err) == (2, '', "error: there is no command 'trian'; did you mean train?\n")
  code, out, err = run('-m', 'experiments', '--workdir=a')
  assert (code, out, err.count('\n')) == (2, '', 1) and 'experiments --help' in err

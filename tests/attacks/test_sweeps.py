"""Sweeps whose processes are killed at random end in the table of one that nobody touched."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = """
--dataset=scenes --train_split=train[:8] --val_split=val[:4] --image_scale=0.25 --model=front_end
--blocks=1,1,1 --width=0.125 --fc_channels=16 --fc_kernel=3 --stride=8 --dropout=0 --norm=batch
--loss_resolution=full --optimizer=adamw --batch_size=4 --num_steps=60 --eval_every=10
"""
SPACE = """
def space(trial):
  return {
    'learning_rate': trial.suggest_float('learning_rate', 1e-4, 1e-1, log=True),
    'weight_decay': trial.suggest_categorical('weight_decay', ['0', '1e-4', '1e-2']),
    'schedule': trial.suggest_categorical('schedule', ['constant', 'cosine']),
  }
"""
GRID = 'learning_rate=1e-1,3e-2,1e-2,3e-3,1e-3,3e-4 schedule=constant,cosine'
TRIALS, KILLS = 12, 5


def words(workdir: pathlib.Path, search: str) -> list[str]:
  flags = [f'--grid={GRID}']
  if search == 'tpe':
    space = workdir.with_name('space.py')
    space.write_text(SPACE)
    flags = [f'--space={space}', f'--trials={TRIALS}', '--prune=median', '--seed=1']
  elif search == 'slurm':
    flags += ['--launcher=slurm', '--slurm=cluster=local', '--parallel=2']
  command = [sys.executable, '-m', 'experiments.sweep', f'--workdir={workdir}', *flags]
  return [*command, '--', 'train', *FLAGS.split()]


def run(workdir, search, log) -> subprocess.Popen:
  return subprocess.Popen(words(workdir, search), cwd=ROOT, stdout=log, stderr=log)


def trials_that_run(workdir: pathlib.Path) -> list[int]:
  """The processes that train in a workdir, whoever has started them."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    try:
      line = path.read_bytes()
    except OSError:
      continue
    if b'experiments.train' in line and os.fsencode(workdir / 'trials') in line:
      found.append(int(path.parent.name))
  return found


@pytest.mark.attack
@pytest.mark.parametrize('search', ['tpe', 'slurm'])
def test_killed_five_times(tmp_path, search):
  whole, cut, chance = tmp_path / 'whole', tmp_path / 'cut', random.Random(0)
  with open(tmp_path / 'log', 'a') as log:
    assert run(whole, 'tpe' if search == 'tpe' else 'grid', log).wait() == 0
    kills = 0
    process = run(cut, search, log)
    while kills < KILLS or process.poll() is None:
      end = time.monotonic() + chance.uniform(3, 30)
      while kills < KILLS and time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
      if process.poll() is not None or kills == KILLS:
        assert process.wait() == 0
        break
      kills += 1
      victims = chance.choice(['sweep', 'trial', 'both'])
      pids = trials_that_run(cut)
      if victims != 'trial':
        process.kill()
        process.wait()
      for pid in pids if victims != 'sweep' else ():
        os.kill(pid, signal.SIGKILL)
      print(f'kill {kills}: {victims}, {len(pids)} trials ran', flush=True)
      if victims != 'trial':
        process = run(cut, search, log)
  assert kills == KILLS, 'the sweep was too quick to be killed so often'
  tables = [(folder / 'table.md').read_text() for folder in (whole, cut)]
  print(tables[1])
  assert tables[0] == tables[1]
  assert len(re.findall(r'^\| \d{4} ', tables[0], re.MULTILINE)) == TRIALS
  assert len(list((cut / 'trials').iterdir())) == TRIALS

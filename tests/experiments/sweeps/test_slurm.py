"""slurm: trials as jobs, by the executors of submitit that need no cluster."""

import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import submitit

from dilated_jax.errors import InputError
from dilated_jax.locks import Lock
from experiments.sweeps import launchers, slurm
from experiments.sweeps.study import Trial
from tests.experiments.sweeps import test_sweep as common

TRIAL = Trial(0, 'running', None, {}, {}, {}, '')
GRID = '--grid=learning_rate=0.1,0.01,0.001'


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
  monkeypatch.setattr(
    common.commands, 'program',
    lambda name, line: [sys.executable, '-S', str(common.STAND_IN), *line],
  )  # fmt: skip
  monkeypatch.setattr('experiments.sweeps.run.POLL', 0.05)
  monkeypatch.setattr(slurm, '_SLOW_FILES', 5.0)


# The debug executor leaves the files of its logs open.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('cluster', ['local', 'debug'])
def test_the_table_is_that_of_trials_here(tmp_path, cluster):
  common.run(tmp_path / 'here', GRID)
  flags = ['--launcher=slurm', f'--slurm=cluster={cluster}', '--parallel=3']
  common.run(tmp_path / 'jobs', GRID, *flags)
  assert common.results(tmp_path / 'jobs') == common.results(tmp_path / 'here')
  common.run(tmp_path / 'jobs', GRID, *flags)
  assert common.starts(tmp_path / 'jobs') == [1, 1, 1]
  gc.collect()


def test_a_job_is_taken_up_again(tmp_path):
  """A sweep is killed while its job runs; the next one waits for that job."""
  folder = tmp_path / 'trials' / '0000'
  folder.mkdir(parents=True)
  first = slurm.Slurm(tmp_path, 1, ['cluster=local'])
  os.environ['STAND_IN_WAIT'] = '0.1'
  try:
    line = [f'--workdir={folder}', '--num_steps=9']
    job = first.start(TRIAL, folder, 'train', line)
    wait_for(folder / 'metrics.jsonl')
  finally:
    del os.environ['STAND_IN_WAIT']
  assert job.poll() is None
  second = slurm.Slurm(tmp_path, 1, ['cluster=local'])
  again = second.adopt(0, folder)
  assert again is not None and again.poll() is None
  again.stop()  # As SIGTERM does: it saves, and ends without an error.
  wait_until(lambda: again.poll() is not None)
  wait_until(lambda: job.poll() is not None)
  assert again.poll() == 0 == job.poll()
  assert int((folder / 'step').read_text()) < 9
  assert second.adopt(0, folder) is None
  # A status that another job has left is not taken for that of the next one.
  last = second.start(TRIAL, folder, 'train', line)
  wait_until(lambda: last.poll() is not None)
  assert last.poll() == 0 and int((folder / 'step').read_text()) == 9


def test_a_job_that_is_killed_is_lost(tmp_path):
  folder = tmp_path / 'trials' / '0000'
  folder.mkdir(parents=True)
  launcher = slurm.Slurm(tmp_path, 1, ['cluster=local'])
  job = launcher.start(TRIAL, folder, 'train', [f'--workdir={folder}', '--num_steps=1000000'])
  wait_for(folder / 'metrics.jsonl')
  os.kill(int((folder / 'starts').read_text()), signal.SIGKILL)
  wait_until(lambda: job.poll() is not None)
  assert job.poll() < 0


def test_when_the_machine_is_taken_away(tmp_path):
  """As submitit does at preemption: the command saves, and what is queued again goes on."""
  folder = tmp_path
  words = [sys.executable, '-S', str(common.STAND_IN), f'--workdir={folder}', '--num_steps=6']
  command = slurm.Command(folder, 'token', words)
  process = subprocess.Popen(words, env=os.environ | {'STAND_IN_WAIT': '0.1'})
  command._process = process
  wait_for(folder / 'metrics.jsonl')
  again = command.checkpoint()
  assert process.poll() == 0
  done = int((folder / 'step').read_text())
  assert 1 <= done < 6
  path = tmp_path / 'submission.pkl'
  again.dump(path)  # submitit pickles what it queues again.
  submitit.helpers.DelayedSubmission.load(path).result()
  assert json.loads((folder / 'status.json').read_text()) == {'token': 'token', 'status': 0}
  assert int((folder / 'step').read_text()) == 6


def test_wrong_options_are_one_line(tmp_path):
  for flags, message in {
    ('--slurm=timeout',): '--slurm=timeout: write NAME=VALUE',
    ('--slurm=cluster=moon',): "doesn't know any executor named moon",
    ('--slurm=cluster=local', '--slurm=colour=red'): 'colour',
    ('--slurm=cluster=local', '--share'): '--share: one sweep submits all jobs',
    (): '--launcher=slurm, cluster slurm: ',  # There is none here.
  }.items():
    with pytest.raises(InputError) as caught:
      common.run(tmp_path, GRID, '--launcher=slurm', *flags)
    assert message in str(caught.value)
  with pytest.raises(InputError, match='is for --launcher=slurm'):
    common.run(tmp_path, GRID, '--slurm=timeout_min=3')


def test_only_a_process_that_runs_the_trial_gets_a_signal(tmp_path):
  """The file of a lock may be anybody's."""
  path = tmp_path / 'lock'
  with Lock(path) as lock:
    assert lock.take()
    for text in (f'elsewhere {os.getpid()}', 'here 1', f'{os.uname().nodename} 1', 'x', ''):
      lock.note(text)
      assert launchers.trial_process(Lock(path)) is None
    process = subprocess.Popen([sys.executable, '-c', 'input()', str(tmp_path)], stdin=-1)
    lock.note(f'{os.uname().nodename} {process.pid}')
    wait_until(lambda: launchers.trial_process(Lock(path)) == process.pid)
    process.communicate(b'\n')


def wait_for(path: pathlib.Path) -> None:
  wait_until(lambda: path.exists() and path.stat().st_size)


def wait_until(true) -> None:
  end = time.monotonic() + 20
  while not true():
    assert time.monotonic() < end
    time.sleep(0.02)

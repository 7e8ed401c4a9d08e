"""Several processes: killed or stopped in turn, and runs that go on with other numbers of them.

What must hold: the others end within a minute with a word, and the same command then ends as the
unbroken run does.
"""

import os
import signal
import time

import jax
import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.models import weights_folder
from tests import several_processes
from tests.experiments.test_train import NARROW
from tests.training.test_processes import HALF, WHOLE, assert_close, weights

pytestmark = [
  pytest.mark.attack,
  pytest.mark.filterwarnings('ignore:Sharding info not provided:UserWarning'),
]
OPTIONS = [
  *NARROW, '--batch_size=4', '--crop=16x32', '--log_every=5', '--eval_every=10',
  '--image_scale=0.5', '--trackers=',
]  # fmt: skip


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  data.prepare('scenes', folder, counts={'train': 8, 'val': 2, 'test': 2})
  return folder


def start(data_dir, workdir, steps):
  arguments = [*OPTIONS, f'--data_dir={data_dir}', f'--workdir={workdir}', f'--num_steps={steps}']
  return several_processes.start(2, 'experiments.train', *arguments, '--distributed')


def _told(errors):
  """Whether a line says what has happened; JAX may add words of its own."""
  lines = [line for line in errors.splitlines() if line.startswith('error: ')]
  return len(lines) == 1 and 'another process of the run has ended' in lines[0]


def last_weights(folder):
  return weights_folder.load_weights(folder / 'weights_last')[1]


@pytest.fixture(scope='module')
def unbroken(data_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('unbroken')
  ended = several_processes.finish(start(data_dir, folder, 200))
  assert [status for status, *_ in ended] == [0, 0], ended
  return last_weights(folder)


def wait_for_step(workdir, step, seconds=300):
  """Until a step is told in metrics.jsonl."""
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    path = workdir / 'metrics.jsonl'
    if path.exists() and f'"step": {step},' in path.read_text():
      return
    time.sleep(0.05)
  raise TimeoutError(f'step {step} did not come')


@pytest.mark.parametrize('sent', ['SIGKILL', 'SIGSTOP'])
@pytest.mark.parametrize('victim', [0, 1])
def test_a_process_that_is_gone_ends_the_other(data_dir, unbroken, tmp_path, victim, sent):
  """Killed at a few instants, or frozen as a host without network, in turn."""
  for step in (5, 25, 60) if sent == 'SIGKILL' else (25,):
    processes = start(data_dir, tmp_path, 200)
    other = processes[1 - victim]
    try:
      wait_for_step(tmp_path, step)
      os.kill(processes[victim].pid, getattr(signal, sent))
      begun = time.monotonic()
      _, errors = other.communicate(timeout=60)
      print(f'{sent} of process {victim}: the other ended in {time.monotonic() - begun:.1f} s')
    finally:
      for process in processes:
        process.kill()
        process.communicate()
    assert _told(errors), errors
    assert other.returncode in (1, -signal.SIGABRT)
  ended = several_processes.finish(start(data_dir, tmp_path, 200))
  assert [status for status, *_ in ended] == [0, 0], ended
  jax.tree.map(np.testing.assert_array_equal, last_weights(tmp_path), unbroken)
  left = [path for path in tmp_path.rglob('.*') if path.is_file()]
  assert not left


@pytest.mark.parametrize('asked', [0, 1])
def test_sigterm_to_one_process_saves_and_ends_all(data_dir, unbroken, tmp_path, asked):
  processes = start(data_dir, tmp_path, 200)
  wait_for_step(tmp_path, 25)
  processes[asked].send_signal(signal.SIGTERM)
  ended = several_processes.finish(processes, 60)
  assert [status for status, *_ in ended] == [0, 0], ended
  assert all('asked to end: front_end is saved after step' in errors for _, _, errors in ended)
  ended = several_processes.finish(start(data_dir, tmp_path, 200))
  assert [status for status, *_ in ended] == [0, 0], ended
  jax.tree.map(np.testing.assert_array_equal, last_weights(tmp_path), unbroken)


def test_a_process_that_fails_by_itself_does_not_keep_the_other_waiting(data_dir, tmp_path):
  """Its host lacks the data set, say: it tells so, and the other one ends within a minute."""
  arguments = [*OPTIONS, f'--data_dir={data_dir}', f'--workdir={tmp_path}/run', '--distributed']
  lacks = ('--data_dir=/dev/null/data',)
  processes = several_processes.start(2, 'experiments.train', *arguments, of_last=lacks)
  (other, _, words), (status, _, errors) = several_processes.finish(processes, 90)
  assert status == 1 and 'error: ' in errors and '/dev/null/data' in errors
  assert other in (1, -signal.SIGABRT)
  assert _told(words), words


def test_saved_on_n_and_restored_on_m(tmp_path):
  """With 1, 2 and 4 processes of four devices in all, for both ways."""
  at, counts, ways = str(tmp_path), (1, 2, 4), ('pmap', 'mesh')

  def train(count, runs):
    devices = f'{4 // count}'
    assert several_processes.train(runs, count, JAX_NUM_CPU_DEVICES=devices) == ['done'] * len(runs)

  for n in counts:
    train(n, [
      dict(folder=f'{at}/{kind}_{n}_{way}', way=way, steps=steps)
      for way in ways for kind, steps in (('half', HALF), ('whole', WHOLE))
    ])  # fmt: skip
  for m in counts:
    train(m, [
      dict(folder=f'{at}/{n}_{m}_{way}', way=way, steps=WHOLE, after=f'{at}/half_{n}_{way}')
      for way in ways for n in counts
    ])  # fmt: skip
  expected = weights(tmp_path / 'whole_1_pmap')
  for way in ways:
    for m in counts:
      own = weights(tmp_path / f'whole_{m}_{way}')
      assert_close(own, expected)
      jax.tree.map(np.testing.assert_array_equal, weights(tmp_path / f'{m}_{m}_{way}'), own)
      for n in counts:
        assert_close(weights(tmp_path / f'{n}_{m}_{way}'), expected)


@pytest.mark.parametrize('way', ['pmap', 'mesh'])
def test_two_devices_are_two_processes_to_the_last_bit(tmp_path, way):
  """A sum of two does not depend on the order."""
  for count in (1, 2):
    run = dict(folder=f'{tmp_path}/{count}', way=way, steps=WHOLE)
    said = several_processes.train([run], count, JAX_NUM_CPU_DEVICES=f'{2 // count}')
    assert said == ['done']
  jax.tree.map(np.testing.assert_array_equal, weights(tmp_path / '1'), weights(tmp_path / '2'))

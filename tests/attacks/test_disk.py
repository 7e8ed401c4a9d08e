"""Disks fill up, become read-only and vanish: one clear line, and the same command goes on later.

On a small tmpfs of its own, where mounting is allowed.
"""

import contextlib
import random
import subprocess
import time

import pytest

from dilated_jax import data
from tests.attacks.test_kill import listed_checkpoints_load
from tests.experiments.test_train import NARROW


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  data.prepare('scenes', folder, counts={'train': 4, 'val': 2, 'test': 1})
  return folder


def mount(*arguments) -> bool:
  done = subprocess.run(['mount', *map(str, arguments)], capture_output=True)
  return done.returncode == 0


@pytest.fixture
def disk(tmp_path):
  """The folder of a tmpfs, and a function that gives it a size."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  with contextlib.suppress(OSError):
    if not mount('-t', 'tmpfs', '-o', 'size=20m', 'tmpfs', folder):
      pytest.skip('mounting is not allowed here')
  yield folder, lambda size: mount('-o', f'remount,rw,size={size}', folder)
  for _ in range(50):
    if subprocess.run(['umount', folder], capture_output=True).returncode == 0:
      return
    time.sleep(0.1)
  subprocess.run(['umount', '-l', folder])


def train(children, data_dir, workdir, **strike):
  return children.run(
    'train', f'--workdir={workdir}', f'--data_dir={data_dir}', *NARROW,
    '--stage=front_end,context', '--num_steps=4,2', '--eval_every=2', '--batch_size=2',
    '--crop=16x32', '--log_every=1', folder=workdir, timeout=120, **strike,
  )  # fmt: skip


def told_in_one_line(ended, *words) -> None:
  assert ended.status == 1, ended
  assert 'Traceback' not in ended.said, ended.said
  lines = ended.said.strip().splitlines()
  errors = [line for line in lines if line.startswith('error: ')]  # Of commands in commands too.
  assert lines[-1] in errors and any(word in errors[0] for word in words), ended.said


def goes_on(children, data_dir, workdir) -> None:
  listed_checkpoints_load(workdir)
  again = train(children, data_dir, workdir)
  assert again.status == 0, again.said
  assert not [path for path in workdir.rglob('.*')]


@pytest.mark.attack
def test_full(children, data_dir, disk):
  """Full from the start at many sizes, each a little more than what the last one stopped at."""
  folder, resize = disk
  for kilobytes in range(40, 800, 40):
    resize(f'{kilobytes}k')
    ended = train(children, data_dir, folder / 'run')
    if ended.status == 0:
      break
    told_in_one_line(ended, 'No space left')
    resize('20m')
    goes_on(children, data_dir, folder / 'run')
    subprocess.run(['rm', '-r', folder / 'run'], check=True)


STRIKES = {
  'filled': ('cat /dev/zero > {0}/filler 2>/dev/null', 'No space left'),
  'made read-only': ('mount -o remount,ro {0}', 'Read-only file system'),
  'removed': ('rm -r {0}/run', 'No such file'),
}


@pytest.mark.attack
@pytest.mark.parametrize('how', STRIKES)
def test_struck_while_training(children, data_dir, disk, how):
  folder, resize = disk
  total = train(children, data_dir, folder / 'run').changes
  draw, (shell, words) = random.Random(0), STRIKES[how]
  for n in sorted(draw.sample(range(1, total), 20)):
    resize('20m')
    subprocess.run(['rm', '-rf', folder / 'run', folder / 'filler'], check=True)
    ended = train(children, data_dir, folder / 'run', strike_at=n, shell=shell.format(folder))
    if ended.status != 0:  # Removed at the end, nobody may notice.
      told_in_one_line(ended, words)
    resize('20m')
    (folder / 'filler').unlink(missing_ok=True)
    goes_on(children, data_dir, folder / 'run')


WRITING = [
  'train', 'prepare', 'convert', 'predict', 'predict_videos', 'evaluate', 'tune', 'compare',
  'sweep', 'demo', 'export', 'audit', 'explore', 'wavelets', 'wavenet',
]  # fmt: skip


@pytest.mark.attack
@pytest.mark.parametrize('where', ['new/out', 'out'])
@pytest.mark.parametrize('name', WRITING)
def test_read_only(children, command_lines, disk, name, where):
  """Every command that writes, to a folder that is there and to one that is not."""
  folder, _ = disk
  (folder / 'out').mkdir()
  line = command_lines(name, folder / where)
  mount('-o', 'remount,ro', folder)
  ended = children.run(name.split('_')[0], *line, folder=folder, timeout=120)
  told_in_one_line(ended, 'Read-only file system')
  if name not in ('train', 'prepare', 'sweep', 'demo'):  # These say first what they read.
    assert ended.said.startswith('error: '), ended.said  # Before any work.

"""Commands are killed anywhere; started again, they end as if nothing had happened."""

import functools
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import warnings

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from dilated_jax.models import weights_folder
from tests.attacks.children import ROOT

# Every write of these is struck before each change that it makes to the file system.
WRITES = """
import itertools, json, os, pathlib, signal, sys
from dilated_jax import files
from dilated_jax.temporary import finish_replacement, remove_leftovers, temporary_folder
from tests.attacks.fork_server import Counter

base, how = pathlib.Path(sys.argv[1]), sys.argv[2]

def write(target, content):
  if how == 'file':
    files.write_atomic(target, content)
    return
  with temporary_folder(target) as new:
    files.write_atomic(new / 'content', content)
    files.write_atomic(new / 'inner' / 'content', content)
    files.replace_folder(new, target)

def read(target):
  finish_replacement(target)
  names = [''] if how == 'file' else ['content', 'inner/content']
  return [(target / name if name else target).read_bytes().decode() for name in names]

if how == 'folder in steps':
  files._exchange = lambda *_: False
for n in itertools.count(1):
  folder = base / str(n)
  write(folder / 'a', b'old')
  process = os.fork()
  if process == 0:
    strike = lambda: os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(Counter(str(folder), n, strike))
    write(folder / 'a', b'new')
    os._exit(0)
  killed = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
  found = read(folder / 'a')
  write(folder / 'a', b'newer')
  remove_leftovers(folder)
  print(json.dumps([killed, found, read(folder / 'a'), os.listdir(folder)]))
  if not killed:
    break
"""


@pytest.mark.parametrize('how', ['file', 'folder', 'folder in steps'])
def test_writes_are_whole_wherever_they_are_killed(tmp_path, how):
  done = subprocess.run(
    [sys.executable, '-c', WRITES, str(tmp_path), how],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  rows = [json.loads(line) for line in done.stdout.splitlines()]
  statuses, found, after, left = zip(*rows)
  count = 1 if how == 'file' else 2
  assert set(statuses[:-1]) == {-signal.SIGKILL} and len(rows) > 2
  assert all(each in (['old'] * count, ['new'] * count) for each in found)
  assert found[0] == ['old'] * count and found[-1] == ['new'] * count
  assert set(map(tuple, after)) == {('newer',) * count}
  assert all(each == ['a'] for each in left)


@pytest.fixture
def command(request, command_lines):
  """The name of a command and its flags, which write to a folder."""
  return request.param.split('_')[0], functools.partial(command_lines, request.param)


def arrays_of(folder: pathlib.Path) -> str:
  """A digest of the arrays of an Orbax checkpoint."""
  with warnings.catch_warnings(action='ignore'):  # Of devices, which are the same here.
    restored = ocp.PyTreeCheckpointer().restore(folder)

  def plain(leaf):
    is_key = jax.dtypes.issubdtype(getattr(leaf, 'dtype', None), jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf

  return weights_folder.fingerprint(jax.tree.map(plain, restored)).hexdigest()


# The last two are digests of files of Orbax, which hold times and names drawn at random.
_MEASURED = ('steps_per_second', 'waiting', 'memory', 'made', 'weights_digests', 'before')


def content_of(path: pathlib.Path):
  """What a file says, without what is measured: times, speeds and memory."""

  def read(text):
    def kept(pairs):
      return {name: value for name, value in pairs if name not in _MEASURED}

    return json.loads(text, object_pairs_hook=kept)

  if path.suffix == '.jsonl':
    return [read(line) for line in path.read_text().splitlines()]
  if path.suffix == '.html' or path.name in ('about.json', 'dataset_info.json'):
    return ''
  if path.suffix == '.json':
    return read(path.read_text())  # In any order.
  if path.name == 'table.md' and 'steps/s' in path.read_text():  # Its last columns.
    return [line.split(' | ')[:-2] for line in path.read_text().splitlines()]
  if path.suffix == '.npz':
    with np.load(path) as arrays:
      return {name: arrays[name].tobytes() for name in arrays}
  return hashlib.sha256(path.read_bytes()).hexdigest()


def state_of(folder: pathlib.Path) -> dict:
  """All that a command has left in a folder: arrays, contents, names without what is random."""
  state = {}
  for path in sorted(folder.rglob('*')):
    name = str(path.relative_to(folder))
    if 'tensorboard' in name:
      continue  # A file for each start.
    if path.name == '_METADATA':
      state[f'arrays of {path.parent.relative_to(folder)}'] = arrays_of(path.parent)
    inside = re.search(r'(^|/)(checkpoint|checkpoints/\d+)/', name)
    if path.is_dir() or inside:
      state[re.sub(r'[0-9a-f]{32}', 'x', name)] = ''
    # The memory of a training is known to who has waited for it, and not where that was killed.
    elif path.name not in ('checksums.json', 'memory.json'):
      state[name] = content_of(path)
  return state


def listed_checkpoints_load(folder: pathlib.Path) -> None:
  for path in folder.glob('*/checkpoints/*'):
    if path.name.isdigit():
      arrays_of(path / 'default')
      json.loads((path / 'metrics' / 'metrics').read_text())


def ends_as_unbroken(children, command, folder, strikes) -> None:
  """Strikes a command, in several ways one after the other, and starts it again each time."""
  name, flags = command
  shutil.rmtree(folder, ignore_errors=True)
  unbroken = children.run(name, *flags(folder), folder=folder)
  assert unbroken.status == 0, unbroken.said
  expected = state_of(folder)
  chosen = strikes(unbroken)
  for count, strike in enumerate(chosen, 1):
    print(f'{name} {count}/{len(chosen)}: {strike}', flush=True)
    shutil.rmtree(folder)
    killed = children.run(name, *flags(folder), folder=folder, **strike)
    if strike.get('whom') != 'itself':  # Else the first tells what became of one that it started.
      assert killed.status in (0, 130, 143, -signal.SIGKILL), (strike, killed.said)
    assert 'Traceback' not in killed.said, (strike, killed.said)
    if folder.exists():
      listed_checkpoints_load(folder)
    again = children.run(name, *flags(folder), folder=folder)
    assert again.status == 0, (strike, again.said)
    found = state_of(folder)
    assert found.keys() == expected.keys(), (strike, found.keys() ^ expected.keys())
    for key in expected:
      assert found[key] == expected[key], (strike, key)


COMMANDS = ['train', 'prepare', 'convert', 'predict', 'predict_videos', 'tune', 'compare']


@pytest.mark.attack
@pytest.mark.parametrize('command', COMMANDS, indirect=True)
def test_killed_before_every_change_of_a_file(children, command, tmp_path):
  """Each second one of `train` and each 17th of `compare`, which make hundreds."""

  def strikes(unbroken):
    step = {'train': 2, 'compare': 17}.get(command[0], 1)
    # A command that others start is killed alone, or the one that has started it, or both.
    whom = itertools.cycle(('itself', 'first', 'all') if command[0] == 'compare' else ('first',))
    return [{'strike_at': n, 'whom': next(whom)} for n in range(1, unbroken.changes + 1, step)]

  ends_as_unbroken(children, command, tmp_path / 'out', strikes)


@pytest.mark.attack
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['INT', 'TERM'])
@pytest.mark.parametrize('command', COMMANDS, indirect=True)
def test_asked_to_end_at_some_change(children, command, number, tmp_path):
  def strikes(unbroken):
    draw, last = random.Random(int(number)), unbroken.changes
    count = min(30 if command[0] == 'train' else 10, last)
    # A terminal interrupts all processes, a scheduler may end the first alone.
    strike = {'number': number, 'whom': 'all' if number == signal.SIGINT else 'first'}
    return [{'strike_at': n, **strike} for n in draw.sample(range(1, last + 1), count)]

  ends_as_unbroken(children, command, tmp_path / 'out', strikes)


@pytest.mark.attack
@pytest.mark.parametrize('command', COMMANDS, indirect=True)
def test_killed_at_any_time(children, command, tmp_path):
  """Within what other languages write, of which the audit hook does not know."""

  def strikes(unbroken):
    draw = random.Random(0)
    count = 60 if command[0] == 'train' else 10
    return [{'after': draw.uniform(0.2, unbroken.seconds)} for _ in range(count)]

  ends_as_unbroken(children, command, tmp_path / 'out', strikes)

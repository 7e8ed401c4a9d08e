"""Commands are killed anywhere; started again, they end as if nothing had happened."""

import fractions
import hashlib
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
import PIL.Image
import pytest

from dilated_jax import models
from dilated_jax.images import video
from dilated_jax.models import weights_folder
from tests import caffe_files
from tests.attacks.children import ROOT
from tests.experiments.test_train import NARROW

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


@pytest.fixture(scope='module')
def own_folder(tmp_path_factory):
  """Four images of two classes."""
  folder, draw = tmp_path_factory.mktemp('own'), np.random.default_rng(0)
  for name in 'abcdef':
    for kind, values in (('images', (32, 48, 3)), ('labels', (32, 48))):
      (folder / kind).mkdir(exist_ok=True)
      content = draw.integers(0, 255 if kind == 'images' else 2, values).astype(np.uint8)
      PIL.Image.fromarray(content).save(folder / kind / f'{name}.png')
  return folder


@pytest.fixture(scope='module')
def tiny_weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tiny') / 'weights'
  options = {
    'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4,
    'dilations': [1, 2, 1],
  }  # fmt: skip
  spec = models.ModelSpec(
    'dilation8', options, ('class 0', 'class 1'), ((0, 0, 0), (255, 0, 0)), (1.0, 2.0, 3.0)
  )
  shapes = weights_folder.abstract_variables(spec.create())
  draw = np.random.default_rng(0)
  variables = jax.tree.map(lambda x: draw.standard_normal(x.shape).astype(x.dtype), shapes)
  weights_folder.save_weights(folder, spec, variables)
  return folder


@pytest.fixture(scope='module')
def caffemodel(tmp_path_factory):
  path = tmp_path_factory.mktemp('caffe') / 'file'
  network = caffe_files.published('cityscapes', np.random.default_rng(0), width=1 / 32)
  path.write_bytes(caffe_files.caffemodel(network))
  return path


@pytest.fixture(scope='module')
def photos(own_folder, tmp_path_factory):
  """A picture and a video."""
  folder, draw = tmp_path_factory.mktemp('photos'), np.random.default_rng(0)
  shutil.copy(own_folder / 'images' / 'a.png', folder)
  source = video.Video(folder, (32, 48), fractions.Fraction(24), None, fractions.Fraction(1), False)
  with video.VideoWriter(folder / 'clip.mp4', source) as writer:
    for _ in range(3):
      writer.add(draw.integers(0, 255, (32, 48, 3), np.uint8))
  return folder


@pytest.fixture(scope='module')
def recipe(tmp_path_factory):
  """Of a comparison of two networks, each with and without a dense CRF."""
  folder = tmp_path_factory.mktemp('recipe')
  common = [
    *(flag for flag in NARROW if not flag.startswith(('--model', '--dilations'))),
    '--dataset=folder', '--num_steps=2', '--eval_every=1', '--batch_size=2', '--log_every=1',
  ]  # fmt: skip
  files = {
    'common': common,
    'front_end': [],
    'basic': [],
    'tune': ['--sxy=20', '--srgb=5', '--compat=1,3', '--iterations=1'],
  }
  for name, flags in files.items():
    (folder / f'{name}.flags').write_text('\n'.join(flags) + '\n')
  return folder


@pytest.fixture
def command(request, own_folder, tiny_weights, caffemodel, photos, recipe):
  """The name of a command and its flags, which write to a folder."""
  name = request.param
  flags = {
    'train': lambda folder: [
      f'--workdir={folder}', '--dataset=folder', f'--data_dir={own_folder}', *NARROW,
      '--stage=front_end,context', '--num_steps=4,2', '--eval_every=1', '--batch_size=2',
      '--crop=16x32', '--log_every=1',
    ],
    'prepare': lambda folder: [
      '--dataset=folder', f'--manual_dir={own_folder}', f'--data_dir={folder}',
    ],
    'convert': lambda folder: [f'--source={caffemodel}', f'--output={folder}/weights'],
    'predict': lambda folder: [
      f'--weights={tiny_weights}', f'--inputs={own_folder}/images', f'--output={folder}',
      '--save=labels,colors,overlays,scores',
    ],
    'predict a video': lambda folder: [
      f'--weights={tiny_weights}', f'--inputs={photos}', f'--output={folder}',
    ],
    'tune': lambda folder: [
      f'--weights={tiny_weights}', '--dataset=folder', f'--data_dir={own_folder}',
      '--split=train[:3]', f'--output={folder}', '--sxy=20', '--srgb=5', '--compat=1,3',
      '--iterations=1,2',
    ],
    'compare': lambda folder: [
      f'--recipe={recipe}', f'--workdir={folder}', f'--data_dir={own_folder}', '--split=val',
      '--contexts=none,basic', '--crfs=none,dense', '--num_images=1',
    ],
  }  # fmt: skip
  return name.split()[0], flags[name]


def arrays_of(folder: pathlib.Path) -> str:
  """A digest of the arrays of an Orbax checkpoint."""
  with warnings.catch_warnings(action='ignore'):  # Of devices, which are the same here.
    restored = ocp.PyTreeCheckpointer().restore(folder)

  def plain(leaf):
    is_key = jax.dtypes.issubdtype(getattr(leaf, 'dtype', None), jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf

  return weights_folder.fingerprint(jax.tree.map(plain, restored)).hexdigest()


def content_of(path: pathlib.Path):
  """What a file says, without times and speeds."""
  if path.name == 'metrics.jsonl':
    lines = map(json.loads, path.read_text().splitlines())
    return [{**line, 'steps_per_second': 0, 'waiting': 0} for line in lines]
  if path.name in ('about.json', 'report.html', 'dataset_info.json'):
    return ''
  if path.suffix == '.json':
    return json.loads(path.read_text())  # In any order.
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
    elif path.name != 'checksums.json':
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
  for strike in strikes(unbroken):
    shutil.rmtree(folder)
    killed = children.run(name, *flags(folder), folder=folder, **strike)
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


COMMANDS = ['train', 'prepare', 'convert', 'predict', 'predict a video', 'tune', 'compare']


@pytest.mark.attack
@pytest.mark.parametrize('command', COMMANDS, indirect=True)
def test_killed_before_every_change_of_a_file(children, command, tmp_path):
  """Each second one of `train`, which makes hundreds."""

  def strikes(unbroken):
    step = 2 if command[0] == 'train' else 1
    return [{'strike_at': n} for n in range(1, unbroken.changes + 1, step)]

  ends_as_unbroken(children, command, tmp_path / 'out', strikes)


@pytest.mark.attack
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['INT', 'TERM'])
@pytest.mark.parametrize('command', COMMANDS, indirect=True)
def test_asked_to_end_at_some_change(children, command, number, tmp_path):
  def strikes(unbroken):
    draw, last = random.Random(int(number)), unbroken.changes
    count = min(30 if command[0] == 'train' else 10, last)
    return [{'strike_at': n, 'number': number} for n in draw.sample(range(1, last + 1), count)]

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

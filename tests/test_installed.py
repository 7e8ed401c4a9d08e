"""Wheel, sdist and editable install: one top-level name, and a program that works in any folder."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile

import jax
import numpy as np
import PIL.Image
import pytest

import dilated_jax
from dilated_jax import data, models
from dilated_jax.models import weights_folder
from tests.experiments.test_main import LISTING

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Environment:
  """A fresh virtual environment that sees the packages of this one, but for ours."""

  def __init__(self, folder: pathlib.Path):
    """Makes it in a folder."""
    venv.create(folder, with_pip=False)
    self.programs = folder / 'bin'
    (self.packages,) = folder.glob('lib/python3*/site-packages')
    # A line of a .pth file is a path; the .pth files there, of editable packages, are not followed.
    others = [path for path in sys.path if path.endswith(('site-packages', 'dist-packages'))]
    (self.packages / 'others.pth').write_text('\n'.join(others) + '\n')

  def install(self, *what):
    """Installs by the pip of this process, from what is on this disk."""
    isolated = [] if importlib.util.find_spec('setuptools') else ['--build-isolation']
    pip = ['-m', 'pip', '--disable-pip-version-check', '--python', self.programs / 'python']
    build = isolated or ['--no-build-isolation', '--no-index']
    run(sys.executable, *pip, 'install', '--quiet', '--no-deps', *build, *what)

  def __call__(self, program, *arguments, **options):
    return run(self.programs / program, *arguments, **options)


def run(*command, cwd=None, status=0, **variables) -> str:
  """What a command prints."""
  environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
  done = subprocess.run(
    list(map(str, command)), cwd=cwd, env=environment | variables, stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
  )  # fmt: skip
  assert done.returncode == status, done.stdout
  return done.stdout


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """A copy of what is built, since building leaves files behind."""
  folder = tmp_path_factory.mktemp('a source')
  for name in ('setup.cfg', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
    shutil.copy(ROOT / name, folder)
  for name in ('dilated_jax', 'experiments'):
    shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
  return folder


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
  return build(source, tmp_path_factory.mktemp('wheel'), 'wheel')


def build(source, folder, kind):
  """Builds a wheel or an sdist, as pip and build do."""
  pytest.importorskip('setuptools')
  program = f'from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})'
  run(sys.executable, '-W', 'ignore', '-c', program, cwd=source)
  (path,) = folder.iterdir()
  return path


def contents(wheel) -> set:
  return {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_same(source, wheel, tmp_path):
  (tmp_path / 'out').mkdir()
  sdist = build(source, tmp_path / 'out', 'sdist')
  shutil.unpack_archive(sdist, tmp_path / 'unpacked', filter='data')
  (unpacked,) = (tmp_path / 'unpacked').iterdir()
  (tmp_path / 'again').mkdir()
  assert contents(build(unpacked, tmp_path / 'again', 'wheel')) == contents(wheel)
  expected = {
    ('dilated_jax/' * (path.parts[0] == 'experiments')) + path.as_posix()
    for path in (file.relative_to(source) for file in source.rglob('*') if file.is_file())
    if path.parts[0] in ('dilated_jax', 'experiments')
    and 'notebooks' not in path.parts
    and '__pycache__' not in path.parts
  }
  assert contents(wheel) == expected


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
  """An environment with the wheel."""
  environment = Environment(tmp_path_factory.mktemp('installed'))
  before = set(environment.packages.iterdir())
  environment.install(wheel)
  gained = {path.name for path in set(environment.packages.iterdir()) - before}
  assert gained == {'dilated_jax', f'dilated_jax-{dilated_jax.__version__}.dist-info'}
  return environment


@pytest.fixture
def elsewhere(tmp_path):
  """A folder with photographs and things that would get in the way if they were imported."""
  folder = tmp_path / 'my photographs'
  (folder / 'in').mkdir(parents=True)
  rng = np.random.default_rng(0)
  for name, size in (('a tree.jpg', (40, 50)), ('b.png', (64, 48))):
    PIL.Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / 'in' / name)
  for name in ('dilated_jax', 'experiments', 'absl'):
    (folder / name).mkdir()
    (folder / name / '__init__.py').write_text('raise RuntimeError("the wrong one")\n')
  return folder


def save_weights(folder):
  """Weights of a tiny network of the classes of `scenes`."""
  classes = data.classes('scenes')
  options = {'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
  spec = models.ModelSpec(
    'front_end', options, classes.names, classes.palette, classes.mean, dataset='scenes'
  )
  model = spec.create()
  side = 2 * model.margin + model.stride
  variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, side, side, 3), np.float32))
  weights_folder.save_weights(folder, spec, jax.device_get(variables))


@pytest.mark.slow
@pytest.mark.parametrize('safe_path', ['', '1'])
def test_the_program_works_in_any_folder(installed, elsewhere, safe_path):
  save_weights(elsewhere / 'weights')
  here = {'cwd': elsewhere, 'PYTHONSAFEPATH': safe_path}
  assert '\n  predict ' in installed('dilated-jax', '--help', **here)
  assert '  preset:camvid_cpu ' in installed('dilated-jax', 'presets', **here)
  assert installed('dilated-jax', '--version', **here) == f'{dilated_jax.__version__}\n'
  assert 'did you mean predict?' in installed('dilated-jax', 'predct', status=2, **here)
  out = installed('dilated-jax', 'predict', '--help', **here)
  assert '\n  dilated-jax predict --weights=DIR' in out and 'experiments' not in out
  out = installed(
    'dilated-jax', 'predict', '--weights=weights', '--inputs=in', '--output=out', '--save=labels',
    **here,
  )  # fmt: skip
  assert '2 of 2 pictures labeled in out' in out
  assert {path.name for path in (elsewhere / 'out').iterdir()} == {
    'a tree.png', 'b.png', 'predictions.json',
  }  # fmt: skip
  with PIL.Image.open(elsewhere / 'out/a tree.png') as labels:
    assert (labels.mode, labels.size) == ('L', (50, 40))


@pytest.mark.slow
def test_presets_are_found_and_commands_start_others(installed, elsewhere):
  program = "from dilated_jax.experiments import commands; commands.run('presets')"
  out = installed('python', '-P', '-c', program, cwd=elsewhere)
  assert out.startswith('\n$ dilated-jax presets\nFor train')
  out = installed(
    'dilated-jax', 'train', '--flagfile=preset:folder', '--workdir=run', '--stage=none',
    cwd=elsewhere, status=1,
  )  # fmt: skip
  assert '--stage=none: no such choice' in out


@pytest.mark.slow
def test_no_module_is_there_twice(installed, elsewhere):
  out = installed('python', '-P', '-c', LISTING, 'dilated_jax.experiments.explore', cwd=elsewhere)
  imported = {*out.splitlines()[-1].split()}
  assert {'dilated_jax.experiments.cli', 'dilated_jax.nn.geometry'} <= imported
  assert not {name for name in imported if name.startswith('experiments')}
  assert 'dilated_jax.experiments.explore' not in imported  # It is __main__.


@pytest.mark.slow
def test_editable(source, elsewhere, tmp_path):
  environment = Environment(tmp_path / 'environment')
  environment.install('--editable', source)
  names = {path.name for path in environment.packages.iterdir() if path.is_dir()}
  assert names - {'__pycache__'} == {f'dilated_jax-{dilated_jax.__version__}.dist-info'}
  out = environment('dilated-jax', 'presets', cwd=elsewhere)
  assert f'The files are in {source / "experiments/presets"}\n' in out
  assert environment('python', '-m', 'experiments.presets', cwd=source) == out
  out = environment('python', '-m', 'dilated_jax.experiments', '--help', cwd=source)
  assert 'usage: dilated-jax NAME' in out

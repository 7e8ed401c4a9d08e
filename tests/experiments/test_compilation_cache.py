"""compilation_cache.py: programs are found by the next process, and a cache never ends one."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from dilated_jax.errors import InputError
from experiments import compilation_cache

ROOT = pathlib.Path(__file__).resolve().parents[2]

COMMAND = '''"""Adds."""
from experiments import cli

def main():
  import jax
  hits = []
  jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
  total = jax.jit(lambda x: x + 2)(3)
  print(total, sum('cache_hits' in name for name in hits))

if __name__ == '__main__':
  cli.run(main)
'''


@pytest.fixture
def start(tmp_path):
  """Starts the command as a user does whose cache folder is there."""
  (tmp_path / 'add.py').write_text(COMMAND)
  variables = {
    name: value for name, value in os.environ.items() if not name.startswith(('JAX_', 'XDG_'))
  }

  def begin(*arguments, **more):
    return subprocess.Popen(
      [sys.executable, 'add.py', *arguments], cwd=tmp_path, stdin=subprocess.DEVNULL,
      env=variables | {'PYTHONPATH': f'{ROOT}', 'XDG_CACHE_HOME': f'{tmp_path}/user'} | more,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

  return begin


@pytest.fixture
def run(start):
  """Runs it to the end: (stdout, stderr)."""

  def finish(*arguments, **more):
    with start(*arguments, **more) as process:
      out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err

  return finish


def test_the_next_start_finds_programs_and_replaces_damaged_ones(run, tmp_path):
  assert run() == ('5 0\n', '')
  assert run() == ('5 1\n', '')
  entries = [*(tmp_path / 'user/dilated_jax/compiled').glob('*-cache')]
  assert entries
  for entry in entries:
    entry.write_bytes(entry.read_bytes()[:100])
  assert run() == ('5 0\n', '')  # Another process may still be writing them: nothing to tell.
  assert all(entry.stat().st_size == 100 for entry in entries)
  for entry in entries:
    os.utime(entry, (0, 0))
  out, err = run()
  assert out == '5 0\n' and err.count('\n') == 1
  assert f'cache of compiled programs {entries[0].parent}: ' in err and 'truncated' in err
  assert run() == ('5 1\n', '')


def test_two_at_once(start):
  processes = [start() for _ in range(2)]
  for process in processes:
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out[0], err) == (0, '5', '')


def test_a_cache_that_can_not_be_written_is_one_line(run, tmp_path):
  (tmp_path / 'file').touch()
  out, err = run('--compilation_cache=file/cache')
  assert out == '5 0\n' and err.count('\n') == 1 and 'file/cache: is below a file' in err


def test_where_it_is(run, tmp_path):
  assert run('--compilation_cache=none') == ('5 0\n', '')
  assert not (tmp_path / 'user').exists()
  run('--compilation_cache=here')
  assert [*(tmp_path / 'here').glob('*-cache')]
  run(JAX_COMPILATION_CACHE_DIR=f'{tmp_path}/there', JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0')
  assert [*(tmp_path / 'there').glob('*-cache')] and not (tmp_path / 'user').exists()
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match=r'--compilation_cache=.*file: is a file'):
    compilation_cache.use(f'{tmp_path}/file')
  with pytest.raises(InputError, match=r'--compilation_cache=gs://bucket/x: give a folder of this'):
    compilation_cache.use('gs://bucket/x')


def test_a_home_that_may_not_be_read(run, tmp_path):
  (tmp_path / 'home').mkdir()
  (tmp_path / 'home').chmod(0)
  out, err = run(HOME=f'{tmp_path}/home', XDG_CACHE_HOME=f'{tmp_path}/home/cache')
  assert out == '5 0\n' and err.count('\n') <= 1


def test_the_folder_of_the_user(monkeypatch, tmp_path):
  monkeypatch.setattr(compilation_cache.sys, 'platform', 'linux')
  monkeypatch.setenv('HOME', f'{tmp_path}')
  monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
  usual = tmp_path / '.cache/dilated_jax/compiled'
  assert compilation_cache.user_folder() == usual
  monkeypatch.setenv('XDG_CACHE_HOME', f'{tmp_path}/xdg')
  assert compilation_cache.user_folder() == tmp_path / 'xdg/dilated_jax/compiled'


def test_what_was_not_used_for_longest_is_removed(tmp_path):
  now = time.time()
  for age in range(6):
    (tmp_path / f'{age}-cache').write_bytes(bytes(100))
    os.utime(tmp_path / f'{age}-cache', (now - age, now - 1000))
  (tmp_path / 'other').write_bytes(bytes(1000))
  compilation_cache.prune(tmp_path, 600)
  assert len([*tmp_path.iterdir()]) == 7
  compilation_cache.prune(tmp_path, 599)
  assert {file.name for file in tmp_path.iterdir()} == {'0-cache', '1-cache', 'other'}
  compilation_cache.prune(tmp_path / 'missing', 0)

"""Temporaries vanish with their block or, if their process was killed, with the next one's."""

import os
import pathlib
import stat
import subprocess
import sys
import threading

import pytest

from dilated_jax import locks, temporary
from dilated_jax.temporary import finish_replacement, remove_leftovers, temporary_folder

MAKERS = ['temporary_file', 'temporary_folder']
HOLD = """
import sys
from dilated_jax import locks, temporary
with getattr(temporary, sys.argv[1])(sys.argv[2]) as made:
  print(made, flush=True)
  sys.stdin.read()
"""


@pytest.mark.parametrize('maker', MAKERS)
def test_lies_beside_its_target_and_vanishes(tmp_path, maker):
  with getattr(temporary, maker)(tmp_path / 'new' / 'a') as made:
    assert made.parent == tmp_path / 'new' and made.exists()
  assert os.listdir(tmp_path / 'new') == []


def test_modes_follow_the_umask_which_stays(tmp_path):
  old = os.umask(0o027)
  try:
    for maker, mode in zip(MAKERS, (0o640, 0o750)):
      with getattr(temporary, maker)(tmp_path / 'a') as made:
        assert stat.S_IMODE(made.stat().st_mode) == mode
  finally:
    assert os.umask(old) == 0o027


def test_errors_name_the_target(tmp_path):
  (tmp_path / 'file').write_bytes(b'')
  with pytest.raises(OSError) as error, temporary_folder(tmp_path / 'file' / 'a'):
    pass
  assert error.value.filename == str(tmp_path / 'file')
  with pytest.raises(OSError) as error, temporary_folder(tmp_path / 'a') as made:
    (made / 'b' / 'c').mkdir()
  assert error.value.filename == str(tmp_path / 'a' / 'b' / 'c')


@pytest.mark.parametrize('maker', MAKERS)
def test_only_those_of_dead_processes_are_leftovers(tmp_path, maker):
  command = [sys.executable, '-c', HOLD, maker, str(tmp_path / 'a')]
  with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    assert process.stdout and process.stdin
    made = pathlib.Path(process.stdout.readline().decode().strip())
    remove_leftovers(tmp_path)
    assert made.exists()
    process.kill()
    process.wait()
    assert made.exists()
  remove_leftovers(tmp_path)
  assert not made.exists()


def test_the_first_temporary_of_a_process_in_a_folder_clears_it(tmp_path):
  for name in ('.a.dilated_jax-0123abcd', '.a.dilated_jax-012', '.a.tmp'):
    (tmp_path / name).write_bytes(b'')
  os.symlink('/', tmp_path / '.a.dilated_jax-0123abce')  # Such links are not ours.
  with temporary_folder(tmp_path / 'b'):
    left = {'.a.dilated_jax-012', '.a.tmp', '.a.dilated_jax-0123abce'}
    assert {path.name for path in tmp_path.iterdir() if '.b.' not in path.name} == left


def test_without_locks_only_old_ones_are_leftovers(tmp_path, monkeypatch):
  monkeypatch.setattr(locks, 'fcntl', None)
  new, old = tmp_path / '.a.dilated_jax-00000000', tmp_path / '.a.dilated_jax-00000001'
  for path in (new, old):
    path.mkdir()
  os.utime(old, (0, 0))
  remove_leftovers(tmp_path)
  assert new.exists() and not old.exists()


def test_one_that_is_taken_for_a_leftover_is_made_again(tmp_path):
  """Between its making and its lock another process may remove it."""
  made, make = [], temporary._make_file

  def make_and_lose(path):
    handle = make(path)
    made.append(path)
    if len(made) == 1:
      remove_leftovers(tmp_path)
    return handle

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(temporary, '_make_file', make_and_lose)
    with temporary.temporary_file(tmp_path / 'a') as path:
      assert path.exists() and path != made[0] and len(made) == 2


def test_threads_that_make_and_clear_do_not_disturb_each_other(tmp_path):
  failed = []

  def work():
    try:
      for index in range(100):
        with temporary.temporary_file(tmp_path / 'a') as path:
          path.write_bytes(b'x')
          remove_leftovers(tmp_path)
          os.replace(path, tmp_path / f'done{index}')
    except OSError as error:
      failed.append(error)

  threads = [threading.Thread(target=work) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not failed and len(os.listdir(tmp_path)) == 100


def test_a_replacement_is_finished_only_where_nothing_is(tmp_path):
  complete = tmp_path / '.a.dilated_jax-complete'
  complete.mkdir()
  finish_replacement(tmp_path / 'a')
  assert os.listdir(tmp_path) == ['a']
  (complete / 'new').mkdir(parents=True)
  finish_replacement(tmp_path / 'a')
  assert complete.exists()
  remove_leftovers(tmp_path)
  assert os.listdir(tmp_path) == ['a'] and not os.listdir(tmp_path / 'a')

"""Locks are held by one process at a time, or shared, and end with it."""

import os
import subprocess
import sys

import pytest

from dilated_jax import locks
from dilated_jax.locks import Lock

HOLD = """
import sys
from dilated_jax.locks import Lock
lock = Lock(sys.argv[1])
print(lock.take(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_one_holds_and_others_wait(tmp_path, kind):
  path = tmp_path if kind == 'folder' else tmp_path / 'lock'
  one, other = Lock(path), Lock(path)
  assert one.take() and one.take()
  assert not other.take() and not other.take(patience=0.05)
  one.release()
  assert other.take() and not one.take()
  other.release()


def test_sharing(tmp_path):
  one, other = Lock(tmp_path / 'lock'), Lock(tmp_path / 'lock')
  assert one.take(shared=True) and other.take(shared=True)
  other.release()
  assert not other.take()
  one.release()


def test_ends_with_the_process(tmp_path):
  command = [sys.executable, '-c', HOLD, str(tmp_path)]
  with (
    Lock(tmp_path) as lock,
    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
  ):
    assert process.stdout and process.stdout.readline() == b'True\n'
    assert not lock.take()
    process.kill()
    assert lock.take(patience=10)


def test_says_who_holds_it(tmp_path):
  with Lock(tmp_path / 'lock') as lock:
    assert lock.noted() == '' and lock.take()
    lock.note('a long name')
    lock.note('me')
  assert Lock(tmp_path / 'lock').noted() == 'me'


def test_where_there_are_none(tmp_path, monkeypatch):
  monkeypatch.setattr(locks, 'fcntl', None)
  open_before = os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd') else []
  with pytest.raises(locks.NoLocks, match=r'lock: there are no locks .* another file system'):
    Lock(tmp_path / 'lock').take()
  assert not open_before or len(os.listdir('/proc/self/fd')) == len(open_before)

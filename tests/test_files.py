"""Files are written completely or not at all, and signals wait for the end of a write."""

import errno
import os
import signal
import stat
import threading

from hypothesis import given, strategies as st
import pytest

from dilated_jax import files
from dilated_jax.files import defer_signals, replace_folder, system_errors, write_atomic
from dilated_jax.temporary import temporary_folder


@given(content=st.binary(max_size=10_000))
def test_content_comes_back(tmp_path_factory, content):
  path = tmp_path_factory.mktemp('files') / 'a.bin'
  write_atomic(path, content)
  assert path.read_bytes() == content
  assert os.listdir(path.parent) == ['a.bin']


def test_makes_the_folder_and_takes_a_string(tmp_path):
  write_atomic(str(tmp_path / 'new' / 'deeper' / 'a.txt'), b'x')
  assert (tmp_path / 'new/deeper/a.txt').read_bytes() == b'x'


def test_mode_follows_the_umask(tmp_path):
  old = os.umask(0o027)
  try:
    write_atomic(tmp_path / 'a', b'x')
    assert os.umask(0o027) == 0o027  # left as it was
  finally:
    os.umask(old)
  assert stat.S_IMODE((tmp_path / 'a').stat().st_mode) == 0o640


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
  path = tmp_path / 'a'
  write_atomic(path, b'old')

  def full(*_):
    raise OSError('No space left on device')

  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(OSError, match='No space'):
    write_atomic(path, b'new')
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['a']


def test_wrong_content_leaves_nothing(tmp_path):
  with pytest.raises(TypeError):
    write_atomic(tmp_path / 'a', 'text, not bytes')
  assert os.listdir(tmp_path) == []


def test_a_file_in_place_of_the_folder_is_an_os_error(tmp_path):
  (tmp_path / 'a').write_bytes(b'')
  with pytest.raises(OSError, match='a'):
    write_atomic(tmp_path / 'a' / 'b', b'x')


def test_a_reader_sees_one_whole_version(tmp_path):
  path = tmp_path / 'a'
  versions = [bytes([i]) * 200_000 for i in range(2)]
  write_atomic(path, versions[0])
  done = threading.Event()

  def write():
    for i in range(50):
      write_atomic(path, versions[i % 2])
    done.set()

  writer = threading.Thread(target=write)
  writer.start()
  seen = []
  while not done.is_set():
    seen.append(path.read_bytes())
  writer.join()
  assert seen and set(seen) <= set(versions)


def test_the_umask_of_other_threads_is_left_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(os, 'umask', None)  # It is that of the whole process.
  write_atomic(tmp_path / 'a', b'x')


def test_errors_name_the_file_that_was_asked_for(tmp_path, monkeypatch):
  def full(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError) as error:
    write_atomic(tmp_path / 'a', b'x')
  assert error.value.filename == str(tmp_path / 'a')
  assert os.listdir(tmp_path) == []


def test_errors_of_tensorstore_are_those_of_the_system():
  told = "RESOURCE_EXHAUSTED: Failed to write 4 bytes: No space left [os_error_code='28']"
  with pytest.raises(OSError) as error, system_errors('there'):
    raise ValueError(told)
  assert (error.value.errno, error.value.filename) == (errno.ENOSPC, 'there')
  with pytest.raises(ValueError, match=r'^other$'), system_errors('there'):
    raise ValueError('other')


def replace(target, content):
  with temporary_folder(target) as new:
    write_atomic(new / 'content', content)
    replace_folder(new, target)


EXCHANGES = [files._exchange, lambda *_: False]
in_one_step_or_several = pytest.mark.parametrize('exchange', EXCHANGES, ids=['one', 'several'])


@in_one_step_or_several
def test_a_folder_is_replaced(tmp_path, monkeypatch, exchange):
  monkeypatch.setattr(files, '_exchange', exchange)
  for content in (b'a', b'b', b'c'):
    replace(tmp_path / 'a', content)
    assert (tmp_path / 'a' / 'content').read_bytes() == content
    assert os.listdir(tmp_path) == ['a']


@in_one_step_or_several
def test_a_folder_that_can_not_be_moved_is_left_and_so_is_the_new_one(
  tmp_path, monkeypatch, exchange
):
  monkeypatch.setattr(files, '_exchange', exchange)
  replace(tmp_path / 'a', b'old')
  real, number = os.rename, errno.EACCES

  def refuse(old, new):
    if os.fspath(old) == str(tmp_path / 'a'):
      raise OSError(number, os.strerror(number), os.fspath(old))
    real(old, new)

  def refuse_exchange(_, other):
    refuse(str(other), '')

  monkeypatch.setattr(os, 'rename', refuse)
  if exchange is files._exchange:
    monkeypatch.setattr(files, '_exchange', refuse_exchange)
  with temporary_folder(tmp_path / 'a') as new:
    write_atomic(new / 'content', b'new')
    with pytest.raises(OSError, match='a'):
      replace_folder(new, tmp_path / 'a')
    assert (new / 'content').read_bytes() == b'new'
  assert (tmp_path / 'a' / 'content').read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['a']


def test_a_reader_never_misses_a_folder(tmp_path):
  if not hasattr(files.ctypes.CDLL(None), 'renameat2'):
    pytest.skip('this system can not exchange names')
  replace(tmp_path / 'a', b'x')
  done, seen = threading.Event(), []

  def write():
    for _ in range(100):
      replace(tmp_path / 'a', b'x')
    done.set()

  writer = threading.Thread(target=write)
  writer.start()
  while not done.is_set():
    seen.append(os.path.exists(tmp_path / 'a'))
  writer.join()
  assert seen and all(seen)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_for_the_end_of_a_write(number):
  steps = []
  before = signal.signal(number, lambda *_: steps.append('signal'))
  try:
    with defer_signals():
      signal.raise_signal(number)
      steps.append('written')
    assert steps == ['written', 'signal']
    signal.raise_signal(number)
    assert steps[2:] == ['signal']
  finally:
    signal.signal(number, before)

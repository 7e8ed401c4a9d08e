"""The folder of a run is that of one run at a time."""

import pytest

from dilated_jax import locks
from dilated_jax.errors import InputError
from dilated_jax.training import workdir


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
  with (
    workdir.held(tmp_path / 'run'),
    pytest.raises(InputError, match=r'run: another process is training there; .*`workdir`'),
    workdir.held(tmp_path / 'run', patience=0.1),
  ):
    pass
  with workdir.held(tmp_path / 'run'):
    (tmp_path / 'run' / 'kept').touch()
  assert (tmp_path / 'run' / 'kept').exists()


def test_a_folder_that_stays_empty_is_removed(tmp_path):
  with workdir.held(tmp_path / 'run'):
    assert (tmp_path / 'run').is_dir()
  assert not (tmp_path / 'run').exists()


def test_where_there_are_no_locks_nobody_is_kept_away(tmp_path, monkeypatch):
  monkeypatch.setattr(locks, 'fcntl', None)
  with workdir.held(tmp_path / 'run'), workdir.held(tmp_path / 'run'):
    assert (tmp_path / 'run').is_dir()

"""Which files are ready, look by look."""

import os

import pytest

from dilated_jax.errors import InputError
from experiments import watching


def looks(folder, *between):
  """What is yielded at each look, with something done to the folder after it."""
  deeds = iter(between)

  def sleep(seconds):
    assert seconds >= 1
    deed = next(deeds, None)
    if deed is None:
      raise KeyboardInterrupt
    deed()

  found = []
  with pytest.raises(KeyboardInterrupt):
    for paths in watching.watch(lambda: sorted(folder.iterdir()), sleep):
      found.append([path.name for path in paths])
  return found


def test_files_are_ready_when_they_rest(tmp_path):
  a, b, late = (tmp_path / name for name in ('a', 'b', 'late'))
  a.write_text('whole')
  b.write_text('ha')

  def changed_with_the_size_and_time_of_before():
    state = a.stat()
    os.replace(shutil_copy(a, 'other'), a)
    os.utime(a, ns=(state.st_atime_ns, state.st_mtime_ns))

  def shutil_copy(path, text):
    new = path.with_name('.new')
    new.write_text(text)
    return new

  found = looks(
    tmp_path,
    lambda: b.write_text('half'),  # Grows between the looks.
    late.touch,  # Empty: somebody has only opened it.
    lambda: None,
    lambda: (b.write_text('again'), late.write_text('x')),
    b.unlink,  # Before it rests.
    lambda: None,
    changed_with_the_size_and_time_of_before,
    lambda: None,
    lambda: None,
  )
  assert found == [
    [], ['a'], ['b'], [], [], ['late'], [], [], ['a'], [],
  ]  # fmt: skip


def test_the_results_are_not_watched(tmp_path):
  (tmp_path / 'in').mkdir()
  watching.check(f'{tmp_path}/in', tmp_path / 'in/labeled')
  watching.check(f'{tmp_path}/in,{tmp_path}/in/**/*.png', tmp_path / 'labeled')
  for inputs, output in (('in', 'in'), ('in/*.jpg', 'in'), ('in/**', '.'), ('in', 'in/../in')):
    with pytest.raises(InputError, match='results would be labeled too'):
      watching.check(f'{tmp_path}/{inputs}', tmp_path / output)
  with pytest.raises(InputError, match='none: no such'):
    watching.check(f'{tmp_path}/in,{tmp_path}/none', tmp_path / 'out')

"""flag_files: what they hold, from where, and how they fail."""

import pytest

from dilated_jax.errors import InputError
from experiments import flag_files


def test_flags_stand_where_the_file_was_named(tmp_path):
  (tmp_path / 'a b.flags').write_text('# a comment\n\n  --x=1 2 \n// another\n--y\n')
  file = f'{tmp_path}/a b.flags'
  for given in (['--flagfile', file], [f'--flagfile={file}'], ['-flagfile', file]):
    assert flag_files.expand(['--x=0', *given, '--z=3']) == ['--x=0', '--x=1 2', '--y', '--z=3']
  assert flag_files.expand(['--', f'--flagfile={file}']) == ['--', f'--flagfile={file}']


def test_included_files_lie_beside_the_one_that_includes_them(tmp_path, monkeypatch):
  (tmp_path / 'sub/deep').mkdir(parents=True)
  (tmp_path / 'sub/one.flags').write_text('--a=1\n--flagfile=deep/two.flags\n--a=3\n')
  (tmp_path / 'sub/deep/two.flags').write_text('--flagfile=../three.flags\n')
  (tmp_path / 'sub/three.flags').write_text('--flagfile=preset:paper/smoke\n')
  monkeypatch.chdir(tmp_path)
  found = flag_files.expand(['--flagfile=sub/one.flags', '--flagfile=sub/three.flags'])
  smoke = flag_files.expand(['--flagfile=preset:paper/smoke'])
  assert '--width=0.03125' in smoke
  assert found == ['--a=1', *smoke, '--a=3', *smoke]


def test_home(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'mine.flags').write_text('--a=1\n')
  assert flag_files.expand(['--flagfile=~/mine.flags']) == ['--a=1']


@pytest.mark.parametrize(
  'name, words',
  [
    ('none.flags', '--flagfile=none.flags: no such file or folder; .*presets lists those'),
    ('experiments/presets/paper/smoke.flags', '.*; that of the project is preset:paper/smoke, '),
    ('camvid_cpu', '--flagfile=camvid_cpu: .*; that of the project is preset:camvid_cpu, '),
    ('~nobody/x.flags', '--flagfile=~nobody/x.flags: no such file'),
    ('sub', '--flagfile=sub: Is a directory'),
    ('bytes.flags', '--flagfile=bytes.flags: is not text; a flag file holds one'),
    ('round.flags', '--flagfile=again.flags: .*again.flags includes itself'),
    ('', '--flagfile: name a file'),
    ('preset:camvidcpu', '--flagfile=preset:camvidcpu: there is no such preset; did you mean '
     'preset:camvid_cpu[?]'),
    ('preset:', '--flagfile=preset:: there is no such preset; did you mean preset:'),
  ],
)  # fmt: skip
def test_refused(name, words, tmp_path, monkeypatch):
  (tmp_path / 'sub').mkdir()
  (tmp_path / 'bytes.flags').write_bytes(b'\x89PNG\xff')
  (tmp_path / 'round.flags').write_text('--flagfile=again.flags\n')
  (tmp_path / 'again.flags').write_text('--flagfile=again.flags\n')
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=f'^{words}'):
    flag_files.expand([f'--flagfile={name}'])
  with pytest.raises(InputError, match='name a file'):
    flag_files.expand(['--flagfile'])


def test_recipes_are_folders():
  path = flag_files.locate('recipe', 'preset:compare/scenes')
  assert (path / 'common.flags').is_file()
  assert flag_files.locate('recipe', str(path)) == path

"""path_flags.py: ~ is a home folder in every flag that is a path, of every command."""

import importlib
import os
import pathlib
import subprocess
import sys

from absl import flags
import PIL.Image
import pytest

from dilated_jax.errors import InputError
from experiments import audit, commands, flag_files, path_flags
from tests import calling

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Texts that are no paths.
OTHERS = {
  'split', 'train_split', 'val_split', 'coordinator', 'input_size', 'tile', 'suite', 'window',
  'grid', 'metric', 'pods', 'devices', 'slurm',
}  # fmt: skip


def test_every_text_is_a_path_or_known_to_be_none():
  """A new flag of a path that is not defined as one would make a folder named ~."""
  for name in commands.names():
    command = importlib.import_module(f'experiments.{name}')
    values = flags.FlagValues()
    command.define_flags(values)
    for flag in values:
      parser = values[flag].parser
      plain = type(parser) is flags.ArgumentParser
      assert not plain or flag in OTHERS | {'flagfile', 'undefok'}, f'{name} --{flag}'


def test_home(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', '/home/of/mine')
  values = flags.FlagValues()
  path_flags.define('one', None, 'A path.', flag_values=values)
  path_flags.define('usual', '~/x', 'A path.', flag_values=values)
  path_flags.define_multi('several', None, 'Paths.', flag_values=values)
  path_flags.define_list('listed', None, 'Paths.', flag_values=values)
  (tmp_path / 'f.flags').write_text('--several=~/from/file\n')
  given = ['--one=~/a b', '--several=~', '--several=b/~', f'--flagfile={tmp_path}/f.flags']
  values(['x', *flag_files.expand([*given, '--listed=~/a,./~b,/c'])])
  home = '/home/of/mine'
  assert (values.one, values.usual) == (f'{home}/a b', f'{home}/x')
  assert values.several == [home, 'b/~', f'{home}/from/file']
  assert values.listed == [f'{home}/a', './~b', '/c']
  assert values['listed'].serialize() == f'--listed={home}/a,./~b,/c'


@pytest.mark.parametrize(
  'value, words',
  [('', 'is empty'), (' ', 'is empty'), ('~no_such_user/x', 'there is no such home')],
)
def test_refused(value, words):
  values = flags.FlagValues()
  path_flags.define('one', None, 'A path.', flag_values=values)
  with pytest.raises(flags.IllegalFlagValueError, match=f'flag --one={value}: {words}'):
    values(['x', f'--one={value}'])


@pytest.mark.parametrize(
  'command, given',
  [
    ('audit', ['images=x', 'labels=x', 'output']),
    ('benchmark', ['suite=conv', 'output=.json']),
    ('compare', ['recipe=x', 'workdir']),
    ('demo', ['workdir']),
    ('evaluate', ['weights=x', 'output=.json']),
    ('explore', ['output=.json']),
    ('export', ['weights=x', 'output=.onnx']),
    ('report', ['output=.html']),
    ('tune', ['weights=x', 'output']),
    ('wavelets', ['image=x', 'output']),
    ('wavenet', ['output']),
  ],
)
def test_nothing_is_done_for_what_can_not_be_written(command, given):
  """Not even looked for what there is to read."""
  module, values = importlib.import_module(f'experiments.{command}'), flags.FlagValues()
  module.define_flags(values)
  *others, output = given
  name, _, ending = output.partition('=')
  values(['x', *(f'--{other}' for other in others), f'--{name}=/dev/null/new/out{ending}'])
  with pytest.raises(NotADirectoryError, match='/dev/null/new'):
    module.main(['x'], values) if command == 'report' else module.main(values)


def test_folders_that_can_be_written_are_left_as_they_were(tmp_path):
  values = flags.FlagValues()
  path_flags.define('output', f'{tmp_path}/new/out', 'A path.', flag_values=values)
  values(['x'])
  path_flags.check_folder(values, 'output')
  path_flags.check_file(values, 'output')
  assert not list(tmp_path.iterdir())


def test_commands_read_and_write_below_home(monkeypatch, tmp_path, capsys):
  home, here = tmp_path / 'home', tmp_path / 'here'
  monkeypatch.setenv('HOME', str(home))
  here.mkdir()
  monkeypatch.chdir(here)
  for kind in ('images', 'labels'):
    (home / 'own' / kind).mkdir(parents=True)
    for index in range(3):
      picture = PIL.Image.new('L', (16, 16), index % 2)
      picture.save(home / 'own' / kind / f'{index}.png')
  for given in (['--dataset=folder', '--data_dir=~/own'],
                ['--images=~/own/images', '--labels=~/own/labels', '--num_classes=2']):  # fmt: skip
    try:
      calling.run(audit, *given, '--output=~/report')
    except InputError as error:  # The pictures are bad, which is told of.
      assert 'no such' not in str(error)
    assert (home / 'report/audit.json').exists()
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.explore', '--width=0.1', '--output=~/x.json'],
    cwd=here, env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0 and (home / 'x.json').exists()
  assert list(here.iterdir()) == []

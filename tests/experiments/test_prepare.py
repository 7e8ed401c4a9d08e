"""prepare: builds, describes, and fails in one line."""

from absl import flags
import pytest

from dilated_jax import data
from dilated_jax.errors import InputError
from experiments import prepare


@pytest.fixture
def values():
  holder = flags.FlagValues()
  prepare.define_flags(holder)
  return holder


def test_describes_what_is_there(values, tmp_path, capsys):
  folder = data.prepare('scenes', tmp_path, counts={'train': 4, 'val': 2, 'test': 2})
  values(['prepare', '--dataset=scenes', f'--data_dir={tmp_path}'])
  prepare.main(values)
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].split() == ['train', 'val', 'test']
  assert lines[1].split() == ['pictures', '4', '2', '2']
  assert lines[2].split() == ['pixels', '81,920', '40,960', '40,960']
  assert [line.split()[0] for line in lines[3:10]] == list(data.classes('scenes').names)
  shares = [float(line.split()[1].rstrip('%')) for line in lines[3:11]]
  assert abs(sum(shares) - 100) < 0.1
  assert lines[-1].endswith(str(folder))


def test_missing_raw_data_is_named(values, tmp_path):
  values(['prepare', '--dataset=camvid', f'--data_dir={tmp_path}', '--manual_dir=/nowhere'])
  with pytest.raises(InputError, match='/nowhere'):
    prepare.main(values)


def test_unknown_data_set_is_a_flag_error(values):
  with pytest.raises(flags.IllegalFlagValueError, match='scenes'):
    values(['prepare', '--dataset=cityscapse'])

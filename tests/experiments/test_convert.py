"""convert: from a file to a folder that the other commands open."""

import functools
import subprocess
import sys

import jax
import numpy as np
import pytest

import dilated_jax
from dilated_jax.errors import InputError
from dilated_jax.models.spec import load_spec
from experiments import convert
from tests import caffe_files, calling

run = functools.partial(calling.run, convert)


@pytest.fixture
def source(tmp_path):
  path = tmp_path / 'file'
  network = caffe_files.published('cityscapes', np.random.default_rng(0), width=1 / 32)
  path.write_bytes(caffe_files.caffemodel(network))
  return path


def test_report_accounts_for_every_array(source, tmp_path, capsys):
  run(f'--source={source}', f'--output={tmp_path / "weights"}')
  out = capsys.readouterr().out
  for line in (
    r'fc6[0]           7, 7, 16, 128           front_end/fc6/kernel',
    r'ctx_conv7_1[1]   19                      context/ctx_conv7_1/bias',
    r'ctx_upsample[0]  16, 16, 1, 19           (the fixed bilinear upsampling, made anew)',
    'dilation10',
    'input 1396x1396',
  ):
    assert ' '.join(line.split()) in ' '.join(out.split())
  model, variables, _ = dilated_jax.load(tmp_path / 'weights')
  total = sum(array.size for array in jax.tree.leaves(variables))
  assert f'{total:,} numbers moved, 1 arrays without a place' in out
  assert not [path for path in tmp_path.iterdir() if path.name.startswith('.')]


def test_nothing_is_written_of_a_wrong_file(source, tmp_path):
  source.write_bytes(source.read_bytes()[:-100])
  with pytest.raises(InputError, match='file'):
    run(f'--source={source}', f'--output={tmp_path / "weights"}')
  assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_weights_that_were_there_are_replaced_only_by_whole_ones(source, tmp_path):
  output = tmp_path / 'weights'
  run(f'--source={source}', f'--output={output}', '--mean=1,2,3')
  damaged = tmp_path / 'damaged'
  damaged.write_bytes(source.read_bytes()[:5000])
  with pytest.raises(InputError):
    run(f'--source={damaged}', f'--output={output}')
  assert load_spec(output).mean == (1, 2, 3)


def test_a_link_stays_a_link(source, tmp_path):
  (tmp_path / 'real').mkdir()
  (tmp_path / 'link').symlink_to('real')
  for mean in ('1,2,3', '4,5,6'):
    run(f'--source={source}', f'--output={tmp_path / "link"}', f'--mean={mean}')
  assert (tmp_path / 'link').is_symlink()
  assert load_spec(tmp_path / 'real').mean == (4, 5, 6)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'link', 'real']


def test_other_folders_are_not_touched(source, tmp_path):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine/letter.txt').write_text('dear')
  with pytest.raises(InputError, match='holds other files than weights'):
    run(f'--source={source}', f'--output={tmp_path / "mine"}')
  run(f'--source={source}', f'--output={tmp_path / "weights"}')
  (tmp_path / 'weights/thesis.tex').write_text('chapter')
  with pytest.raises(InputError, match='holds other files than weights'):
    run(f'--source={source}', f'--output={tmp_path / "weights"}')
  with pytest.raises(InputError, match='is a file; name a folder'):
    run(f'--source={source}', f'--output={source}')


@pytest.mark.parametrize(
  'flag, message',
  [
    ('--mean=1,2', 'give three numbers'),
    ('--mean=a,b,c', 'give three numbers'),
    ('--mean=1,2,300', 'give three numbers'),
    ('--fc=random', 'is a whole network; fc can be told of classifiers alone'),
    ('--normalization=caffe', 'normalization can be told of classifiers alone'),
    ('--dataset=voc', 'tells 19 classes apart, and voc has 21'),
    ('--data_dir=own', '--data_dir is for --dataset=folder'),
  ],
)
def test_wrong_flags(flag, message, source, tmp_path):
  with pytest.raises(InputError, match=message):
    run(f'--source={source}', f'--output={tmp_path / "weights"}', flag)


def test_seen_from_outside(source, tmp_path):
  command = [sys.executable, '-m', 'experiments.convert', f'--output={tmp_path / "weights"}']
  for arguments, status, message in (
    ([], 2, '--source is required'),
    ([f'--source={tmp_path / "nothing"}'], 1, 'nothing: no such file'),
    ([f'--source={tmp_path}'], 1, 'is a folder; name a file of weights'),
  ):
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == status
    assert message in done.stderr and 'Traceback' not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_memory(tmp_path):
  """Half of a file's size is enough, beyond what the libraries take."""
  network = caffe_files.published('camvid', np.random.default_rng(0), width=3 / 8)
  source = tmp_path / 'file'
  source.write_bytes(caffe_files.caffemodel(network))
  peaks = []
  for statement in ('', f'main({str(source)!r}, {str(tmp_path / "weights")!r})'):
    program = (
      'import resource, jax\n'
      'from dilated_jax.models import weights_folder\n'
      'from dilated_jax.weights.convert import convert\n'
      'def main(source, output):\n'
      '  result = convert(source)\n'
      '  weights_folder.save_weights(output, result.spec, result.variables, result.release)\n'
      f'{statement}\n'
      'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n'
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks.append(1024 * int(done.stdout))
  assert peaks[1] - peaks[0] < 0.9 * source.stat().st_size

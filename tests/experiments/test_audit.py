"""audit, the command: exit status, table, JSON and sheet; and a folder of one's own end to end."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from dilated_jax import data
from dilated_jax.data.builders import scenes
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files
from dilated_jax.models.spec import load_spec
from experiments import audit
from tests import calling

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(command, *arguments, **environment):
  return subprocess.run(
    [sys.executable, '-m', f'experiments.{command}', *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **environment},
    capture_output=True,
    text=True,
    timeout=300,
  )


run = functools.partial(calling.run, audit)


def draw(root, count=8, crop=0):
  for side in ('images', 'labels'):
    (root / side).mkdir(parents=True, exist_ok=True)
  for index in range(count):
    image, ids = scenes.draw(index)
    rows = slice(crop * (index % 2), None)
    Image.fromarray(image[rows]).save(root / 'images' / f'{index}x.png')
    Image.fromarray(ids[rows]).save(root / 'labels' / f'{index}x.png')
  return root


@pytest.fixture
def own(tmp_path):
  return draw(tmp_path / 'own')


def of(own):
  return f'--images={own}/images', f'--labels={own}/labels'


def test_a_valid_data_set(own, tmp_path, capsys):
  run(*of(own), '--num_classes=7', f'--output={tmp_path}/report')
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == '8 pairs; 160x128' and lines[1] == 'labels: class ids'
  assert 'valid: 0 errors, 0 warnings, 0 notes' in lines
  content = json.loads((tmp_path / 'report/audit.json').read_text())
  assert content['valid'] and content['findings'] == [] and content['images'] == 8
  total = sum(content['pixels']['None'].values()) + content['ignored']['None']
  assert total == sum(content['values'].values()) == 8 * 128 * 160
  assert content['class_weights'].keys() == {'median', 'log', 'sqrt_log'}
  assert content['flags']['num_classes'] == 7
  assert not (tmp_path / 'report/audit.png').exists()  # Nothing is wrong: nothing to show.


def test_faults_end_with_status_1(own, tmp_path):
  (own / 'labels/3x.png').write_bytes(b'')
  done = start('audit', *of(own), '--dataset=scenes', f'--output={tmp_path}/report')
  assert done.returncode == 1 and 'Traceback' not in done.stderr
  assert done.stderr.splitlines()[-1] == (
    'error: this data set is invalid: unreadable label (1); see above'
  )
  assert f'{own}/labels/3x.png: is an empty file (0 bytes)' in done.stdout
  content = json.loads((tmp_path / 'report/audit.json').read_text())
  assert content['findings'][0]['issues'] == [
    {'file': f'{own}/labels/3x.png', 'detail': 'is an empty file (0 bytes)'}
  ]
  assert image_files.read_image(tmp_path / 'report/audit.png').shape[0] > 180


def test_warnings_do_not_fail(own):
  os.unlink(own / 'labels/3x.png')
  run(*of(own))


def test_a_folder_and_what_it_says(own, capsys):
  names = [f'thing {index}' for index in range(7)]
  (own / 'classes.json').write_text(json.dumps({'names': names}))
  run('--dataset=folder', f'--data_dir={own}')
  assert 'thing 6 ' in capsys.readouterr().out


def test_lists(own, capsys):
  (own / 'train.txt').write_text('0x\n1x\n2x\n3x')
  (own / 'val.txt').write_text('4x\n5x\n3x')
  with pytest.raises(InputError, match=r'invalid: in two splits \(1\)'):
    run(*of(own), '--num_classes=7', f'--split_files={own}/train.txt,{own}/val.txt')
  assert '3x is in train and val' in capsys.readouterr().out


def test_a_prepared_data_set(tmp_path, capsys):
  with pytest.raises(InputError, match=r'scenes: not prepared in .*dilated-jax prepare'):
    run('--dataset=scenes', f'--data_dir={tmp_path}')
  data.prepare('scenes', tmp_path, counts={'train': 5, 'val': 3, 'test': 2})
  run('--dataset=scenes', f'--data_dir={tmp_path}')
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == '10 pairs (5 train, 3 val, 2 test); 160x128'


@pytest.mark.parametrize(
  'arguments, words',
  [
    ([], 'give --images=DIR and --labels=DIR, or --dataset=NAME'),
    (['--images=a'], '--images and --labels go together'),
    (['--images=a', '--labels=b'], 'a: no such folder'),
    (['--images=a', '--labels=b', '--num_classes=1'], 'num_classes=1.* choose 2 to 254'),
    (['--images=a', '--labels=b', '--num_classes=3', '--dataset=voc'], 'drop one'),
    (['--images=a', '--labels=b', '--data_dir=c'], '--data_dir has no meaning'),
    (['--dataset=folder'], '--dataset=folder: give --data_dir=DIR'),
    (['--dataset=voc', '--split_files=a.txt'], '--split_files is for --images and --labels'),
    (['--dataset=voc', '--output=setup.cfg'], 'is a file; name a folder'),
  ],
)
def test_wrong_flags(arguments, words, monkeypatch, tmp_path):
  monkeypatch.chdir(ROOT)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  with pytest.raises(InputError, match=words) as raised:
    run(*arguments)
  assert '\n' not in str(raised.value)


def test_pictures_and_labels_in_one_folder(own):
  with pytest.raises(InputError, match='are in one folder; give a list of pairs'):
    run(f'--images={own}', f'--labels={own}')


# From photographs and masks to a network and overlays.

NARROW = [
  '--model=dilation8', '--blocks=1', '--width=0.0625', '--stride=2', '--fc_kernel=3',
  '--fc_channels=4', '--dilations=1,2,1', '--norm=none', '--loss_resolution=full',
]  # fmt: skip


@pytest.mark.slow
def test_a_folder_end_to_end(tmp_path):
  own, workdir = draw(tmp_path / 'own', crop=20), tmp_path / 'run'
  arguments = [
    '--dataset=folder', f'--data_dir={own}', f'--workdir={workdir}', *NARROW,
    '--stage=front_end,context', '--num_steps=2,2', '--batch_size=2', '--image_scale=0.5',
  ]  # fmt: skip
  before = sorted(own.rglob('*'))
  done = start('train', *arguments)
  assert done.returncode == 0, done.stderr
  held_out = 'held out for validation, and never trained on: 1 image, chosen by a hash'
  assert f'there is no val split; {held_out}' in done.stderr
  spec = load_spec(workdir / 'weights')
  found = json.loads((workdir / 'classes.json').read_text())
  assert list(spec.classes) == found['names'] == [f'class {index}' for index in range(7)]
  assert list(spec.mean) == found['mean'] and len(found['detected']['images']['val']) == 1
  weights = found['detected']['class_weights']
  assert weights.keys() == {'median', 'log', 'sqrt_log'} and len(weights['log']) == 7
  assert sorted(own.rglob('*')) == before

  done = start('evaluate', f'--weights={workdir}/weights', f'--data_dir={own}')
  assert done.returncode == 0 and 'folder val: 1 pictures' in done.stdout, done.stderr
  done = start('predict', f'--weights={workdir}/weights', f'--inputs={own}/images',
               f'--output={tmp_path}/labeled')  # fmt: skip
  assert done.returncode == 0, done.stderr
  for name, size in (('0x', (128, 160)), ('1x', (108, 160))):
    assert np.asarray(Image.open(tmp_path / f'labeled/{name}.png')).shape == size
    assert (tmp_path / f'labeled/{name}_overlay.png').exists()

  draw(own, 9, crop=20)  # One picture more: not the same run any more.
  done = start('train', *arguments)
  assert done.returncode == 1 and 'Traceback' not in done.stderr
  assert 'pictures is' in done.stderr and 'take another --workdir' in done.stderr


def test_train_without_a_folder(tmp_path):
  done = start('train', '--dataset=folder', f'--workdir={tmp_path}/run', TFDS_DATA_DIR=tmp_path)
  assert done.returncode == 1 and 'Traceback' not in done.stderr
  assert 'error: folder: give the folder of your images and labels as --data_dir' in done.stderr
  assert not (tmp_path / 'run').exists()

"""predict: what it writes, and what it refuses."""

import functools
import json
import os
import shutil
import subprocess
import sys

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from dilated_jax import crf, inference, models
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files, matching
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from experiments import predict
from tests import calling

NAMES = ('land', 'water', 'sky')
PALETTE = ((0, 160, 60), (0, 60, 200), (200, 220, 250))
OPTIONS = {'width': 1 / 16, 'blocks': [1, 1, 1, 1, 1], 'fc_kernel': 3}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights') / 'tiny'
  spec = ModelSpec(
    model='front_end',
    options=OPTIONS,
    classes=NAMES,
    palette=PALETTE,
    mean=(120.0, 120.0, 120.0),
    upsampling='corner',
    dataset='toys',
  )
  model = models.create('front_end', len(NAMES), **OPTIONS)
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 200, 200, 3)))
  weights_folder.save_weights(folder, spec, variables)
  return folder


@pytest.fixture
def photos(tmp_path):
  folder = tmp_path / 'photos'
  folder.mkdir()
  rng = np.random.default_rng(0)
  for name, size in (('a.png', (20, 31)), ('b.jpg', (17, 30)), ('c.bmp', (1, 1))):
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
  return folder


run = functools.partial(calling.run, predict)


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_a_dense_crf_refines(weights, photos, tmp_path):
  common = [f'--weights={weights}', f'--inputs={photos}/a.png', '--save=scores']
  run(*common, f'--output={tmp_path}/plain')
  options = ['--crf=dense', '--crf_gaussian=2,4', '--crf_bilateral=20,9,3', '--crf_iterations=3']
  run(*common, f'--output={tmp_path}/refined', *options)
  plain, refined = (
    np.load(tmp_path / kind / 'a.npz')['probabilities'] for kind in ('plain', 'refined')
  )
  settings = crf.DenseCrf((2, 4), (20, 9, 3), iterations=3)
  expected = settings(plain, image_files.read_image(photos / 'a.png'))
  np.testing.assert_allclose(refined, expected, atol=1e-6)
  assert abs(refined - plain).max() > 1e-3
  about = json.loads((tmp_path / 'refined/predictions.json').read_text())
  assert about['flags']['crf'] == 'dense' and about['flags']['crf_bilateral'] == ['20', '9', '3']


@pytest.mark.parametrize('flag', ['crf_gaussian=3', 'crf_bilateral=80,0,3', 'crf_gaussian=a,b'])
def test_wrong_crf_flags(flag):
  with pytest.raises(flags.IllegalFlagValueError, match='numbers above 0'):
    run('--weights=w', '--inputs=i', '--output=o', f'--{flag}')


def test_writes_what_is_asked(weights, photos, tmp_path, capsys):
  out = tmp_path / 'out'
  common = [f'--weights={weights}', f'--inputs={photos}', f'--output={out}']
  run(*common, '--save=labels,colors,overlays,scores', '--flip', '--scales=1,0.5')
  endings = ('.npz', '.png', '_color.png', '_overlay.png')
  made = [stem + ending for stem in 'abc' for ending in endings]
  assert names(out) == sorted([*made, 'predictions.json'])
  about = json.loads((out / 'predictions.json').read_text())
  assert (about['classes'], about['dataset']) == (list(NAMES), 'toys')
  assert '3 of 3 pictures labeled' in capsys.readouterr().out

  _, variables, spec = weights_folder.load_weights(weights)
  model = spec.create()
  for name in ('a.png', 'b.jpg', 'c.bmp'):
    image, stem = image_files.read_image(photos / name), name[0]
    expected = inference.predict(
      Segmenter(model, variables, spec), image, scales=(1.0, 0.5), flip=True
    )
    with Image.open(out / f'{stem}.png') as labels:
      assert labels.mode == 'L'
      np.testing.assert_array_equal(np.asarray(labels), expected.labels)
    colors = image_files.read_image(out / f'{stem}_color.png')
    np.testing.assert_array_equal(colors, np.array(PALETTE)[expected.labels])
    overlay = image_files.read_image(out / f'{stem}_overlay.png')
    height, width = expected.labels.shape
    mixed = (image + np.array(PALETTE)[expected.labels]) / 2
    np.testing.assert_allclose(overlay[:height, :width], mixed, atol=0.5)
    with np.load(out / f'{stem}.npz') as scores:
      assert set(scores) == {'logits', 'probabilities'}
      assert scores['logits'].shape == (-(-height // 8), -(-width // 8), 3)
      np.testing.assert_allclose(scores['logits'], expected.logits, atol=1e-5)
      np.testing.assert_allclose(scores['probabilities'], expected.probabilities, atol=1e-6)


def test_layers_that_were_never_trained_are_told(weights, photos, tmp_path, caplog):
  copy = shutil.copytree(weights, tmp_path / 'vgg')
  about = json.loads((copy / 'model.json').read_text()) | {'untrained': ['final']}
  for folder, untrained in ((weights, False), (copy, True)):
    (copy / 'model.json').write_text(json.dumps(about))
    run(f'--weights={folder}', f'--inputs={photos}/a.png', f'--output={tmp_path}/out')
    assert ('final is untrained' in caplog.text) == untrained


def test_a_bad_picture_does_not_stop_the_others(weights, photos, tmp_path, capsys):
  (photos / 'bad.png').write_bytes((photos / 'a.png').read_bytes()[:100])
  common = [f'--weights={weights}', f'--inputs={photos}', f'--output={tmp_path}/out']
  with pytest.raises(InputError, match='1 of 4 pictures'):
    run(*common, '--save=labels')
  assert names(tmp_path / 'out') == ['a.png', 'b.png', 'c.png', 'predictions.json']
  error = capsys.readouterr().err
  assert 'bad.png: damaged' in error and 'Traceback' not in error


def test_refusals_come_before_any_work(photos, tmp_path):
  Image.new('RGB', (3, 3)).save(photos / 'a.jpg')
  common = ['--weights=/nowhere']
  with pytest.raises(InputError, match=r'a\.jpg and .*a\.png would both be written'):
    run(*common, f'--inputs={photos}', f'--output={tmp_path}/out')
  (photos / 'a.jpg').rename(photos / 'a_overlay.jpg')
  with pytest.raises(InputError, match=r'both be written to .*a_overlay\.png'):
    run(*common, f'--inputs={photos}', f'--output={tmp_path}/out')
  with pytest.raises(InputError, match='would overwrite an input'):
    run(*common, f'--inputs={photos}/a.png', f'--output={photos}')
  with pytest.raises(InputError, match='is a file'):
    run(*common, f'--inputs={photos}/a.png', f'--output={photos}/b.jpg')
  with pytest.raises(InputError, match='no image matches'):
    run(*common, f'--inputs={photos}/*.webp', f'--output={tmp_path}/out')
  assert not (tmp_path / 'out').exists()


def test_the_same_picture_twice_is_done_once(photos, tmp_path):
  inputs = matching.find_images(f'{photos},{photos}/a.png')
  assert len(predict.planned(inputs, tmp_path / 'out', ['labels'])) == 3


@pytest.mark.parametrize('argument', ['--save=masks', '--save=', '--scales=-1', '--scales=1,,2'])
def test_wrong_flags(argument):
  with pytest.raises(flags.IllegalFlagValueError):
    run('--weights=w', '--inputs=i', '--output=o', argument)


def test_seen_from_outside(photos, tmp_path):
  """One line and a status for a missing weights folder; --help knows the flags."""
  command = [sys.executable, '-m', 'experiments.predict', '--verbosity=-1']
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    [*command, '--weights=/nowhere', f'--inputs={photos}', f'--output={tmp_path}/out'],
    capture_output=True, text=True, env=environment,
  )  # fmt: skip
  assert done.returncode == 1 and done.stdout == ''
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert '/nowhere' in done.stderr
  done = subprocess.run([*command, '--help'], capture_output=True, text=True, env=environment)
  assert done.returncode == 0
  assert all(f'--{flag}' in done.stdout for flag in ('weights', 'inputs', 'save', 'scales', 'flip'))


def test_a_tile_does_not_change_the_answer(weights, photos, tmp_path):
  common = [f'--weights={weights}', f'--inputs={photos}', '--save=scores']
  for name, more in (('whole', []), ('tiles', ['--tile=134x150'])):
    run(*common, f'--output={tmp_path / name}', *more)
  for stem in 'ab':
    whole, tiled = (np.load(tmp_path / name / f'{stem}.npz') for name in ('whole', 'tiles'))
    np.testing.assert_allclose(tiled['probabilities'], whole['probabilities'], atol=1e-5)


@pytest.mark.parametrize('text', ['0x300', 'large', '-3', '300x', '3.5'])
def test_refuses_a_wrong_tile(text, weights, photos, tmp_path):
  with pytest.raises(flags.IllegalFlagValueError, match='HxW'):
    run(f'--weights={weights}', f'--inputs={photos}', f'--output={tmp_path}', f'--tile={text}')

"""predict: what it writes, and what it refuses."""

import errno
from fractions import Fraction
import functools
import json
import os
import re
import shutil
import subprocess
import sys

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from dilated_jax import crf, files, inference, models
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files, matching, video
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from experiments import predict, prediction_files, watching
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
  options[1] = '--crf_gaussian=none'
  run(*common, f'--output={tmp_path}/alone', *options)
  settings = crf.DenseCrf(None, (20, 9, 3), iterations=3)
  expected = settings(plain, image_files.read_image(photos / 'a.png'))
  alone = np.load(tmp_path / 'alone/a.npz')['probabilities']
  np.testing.assert_allclose(alone, expected, atol=1e-6)
  with pytest.raises(InputError, match='leaves no CRF'):
    run(*common, f'--output={tmp_path}/no', *options, '--crf_bilateral=none')
  assert not (tmp_path / 'no').exists()


@pytest.mark.parametrize(
  'flag', ['crf_gaussian=3', 'crf_bilateral=80,0,3', 'crf_gaussian=a,b', 'crf_bilateral=none,1,2']
)
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
    (copy / 'checksums.json').unlink(missing_ok=True)
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
  plan = prediction_files.Plan(tmp_path / 'out', ['labels'])
  assert len(plan.of_all(inputs)) == 3


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


# Many sizes, again and again, and videos.


def test_many_sizes_share_programs(weights, tmp_path, caplog):
  folder, rng = tmp_path / 'photos', np.random.default_rng(0)
  folder.mkdir()
  for number, size in enumerate(rng.integers(100, 140, (8, 2))):
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f'{number}.png')
  run(f'--weights={weights}', f'--inputs={folder}', f'--output={tmp_path}/out', '--save=labels')
  told = re.search(r'8 pictures in .* (\d+) programs? compiled', caplog.text)
  assert 1 < int(told[1]) < 6
  for number in (0, 7):
    image = image_files.read_image(folder / f'{number}.png')
    expected = inference.predict(weights_folder.load_weights(weights), image).labels
    found = np.asarray(Image.open(tmp_path / f'out/{number}.png'))
    assert (found == expected).mean() > 0.999 and found.shape == expected.shape


@pytest.mark.parametrize('workers', [0, 3])
def test_workers_change_nothing(workers, weights, photos, tmp_path):
  (photos / 'bad.png').write_bytes(b'no picture')
  with pytest.raises(InputError, match='1 of 4'):
    run(
      f'--weights={weights}', f'--inputs={photos}', f'--output={tmp_path}/out',
      f'--workers={workers}', '--save=labels,overlays',
    )  # fmt: skip
  made = [f'{stem}{ending}' for stem in 'abc' for ending in ('.png', '_overlay.png')]
  assert names(tmp_path / 'out') == sorted([*made, 'predictions.json'])


def test_a_full_disk_is_one_line(weights, photos, tmp_path, monkeypatch):
  def full(path, content):
    if path.name == 'b.png':
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write(path, content)

  write = files.write_atomic
  monkeypatch.setattr(files, 'write_atomic', full)
  with pytest.raises(OSError, match=r'No space left on device.*out/b\.png'):
    run(f'--weights={weights}', f'--inputs={photos}', f'--output={tmp_path}/out', '--save=labels')
  assert set(names(tmp_path / 'out')) <= {'a.png', 'c.png', 'predictions.json'}
  done = json.loads((tmp_path / 'out/predictions.json').read_text())['inputs']
  assert f'{photos}/b.jpg' not in done


def test_what_is_done_is_skipped_until_anything_changes(weights, photos, tmp_path, capsys):
  out, other = tmp_path / 'out', tmp_path / 'other weights'
  common = [f'--inputs={photos}', f'--output={out}', '--skip_existing']

  def labeled(*more, weights=weights):
    times = {path.name: path.stat().st_ino for path in out.iterdir()} if out.exists() else {}
    run(*common, f'--weights={weights}', *more)
    capsys.readouterr()
    return sorted(
      path.name[0] for path in out.glob('?.png') if times.get(path.name) != path.stat().st_ino
    )

  assert labeled('--save=labels') == ['a', 'b', 'c']
  assert labeled('--save=labels') == []
  Image.new('RGB', (20, 30)).save(photos / 'b.jpg')
  assert labeled('--save=labels') == ['b']
  (out / 'c.png').unlink()
  assert labeled('--save=labels') == ['c']
  assert labeled('--save=labels,colors') == ['a', 'b', 'c']
  assert labeled('--save=labels') == []
  assert labeled('--save=labels', '--flip') == ['a', 'b', 'c']
  shutil.copytree(weights, other)
  assert labeled('--save=labels', '--flip', weights=other) == []  # The same, elsewhere.
  about = json.loads((other / 'model.json').read_text()) | {'mean': [1, 2, 3]}
  (other / 'model.json').write_text(json.dumps(about))
  (other / 'checksums.json').unlink()  # As whoever edits it is told to.
  assert labeled('--save=labels', '--flip', weights=other) == ['a', 'b', 'c']
  (out / 'predictions.json').write_text('{"inputs": 3')
  assert labeled('--save=labels', '--flip', weights=other) == ['a', 'b', 'c']


def test_watches_a_folder(weights, photos, tmp_path, monkeypatch, capsys, caplog):
  """Half a file is left until it is whole, a deleted one is forgotten; then Ctrl-C."""
  whole = (photos / 'a.png').read_bytes()
  shutil.move(photos / 'c.bmp', tmp_path / 'c.bmp')
  out = photos / 'out'
  deeds = iter([
    lambda: (photos / 'late.png').write_bytes(whole[:200]),
    lambda: None,  # Somebody pauses for long.
    lambda: (photos / 'late.png').write_bytes(whole),
    (photos / 'b.jpg').unlink,
    lambda: shutil.move(tmp_path / 'c.bmp', photos / 'c.bmp'),
    lambda: None,
    lambda: None,
  ])  # fmt: skip

  def sleep(seconds):
    deed = next(deeds, None)
    if deed is None:
      sys.exit(143)  # SIGTERM, as `cli` hands it on.
    deed()

  monkeypatch.setattr(watching, 'watch', functools.partial(watching.watch, sleep=sleep))
  common = [f'--weights={weights}', f'--inputs={photos}', f'--output={out}', '--save=labels']
  run(*common, '--watch')
  assert names(out) == ['a.png', 'b.png', 'c.png', 'late.png', 'predictions.json']
  told = capsys.readouterr()
  assert 'late.png: damaged' in told.err and '4 of 4 pictures labeled' in told.out
  assert [line for line in caplog.messages if line.endswith(': labeled')][-1].count('c.bmp')

  deeds = iter([lambda: None] * 3)
  run(*common, '--watch')
  assert '0 of 0 pictures labeled' in (said := capsys.readouterr().out)
  assert '3 were labeled before' in said
  with pytest.raises(InputError, match='would be labeled too'):
    run(f'--weights={weights}', f'--inputs={photos}', f'--output={photos}', '--watch')


def test_videos(weights, tmp_path, capsys):
  pytest.importorskip('imageio_ffmpeg')
  folder, out = tmp_path / 'videos', tmp_path / 'out'
  folder.mkdir()
  source = video.Video(folder, (45, 64), Fraction(24), None, Fraction(1), False)
  rng = np.random.default_rng(0)
  with video.VideoWriter(folder / 'clip.mp4', source) as writer:
    for _ in range(7):
      small = rng.integers(0, 256, (5, 8, 3), dtype=np.uint8)
      writer.add(np.repeat(np.repeat(small, 9, 0), 8, 1))
  Image.new('RGB', (20, 30)).save(folder / 'clip.png')
  (folder / 'text.mp4').write_text('no video')
  common = [f'--weights={weights}', f'--output={out}']
  with pytest.raises(InputError, match='1 of 3 files'):
    run(*common, f'--inputs={folder}')
  assert 'text.mp4: can not be read as a video (Invalid data' in capsys.readouterr().err
  assert names(out) == [
    'clip', 'clip.png', 'clip_color.mp4', 'clip_color.png', 'clip_overlay.mp4',
    'clip_overlay.png', 'predictions.json',
  ]  # fmt: skip
  made = video.open_video(out / 'clip_overlay.mp4')
  assert (made.size, made.rate, made.frames) == ((46, 64), 24, 7)
  assert names(out / 'clip') == [f'{number:06}.png' for number in range(1, 8)]

  segmenter = weights_folder.load_weights(weights)
  frames = list(video.read_frames(video.open_video(folder / 'clip.mp4')))
  for number, (frame, shown) in enumerate(zip(frames, video.read_frames(made), strict=True), 1):
    expected = inference.predict(segmenter, frame).labels
    labels = np.asarray(Image.open(out / f'clip/{number:06}.png'))
    assert (labels == expected).mean() > 0.999
    mixed = (frame + np.array(PALETTE)[labels]) / 2
    assert abs(shown - mixed).mean() < 8
  with pytest.raises(InputError, match='scores is for pictures'):
    run(*common, f'--inputs={folder}/clip.mp4', '--save=scores')
  (out / 'clip/notes.txt').touch()
  with pytest.raises(InputError, match='is no folder of frames'):
    run(*common, f'--inputs={folder}/clip.mp4', '--save=labels')

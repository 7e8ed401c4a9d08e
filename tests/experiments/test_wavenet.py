"""experiments.wavenet: what it writes and measures, and what it refuses."""

import functools
import json
import subprocess
import sys

from absl import flags
import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files
from dilated_jax.signal import audio
from experiments import sounds, wavenet, wavenet_training
from tests import calling

TINY = (
  '--num_blocks=1', '--num_layers=4', '--channels=8', '--skip_channels=8', '--segment_length=64',
  '--seconds=0.5',
)  # fmt: skip


@pytest.fixture(autouse=True)
def standard_promotion():
  with jax.numpy_dtype_promotion('standard'):  # optax.adam needs it.
    yield


run = functools.partial(calling.run, wavenet)


def write(path, count=4000, rate=4000):
  t = np.arange(count) / rate
  path.write_bytes(audio.encode_wav(0.5 * np.sin(2 * np.pi * 200 * t), rate))
  return path


def test_made_up_tones(tmp_path, capsys):
  run(f'--output={tmp_path}', '--num_steps=40', '--learning_rate=0.03', *TINY)
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'flags.txt', 'generated.wav', 'grid.png', 'results.json', 'truth.wav',
  ]  # fmt: skip
  results = json.loads((tmp_path / 'results.json').read_text())
  assert results['bits_per_sample'] < results['bits_per_sample_by_histogram'] < 8
  assert results['samples_per_second_queues'] > 0 < results['samples_per_second_by_rerunning']
  assert results['beats_on_a_note_in_truth'] == 1
  for name in ('generated', 'truth'):
    sound, rate = audio.read_wav(tmp_path / f'{name}.wav')
    assert (len(sound), rate) == (4000, 8000)
  assert image_files.read_image(tmp_path / 'grid.png').shape[1] > 2 * 640
  assert 'bits_per_sample' in capsys.readouterr().out


def test_ones_own_sounds(tmp_path):
  write(tmp_path / 'a.wav')
  write(tmp_path / 'b.WAV', 3000)
  (tmp_path / 'notes.txt').write_text('not a sound')
  run(f'--inputs={tmp_path}', f'--output={tmp_path}/out', '--num_steps=3', *TINY)
  _, rate = audio.read_wav(tmp_path / 'out/generated.wav')
  assert rate == 4000
  assert 'beats_on_a_note' not in json.loads((tmp_path / 'out/results.json').read_text())
  assert f'--inputs={tmp_path}' in (tmp_path / 'out/flags.txt').read_text().splitlines()


def test_batches_depend_on_seed_and_step_alone(tmp_path):
  values = flags.FlagValues()
  wavenet.define_flags(values)
  values(['wavenet', '--output=x', '--segment_length=10', '--batch_size=3'])
  parts = [np.arange(100), np.arange(1000, 1050)]
  first, second = (sounds.batches_of(parts, values) for _ in range(2))
  np.testing.assert_array_equal(first(5), second(5))
  assert first(0).shape == (3, 11) and (first(0) != first(1)).any()
  assert all((np.diff(first(step)) == 1).all() for step in range(50))  # Never across two sounds.


def test_bits_per_sample():
  """A network of zeros tells nothing: 8 bits. A histogram tells of a fair coin one bit."""
  model = models.create('wavenet', 256, blocks=1, layers=2, channels=2, skip_channels=2)
  codes = np.random.default_rng(0).integers(0, 2, 1000)
  shapes = jax.eval_shape(model.init, jax.random.key(0), codes[None])
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  assert abs(wavenet_training.bits(model, zeros, codes) - 8) < 1e-5
  assert abs(wavenet_training.bits_by_histogram(np.tile(codes, 100), codes) - 1) < 0.01


def test_notes_are_recognized():
  sound = sounds.melodies(3, beats=20)['melody']
  assert sound.shape == (40_000,) and abs(sound).max() < 1
  assert sounds.on_a_note(sound, 8000) == 1
  # Half a semitone off.
  shifted = np.interp(np.arange(38_000) * 2 ** (0.5 / 12), np.arange(40_000), sound)
  assert sounds.on_a_note(shifted, 8000) < 0.2
  assert sounds.on_a_note(np.random.default_rng(0).normal(0, 1, 40_000), 8000) < 0.2


def test_what_is_refused(tmp_path):
  good = write(tmp_path / 'good.wav')
  other = write(tmp_path / 'other.wav', rate=8000)
  (tmp_path / 'empty').mkdir()
  for arguments, words in (
    ([f'--inputs={tmp_path}/none.wav'], 'none.wav: no such file'),
    ([f'--inputs={tmp_path}/empty'], 'no wav files there'),
    ([f'--inputs={tmp_path}/*.mp3'], 'no wav files there'),
    ([f'--inputs={tmp_path}/*.wav'], 'good.wav has 4000 samples a second, .*other.wav 8000'),
    (
      [f'--inputs={good}', '--segment_length=4000'],
      'good.wav: has 4000 samples, too few for --segment_length=4000',
    ),
    ([f'--inputs={good}', '--num_layers=12'], 'the receptive field has 4096'),
    ([f'--output={other}'], 'is a file'),
  ):
    with pytest.raises(InputError, match=words):
      run(*TINY, f'--output={tmp_path}/out', *arguments)
  with pytest.raises(flags.IllegalFlagValueError, match='--num_layers=99: '):
    run(*TINY, f'--output={tmp_path}/out', f'--inputs={good}', '--num_layers=99')


def test_divergence_is_told(tmp_path, monkeypatch):
  original = wavenet_training.loss_of
  monkeypatch.setattr(wavenet_training, 'loss_of', lambda *arguments: np.nan * original(*arguments))
  with pytest.raises(InputError, match='diverged by step 2: take a --learning_rate below'):
    run(f'--output={tmp_path}', '--num_steps=40', *TINY)


def test_wrong_input_is_one_line_of_the_command(tmp_path):
  (tmp_path / 'text.wav').write_text('hello')
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.wavenet', f'--inputs={tmp_path}/text.wav', '--output=x'],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1 and done.stdout == ''
  assert done.stderr.startswith(f'error: {tmp_path}/text.wav: is not a wav file')
  assert done.stderr.count('\n') == 1

"""Trains a WaveNet on tones or your own sounds and generates more: minutes on a laptop.

  dilated-jax wavenet --output=tones
  dilated-jax wavenet --output=speech --inputs='recordings/*.wav' --num_steps=5000

Without --inputs it makes up melodies of a few notes with decaying harmonics. The last tenth of each
sound is held out; the network goes on from the beginning of that. Leaves generated.wav, truth.wav
(how the held-out sound really goes on), grid.png (both as waveforms and spectrograms),
results.json and flags.txt. Prints bits per sample on what was held out, and how many samples a
second are generated with queues and by running the network again for each.
"""

import dataclasses
import functools
import pathlib

from absl import flags, logging
import numpy as np

from dilated_jax import models, signal
from dilated_jax.errors import InputError
from dilated_jax.files import format_json, write_atomic
from dilated_jax.images import files as image_files, visualization
from dilated_jax.models.options import WaveNetOptions
from dilated_jax.nn import geometry

from . import cli, option_flags, path_flags, sounds

HEARD = 8  # Seconds of what is held out that are listened to.


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}
  whole = functools.partial(flags.DEFINE_integer, lower_bound=1, **into)
  path_flags.define('output', None, 'Folder for the results.', required=True, **into)
  path_flags.define(
    'inputs', None, 'Sounds: wav FILE, FOLDER or GLOB (16-bit PCM); else made-up tones.', **into
  )
  option_flags.define_flags(WaveNetOptions, values, blocks=2, layers=9, skip_channels=64)
  whole('num_steps', 800, 'Of Adam.')
  whole('batch_size', 4, 'Pieces a step.')
  whole('segment_length', 2048, 'Samples of a piece of sound that is learnt from.')
  flags.DEFINE_float('learning_rate', 4e-3, 'At first; falls to 0.', 1e-9, 10.0, **into)
  flags.DEFINE_float('seconds', 4.0, 'To generate.', 0.1, 600.0, **into)
  flags.DEFINE_float('temperature', 1.0, 'Below 1 likely samples become likelier.', 0.01, **into)
  flags.DEFINE_integer('seed', 0, 'Of everything.', lower_bound=0, **into)


def main(values=flags.FLAGS):
  from . import wavenet_training as training  # With JAX, which --help can do without.

  output = pathlib.Path(values.output)
  path_flags.check_folder(values, 'output')
  network = option_flags.from_flags(WaveNetOptions, values)
  model = models.create('wavenet', sounds.CODES, **dataclasses.asdict(network))
  field = geometry.receptive_field(model.table)
  train, held_out, rate = codes(values)
  if len(held_out) <= field:
    raise InputError(
      f'{len(held_out)} samples are held out, {sounds.HELD_OUT:.0%} of all; the receptive field '
      f'has {field}: give longer sounds, or fewer --num_blocks or --num_layers'
    )
  logging.info('%d samples, %d a second; the field is %d', sum(map(len, train)), rate, field)

  variables = training.learn(model, sounds.batches_of(train, values), values)
  results = {
    'bits_per_sample': training.bits(model, variables, held_out),
    'bits_per_sample_by_histogram': training.bits_by_histogram(np.concatenate(train), held_out),
  }
  length = max(1, round(values.seconds * rate))
  generated, speeds = training.go_on(model, variables, held_out[:field], length, values)
  generated = np.asarray(signal.audio.mu_law_decode(generated, sounds.CODES))
  truth = np.asarray(signal.audio.mu_law_decode(held_out[field:][:length], sounds.CODES))
  results |= speeds
  if not values.inputs:
    results |= {'beats_on_a_note': sounds.on_a_note(generated, rate)}
    results |= {'beats_on_a_note_in_truth': sounds.on_a_note(truth, rate)}
  write(output, generated, truth, rate, results, values)


def codes(values) -> tuple[list, np.ndarray, int]:
  """What is learnt from, what is held out, and samples a second."""
  if values.inputs:
    heard, rate = sounds.read(values.inputs)
  else:
    heard, rate = sounds.melodies(values.seed), 8000
  parts = [sounds.split(name, sound, values.segment_length) for name, sound in heard.items()]
  held_out = np.concatenate([part[1] for part in parts])
  return [part[0] for part in parts], held_out[: HEARD * rate], rate


def write(output, generated, truth, rate: int, results: dict, values):
  """Writes sounds, their picture and figures, and prints the figures."""
  for name, sound in (('generated', generated), ('truth', truth)):
    write_atomic(output / f'{name}.wav', signal.audio.encode_wav(sound, rate))
  write_atomic(output / 'grid.png', image_files.encode_png(image_grid(truth, generated, rate)))
  write_atomic(output / 'results.json', format_json(results))
  own = values.get_key_flags_for_module(__name__)
  lines = [flag.serialize() for flag in own if flag.value is not None]
  write_atomic(output / 'flags.txt', '\n'.join(lines).encode() + b'\n')
  for name, value in results.items():
    print(f'{name:32}{value:12.2f}')
  print(f'written to {output}: generated.wav, truth.wav, grid.png')


def image_grid(truth, generated, rate: int) -> np.ndarray:
  """Waveforms, a twentieth of a second of them, and spectrograms, side by side."""
  both = (truth, generated)
  rows = [
    [waveform(sound) for sound in both],
    [waveform(sound[len(sound) // 2 :][: rate // 20]) for sound in both],
    [spectrogram(sound, rate) for sound in both],
  ]
  titles = [
    f'{name}: {len(sound) / rate:.1f} s, 50 ms of it, 0..{rate / 2000:g} kHz'
    for name, sound in zip(('held out', 'generated'), both)
  ]
  return visualization.image_grid(rows, titles)


def waveform(sound, width: int = 640, height: int = 120) -> np.ndarray:
  """The range of the samples in each column."""
  page = np.full((height, width, 3), 245, np.uint8)
  edges = np.linspace(0, len(sound), width + 1)
  rows = (height - 1) * (1 - np.clip(sound / max(abs(sound).max(), 1e-6), -1, 1)) / 2
  for x, (start, end) in enumerate(zip(edges, edges[1:])):
    part = rows[int(start) : int(np.ceil(end)) + 1]  # As far as the next, so that lines join.
    page[int(part.min()) : int(part.max()) + 1, x] = (30, 90, 160)
  return page


def spectrogram(sound, rate: int, width: int = 640, height: int = 200) -> np.ndarray:
  """Energy by time and frequency (upwards), black over 60 dB to white."""
  from scipy.signal import spectrogram as spectra

  size = min(512, len(sound))
  _, _, power = spectra(sound, rate, nperseg=size, noverlap=size * 3 // 4)
  decibels = 10 * np.log10(power / max(power.max(), 1e-20) + 1e-6)
  gray = (255 * (1 + decibels[::-1] / 60)).astype(np.uint8)
  rows = np.arange(height) * gray.shape[0] // height
  columns = np.arange(width) * gray.shape[1] // width
  return np.repeat(gray[rows][:, columns, None], 3, axis=-1)


if __name__ == '__main__':
  define_flags()
  cli.run(main)

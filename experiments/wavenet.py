"""Trains a WaveNet on tones or your own sounds and generates more: minutes on a laptop.

  dilated-jax wavenet --output=tones
  dilated-jax wavenet --output=speech --inputs='recordings/*.wav' --num_steps=5000

Without --inputs it makes up melodies of a few notes with decaying harmonics. The last tenth of each
sound is held out; the network goes on from the beginning of that. Leaves generated.wav, truth.wav
(how the held-out sound really goes on), grid.png (both as waveforms and spectrograms),
results.json and flags.txt. Prints bits per sample on what was held out, and how many samples a
second are generated with queues and by running the network again for each.
"""

import functools
import glob
import pathlib
import time

from absl import flags, logging
import jax
import numpy as np
import optax
from scipy import signal

from dilated_jax import models, progress
from dilated_jax.errors import InputError
from dilated_jax.files import format_json, write_atomic
from dilated_jax.images import files as image_files, visualization
from dilated_jax.nn import geometry
from dilated_jax.signal import audio, wavenet

from . import cli

CODES = 256
NOTES = 440 * 2 ** (np.array([-9, -7, -5, -2, 0]) / 12)  # C D E G A, Hz.
BEAT = 0.25  # Seconds.
HELD_OUT = 0.1
HEARD = 8  # Seconds of what is held out that are listened to.


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}
  whole = functools.partial(flags.DEFINE_integer, lower_bound=1, **into)
  flags.DEFINE_string('output', None, 'Folder for the results.', required=True, **into)
  flags.DEFINE_string(
    'inputs', None, 'Sounds: wav FILE, FOLDER or GLOB (16-bit PCM); else made-up tones.', **into
  )
  whole('num_blocks', 2, 'Of dilations 1, 2, 4, ...')
  whole('num_layers', 9, 'Of a block.')
  whole('channels', 32, 'Between the layers.')
  whole('skip_channels', 64, 'Into the head.')
  whole('num_steps', 800, 'Of Adam.')
  whole('batch_size', 4, 'Pieces a step.')
  whole('segment_length', 2048, 'Samples of a piece of sound that is learnt from.')
  flags.DEFINE_float('learning_rate', 4e-3, 'At first; falls to 0.', 1e-9, 10.0, **into)
  flags.DEFINE_float('seconds', 4.0, 'To generate.', 0.1, 600.0, **into)
  flags.DEFINE_float('temperature', 1.0, 'Below 1 likely samples become likelier.', 0.01, **into)
  flags.DEFINE_integer('seed', 0, 'Of everything.', lower_bound=0, **into)


def main(values=flags.FLAGS):
  output = pathlib.Path(values.output)
  if output.exists() and not output.is_dir():
    raise InputError(f'--output={output}: is a file; name a folder')
  model = models.create(
    'wavenet', CODES, blocks=values.num_blocks, layers=values.num_layers,
    channels=values.channels, skip_channels=values.skip_channels,
  )  # fmt: skip
  field = geometry.receptive_field(model)
  sounds, rate = read(values.inputs) if values.inputs else (melodies(values.seed), 8000)
  parts = [split(name, sound, values.segment_length) for name, sound in sounds.items()]
  train, held_out = [part[0] for part in parts], np.concatenate([part[1] for part in parts])
  held_out = held_out[: HEARD * rate]
  if len(held_out) <= field:
    raise InputError(
      f'{len(held_out)} samples are held out, {HELD_OUT:.0%} of all; the receptive field has '
      f'{field}: give more --inputs, or fewer --num_blocks or --num_layers'
    )
  logging.info('%d samples, %d a second; the field is %d', sum(map(len, train)), rate, field)

  key, batches = jax.random.key(values.seed), batches_of(train, values)
  variables = learn(model, key, batches, values)
  results = {
    'bits_per_sample': bits(model, variables, held_out),
    'bits_per_sample_by_histogram': bits_by_histogram(np.concatenate(train), held_out),
  }
  length = max(1, round(values.seconds * rate))
  generated, speeds = go_on(model, variables, held_out[:field], length, key, values.temperature)
  results |= speeds
  generated = np.asarray(audio.mu_law_decode(generated, CODES))
  truth = np.asarray(audio.mu_law_decode(held_out[field:][:length], CODES))
  if not values.inputs:
    results |= {'beats_on_a_note': on_a_note(generated, rate)}
    results |= {'beats_on_a_note_in_truth': on_a_note(truth, rate)}

  for name, sound in (('generated', generated), ('truth', truth)):
    write_atomic(output / f'{name}.wav', audio.encode_wav(sound, rate))
  write_atomic(output / 'grid.png', image_files.encode_png(image_grid(truth, generated, rate)))
  write_atomic(output / 'results.json', format_json(results))
  own = values.get_key_flags_for_module(__name__)
  lines = [flag.serialize() for flag in own if flag.value is not None]
  write_atomic(output / 'flags.txt', '\n'.join(lines).encode() + b'\n')
  for name, value in results.items():
    print(f'{name:32}{value:12.2f}')
  print(f'written to {output}: generated.wav, truth.wav, grid.png')


# Sounds.


def read(inputs: str) -> tuple[dict, int]:
  """Reads wav files: ({name: (T,) float32}, samples a second)."""
  path = pathlib.Path(inputs)
  if path.is_dir():
    paths = sorted(file for file in path.iterdir() if file.suffix.lower() == '.wav')
  elif glob.has_magic(inputs) and not path.exists():
    paths = sorted(glob.glob(inputs, recursive=True))
  else:
    paths = [path]
  if not paths:
    raise InputError(f'--inputs={inputs}: no wav files there')
  sounds, rates = {}, {}
  for path in paths:
    sounds[str(path)], rate = audio.read_wav(path)
    rates.setdefault(rate, path)
  if len(rates) > 1:
    (one, first), (other, second), *_ = rates.items()
    raise InputError(f'{first} has {one} samples a second, {second} {other}; make them equal')
  return sounds, next(iter(rates))


def melodies(seed: int, beats: int = 400, rate: int = 8000) -> dict:
  """Makes up one long melody of random notes, each with four harmonics that decay."""
  rng = np.random.default_rng(seed)
  t = np.arange(round(BEAT * rate)) / rate
  envelope = np.minimum(1, np.minimum(t, BEAT - t) / 0.005)  # No clicks.
  sound = []
  for note in rng.choice(NOTES, beats):
    sound.append(
      envelope * sum(
        0.35 / n * np.exp(-3 * n * t) * np.sin(2 * np.pi * (n * note * t + rng.random()))
        for n in range(1, 5)
      )
    )  # fmt: skip
  return {'melody': np.concatenate(sound).astype(np.float32)}


def split(name: str, sound, length: int) -> tuple[np.ndarray, np.ndarray]:
  """The codes of a sound: what is learnt from, and the end, which is held out."""
  codes = np.asarray(audio.mu_law_encode(sound, CODES))
  train, held_out = np.split(codes, [round((1 - HELD_OUT) * len(codes))])
  if len(train) <= length:
    raise InputError(f'{name}: has {len(sound)} samples, too few for --segment_length={length}')
  return train, held_out


def batches_of(train, values):
  """A function of the step: (batch_size, segment_length + 1) codes, from anywhere in the sounds."""
  room = np.array([len(sound) - values.segment_length for sound in train])
  share = room / room.sum()

  def batch(step):
    rng = np.random.default_rng((values.seed, step))
    chosen = rng.choice(len(train), values.batch_size, p=share)
    starts = rng.integers(room[chosen])
    return np.stack(
      [train[i][start : start + values.segment_length + 1] for i, start in zip(chosen, starts)]
    )

  return batch


# Learning.


def loss_of(model, variables, codes):
  """Mean bits per sample of (N, T) codes, each told from those before it."""
  logits = model.apply(variables, codes[:, :-1])
  nats = optax.softmax_cross_entropy_with_integer_labels(logits, codes[:, 1:])
  return nats.mean() / float(np.log(2))


def learn(model, key, batch, values):
  """Trains, and returns the variables."""
  variables = jax.jit(model.init)(key, batch(0)[:, :2])
  optimizer = optax.adam(optax.cosine_decay_schedule(values.learning_rate, values.num_steps))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(variables, state, codes):
    loss, gradient = jax.value_and_grad(functools.partial(loss_of, model))(variables, codes)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(variables, updates), state, loss

  state, losses = optimizer.init(variables), []
  for number in progress.track(range(values.num_steps), unit='steps', every=15):
    variables, state, loss = step(variables, state, batch(number))
    losses.append(loss)
    if (number + 1) % max(1, values.num_steps // 20) == 0 or number + 1 == values.num_steps:
      mean, losses = np.mean(jax.device_get(losses)), []
      logging.info('step %d: %.3f bits per sample', number + 1, mean)
      if not np.isfinite(mean):
        raise InputError(
          f'training diverged by step {number + 1}: take a --learning_rate below '
          f'{values.learning_rate:g}'
        )
  return variables


def bits(model, variables, codes) -> float:
  """Bits per sample of a sound, each sample told from all before it."""
  return float(jax.jit(functools.partial(loss_of, model))(variables, codes[None]))


def bits_by_histogram(train, codes) -> float:
  """The same for whoever knows how often each code occurs, and hears nothing."""
  counts = np.bincount(train, minlength=CODES) + 1
  return float(-np.log2(counts / counts.sum())[codes].mean())


# Generation.


def go_on(model, variables, prompt, length: int, key, temperature: float):
  """Generates after a prompt, and measures how fast, by queues and without.

  Returns:
    ((length,) codes, the speeds by name).
  """

  def run(function, length):
    arguments = (variables, prompt[None])
    options = dict(key=key, temperature=temperature)
    compiled = jax.jit(lambda *a, **k: function(model, *a, length, **k)).lower(
      *arguments, **options
    ).compile()  # fmt: skip
    start = time.monotonic()
    codes = np.asarray(compiled(*arguments, **options))[0]
    return codes[len(prompt) :], time.monotonic() - start

  generated, seconds = run(wavenet.generate, length)
  few = min(length, 200)
  again, slow_seconds = run(wavenet.generate_naive, few)
  equal = np.array_equal(again, generated[:few])
  logging.info('the first %d samples are %sequal both ways', few, '' if equal else 'not ')
  return generated, {
    'samples_per_second_queues': (len(prompt) + length - 1) / seconds,
    'samples_per_second_by_rerunning': few / slow_seconds,
  }


def on_a_note(sound, rate: int) -> float:
  """Share of the beats whose strongest frequency is within 30 cents of a note of the melodies."""
  window = round(BEAT * rate)
  beats = sound[: len(sound) // window * window].reshape(-1, window) * np.hanning(window)
  strongest = abs(np.fft.rfft(beats, 16 * window))[:, 1:].argmax(axis=1) + 1
  cents = 1200 * np.log2(strongest[:, None] * rate / (16 * window) / NOTES)
  return float((abs(cents).min(axis=1) < 30).mean())


# The picture.


def image_grid(truth, generated, rate: int) -> np.ndarray:
  """Waveforms, a twentieth of a second of them, and spectrograms, side by side."""
  sounds = (truth, generated)
  rows = [
    [waveform(sound) for sound in sounds],
    [waveform(sound[len(sound) // 2 :][: rate // 20]) for sound in sounds],
    [spectrogram(sound, rate) for sound in sounds],
  ]
  titles = [
    f'{name}: {len(sound) / rate:.1f} s, 50 ms of it, 0..{rate / 2000:g} kHz'
    for name, sound in zip(('held out', 'generated'), sounds)
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
  size = min(512, len(sound))
  _, _, power = signal.spectrogram(sound, rate, nperseg=size, noverlap=size * 3 // 4)
  decibels = 10 * np.log10(power / max(power.max(), 1e-20) + 1e-6)
  gray = (255 * (1 + decibels[::-1] / 60)).astype(np.uint8)
  rows = np.arange(height) * gray.shape[0] // height
  columns = np.arange(width) * gray.shape[1] // width
  return np.repeat(gray[rows][:, columns, None], 3, axis=-1)


if __name__ == '__main__':
  define_flags()
  cli.run(main)

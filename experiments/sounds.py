"""The sounds that `wavenet` learns: read or made up, split, and cut into batches."""

import glob
import pathlib

import numpy as np

from dilated_jax import signal
from dilated_jax.errors import InputError

CODES = 256
HELD_OUT = 0.1  # Share of each sound, its end.
_NOTES = 440 * 2 ** (np.array([-9, -7, -5, -2, 0]) / 12)  # C D E G A, Hz.
_BEAT = 0.25  # Seconds.


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
    sounds[str(path)], rate = signal.audio.read_wav(path)
    rates.setdefault(rate, path)
  if len(rates) > 1:
    (one, first), (other, second), *_ = rates.items()
    raise InputError(f'{first} has {one} samples a second, {second} {other}; make them equal')
  return sounds, next(iter(rates))


def melodies(seed: int, beats: int = 400, rate: int = 8000) -> dict:
  """Makes up one long melody of random notes, each with four harmonics that decay."""
  rng = np.random.default_rng(seed)
  t = np.arange(round(_BEAT * rate)) / rate
  envelope = np.minimum(1, np.minimum(t, _BEAT - t) / 0.005)  # No clicks.
  sound = []
  for note in rng.choice(_NOTES, beats):
    sound.append(
      envelope * sum(
        0.35 / n * np.exp(-3 * n * t) * np.sin(2 * np.pi * (n * note * t + rng.random()))
        for n in range(1, 5)
      )
    )  # fmt: skip
  return {'melody': np.concatenate(sound).astype(np.float32)}


def on_a_note(sound, rate: int) -> float:
  """Share of the beats whose strongest frequency is within 30 cents of a note of the melodies."""
  window = round(_BEAT * rate)
  beats = sound[: len(sound) // window * window].reshape(-1, window) * np.hanning(window)
  strongest = abs(np.fft.rfft(beats, 16 * window))[:, 1:].argmax(axis=1) + 1
  cents = 1200 * np.log2(strongest[:, None] * rate / (16 * window) / _NOTES)
  return float((abs(cents).min(axis=1) < 30).mean())


def split(name: str, sound, length: int) -> tuple[np.ndarray, np.ndarray]:
  """The codes of a sound: what is learnt from, and the end, which is held out."""
  codes = np.asarray(signal.audio.mu_law_encode(sound, CODES))
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

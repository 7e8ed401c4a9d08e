"""Audio: mu-law codes and wav files. A waveform has float samples of -1..1."""

import io
import os
import wave

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Float32, Int32, Integer
import numpy as np

from dilated_jax.errors import InputError


def mu_law_encode(
  x: Float[ArrayLike, '*shape'], num_classes: int = 256
) -> Int32[jax.Array, '*shape']:
  """Quantizes a waveform: finely where it is soft, coarsely where it is loud (ITU-T G.711).

  f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu) with mu = num_classes - 1, in equal steps.

  Args:
    x: samples; those beyond -1..1 are clipped.
    num_classes: number of codes.

  Returns:
    Codes, 0 ... num_classes - 1.

  Raises:
    InputError: the samples are whole numbers, or (outside of compiled programs) far beyond -1..1.
  """
  _check_samples(x)
  mu = num_classes - 1
  x = jnp.clip(x, -1, 1)
  compressed = jnp.sign(x) * jnp.log1p(mu * jnp.abs(x)) / float(np.log1p(mu))
  return jnp.floor((compressed + 1) / 2 * mu + 0.5).astype(jnp.int32)


def mu_law_decode(
  codes: Integer[ArrayLike, '*shape'], num_classes: int = 256
) -> Float32[jax.Array, '*shape']:
  """Inverts `mu_law_encode`, up to the quantization.

  Args:
    codes: 0 ... num_classes - 1.
    num_classes: number of codes.

  Returns:
    Samples, -1..1.
  """
  mu = num_classes - 1
  compressed = 2 * jnp.asarray(codes).astype(jnp.float32) / mu - 1
  return jnp.sign(compressed) * jnp.expm1(jnp.abs(compressed) * float(np.log1p(mu))) / mu


def read_wav(path: str | os.PathLike) -> tuple[Float32[np.ndarray, ' t'], int]:
  """Reads a wav file of 16-bit PCM and averages its channels.

  Args:
    path: the file.

  Returns:
    The waveform and its sample rate, in Hz.

  Raises:
    InputError: the file is missing, damaged, empty or of another encoding.
  """
  try:
    if os.path.isdir(path):
      raise InputError(f'{path}: is a folder; name a wav file')
    with wave.open(str(path), 'rb') as file:
      if file.getsampwidth() != 2:
        raise InputError(
          f'{path}: has {8 * file.getsampwidth()} bits per sample; save it as 16-bit PCM'
        )
      content, channels = file.readframes(file.getnframes()), file.getnchannels()
      rate = file.getframerate()
  except FileNotFoundError:
    raise InputError(f'{path}: no such file') from None
  except (wave.Error, EOFError, RuntimeError, ValueError, MemoryError) as error:
    reason = str(error) or 'it ends too early'
    raise InputError(f'{path}: is not a wav file of 16-bit PCM ({reason})') from None
  count = len(content) // (2 * channels)
  if not count:
    raise InputError(f'{path}: holds no samples')
  values = np.frombuffer(content[: 2 * channels * count], '<i2').reshape(-1, channels)
  return values.astype(np.float32).mean(axis=1) / np.float32(32768), rate


def encode_wav(x: Float[np.ndarray, ' t'], rate: int) -> bytes:
  """Encodes a waveform as a wav file of 16-bit PCM.

  Args:
    x: samples; those beyond -1..1 are clipped.
    rate: sample rate, in Hz.

  Returns:
    The content of the file.

  Raises:
    InputError: the samples are whole numbers, or far beyond -1..1.
  """
  _check_samples(x)
  content = io.BytesIO()
  with wave.open(content, 'wb') as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(rate)
    file.writeframes(np.rint(np.clip(x, -1, 1) * 32767).astype('<i2').tobytes())
  return content.getvalue()


def _check_samples(x) -> None:
  """Raises InputError for samples that are not on the scale of -1..1, which clipping would ruin."""
  dtype = jnp.result_type(x)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise InputError(f'samples are floats of -1..1, not {dtype}: divide 16-bit samples by 32768')
  if not isinstance(x, jax.core.Tracer):
    peak = np.abs(np.asarray(x)).max(initial=0)
    if peak > 10:
      raise InputError(f'samples reach {peak:g} and lie in -1..1: divide 16-bit samples by 32768')

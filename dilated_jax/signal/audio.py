"""Sound: mu-law codes and wav files. Sounds are (T,) float, -1..1."""

import io
import wave

import jax.numpy as jnp
import numpy as np

from dilated_jax.errors import InputError


def mu_law_encode(x, num_classes: int = 256):
  """Quantises a sound finely where it is soft and coarsely where it is loud (ITU-T G.711).

  f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu) with mu = num_classes - 1, in equal steps.

  Args:
    x: sound of any shape, floating point; what is beyond -1..1 is clipped.
    num_classes: codes.

  Returns:
    int32 of the same shape, 0 ... num_classes - 1.
  """
  mu = num_classes - 1
  x = jnp.clip(x, -1, 1)
  compressed = jnp.sign(x) * jnp.log1p(mu * jnp.abs(x)) / float(np.log1p(mu))
  return jnp.floor((compressed + 1) / 2 * mu + 0.5).astype(jnp.int32)


def mu_law_decode(codes, num_classes: int = 256):
  """Undoes `mu_law_encode`, up to the quantisation.

  Args:
    codes: integers of any shape, 0 ... num_classes - 1.
    num_classes: codes.

  Returns:
    float32 of the same shape, -1..1.
  """
  mu = num_classes - 1
  compressed = 2 * codes.astype(jnp.float32) / mu - 1
  return jnp.sign(compressed) * jnp.expm1(jnp.abs(compressed) * float(np.log1p(mu))) / mu


def read_wav(path) -> tuple[np.ndarray, int]:
  """Reads a wav file of 16-bit PCM; channels are averaged.

  Args:
    path: the file.

  Returns:
    ((T,) float32, samples a second).

  Raises:
    InputError: it is missing, damaged, empty or stored in another way.
  """
  try:
    with wave.open(str(path), 'rb') as file:
      if file.getsampwidth() != 2:
        raise InputError(
          f'{path}: has {8 * file.getsampwidth()} bits a sample; save it as 16-bit PCM'
        )
      content, channels = file.readframes(file.getnframes()), file.getnchannels()
      rate = file.getframerate()
  except FileNotFoundError:
    raise InputError(f'{path}: no such file') from None
  except (wave.Error, EOFError) as error:
    what = str(error) or 'it ends too early'
    raise InputError(f'{path}: is no wav file of 16-bit PCM ({what})') from None
  whole = len(content) // (2 * channels)
  if not whole:
    raise InputError(f'{path}: holds no samples')
  values = np.frombuffer(content[: 2 * channels * whole], '<i2').reshape(-1, channels)
  return values.astype(np.float32).mean(axis=1) / np.float32(32768), rate


def encode_wav(x, rate: int) -> bytes:
  """Packs a sound as a wav file of 16-bit PCM.

  Args:
    x: (T,) float, -1..1; what is beyond is clipped.
    rate: samples a second.

  Returns:
    the content of the file.
  """
  content = io.BytesIO()
  with wave.open(content, 'wb') as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(rate)
    file.writeframes(np.rint(np.clip(x, -1, 1) * 32767).astype('<i2').tobytes())
  return content.getvalue()

"""audio: mu-law codes and wav files."""

import wave

from hypothesis import given, strategies
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.signal import audio


def test_mu_law_is_the_formula_of_the_paper():
  x = np.linspace(-1, 1, 999).astype(np.float32)
  f = np.sign(x) * np.log(1 + 255 * abs(x.astype(np.float64))) / np.log(256)
  expected = (f + 1) / 2 * 255
  found = np.asarray(audio.mu_law_encode(x))
  assert found.dtype == np.int32 and (found.min(), found.max()) == (0, 255)
  assert abs(found - expected).max() < 0.5 + 1e-3
  np.testing.assert_array_equal(audio.mu_law_encode(np.array([-9.0, 9.0])), [0, 255])


@pytest.mark.parametrize('num_classes', [2, 16, 256, 1024])
def test_codes_survive_decoding(num_classes):
  codes = jnp.arange(num_classes)
  sound = audio.mu_law_decode(codes, num_classes)
  assert sound.dtype == jnp.float32 and bool((jnp.diff(sound) > 0).all())
  np.testing.assert_allclose(sound[jnp.array([0, -1])], [-1, 1], atol=1e-6)
  np.testing.assert_array_equal(audio.mu_law_encode(sound, num_classes), codes)


@given(strategies.floats(-1, 1, width=32))
def test_the_error_is_a_share_of_the_loudness(value):
  found = float(audio.mu_law_decode(audio.mu_law_encode(np.float32(value))))
  assert abs(found - value) <= 1.02 * np.log(256) / 255 * (abs(value) + 1 / 255)


def test_wav_files_come_back(tmp_path):
  x = np.random.default_rng(0).uniform(-1, 1, 500).astype(np.float32)
  (tmp_path / 'a.wav').write_bytes(audio.encode_wav(x, 8000))
  found, rate = audio.read_wav(tmp_path / 'a.wav')
  assert rate == 8000 and found.dtype == np.float32
  np.testing.assert_allclose(found, x, atol=1e-4)
  (tmp_path / 'loud.wav').write_bytes(audio.encode_wav(np.array([-7.0, 7.0]), 8000))
  np.testing.assert_allclose(audio.read_wav(tmp_path / 'loud.wav')[0], [-1, 1], atol=1e-4)


def stored(path, width=2, channels=1, content=b'\x00\x40\x00\xc0'):
  with wave.open(str(path), 'wb') as file:
    file.setnchannels(channels)
    file.setsampwidth(width)
    file.setframerate(8000)
    file.writeframes(content)
  return path


def test_channels_are_averaged(tmp_path):
  found, _ = audio.read_wav(stored(tmp_path / 'stereo.wav', channels=2))
  np.testing.assert_array_equal(found, [0])


def test_what_is_refused(tmp_path):
  good = stored(tmp_path / 'good.wav').read_bytes()
  for name, content, words in (
    ('text.wav', b'hello, world of sound, how are you', 'is not a wav file'),
    ('empty.wav', b'', 'is not a wav file'),
    ('cut.wav', good[:30], 'is not a wav file'),
  ):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f'{name}: {words}'):
      audio.read_wav(tmp_path / name)
  with pytest.raises(InputError, match='8 bits per sample'):
    audio.read_wav(stored(tmp_path / 'byte.wav', width=1))
  with pytest.raises(InputError, match='holds no samples'):
    audio.read_wav(stored(tmp_path / 'silent.wav', content=b''))
  with pytest.raises(InputError, match='no such file'):
    audio.read_wav(tmp_path / 'none.wav')


def test_samples_of_another_scale(without_type_checks):
  sixteen_bit = np.array([0, 3000, -32768], np.int16)
  for call in (audio.mu_law_encode, lambda x: audio.encode_wav(x, 8000)):
    with pytest.raises(InputError, match=r'floats of -1\.\.1, not int16: divide'):
      call(sixteen_bit)
    with pytest.raises(InputError, match=r'reach 32768 and lie in -1\.\.1: divide'):
      call(sixteen_bit.astype(np.float32))
  np.testing.assert_array_equal(audio.mu_law_encode(np.float32([1.5, -1.5])), [255, 0])  # Clipped.

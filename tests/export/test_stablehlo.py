"""stablehlo.py: programs that JAX alone runs, beside `predict`."""

import types

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax import inference
from dilated_jax.errors import InputError
from dilated_jax.export import stablehlo
from dilated_jax.models.dilation import _scaled
from dilated_jax.nn import geometry, ops
from tests.export.networks import NETWORKS, VGG, segmenter

# `benchmark --suite=export` runs all networks.
CASES = {
  'skips at once': NETWORKS['skips at once'],
  'crf of cells': ('front_end', VGG | dict(crf='rnn', fc_kernel=3)),
}


def loaded(network, *options):
  """A program for CPUs."""
  content = stablehlo.export(network, *options, platforms=('cpu',))
  return jax.export.deserialize(bytearray(content))


def assert_labels(network, program, size, index=0):
  images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
  labels, probabilities = program.call(images)
  assert labels.shape == (2, *size) and labels.dtype == np.uint8
  expected = inference.predict(network, images[index], tile='whole')
  np.testing.assert_allclose(probabilities[index], expected.probabilities, atol=1e-5)
  assert expected.probabilities.std() > 0.05
  # Ties may break either way.
  first, second = np.sort(expected.probabilities, -1)[..., :-3:-1].transpose(2, 0, 1)
  assert (labels[index] == expected.labels)[first - second > 1e-4].all()


@pytest.mark.parametrize('which', CASES)
def test_labels_of_any_size(which):
  name, options = CASES[which]
  network = segmenter(name, gain=0.5, **options)
  assert_labels(network, loaded(network), (29, 46), 1)


def test_tiny_odd_and_even_sizes():
  """The margin is larger than the images: they are reflected several times."""
  network = segmenter('dilation8', context='basic', gain=0.5, **VGG)
  program = loaded(network)
  for size in ((1, 1), (7, 5), (32, 16)):
    assert_labels(network, program, size)


def test_a_crf_on_pixels_is_of_one_size():
  network = segmenter('front_end', crf='rnn', crf_rnn_grid='pixels', fc_kernel=3, **VGG)
  with pytest.raises(InputError, match='laid out for images of one size: give `input_size`'):
    stablehlo.export(network)
  assert_labels(network, loaded(network, (21, 30)), (21, 30))


def test_logits_of_any_size():
  name, options = NETWORKS['large context']
  network = segmenter(name, **options)
  program = loaded(network, None, 'network')
  least = geometry.least_size(network.model.table)
  images = np.random.default_rng(0).normal(0, 60, (2, least, least + 9, 3)).astype(np.float32)
  expected = np.asarray(jax.jit(network.model.apply)(network.variables, images))
  found = program.call(images) / abs(expected).max()
  np.testing.assert_allclose(found, expected / abs(expected).max(), atol=1e-5)
  with pytest.raises(ValueError, match=f'height >= {least}|refining shapes'):
    program.call(images[:, : least - 1])


@pytest.mark.parametrize('scale', [0.5, 0.75, 1.25])
def test_sizes_at_another_scale(scale):
  sides = range(1, 40)
  assert [_scaled(side, scale) for side in sides] == [max(1, round(side * scale)) for side in sides]


@pytest.mark.parametrize(
  'matrix',
  [
    lambda n, x: ops._bilinear_matrix(n, 4, None),
    lambda n, x: ops._bilinear_matrix(n, 8, 0),
    lambda n, x: ops._corner_matrix(n, 3),
    lambda n, x: ops._averaging_matrix(n, 6),
    lambda n, x: ops._linear_matrix(n, x.shape[1], True),
    lambda n, x: ops._linear_matrix(n, x.shape[1], False),
  ],
)
def test_interpolation_of_any_size(matrix):
  """Made within the program, as NumPy makes it where the size is known."""
  shape = jax.export.symbolic_shape('n, m')
  exported = jax.export.export(jax.jit(lambda x: matrix(x.shape[0], x)))
  program = exported(jax.ShapeDtypeStruct(shape, jnp.float32))
  for n, m in ((1, 1), (1, 5), (11, 5), (5, 12)):
    x = np.zeros((n, m), np.float32)
    np.testing.assert_allclose(program.call(x), matrix(n, x), atol=1e-6)


def test_a_program_is_loaded(tmp_path):
  network = segmenter('front_end', fc_kernel=3, **VGG)
  path = tmp_path / 'network.stablehlo'
  content = stablehlo.export(network, (9, 12))
  path.write_bytes(content)
  assert jax.export.deserialize(bytearray(content)).platforms == stablehlo.PLATFORMS
  images = np.zeros((1, 9, 12, 3), np.uint8)
  labels, probabilities = stablehlo.load(path)(images)
  assert labels.shape == (1, 9, 12) and probabilities.shape == (1, 9, 12, 3)
  for broken in (b'', b'no program', content[: len(content) // 2]):
    path.write_bytes(broken)
    with pytest.raises(InputError, match=r'network\.stablehlo: JAX .* reads no program in it'):
      stablehlo.load(path)


def test_a_program_of_a_version_to_come(tmp_path, monkeypatch):
  """JAX 0.10 says so of programs of 0.12 when it compiles them."""

  def call(images):
    raise jax.errors.JaxRuntimeError('INTERNAL: Failed to deserialize the module')

  monkeypatch.setattr(jax.export, 'deserialize', lambda _: types.SimpleNamespace(call=call))
  (tmp_path / 'a.stablehlo').write_bytes(b'')
  program = stablehlo.load(tmp_path / 'a.stablehlo')
  with pytest.raises(InputError, match=r'reads no program in it.* Failed to deserialize'):
    program(np.zeros((1, 9, 12, 3), np.uint8))


def test_a_program_that_is_too_old(tmp_path, monkeypatch):
  """As JAX wrote them until November 2025, with another field for the number of devices."""
  from jax._src.export import serialization

  written = serialization.ser_flatbuf
  if not hasattr(written, 'ExportedAddNrDevicesShort'):
    pytest.skip('this JAX writes that field itself')
  monkeypatch.setattr(written, 'ExportedAddNrDevices', written.ExportedAddNrDevicesShort)
  path = tmp_path / 'network.stablehlo'
  path.write_bytes(stablehlo.export(segmenter('front_end', fc_kernel=3, **VGG), (9, 12)))
  monkeypatch.undo()
  with pytest.raises(InputError, match=r'six months before itself: .*6-month'):
    stablehlo.load(path)

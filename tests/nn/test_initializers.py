"""initializers.py: equations 4 and 5 of the paper, and the authors' Caffe filler."""

import jax
import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.nn import initializers, stack, table as tables


def made(init, shape):
  return np.asarray(jax.jit(lambda key: init(key, shape))(jax.random.key(0, impl='rbg')))


def caffe_filler(noise, groups):
  """The 'identity' filler of the authors' Caffe, on a kernel HWIO that already holds the noise."""
  kernel = noise.copy()
  height, width, inputs, outputs = kernel.shape
  for group in range(groups):
    for out in range(group * outputs // groups, (group + 1) * outputs // groups):
      for cell in range(group * inputs // groups, (group + 1) * inputs // groups):
        kernel[height // 2, width // 2, cell, out] = groups / outputs
  return kernel


def equation_5(shape, classes, noise):
  height, width, inputs, outputs = shape
  kernel = noise.copy()
  for a in range(inputs):
    for b in range(outputs):
      if a * classes // inputs == b * classes // outputs:
        kernel[height // 2, width // 2, a, b] = classes / outputs
  return kernel


SHAPES = [(3, 3, 3, 6), (3, 3, 6, 12), (1, 1, 12, 3), (5, 3, 9, 9)]


@pytest.mark.parametrize('shape', SHAPES)
def test_identity_is_caffes_filler_and_equation_5(shape):
  kernel = made(initializers.identity(3, std=0.01), shape)
  clean = made(initializers.identity(3, std=0.0), shape)
  noise = np.where(clean > 0, 0, kernel)
  np.testing.assert_array_equal(kernel, caffe_filler(noise, 3))
  np.testing.assert_array_equal(kernel, equation_5(shape, 3, noise))
  np.testing.assert_array_equal(clean, caffe_filler(np.zeros(shape, np.float32), 3))
  assert (noise[clean == 0] != 0).all()


def test_equal_widths_are_equation_4():
  kernel = made(initializers.identity(4, std=0.0), (3, 3, 4, 4))
  expected = np.zeros((3, 3, 4, 4))
  expected[1, 1] = np.eye(4)
  np.testing.assert_array_equal(kernel, expected)


# Multipliers of the authors' network.py, were it to widen as Table 1 of the paper says: none is
# applied in the first two layers, and the last keeps that of the layer before.
NOISE = {
  'basic': [0.01] * 8,
  'large': [0.01, 0.01, 0.01 / 4, 0.01 / 8, 0.01 / 16, 0.01 / 32, 0.01 / 32, 0.01 / 32],
}


@pytest.mark.parametrize('kind', NOISE)
def test_noise_of_a_fresh_context_module(kind):
  table = tables.context(4, kind=kind)
  model = stack.Stack(table)
  variables = jax.jit(model.init)(jax.random.key(0, impl='rbg'), np.zeros((1, 4, 4, 4), np.float32))
  for layer, std in zip(table, NOISE[kind], strict=True):
    kernel = np.asarray(variables['params'][layer.name]['kernel'])
    clean = made(initializers.identity(4, std=0.0), kernel.shape)
    noise = kernel[clean == 0]
    assert abs(noise.mean()) < 0.3 * noise.std()
    np.testing.assert_allclose(noise.std(), std, rtol=0.2)


@pytest.mark.parametrize('kind, count', [('basic', 8), ('basic', 10), ('large', 7), ('large', 8)])
def test_a_fresh_context_module_passes_on_what_is_not_negative(kind, count, monkeypatch):
  exact = lambda layer: initializers.identity(layer.groups, std=0.0)  # noqa: E731
  monkeypatch.setitem(stack._INITIALIZERS, 'identity', exact)
  model = stack.Stack(tables.context(2, layers=count, kind=kind))
  # Whole numbers: their quarters and eighths add up again without rounding.
  x = np.random.default_rng(0).integers(-99, 100, (1, 6, 5, 2)).astype(np.float32)

  @jax.jit
  def refined(x):
    return model.apply(model.init(jax.random.key(0, impl='rbg'), x), x)

  np.testing.assert_array_equal(refined(np.abs(x)), np.abs(x))
  np.testing.assert_array_equal(refined(x), np.maximum(x, 0))


def test_groups_must_divide_the_channels():
  with pytest.raises(InputError, match='of 3 classes; it must divide the 3 input and 4 output'):
    initializers.identity(3)(jax.random.key(0), (3, 3, 3, 4))


def test_the_others():
  kernel = made(initializers.classifier, (1, 1, 256, 64))
  np.testing.assert_allclose(np.std(kernel), 0.001, rtol=0.05)
  kernel = made(initializers.he, (3, 3, 64, 64))
  np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 64)), rtol=0.05)

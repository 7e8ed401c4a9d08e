"""Context modules, compiled as for users, against NumPy in float64: logits and all gradients."""

import jax
import numpy as np
import pytest

from dilated_jax.nn import table as tables
from dilated_jax.nn.stack import Stack
from tests import numpy_layers

pytestmark = pytest.mark.usefixtures('compile_fully')


def drawn(table, inputs, rng):
  """A kernel and a bias for each layer."""
  params = {}
  for layer in table:
    shape = (layer.kernel, layer.kernel, inputs, layer.channels)
    kernel = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:3])))
    bias = rng.standard_normal(layer.channels, np.float32) * np.float32(0.1)
    params[layer.name], inputs = {'kernel': kernel, 'bias': bias}, layer.channels
  return params


def in_float64(table, params, x, direction):
  """The output, the gradient of its sum with `direction` to the input, and those to the params."""
  kernels = {name: leaves['kernel'].astype(np.float64) for name, leaves in params.items()}
  seen = []
  for layer in table:
    seen.append(x)
    bias = params[layer.name]['bias']
    x = numpy_layers.conv(x, kernels[layer.name], bias, layer.padding, layer.dilation)
    x = np.maximum(x, 0) if layer.activation == 'relu' else x
  out, gradient, gradients = x, direction, {}
  for layer, x, after in zip(reversed(table), seen[::-1], [out, *seen[:0:-1]], strict=True):
    if layer.activation == 'relu':
      gradient = gradient * (after > 0)
    gradient, kernel, bias = numpy_layers.conv_gradients(
      x, kernels[layer.name], gradient, layer.padding, layer.dilation
    )
    gradients[layer.name] = {'kernel': kernel, 'bias': bias}
  return out, gradient, gradients


@pytest.mark.parametrize(
  'kind, classes, shape', [('basic', 21, (2, 66, 66)), ('large', 4, (1, 20, 27))]
)
def test_logits_and_gradients(kind, classes, shape):
  rng, table = np.random.default_rng(0), tables.context(classes, kind=kind)
  params, stack = drawn(table, classes, rng), Stack(table)
  x, direction = (rng.standard_normal((*shape, classes), np.float32) for _ in range(2))

  @jax.jit
  def ours(params, x):
    def energy(params, x):
      logits = stack.apply({'params': params}, x)
      return (logits * direction).sum(), logits

    return jax.value_and_grad(energy, (0, 1), has_aux=True)(params, x)

  (_, logits), (gradients, to_x) = ours(params, x)
  expected = in_float64(table, params, x, direction)
  found = jax.tree_util.tree_leaves_with_path((logits, to_x, gradients))
  for (path, one), other in zip(found, jax.tree.leaves(expected), strict=True):
    assert one.shape == other.shape
    assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other), path

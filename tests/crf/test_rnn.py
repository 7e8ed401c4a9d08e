"""CrfRnn against the PyTorch port: scores and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.crf import CrfRnn
from dilated_jax.errors import InputError
from dilated_jax.training import losses

THEIRS = {
  'spatial': 'spatial_ker_weights',
  'bilateral': 'bilateral_ker_weights',
  'compatibility': 'compatibility_matrix',
}


@pytest.mark.parametrize('case, bilateral', [('default', (160.0, 3.0)), ('mild', (40.0, 13.0))])
def test_scores_and_gradients_of_the_port(reference, case, bilateral):
  layer = CrfRnn(5, bilateral=bilateral)
  logits, images = jnp.asarray(-reference['unary'])[None], jnp.asarray(reference['image'])[None]
  params = {ours: jnp.asarray(reference[f'rnn_{case}_{name}']) for ours, name in THEIRS.items()}
  if case == 'default':  # Which the initial ones are.
    initial = jax.eval_shape(layer.init, jax.random.key(0), logits, images)
    assert jax.tree.map(jnp.shape, initial['params']) == dict.fromkeys(THEIRS, (5, 5))

  # Lattices made in the program, and before.
  kernels = None if case == 'default' else layer.build_kernels(reference['image'][None])

  @jax.jit
  def loss(params, logits):
    out = layer.apply({'params': params}, logits, images, train=True, kernels=kernels)
    total, count = losses.cross_entropy(out[0], jnp.asarray(reference['label']))
    return total / count, out

  gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)
  (value, out), (to_params, to_logits) = gradient(params, logits)
  np.testing.assert_allclose(value, reference[f'rnn_{case}_loss'], rtol=1e-4)
  assert abs(out[0, :, ::2] - reference[f'rnn_{case}_out_logits']).max() <= 5e-4
  expected = reference[f'rnn_{case}_grad_logits']
  assert abs(to_logits[0, :, ::2] - expected).max() <= 1e-3 * abs(expected).max()
  for ours, name in THEIRS.items():
    expected = reference[f'rnn_{case}_grad_{name}']
    assert abs(to_params[ours] - expected).max() <= 1e-3 * abs(expected).max()


def test_initial_weights_and_iterations():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 6, 7, 3)).astype(np.float32)
  images = rng.integers(0, 256, (2, 6, 7, 3), np.uint8)
  layer = CrfRnn(3, iterations=0, test_iterations=2, method='exact')
  variables = jax.jit(layer.init)(jax.random.key(0), logits, images)
  for name, value in (('spatial', 3), ('bilateral', 5), ('compatibility', 1)):
    np.testing.assert_array_equal(variables['params'][name], value * np.eye(3, dtype=np.float32))
  # None in training: the scores go through.
  np.testing.assert_array_equal(layer.apply(variables, logits, images, train=True), logits)
  assert abs(layer.apply(variables, logits, images) - logits).max() > 0.1


def test_bandwidths_can_be_trained():
  """The derivatives are those of the layer; in float64, where differences have digits to spare.

  In float32 no step will do: the loss is about 24, so a difference has an error of some 1e-6, and
  the smallest derivative is 5e-4. Steps that make the error small enough bend the loss.
  """
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(1, 6, 7, 3)).astype(np.float32)
  images = rng.integers(0, 256, (1, 6, 7, 3), np.uint8)
  layer = CrfRnn(3, bilateral=(10.0, 60.0), method='exact', train_bandwidths=True)
  variables = jax.jit(layer.init)(jax.random.key(0), logits, images)

  def loss(factors, params, logits):
    params = params | {'log_bandwidths': factors}
    return (layer.apply({'params': params}, logits, images, train=True) ** 2).mean()

  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables['params'])
    wide = jax.jit(functools.partial(loss, params=params, logits=logits.astype(np.float64)))
    expected = jax.grad(wide)(np.zeros(3))
    assert expected.dtype == np.float64
    for i, step in enumerate(1e-5 * np.eye(3)):
      slope = (wide(step) - wide(-step)) / 2e-5
      np.testing.assert_allclose(expected[i], slope, rtol=1e-5)
  found = jax.jit(jax.grad(loss))(jnp.zeros(3), variables['params'], logits)
  np.testing.assert_allclose(found, expected, rtol=2e-2)


def test_cells_see_the_mean_of_their_pixels():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(1, 5, 6, 3)).astype(np.float32)
  images = rng.integers(0, 256, (1, 10, 12, 3), np.uint8)
  coarse = images.reshape(1, 5, 2, 6, 2, 3).mean((2, 4), dtype=np.float32)
  cells = CrfRnn(3, gaussian=6.0, bilateral=(40.0, 30.0), stride=2, method='exact')
  pixels = CrfRnn(3, gaussian=3.0, bilateral=(20.0, 30.0), method='exact')
  variables = jax.jit(pixels.init)(jax.random.key(0), logits, coarse)
  np.testing.assert_allclose(
    cells.apply(variables, logits, images), pixels.apply(variables, logits, coarse), atol=1e-5
  )
  # A mean that was subtracted makes no difference.
  moved = images.astype(np.float32) - 100
  np.testing.assert_allclose(
    cells.apply(variables, logits, moved), cells.apply(variables, logits, images), atol=1e-4
  )


def test_lattices_that_were_made_before():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 10, 12, 3)).astype(np.float32)
  images = rng.integers(0, 256, (2, 10, 12, 3), np.uint8)
  images[1] //= 8  # Of fewer lattice points.
  layer = CrfRnn(3, bilateral=(20.0, 30.0), iterations=2)
  variables = jax.jit(layer.init)(jax.random.key(0), logits, images)
  expected = layer.apply(variables, logits, images, train=True)
  found = layer.apply(variables, logits, images, train=True, kernels=layer.build_kernels(images))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  'options, logits, images, words',
  [
    ({}, (1, 5, 7, 3), (1, 7, 5, 3), 'with sides 1 times as long'),
    ({'stride': 2}, (1, 5, 7, 3), (1, 10, 15, 3), 'with sides 2 times as long'),
    ({}, (1, 5, 7, 4), (1, 5, 7, 3), r'they are \(N, H, W, 3\)'),
    ({}, (2, 5, 7, 3), (1, 5, 7, 3), 'they are'),
    ({'method': 'latice'}, (1, 5, 7, 3), (1, 5, 7, 3), "method is 'latice'"),
    ({'bilateral': (float('nan'), 3.0)}, (1, 5, 7, 3), (1, 5, 7, 3), 'standard deviations are'),
    ({'test_iterations': -1}, (1, 5, 7, 3), (1, 5, 7, 3), 'iterations are 0 or more'),
  ],
)
def test_wrong_input(options, logits, images, words, without_type_checks):
  with pytest.raises(InputError, match=words):
    CrfRnn(3, **options).init(jax.random.key(0), np.zeros(logits), np.zeros(images))

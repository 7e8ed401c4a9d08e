"""normalization.py: as Flax's batch normalization in float64, on one device and on eight."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.nn.normalization import BatchNorm, batch_norm

OPTIONS = dict(momentum=0.9, epsilon=1e-5)
FLAX = nn.BatchNorm(dtype='float64', use_fast_variance=False, **OPTIONS)


def drawn(shape, mean=0.0, deviation=1.0):
  """Input, direction of the gradient, and variables, float32."""
  rng = np.random.default_rng(0)
  x, direction = (rng.standard_normal(shape) for _ in range(2))
  channels = shape[-1]
  params = {'scale': rng.uniform(0.5, 2, channels), 'bias': rng.normal(size=channels)}
  stats = {'mean': rng.normal(size=channels), 'var': rng.uniform(0.5, 2, channels)}
  given = mean + deviation * x, direction, {'params': params, 'batch_stats': stats}
  return jax.tree.map(np.float32, given)


def trained(model, x, direction, variables, offset=None, **how):
  """Output, new statistics, and gradients to parameters, to the input and to the offset."""

  def loss(params, x, offset):
    given = (x,) if offset is None else (x, offset)
    y, updated = model.apply({**variables, 'params': params}, *given, mutable='batch_stats', **how)
    return (y.astype(direction.dtype) * direction).sum(), (y, updated)

  gradient = jax.grad(loss, (0, 1) if offset is None else (0, 1, 2), has_aux=True)
  return jax.jit(gradient)(variables['params'], x, offset)


def wanted(given):
  """The same by Flax in float64."""
  with jax.enable_x64(), jax.numpy_dtype_promotion('standard'):
    given = jax.tree.map(lambda x: jnp.asarray(x, 'float64'), given)
    return jax.device_get(trained(FLAX, *given, use_running_average=False))


def assert_close(found, wanted, limit):
  def compare(one, other):
    assert abs(one - other).max() <= limit * abs(other).max()

  jax.tree.map(compare, jax.device_get(found), wanted)


@pytest.mark.parametrize('shape', [(2, 9, 7, 5), (3, 1, 1, 8), (8, 33, 40, 16), (50, 4)])
def test_outputs_statistics_and_gradients(shape):
  given = drawn(shape, 3.0, 2.0)
  found = trained(BatchNorm(**OPTIONS), *given, train=True)
  assert_close(found, wanted(given), 5e-6)


def test_running_statistics_are_used_otherwise():
  x, _, variables = drawn((2, 3, 4, 5))
  found = BatchNorm(**OPTIONS).apply(variables, x, train=False)
  np.testing.assert_allclose(
    found, FLAX.clone(dtype='float32').apply(variables, x, use_running_average=True), atol=1e-5
  )
  offset = variables['params']['bias']
  np.testing.assert_allclose(
    BatchNorm(**OPTIONS).apply(variables, x, offset, train=False),
    BatchNorm(**OPTIONS).apply(variables, x + offset, train=False),
    atol=1e-5,
  )


def test_an_offset_changes_the_running_mean_alone():
  x, direction, variables = drawn((2, 5, 6, 3))
  offset = np.float32([1.0, -2.0, 3.0])
  (to_params, to_x, to_offset), (y, updated) = trained(
    BatchNorm(**OPTIONS), x, direction, variables, offset, train=True
  )
  (wanted_params, wanted_x), rest = wanted((x + offset, direction, variables))
  assert not to_offset.any()
  assert_close(((to_params, to_x), (y, updated)), ((wanted_params, wanted_x), rest), 5e-6)


@pytest.mark.parametrize('mean', [1e2, -1e4])
def test_small_variance_beside_a_large_mean(mean):
  """The rounding of x itself is all that is lost; a mean of squares would lose every digit."""
  x, _, _ = drawn((4, 16, 16, 3), mean, 0.1)
  one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
  y, found_mean, found_var = jax.jit(batch_norm)(x, one, zero)
  exact = x.astype(np.float64)
  np.testing.assert_allclose(found_mean, exact.mean((0, 1, 2)), rtol=1e-6)
  error = np.spacing(np.float32(abs(mean)))  # Of the mean, in float32.
  np.testing.assert_allclose(found_var, exact.var((0, 1, 2)), rtol=1e-5, atol=2 * error**2)
  assert np.std(y) == pytest.approx(1, abs=2e-3)


def test_a_constant_has_no_variance():
  x = np.full((3, 7, 5, 2), 1234.567, np.float32)
  _, mean, var = jax.jit(batch_norm)(x, np.ones(2, np.float32), np.zeros(2, np.float32))
  np.testing.assert_allclose(mean, 1234.567, rtol=1e-6)
  assert (np.asarray(var) >= 0).all() and (np.asarray(var) < 1e-6).all()


def test_eight_devices_are_one():
  x, direction, variables = drawn((16, 6, 5, 4), 2.0)
  # Devices of very different means: their own variances are not enough.
  x += np.repeat(np.arange(8, dtype=np.float32), 2)[:, None, None, None]
  one = wanted((x, direction, variables))

  def of_device(x, direction):
    (to_params, to_x), rest = trained(
      BatchNorm(axis_name='data', **OPTIONS), x, direction, variables, train=True
    )
    return (jax.lax.psum(to_params, 'data'), to_x), rest

  split = [a.reshape(8, 2, *a.shape[1:]) for a in (x, direction)]
  (to_params, to_x), (y, updated) = jax.pmap(of_device, 'data')(*split)
  to_params, updated = jax.tree.map(lambda a: a[3], (to_params, updated))
  found = (to_params, to_x.reshape(x.shape)), (y.reshape(x.shape), updated)
  assert_close(found, one, 5e-6)


def test_gradients_in_shard_map():
  """Where JAX checks what varies over devices."""
  x, direction, variables = drawn((16, 3, 4, 5))
  mesh = jax.sharding.Mesh(jax.devices(), ('devices',))

  def gradients(model, params, x, direction):
    def loss(params):
      y, _ = model.apply(variables | {'params': params}, x, train=True, mutable='batch_stats')
      return (y * direction).sum()

    return jax.grad(loss)(params)

  spec = jax.sharding.PartitionSpec
  split = jax.shard_map(
    functools.partial(gradients, BatchNorm(axis_name='devices', **OPTIONS)),
    mesh=mesh, in_specs=(spec(), spec('devices'), spec('devices')), out_specs=spec(),
  )  # fmt: skip
  expected = gradients(BatchNorm(**OPTIONS), variables['params'], x, direction)
  found = jax.jit(split)(variables['params'], x, direction)
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, atol=1e-4)


def test_bfloat16_is_normalized_in_float32():
  x, direction, variables = drawn((2, 8, 8, 4), 5.0, 3.0)
  half = x.astype(jnp.bfloat16)
  (to_params, to_x), (y, updated) = trained(
    BatchNorm(dtype='bfloat16', **OPTIONS), half, direction, variables, train=True
  )
  assert y.dtype == to_x.dtype == jnp.bfloat16
  (wanted_params, wanted_x), (wanted_y, wanted_stats) = wanted(
    (np.float32(half), direction, variables)
  )
  assert_close(updated, wanted_stats, 1e-5)
  found = (to_params, np.float32(to_x), np.float32(y))
  assert_close(found, (wanted_params, wanted_x, wanted_y), 1e-2)


def test_parameters_are_those_of_flax():
  x, key = np.zeros((2, 3, 4, 5), np.float32), jax.random.key(0)
  ours = BatchNorm().init(key, x, train=True)
  theirs = FLAX.clone(dtype='float32').init(key, x, use_running_average=False)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_under_vmap_and_scan():
  x, direction, _ = drawn((3, 2, 6, 5, 4))
  one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)

  def gradient(x, direction):
    return jax.grad(lambda x: (batch_norm(x, one, zero)[0] * direction).sum())(x)

  alone = np.stack([jax.jit(gradient)(*each) for each in zip(x, direction, strict=True)])
  np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(x, direction), alone, atol=1e-5)
  scanned = jax.jit(lambda *all: jax.lax.scan(lambda _, each: (None, gradient(*each)), None, all))
  np.testing.assert_allclose(scanned(x, direction)[1], alone, atol=1e-5)

"""Normalization by the statistics of the batch, with a derivative by hand.

Its sums over pixels are products with ones: XLA's CPU back end reduces over pixels an order of
magnitude slower than it multiplies matrices (the benchmark `presets`).
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from dilated_jax.typing import AnyArray, varying_axes


class BatchNorm(nn.Module):
  """Batch normalization over all but the last axis, as `flax.linen.BatchNorm`.

  Parameters, float32: `scale`, `bias`. Collection `batch_stats`, float32: `mean` and `var`, running
  averages of the statistics of batches. Variances are those of the batch itself, divided by the
  number of values, not by one less.

  Attributes:
    dtype: of the output; the arithmetic is in float32 at least.
    axis_name: axis of `jax.pmap` over which statistics are taken, or None.
    momentum: share of the running averages that is kept in a step.
    epsilon: added to the variance.
  """

  dtype: DTypeLike = jnp.float32
  axis_name: str | None = None
  momentum: float = 0.99
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self,
    x: Float[AnyArray, '*places c'],
    offset: Float[AnyArray, ' c'] | None = None,
    *,
    train: bool,
  ) -> Float[jax.Array, '*places c']:
    """Normalizes `x + offset`.

    Args:
      x: the input.
      offset: the bias of the layer before, which no batch statistics depend on: its gradient is 0.
      train: whether to normalize by the batch, and to let the running averages follow.
    """
    shape = x.shape[-1:]
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    var = self.variable('batch_stats', 'var', jnp.ones, shape)
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    shift = jnp.zeros(shape) if offset is None else offset.astype(jnp.float32)
    if not train:
      return _scaled(
        x, mean.value - shift, _rsqrt(var.value, self.epsilon), scale, bias, self.dtype
      )
    axis_name = None if self.is_initializing() else self.axis_name
    if varies := varying_axes(x):  # So the gradients of scale and bias are summed over devices.
      scale, bias = (jax.lax.pcast(values, varies, to='varying') for values in (scale, bias))
    y, found_mean, found_var = batch_norm(x, scale, bias, self.epsilon, axis_name, self.dtype)
    if not self.is_initializing():
      found_mean = jax.lax.stop_gradient(found_mean + shift)
      kept = self.momentum
      mean.value = kept * mean.value + (1 - kept) * found_mean
      var.value = kept * var.value + (1 - kept) * jax.lax.stop_gradient(found_var)
    return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def batch_norm(
  x: Float[AnyArray, '*places c'],
  scale: Float[AnyArray, ' c'],
  bias: Float[AnyArray, ' c'],
  epsilon: float = 1e-5,
  axis_name: str | None = None,
  dtype: DTypeLike = jnp.float32,
) -> tuple[Float[jax.Array, '*places c'], Float[jax.Array, ' c'], Float[jax.Array, ' c']]:
  """(x - mean) / sqrt(variance + epsilon) * scale + bias, by the statistics of x itself.

  Differentiable in reverse mode, by `x`, `scale` and `bias`.

  Args:
    x: the input; statistics are over all but its last axis.
    scale: of each channel.
    bias: of each channel.
    epsilon: added to the variance.
    axis_name: axis of `jax.pmap` over which statistics are taken too, or None.
    dtype: of the output.

  Returns:
    The output, the mean and the variance. No gradient flows through the latter two.

  Source: Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
  Internal Covariate Shift" (ICML 2015), section 3.
  """
  return _forward(x, scale, bias, epsilon, axis_name, dtype)[0]


def _forward(x, scale, bias, epsilon, axis_name, dtype):
  count = math.prod(x.shape[:-1])
  wide = _wide(x)
  # In two passes: where the mean is large, its square minus a mean of squares leaves no digits.
  own_mean = _sums(wide) / count
  squares = _sums(jnp.square(wide - _last(own_mean, x))) / count
  mean = own_mean if axis_name is None else jax.lax.pmean(own_mean, axis_name)
  var = squares
  if axis_name is not None:
    var = jax.lax.pmean(squares + jnp.square(own_mean - mean), axis_name)
  inverse = _rsqrt(var, epsilon)
  y = _scaled(x, mean, inverse, scale, bias, dtype)
  return (y, mean, var), (x, scale, mean, inverse)


def _backward(epsilon, axis_name, dtype, kept, gradients):
  del epsilon, dtype
  x, scale, mean, inverse = kept
  count = math.prod(x.shape[:-1])
  g = gradients[0].astype(inverse.dtype)
  normal = (x.astype(inverse.dtype) - _last(mean, x)) * _last(inverse, x)
  to_bias, to_scale = _sums(g), _sums(g * normal)
  sums = jnp.stack((to_bias, to_scale)) / count
  if axis_name is not None:
    sums = jax.lax.pmean(sums, axis_name)
  to_x = _last(scale * inverse, x) * (g - _last(sums[0], x) - normal * _last(sums[1], x))
  return to_x.astype(x.dtype), to_scale.astype(scale.dtype), to_bias.astype(scale.dtype)


batch_norm.defvjp(_forward, _backward)


def _scaled(x, mean, inverse, scale, bias, dtype):
  """The input normalized by given statistics."""
  factor = inverse * scale
  wide = _wide(x)
  return ((wide - _last(mean, x)) * _last(factor, x) + _last(bias, x)).astype(dtype)


def _wide(x):
  """In float32 at least."""
  return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def _rsqrt(var, epsilon: float):
  return jax.lax.rsqrt(var + jnp.asarray(epsilon, var.dtype))


def _last(values, x):
  """Values of each channel, of the rank of `x`."""
  return values.reshape((1,) * (x.ndim - 1) + values.shape)


def _sums(x):
  """Sums over all but the last axis."""
  if x.ndim < 3:
    return _plain_sums(x)
  # Functions of the module: JAX finds again what it has traced of them for the same shape.
  return jax.lax.platform_dependent(x, cpu=_sums_by_products, default=_plain_sums)


def _plain_sums(x):
  return x.sum(tuple(range(x.ndim - 1)))


def _sums_by_products(x):
  # Rows of pixels first, all columns and channels at once.
  *rows, columns, channels = x.shape
  joined = x.reshape(*rows, columns * channels)
  sums = jnp.tensordot(jnp.ones(rows, x.dtype), joined, len(rows), precision='highest')
  return sums.reshape(columns, channels).sum(0)

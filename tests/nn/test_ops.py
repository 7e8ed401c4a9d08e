"""ops.py: against the paper's sums in float64, and against XLA's own operators."""

import functools
import math

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.nn import geometry, ops, table as tables


def normal(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def dilated_convolution(field, kernel, dilation):
  """Equation 2 of the paper on every map: (F *_l k)(p) = sum over s + l t = p of F(s) k(t).

  t is counted from the middle of the kernel; only p with all of its s inside are kept.
  """
  (n, height, width, _), (rows, columns, _, out) = field.shape, kernel.shape
  vertical, horizontal = dilation
  # With t = (i - ri, j - rj) and s = p - l t, p goes over these; ri, rj is the middle.
  ri, rj = rows // 2, columns // 2
  first = vertical * (rows - 1 - ri), horizontal * (columns - 1 - rj)
  result = np.zeros(
    (n, height - vertical * (rows - 1), width - horizontal * (columns - 1), out), np.float64
  )
  for p in range(result.shape[1]):
    for q in range(result.shape[2]):
      for i in range(rows):
        for j in range(columns):
          y = p + first[0] - vertical * (i - ri)
          x = q + first[1] - horizontal * (j - rj)
          result[:, p, q] += field[:, y, x].astype(np.float64) @ kernel[i, j].astype(np.float64)
  return result


def plain_conv(x, kernel, dilation, padding):
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), padding, rhs_dilation=dilation, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


sizes = st.integers(1, 3)


@settings(max_examples=15)
@given(
  kernel=st.tuples(sizes, sizes),
  dilation=st.tuples(sizes, sizes),
  extra=st.tuples(st.integers(0, 3), st.integers(0, 3)),
  channels=st.tuples(sizes, sizes),
  seed=st.integers(0, 99),
)
def test_equation_2(kernel, dilation, extra, channels, seed):
  """The paper's operator is a true convolution: ours after turning the kernel around."""
  shape = [d * (k - 1) + 1 + more for d, k, more in zip(dilation, kernel, extra)]
  x = normal(seed, 2, *shape, channels[0])
  k = normal(seed + 1, *kernel, *channels)
  found = ops.dilated_conv(x, k[::-1, ::-1], dilation)
  expected = dilated_convolution(x, k, dilation)
  assert found.shape == expected.shape and found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=2e-5)


# The last are wider than taps reach, on one side or on all.
PADDINGS = [0, 2, 'VALID', 'SAME', ((1, 0), (0, 3)), [[0, 0], [0, 0]], ((0, 9), (5, 1)), 11]


@pytest.mark.parametrize('padding', PADDINGS, ids=str)
@pytest.mark.parametrize(
  'kernel, dilation, channels',
  [((3, 3), (2, 2), 8), ((1, 4), (1, 2), 9), ((3, 3), (1, 1), 3), ((1, 1), (1, 1), 8)],
)
def test_forward_and_gradients_as_the_plain_convolution(kernel, dilation, channels, padding):
  x, k = normal(0, 2, 7, 9, channels), normal(1, *kernel, channels, 4)
  pads = ((padding, padding),) * 2 if isinstance(padding, int) else padding
  expected, pull_plain = jax.vjp(lambda x, k: plain_conv(x, k, dilation, pads), x, k)
  found, pull = jax.vjp(lambda x, k: ops.dilated_conv(x, k, dilation, padding), x, k)
  np.testing.assert_allclose(found, expected, atol=2e-5)
  cotangent = normal(2, *expected.shape)
  for one, other in zip(pull(cotangent), pull_plain(cotangent)):
    np.testing.assert_allclose(one, other, atol=5e-5)


@settings(max_examples=10)
@given(st.integers(5, 8), st.integers(5, 8), st.integers(1, 2), st.integers(0, 3))
def test_any_shape_as_the_plain_convolution(rows, columns, dilation, pad):
  x, k = normal(3, 1, rows, columns, 8), normal(4, 3, 3, 8, 3)
  found = ops.dilated_conv(x, k, dilation, pad)
  expected = plain_conv(x, k, (dilation,) * 2, ((pad, pad),) * 2)
  assert found.shape[1] == rows + 2 * pad - 2 * dilation
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_same_keeps_the_size():
  x = normal(0, 1, 6, 5, 1)
  for side, dilation in ((1, 1), (2, 3), (3, 4), (4, 1)):
    assert ops.dilated_conv(x, normal(1, side, side, 1, 1), dilation, 'SAME').shape == x.shape


def test_forward_mode_vmap_and_reverse_over_reverse():
  x, k, dx = normal(0, 1, 8, 8, 8), normal(1, 3, 3, 8, 2), normal(2, 1, 8, 8, 8)
  conv = functools.partial(ops.dilated_conv, dilation=2)
  value, tangent = jax.jvp(lambda x: conv(x, k), (x,), (dx,))
  np.testing.assert_allclose(tangent, conv(dx, k), atol=3e-5)  # It is linear.
  many = jax.jit(jax.vmap(lambda x: conv(x, k)))(np.stack([x, dx]))
  np.testing.assert_allclose(many, np.stack([value, tangent]), atol=3e-5)

  def energy(x):
    return (conv(x, k) ** 2).sum() / 2

  product = jax.grad(lambda x: (jax.grad(energy)(x) * dx).sum())(x)
  expected = jax.vjp(lambda x: conv(x, k), x)[1](conv(dx, k))[0]
  np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('padding', [0, 5, ((1, 0), (0, 3)), ((9, 0), (2, 3))], ids=str)
@pytest.mark.parametrize('platform, copied', [
  ('default', 0), ('cpu', 2**21), ('cpu', 0), ('cuda', 0),
])  # fmt: skip
def test_derivatives_to_the_kernel_in_every_mode(monkeypatch, platform, copied, padding):
  """Forward, reverse, under vmap and jit: sums over shifted cells in float64."""

  used = set()
  monkeypatch.setattr(ops, '_MOST_COPIED', copied)

  def chosen(*given, default, **forms):
    used.update(forms)
    return forms.get(platform, default)(*given)

  monkeypatch.setattr(jax.lax, 'platform_dependent', chosen)
  x, k, dk = normal(0, 2, 9, 8, 5), normal(1, 3, 2, 5, 3), normal(2, 3, 2, 5, 3)
  pads = padding if isinstance(padding, tuple) else ((padding, padding),) * 2
  padded = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
  conv = functools.partial(ops.dilated_conv, dilation=(3, 2), padding=padding)
  out, tangent = jax.jvp(lambda k: conv(x, k), (k,), (dk,))
  rows, columns = out.shape[1:3]
  cells = [[padded[:, 3 * i :, 2 * j :][:, :rows, :columns] for j in range(2)] for i in range(3)]
  expected = sum(cells[i][j] @ dk[i, j].astype(np.float64) for i in range(3) for j in range(2))
  np.testing.assert_allclose(tangent, expected, atol=1e-5)
  directions = np.stack([out, normal(3, *out.shape)])
  found = jax.jit(jax.vmap(lambda g: jax.vjp(lambda k: conv(x, k), k)[1](g)[0]))(directions)
  expected = np.einsum('ijnhwc,bnhwo->bijco', np.array(cells), directions.astype(np.float64))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
  assert 'cuda' in used


def test_exports_for_any_batch():
  x, kernel = normal(0, 2, 5, 6, 3), normal(1, 3, 3, 3, 2)
  conv = jax.jit(lambda x: ops.dilated_conv(x, kernel, 1, 1))
  shape = jax.export.symbolic_shape('n, 5, 6, 3')
  exported = jax.export.export(conv)(jax.ShapeDtypeStruct(shape, jnp.float32))
  np.testing.assert_allclose(exported.call(x), conv(x), atol=1e-5)


def test_gradients_in_shard_map():
  x, kernel = normal(0, 2, 5, 6, 3), normal(1, 3, 3, 3, 2)
  plain = functools.partial(ops.dilated_conv, padding=1)
  spec, mesh = jax.sharding.PartitionSpec, jax.sharding.Mesh(jax.devices()[:1], ('devices',))
  split = jax.shard_map(
    plain, mesh=mesh, in_specs=(spec('devices'), spec()), out_specs=spec('devices')
  )

  def gradients(conv):
    return jax.jit(jax.grad(lambda x, k: jnp.sin(conv(x, k)).sum(), (0, 1)))(x, kernel)

  for found, expected in zip(gradients(split), gradients(plain), strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_derivatives_for_cpus_are_used_in_pmap():
  """Which runs by `jax.shard_map`, without its check."""
  x, kernel = normal(0, 1, 2, 5, 6, 3), normal(1, 3, 3, 3, 2)
  gradient = jax.grad(lambda x, k: ops.dilated_conv(x, k, padding=1).sum(), 1)
  for run, images in ((jax.pmap(gradient, in_axes=(0, None)), x), (gradient, x[0])):
    assert 'platform_index' in str(jax.make_jaxpr(run)(images, kernel))


def test_half_precision_stays():
  x, k = normal(0, 1, 6, 6, 2).astype(jnp.bfloat16), normal(1, 3, 3, 2, 2).astype(jnp.bfloat16)
  assert ops.dilated_conv(x, k).dtype == jnp.bfloat16
  assert ops.max_pool(x).dtype == jnp.bfloat16
  assert ops.deconvolution(x, 2).dtype == jnp.bfloat16
  assert ops.resize_corner(x, 2).dtype == jnp.bfloat16


def test_numpy_integers_are_numbers():
  x, k = normal(0, 1, 6, 6, 1), normal(1, 3, 3, 1, 1)
  found = ops.dilated_conv(x, k, np.int64(2), np.int32(1))
  np.testing.assert_array_equal(found, ops.dilated_conv(x, k, 2, 1))


def naive_pool(x, size, stride):
  rows, columns = (math.ceil((n - size) / stride) + 1 for n in x.shape[1:3])
  result = np.empty((len(x), rows, columns, x.shape[3]), x.dtype)
  for i in range(rows):
    for j in range(columns):
      window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
      result[:, i, j] = window.max((1, 2))
  return result


@settings(max_examples=8)
@given(rows=st.integers(1, 9), columns=st.integers(2, 9), sides=st.sampled_from([(2, 2), (3, 2)]))
def test_pooling_rounds_up(rows, columns, sides):
  x = -1 - np.abs(normal(rows, 2, rows, columns, 2))  # A zero in the border would win.
  np.testing.assert_array_equal(ops.max_pool(x, *sides), naive_pool(x, *sides))
  table = (tables.Layer('pool', 'max_pool', kernel=sides[0], stride=sides[1]),)
  assert geometry.output_size(table, columns) == naive_pool(x, *sides).shape[2]


def test_pooling_sends_the_gradient_to_the_largest():
  x = normal(0, 1, 5, 5, 1)
  grad = jax.grad(lambda x: ops.max_pool(x).sum())(x)
  pooled = naive_pool(x, 2, 2)
  np.testing.assert_array_equal(grad != 0, np.isin(x, pooled))
  np.testing.assert_array_equal(grad[grad != 0], np.ones(9))


def test_pooling_sends_the_gradient_of_equals_to_the_first_as_caffe():
  grad = jax.grad(lambda x: ops.max_pool(x).sum())(np.zeros((1, 3, 3, 1), np.float32))
  np.testing.assert_array_equal(grad[0, :, :, 0], [[1, 0, 1], [0, 0, 0], [1, 0, 1]])


@pytest.mark.parametrize('place', range(4))
def test_pooling_passes_on_nan(place):
  x = np.zeros(4, np.float32)
  x[place] = np.nan
  assert np.isnan(ops.max_pool(x.reshape(1, 2, 2, 1))).all()


def test_deconvolution_kernel():
  """One cell spreads as the outer product of the published filter with itself."""
  spread = np.asarray(ops.deconvolution(np.eye(5, dtype=np.float32)[2].reshape(1, 5, 1, 1), 8))
  tent = np.array([*range(1, 16, 2), *range(15, 0, -2)]) / 16
  # Kernel 16, stride 8, padding 4: cell 2 reaches pixels 2 * 8 - 4 and following.
  np.testing.assert_allclose(spread[0, 12:28, :, 0], np.outer(tent, tent[4:12]), atol=1e-7)
  assert not spread[0, :12].any() and not spread[0, 28:].any()


def test_deconvolution_inside_and_at_the_border():
  x = normal(0, 1, 4, 5, 2)
  found = np.asarray(ops.deconvolution(x, 8))
  resized = np.asarray(jax.image.resize(x, (1, 32, 40, 2), 'bilinear'))  # Half-pixel centers.
  np.testing.assert_allclose(found[:, 4:-4, 4:-4], resized[:, 4:-4, 4:-4], atol=1e-5)
  # Beyond the border is zero, where the resize repeats the outermost cell.
  fade = np.array([9, 11, 13, 15]) / 16
  np.testing.assert_allclose(
    found[0, :4, 4:-4], resized[0, :4, 4:-4] * fade[:, None, None], atol=1e-5
  )
  np.testing.assert_array_equal(found.argmax(-1), resized.argmax(-1))


def test_resize_corner():
  x = normal(0, 2, 3, 4, 2)
  found = np.asarray(ops.resize_corner(x, 8))
  np.testing.assert_array_equal(found[:, ::8, ::8], x)
  for h in range(24):
    for w in range(32):
      r, c = h // 8, w // 8
      below, right = min(r + 1, 2), min(c + 1, 3)
      a, b = h / 8 - r, w / 8 - c
      expected = (
        (1 - a) * (1 - b) * x[:, r, c]
        + (1 - a) * b * x[:, r, right]
        + a * (1 - b) * x[:, below, c]
        + a * b * x[:, below, right]
      )
      np.testing.assert_allclose(found[:, h, w], expected, atol=1e-5)


@pytest.mark.parametrize('upsample', [ops.deconvolution, ops.resize_corner])
def test_upsampling_by_one_changes_nothing(upsample):
  x = normal(0, 1, 3, 4, 2)
  np.testing.assert_array_equal(upsample(x, 1), x)


# What related networks need besides: compared with PyTorch.


@pytest.mark.parametrize('kernel, padding', [(1, 0), (3, 0), (3, 2), (7, 3)])
def test_strided_convolution(kernel, padding):
  rng = np.random.default_rng(0)
  x, weights = rng.standard_normal((2, 13, 10, 9)), rng.standard_normal((kernel, kernel, 9, 4))
  x, weights = x.astype(np.float32), weights.astype(np.float32)
  for stride in (2, 8):
    found = ops.dilated_conv(x, weights, padding=padding, stride=stride)
    whole = np.asarray(ops.dilated_conv(x, weights, padding=padding))
    np.testing.assert_allclose(found, whole[:, ::stride, ::stride], atol=1e-4)


def test_deconvolution_without_padding():
  x = np.random.default_rng(0).standard_normal((1, 4, 3, 2)).astype(np.float32)
  for stride in (2, 8):
    cut = ops.deconvolution(x, stride, padding=0)[:, stride // 2 : -(stride // 2)]
    np.testing.assert_allclose(
      cut[:, :, stride // 2 : -(stride // 2)], ops.deconvolution(x, stride), atol=1e-6
    )


@pytest.mark.parametrize(
  'function, shape',
  [
    (ops.max_pool, (2, 8, 6, 3)),
    (functools.partial(ops.resize, size=(9, 11), align_corners=True), (2, 5, 4, 3)),
    (functools.partial(ops.deconvolution, stride=4), (2, 5, 4, 3)),
    (
      lambda x: ops.dilated_conv(x, jnp.cos(jnp.arange(648.0)).reshape(3, 3, 8, 9), 2),
      (2, 9, 8, 8),
    ),
    (
      lambda x: ops.dilated_conv(x, jnp.cos(jnp.arange(648.0)).reshape(3, 3, 8, 9), 3),
      (2, 8, 8, 8),
    ),
  ],
  ids=['max_pool', 'resize', 'deconvolution', 'convolution', 'convolution of few cells'],
)
def test_the_forms_of_cpus_and_of_other_devices_agree(function, shape, monkeypatch):
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)

  def both(x):
    out, backward = jax.vjp(function, x)
    return out, *backward(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

  found = jax.jit(both)(x)
  monkeypatch.setattr(jax.lax, 'platform_dependent', lambda *x, default, **_: default(*x))
  for a, b in zip(found, jax.jit(lambda x: both(x))(x), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)

"""Outputs and gradients of the public operations and of three networks, beside float64 on the CPU.

Errors are relative, in the norm: of the output, and of the gradient of its product with a fixed
random array with respect to all arguments. (Where a maximum or ReLU is nearly a tie, the gradient
takes another way in another precision.)
"""

from collections.abc import Iterator
import functools

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax import crf, models
from dilated_jax.crf import exact
from dilated_jax.nn import ops
from dilated_jax.training import losses

PRECISIONS = {
  'float32': (jnp.float32, 'float32'),
  'TF32': (jnp.float32, 'tensorfloat32'),
  'bfloat16': (jnp.bfloat16, 'bfloat16'),
}


def rows(small: bool) -> Iterator[dict]:
  """A row for each operation and network."""
  for name, function, arguments in operations(np.random.default_rng(0)):
    yield {'what': name} | errors(lambda dtype, f=function: f, arguments)
  for name, options, size in (
    ('dilation8', {'width': 1 / 16 if small else 1 / 4}, 396),
    ('deeplab_v3', {'backbone': 'resnet50', 'width': 1 / 16 if small else 1 / 4}, 129),
    ('pspnet', {'backbone': 'resnet50', 'width': 1 / 16 if small else 1 / 4}, 129),
  ):
    model = models.create(name, 21, **options)
    images = np.random.default_rng(0).normal(0, 60, (1, size, size, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images.astype(np.float32))

    def applied(dtype, model=model):
      return model.clone(dtype=dtype).apply

    yield {'what': f'{name}, width {options["width"]}'} | errors(
      applied, (jax.device_get(variables), images)
    )
  yield crf_in_the_program()


def operations(rng) -> Iterator[tuple]:
  """Name, function and arguments of each."""
  x = rng.normal(size=(2, 33, 40, 16))
  for size, dilation, padding, stride in (
    (3, 1, 1, 1), (3, 2, 0, 1), (3, 12, 12, 1), (7, 4, 0, 1), (3, 1, 1, 2), (1, 1, 0, 1),
  ):  # fmt: skip
    kernel = rng.normal(size=(size, size, 16, 24)) / size / 4
    options = dict(dilation=dilation, padding=padding, stride=stride)
    name = f'dilated_conv {size}x{size}, dilation {dilation}, stride {stride}'
    yield name, functools.partial(ops.dilated_conv, **options), (x, kernel)
  yield 'add_bias', ops.add_bias, (x, rng.normal(size=16))
  yield 'max_pool 2', ops.max_pool, (x,)
  yield 'max_pool 3', functools.partial(ops.max_pool, size=3, padding=1), (x,)
  yield 'avg_pool 3', functools.partial(ops.avg_pool, size=3, stride=1, padding=1), (x,)
  yield 'adaptive_avg_pool 6', functools.partial(ops.adaptive_avg_pool, output_size=6), (x,)
  yield 'resize', functools.partial(ops.resize, size=(50, 61), align_corners=True), (x,)
  yield 'deconvolution 8', functools.partial(ops.deconvolution, stride=8), (x,)
  yield 'resize_corner 8', functools.partial(ops.resize_corner, stride=8), (x,)
  labels = rng.integers(0, 16, x.shape[:3]).astype(np.int32)
  yield 'cross_entropy', lambda x: losses.cross_entropy(x, labels)[0], (x,)
  features, values = rng.normal(size=(400, 5)), rng.normal(size=(400, 8))
  yield 'Gaussian filter, exact', lambda f, v: exact.apply(exact.ExactKernel(f), v), (
    features, values,
  )  # fmt: skip


def errors(function_of, arguments) -> dict:
  """Errors of a function in each precision, as {'float32': output, 'float32 gradient': ...}."""
  cpu = jax.devices('cpu')[0]
  with jax.enable_x64(True), jax.default_device(cpu), jax.numpy_dtype_promotion('standard'):
    wanted = outputs(function_of(jnp.float64), cast(arguments, np.float64), 'float32')
  found = {}
  for name, (dtype, precision) in PRECISIONS.items():
    with jax.numpy_dtype_promotion('standard'):
      given = cast(arguments, dtype)
      result, gradients = outputs(function_of(dtype), given, precision)
    found[name] = error(result, wanted[0])
    found[f'{name} gradient'] = error(gradients, wanted[1])
  return found


def outputs(function, arguments, precision: str):
  """The output, and the gradient of its product with a fixed random array; float64."""

  @jax.jit
  def both(random, *arguments):
    result, backward = jax.vjp(function, *arguments)
    return result, backward(random.astype(result.dtype))

  with jax.default_matmul_precision(precision):
    shape = jax.eval_shape(function, *arguments).shape
    random = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return jax.tree.map(lambda a: np.asarray(a, np.float64), both(random, *arguments))


def cast(arguments, dtype):
  """Arrays of another dtype."""
  return jax.tree.map(lambda a: jnp.asarray(a, dtype), arguments)


def error(found, wanted) -> float:
  """Relative, in the norm over all arrays."""
  found, wanted = (
    np.concatenate([array.ravel() for array in jax.tree.leaves(arrays)])
    for arrays in (found, wanted)
  )
  return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-30))


def crf_in_the_program() -> dict:
  """The dense CRF with its lattice made in the program, beside that of a CPU in float32."""
  rng = np.random.default_rng(0)
  image = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
  unary = rng.uniform(0, 3, (48, 64, 5)).astype(np.float32)
  with jax.default_device(jax.devices('cpu')[0]):
    wanted = np.asarray(crf.dense_crf(unary, image))
  # The lattice of positions is kept on the device where it was made.
  crf.kernels.smoothness_lattice.cache_clear()
  found = jax.jit(crf.dense_crf)(unary, image)
  return {'what': 'dense_crf, lattice in the program', 'float32': error(np.asarray(found), wanted)}

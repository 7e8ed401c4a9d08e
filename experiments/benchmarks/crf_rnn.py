"""Gradients through the CRF-RNN: lattices made on the host, or in the program."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from dilated_jax import crf

from .crf import SIZES, segmented
from .timing import compare


def run(values) -> Iterator[dict]:
  """Gradients of 5 iterations on whole pictures: lattices made on the host, or in the program.

  And, beside those made on the host, lattices that are there already.
  """
  for size, shape in SIZES.items():
    image, unary = segmented(*shape)
    logits, images = jnp.asarray(-unary)[None], image[None]
    layer = crf.CrfRnn(shape[2])
    variables = layer.init(jax.random.key(0), logits[:, :8, :8], images[:, :8, :8])

    def loss(variables, logits, images, kernels=None, layer=layer):
      out = layer.apply(variables, logits, images, train=True, kernels=kernels)
      return (out[..., 0] - jax.nn.logsumexp(out, axis=-1)).mean()

    gradient = jax.jit(jax.grad(loss, (0, 1)))
    kernels = jax.device_put(layer.build_kernels(images))

    def ours(variables, logits, images, gradient=gradient, layer=layer):
      return gradient(variables, logits, images, layer.build_kernels(images))

    def beforehand(variables, logits, images, gradient=gradient, kernels=kernels):
      return gradient(variables, logits, images, kernels)

    name = f'{size}, {shape[2]} classes, 5 iterations, forward + gradient'
    for where, other in (('in the program', gradient), ('made beforehand', beforehand)):
      arguments = (variables, logits, images)
      yield compare(name, where, ours, other, arguments, values.repeats)

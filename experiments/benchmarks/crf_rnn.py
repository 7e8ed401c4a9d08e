"""Gradients through the CRF-RNN: lattices made on the host, or in the program."""

import jax
import jax.numpy as jnp

from dilated_jax import crf

from .crf import SIZES, segmented
from .timing import compare


def run(values) -> list[dict]:
  """Gradients of 5 iterations on whole pictures: lattices made on the host, or in the program."""
  rows = []
  for size, shape in SIZES.items():
    image, unary = segmented(*shape)
    logits, images = jnp.asarray(-unary)[None], image[None]
    layer = crf.CrfRnn(shape[2])
    variables = layer.init(jax.random.key(0), logits[:, :8, :8], images[:, :8, :8])

    def loss(variables, logits, images, kernels=None, layer=layer):
      out = layer.apply(variables, logits, images, train=True, kernels=kernels)
      return (out[..., 0] - jax.nn.logsumexp(out, axis=-1)).mean()

    gradient = jax.jit(jax.grad(loss, (0, 1)))

    def ours(variables, logits, images, gradient=gradient, layer=layer):
      return gradient(variables, logits, images, layer.build_kernels(images))

    name = f'{size}, {shape[2]} classes, 5 iterations, forward + gradient'
    rows.append(
      compare(name, 'in the graph', ours, gradient, (variables, logits, images), values.repeats)
    )
  return rows

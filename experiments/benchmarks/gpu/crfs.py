"""The dense CRF and the CRF-RNN in compiled programs, lattices made there, of 1 and 16 images."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax import crf

from ..crf import segmented
from . import clock


def rows(small: bool) -> Iterator[dict]:
  """Times of a batch, and of an image."""
  height, width, classes = (24, 32, 5) if small else (375, 500, 21)
  image, unary = segmented(height, width, classes)
  layer = crf.CrfRnn(classes)
  for batch in (1, 16):
    images = jnp.asarray(np.broadcast_to(image, (batch, *image.shape)))
    unaries = jnp.asarray(np.broadcast_to(unary, (batch, *unary.shape)))
    variables = layer.init(jax.random.key(0), -unaries[:1, :8, :8], images[:1, :8, :8])

    def loss(variables, logits, images):
      return (layer.apply(variables, logits, images, train=True) ** 2).mean()

    for what, function, arguments in (
      ('dense CRF, 10 iterations', crf.dense_crf, (unaries, images)),
      ('CRF-RNN, 10 iterations', layer.apply, (variables, -unaries, images)),
      (
        'CRF-RNN, 5 iterations and gradients',
        jax.grad(loss, (0, 1)),
        (variables, -unaries, images),
      ),
    ):
      run = jax.jit(function)
      (found,) = clock.milliseconds(
        (lambda run=run, given=arguments: run(*given), clock.jax_wait), rounds=3
      )
      yield {
        'what': f'{what}, {batch}x{height}x{width}, {classes} classes',
        'ours_ms': found, 'ms_per_image': found / batch,
      }  # fmt: skip

"""CRF-RNN: mean field of the dense CRF as a layer whose weights are trained with the network."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dilated_jax.crf import dense, exact, lattice


class CrfRnn(nn.Module):
  """Refines class scores by iterations of the mean field, all of it differentiable.

  `layer.init(key, logits, images) -> variables`, `layer.apply(variables, logits, images,
  train=False) -> logits`. Parameters `spatial`, `bilateral` (C, C) weigh the filtered marginals of
  the two kernels, `compatibility` (C, C) says what a class gains from another nearby: 1 on the
  diagonal is Potts' model.

  Attributes:
    num_classes: C.
    iterations: in training; more of them make gradients vanish.
    test_iterations: otherwise.
    gaussian: standard deviation of the smoothness kernel, in cells.
    bilateral: those of the appearance kernel, in cells and in colour, 0..255.
    method: 'lattice', or 'exact' for low resolutions.
    train_bandwidths: make the deviations parameters too, as factors `log_bandwidths` (3,).

  Source: Zheng et al. 2015, Algorithm 1, sections 4.2 to 7.1: normalisation 'after', 5 iterations
  in training and 10 in testing, weights 3 and 5, deviations 3, 160 and 3.
  """

  num_classes: int
  iterations: int = 5
  test_iterations: int = 10
  gaussian: float = 3.0
  bilateral: tuple[float, float] = (160.0, 3.0)
  method: Literal['lattice', 'exact'] = 'lattice'
  train_bandwidths: bool = False

  @nn.compact
  def __call__(self, logits, images, train: bool = False):
    """Refines scores.

    Args:
      logits: (N, H, W, C) float32.
      images: (N, H, W, 3), RGB of 0..255, not minus the mean.
      train: how many iterations, see the attributes.

    Returns:
      (N, H, W, C) float32 logits.
    """

    def scaled_identity(value):
      return lambda _, shape: value * jnp.eye(*shape)

    square = (self.num_classes, self.num_classes)
    weights = (
      self.param('spatial', scaled_identity(3.0), square),
      self.param('bilateral', scaled_identity(5.0), square),
    )
    compatibility = self.param('compatibility', scaled_identity(1.0), square)
    deviations = jnp.array([self.gaussian, *self.bilateral], jnp.float32)
    if self.train_bandwidths:
      factors = self.param('log_bandwidths', nn.initializers.zeros, (3,))
      deviations = deviations * jnp.exp(factors)
    height, width = logits.shape[1:3]
    places = jnp.asarray(dense.positions(height, width))
    build = {'lattice': lattice.build_in_graph, 'exact': exact.Exact}[self.method]
    matrices = tuple(-(w.T @ compatibility.T) for w in weights)

    def refine(scores, image):
      colours = image.reshape(height * width, -1).astype(jnp.float32) / deviations[2]
      kernels = (
        build(places / deviations[0]),
        build(jnp.concatenate([places / deviations[1], colours], 1)),
      )
      unary = -scores.reshape(height * width, -1)
      problem = dense.assemble(unary, kernels, matrices, ('after', 'after'))
      steps = self.iterations if train else self.test_iterations
      return -dense.unrolled(problem, steps).reshape(scores.shape)

    # One after the other: a batch of lattices would take the memory of all.
    return jax.lax.map(lambda pair: refine(*pair), (logits, images))

"""CRF-RNN: the mean field of the dense CRF as a layer that is trained with the network."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dilated_jax.crf import dense, exact, lattice


class CrfRnn(nn.Module):
  """Refines class scores by iterations of the mean field, all of it differentiable.

  `layer.init(key, logits, images) -> variables`, `layer.apply(variables, logits, images,
  train=False) -> logits`. Parameters, (C, C) each: `spatial` and `bilateral` weigh the filtered
  marginals of the two kernels, `compatibility` says what a class gains from another one nearby.
  They start from Potts' model, 3 I, 5 I and I.

  Attributes:
    num_classes: C.
    iterations: of the mean field in training; more of them make gradients vanish.
    test_iterations: otherwise.
    gaussian: standard deviation of the smoothness kernel in pixels.
    bilateral: those of the appearance kernel, in pixels and in colour, 0..255.
    cell: pixels of the picture along a side of a cell of the scores; they are averaged.
    method: of filtering: 'lattice', or 'exact', N^2 operations for N cells, for coarse scores and
      for devices that gather slowly (TPUs).
    train_bandwidths: whether the deviations are trained too, as `log_bandwidths` (3,), logarithms
      of factors.

  Source: Zheng et al. 2015, "Conditional Random Fields as Recurrent Neural Networks", Algorithm 1
  and sections 4 to 7: normalisation 'after', 5 iterations in training and 10 in testing; initial
  values of their published network.
  """

  num_classes: int
  iterations: int = 5
  test_iterations: int = 10
  gaussian: float = 3.0
  bilateral: tuple[float, float] = (160.0, 3.0)
  cell: int = 1
  method: Literal['lattice', 'exact'] = 'lattice'
  train_bandwidths: bool = False

  @nn.compact
  def __call__(self, logits, images, train: bool = False):
    """Refines scores.

    Args:
      logits: (N, H, W, C) float32.
      images: (N, H cell, W cell, 3), RGB; only differences of colours count, so that a mean may
        have been subtracted.
      train: how many iterations, see the attributes.

    Returns:
      (N, H, W, C) float32 logits, whose softmax are the marginals.
    """

    def potts(value):
      return lambda _, shape: value * jnp.eye(*shape)

    square = (self.num_classes, self.num_classes)
    spatial = self.param('spatial', potts(3.0), square)
    bilateral = self.param('bilateral', potts(5.0), square)
    compatibility = self.param('compatibility', potts(1.0), square)
    costs = tuple(-(weights.T @ compatibility.T) for weights in (spatial, bilateral))
    factors = jnp.ones(3)
    if self.train_bandwidths:
      factors = jnp.exp(self.param('log_bandwidths', nn.initializers.zeros, (3,)))
    sxy, (wide, colour) = self.gaussian / self.cell, self.bilateral
    height, width = logits.shape[1:3]
    places = dense.positions(height, width)
    build = lattice.build_in_graph if self.method == 'lattice' else exact.Exact
    if self.method == 'lattice' and not self.train_bandwidths:
      smoothness = lattice.brought(dense.smoothness(height, width, sxy))
    else:
      smoothness = build(places / (sxy * factors[0]))

    def refine(pair):
      scores, image = pair
      colours = image.reshape(-1, image.shape[-1]) / (colour * factors[2])
      near = places / (wide / self.cell * factors[1])
      appearance = build(jnp.concatenate([near, colours], 1))
      unary = -scores.reshape(-1, self.num_classes)
      problem = dense.assemble(unary, (smoothness, appearance), costs, ('after', 'after'))
      steps = self.iterations if train else self.test_iterations
      return -dense.unrolled(problem, steps).reshape(scores.shape)

    # One after the other: a batch of lattices would take the memory of all.
    return jax.lax.map(refine, (logits, self._averaged(images)))

  def _averaged(self, images):
    """(N, H cell, W cell, 3) -> (N, H, W, 3) float32, means over cells."""
    count, height, width, channels = images.shape
    cells = (count, height // self.cell, self.cell, width // self.cell, self.cell, channels)
    return images.astype(jnp.float32).reshape(cells).mean((2, 4))

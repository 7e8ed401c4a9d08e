"""CRF-RNN: the mean field of the dense CRF as a layer that is trained with the network."""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.crf import dense, exact, lattice
from dilated_jax.errors import InputError


class CrfRnn(nn.Module):
  """Refines class scores by iterations of the mean field, all of it differentiable.

  `layer.init(key, logits, images) -> variables`, `layer.apply(variables, logits, images,
  train=False) -> logits`. Parameters, (C, C) each: `spatial` and `bilateral` weigh the filtered
  marginals of the two kernels, `compatibility` says what a class gains from another one nearby.
  They start from Potts' model, 3 I, 5 I and I. Derivatives are reverse mode's (`grad`, `vjp`).

  Attributes:
    num_classes: C.
    iterations: of the mean field in training.
    test_iterations: otherwise.
    gaussian: standard deviation of the smoothness kernel in pixels.
    bilateral: those of the appearance kernel, in pixels and in color, 0..255.
    stride: pixels of the picture along a side of a cell of the scores; they are averaged.
    method: of filtering: 'lattice', or 'exact', N^2 operations for N cells, for coarse scores and
      for devices that gather slowly (TPUs).
    train_bandwidths: whether the deviations are trained too, as `log_bandwidths` (3,), logarithms
      of factors.

  Source: Zheng et al. 2015, "Conditional Random Fields as Recurrent Neural Networks", Algorithm 1
  and sections 4 to 7: normalization 'after', 5 iterations in training and 10 in testing; initial
  values of their published network.
  """

  num_classes: int
  iterations: int = 5
  test_iterations: int = 10
  gaussian: float = 3.0
  bilateral: tuple[float, float] = (160.0, 3.0)
  stride: int = 1
  method: Literal['lattice', 'exact'] = 'lattice'
  train_bandwidths: bool = False

  @nn.compact
  def __call__(self, logits, images, train: bool = False, kernels=None):
    """Refines scores.

    Args:
      logits: (N, H, W, C) floats.
      images: (N, H stride, W stride, 3), RGB; only differences of colors count, so that a mean may
        have been subtracted.
      train: how many iterations, see the attributes.
      kernels: from `build_kernels`, where the lattices have been made before; None makes them here.

    Returns:
      (N, H, W, C) float32 logits, whose softmax are the marginals.

    Raises:
      InputError: shapes or attributes that don't fit.
    """
    self._check(logits, images)

    def potts(value):
      return lambda _, shape: value * jnp.eye(*shape, dtype=jnp.float32)

    square = (self.num_classes, self.num_classes)
    spatial = self.param('spatial', potts(3.0), square)
    bilateral = self.param('bilateral', potts(5.0), square)
    compatibility = self.param('compatibility', potts(1.0), square)
    compatibility_matrix = tuple(-(weights.T @ compatibility.T) for weights in (spatial, bilateral))
    factors = jnp.ones(3, jnp.float32)
    if self.train_bandwidths:
      zeros = nn.initializers.zeros
      factors = jnp.exp(self.param('log_bandwidths', zeros, (3,), jnp.float32))
    size = logits.shape[1:3]
    if kernels is None:
      smoothness, appearance = self._smoothness(size, factors[0]), self._averaged(images)
    else:
      smoothness, appearance = kernels

    def refine(pair):
      scores, given = pair
      kernel = given if kernels else self._build(self._features(given, factors[1:]))
      unary = -scores.reshape(-1, self.num_classes)
      problem = dense.assemble(
        unary, (smoothness, kernel), compatibility_matrix, ('after', 'after')
      )
      steps = self.iterations if train else self.test_iterations
      return -dense.unrolled_mean_field(problem, steps).reshape(scores.shape)

    # One after the other: a batch of lattices would take the memory of all.
    return jax.lax.map(refine, (logits.astype(jnp.float32), appearance))

  def build_kernels(self, images) -> tuple:
    """Makes the lattices of pictures on the host, several times as fast as in a compiled program.

    Args:
      images: (N, H stride, W stride, 3) RGB, NumPy.

    Returns:
      What `__call__` takes, for 'lattice' and fixed deviations.
    """
    means = np.asarray(self._averaged(np.asarray(images)))
    ones = np.ones(2, np.float32)
    made = [lattice.build(np.asarray(self._features(image, ones))) for image in means]
    height, width = means.shape[1:3]
    return dense.smoothness_lattice(height, width, self.gaussian / self.stride), lattice.stack(made)

  def _features(self, image, factors):
    """(H W, 5) places and colors, in deviations."""
    wide, color = self.bilateral
    places = dense.positions(*image.shape[:2]) / (wide / self.stride * factors[0])
    colors = image.reshape(-1, image.shape[-1]) / (color * factors[1])
    return jnp.concatenate([places, colors], 1)

  def _smoothness(self, size, factor):
    sxy = self.gaussian / self.stride
    if self.train_bandwidths:
      return self._build(dense.positions(*size) / (sxy * factor))
    height, width = size
    return dense.smoothness_kernel(height, width, sxy, self.method, traced=True)

  def _build(self, features):
    return exact.ExactKernel(features) if self.method == 'exact' else lattice.build_traced(features)

  def _averaged(self, images):
    """(N, H stride, W stride, 3) -> (N, H, W, 3) float32, means over cells."""
    count, height, width, channels = images.shape
    cells = (count, height // self.stride, self.stride, width // self.stride, self.stride, channels)
    return images.astype(np.float32).reshape(cells).mean((2, 4))

  def _check(self, logits, images):
    wanted = (*logits.shape[:1], *(n * self.stride for n in logits.shape[1:3]))
    if logits.ndim != 4 or logits.shape[3] != self.num_classes or images.shape[:3] != wanted:
      raise InputError(
        f'scores {logits.shape} and pictures {images.shape}: they are (N, H, W, {self.num_classes})'
        f' and (N, H, W, 3) with sides {self.stride} times as long'
      )
    if self.method not in dense.METHODS:
      raise InputError(f'method is {self.method!r}; choose {" or ".join(dense.METHODS)}')
    if not all(0 < value < math.inf for value in (self.gaussian, *self.bilateral)):
      raise InputError(f'deviations are {(self.gaussian, *self.bilateral)}; they must be above 0')
    if min(self.iterations, self.test_iterations) < 0:
      raise InputError('iterations are 0 or more')

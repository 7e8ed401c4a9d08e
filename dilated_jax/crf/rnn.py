"""CRF-RNN: the mean field of the dense CRF as a layer that is trained with the network."""

import math
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Real
import numpy as np

from dilated_jax.crf import lattice, mean_field
from dilated_jax.crf.checks import check_color_scale, check_scores
from dilated_jax.crf.exact import ExactKernel
from dilated_jax.crf.kernels import (
  METHODS,
  Kernel,
  Method,
  is_traced,
  positions,
  smoothness_kernel,
  smoothness_lattice,
)
from dilated_jax.errors import InputError
from dilated_jax.typing import AnyArray, DimSize

Kernels: TypeAlias = tuple[lattice.Lattice, lattice.Lattice]


class CrfRnn(nn.Module):
  """Refines class scores by iterations of the mean field, all of it differentiable.

  `layer.init(key, logits, images) -> variables`, `layer.apply(variables, logits, images,
  train=False) -> logits`. Parameters, float32 (C, C): `spatial` and `bilateral` weight the filtered
  marginals of the two kernels, and `compatibility` is what a class gains from another one nearby.
  They start from the Potts model, 3 I, 5 I and I. Derivatives are those of reverse mode (`grad`,
  `vjp`).

  Attributes:
    num_classes: C.
    iterations: of the mean field, in training.
    test_iterations: of the mean field, otherwise.
    gaussian: standard deviation of the smoothness kernel, in pixels.
    bilateral: standard deviations of the appearance kernel, in pixels and in colors of 0..255.
    stride: pixels of the image along each side of a cell of the scores; colors are averaged over
      cells.
    method: of filtering: 'lattice', or 'exact' with N^2 operations for N cells, for coarse scores
      and for devices that gather slowly (TPUs).
    train_bandwidths: whether the standard deviations are trained too. The parameter
      `log_bandwidths` (3,) holds logarithms of factors on them.

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
  method: Method = 'lattice'
  train_bandwidths: bool = False

  @nn.compact
  def __call__(
    self,
    logits: Float[AnyArray, 'n h w {self.num_classes}'],
    images: Real[AnyArray, 'n {self.stride}*h {self.stride}*w 3'],
    train: bool = False,
    kernels: Kernels | None = None,
    inside: Bool[AnyArray, 'n h w'] | None = None,
  ) -> Float[jax.Array, 'n h w {self.num_classes}']:
    """Refines scores.

    Args:
      logits: the class scores.
      images: RGB. Only differences of colors matter, so a mean may have been subtracted.
      train: selects the number of iterations, see the attributes.
      kernels: from `build_kernels`, if the lattices have been built before; None builds them here.
      inside: cells that there are, where images of several sizes share a batch: what lies beyond
        them has no part in the mean field. None: all.

    Returns:
      Logits, whose softmax are the marginals, in float32 or the dtype of `logits` if that is wider.
      For which images there is no room (`lattice.build_traced`), 0 or 1 each, is sown as
      'lack_room' (n,) int32 into the collection 'crf_rnn'. Their logits are NaN; in training they
      are finite but without a meaning, so that one image does not spoil a batch: leave it out of
      the loss.

    Raises:
      InputError: shapes or attributes that do not fit; outside of compiled programs also
        probabilities in place of scores, and colors of 0..1.
    """
    self._check(logits, images)

    def potts(value):
      return lambda _, shape: value * jnp.eye(*shape, dtype=jnp.float32)

    square = (self.num_classes, self.num_classes)
    spatial = self.param('spatial', potts(3.0), square)
    bilateral = self.param('bilateral', potts(5.0), square)
    compatibility = self.param('compatibility', potts(1.0), square)
    matrices = [-(weights.T @ compatibility.T) for weights in (spatial, bilateral)]
    factors = jnp.ones(3, jnp.float32)
    if self.train_bandwidths:
      zeros = nn.initializers.zeros
      factors = jnp.exp(self.param('log_bandwidths', zeros, (3,), jnp.float32))
    if kernels is None:
      smoothness = self._smoothness(logits.shape[1], logits.shape[2], factors[0])
      appearance: Any = self._cell_means(images)
    else:
      smoothness, appearance = kernels

    def refine(scores_appearance_and_inside):
      scores, given, inside = scores_appearance_and_inside
      kernel = given if kernels else self._build(self._features(given, factors[1:]))
      room = jnp.bool_(True)
      if isinstance(kernel, lattice.Lattice):
        sound, room = lattice.where_room(kernel)
        kernel = sound if train else kernel
      unary = -scores.reshape(-1, self.num_classes)
      inside = None if inside is None else inside.ravel()
      problem = mean_field.assemble(
        unary, (smoothness, kernel), matrices, ('after', 'after'), inside
      )
      steps = self.iterations if train else self.test_iterations
      refined = mean_field.unrolled_logits(problem, steps).reshape(scores.shape)
      return refined, (~room).astype(jnp.int32)

    scores = jnp.asarray(logits, np.promote_types(logits.dtype, np.float32))
    # One image after the other: a batch of lattices would take the memory of all of them.
    refined, lack_room = jax.lax.map(refine, (scores, appearance, inside))
    if not self.is_initializing():
      self.sow('crf_rnn', 'lack_room', lack_room)
    return refined

  def build_kernels(self, images: Real[np.ndarray, 'n _ _ 3']) -> Kernels:
    """Builds the lattices of images on the host, several times as fast as in a compiled program.

    Args:
      images: RGB, as for `__call__`.

    Returns:
      The `kernels` of `__call__`, for the method 'lattice' and fixed standard deviations.
    """
    check_color_scale(images, self.bilateral[1])
    means = np.asarray(self._cell_means(images))
    ones = np.ones(2, np.float32)
    built = [lattice.build(np.asarray(self._features(image, ones))) for image in means]
    height, width = means.shape[1:3]
    return smoothness_lattice(height, width, self.gaussian / self.stride), lattice.stack(built)

  def _features(self, image, factors):
    """Positions and colors (H W, 5), in units of their standard deviations."""
    sxy, srgb = self.bilateral
    scaled = positions(*image.shape[:2]) / (sxy / self.stride * factors[0])
    colors = image.reshape(-1, image.shape[-1]) / (srgb * factors[1])
    return jnp.concatenate([scaled, colors], 1)

  def _smoothness(self, height: DimSize, width: DimSize, factor) -> Kernel:
    sxy = self.gaussian / self.stride
    if self.train_bandwidths:
      return self._build(positions(height, width) / (sxy * factor))
    return smoothness_kernel(height, width, sxy, self.method, traced=True)

  def _build(self, features) -> Kernel:
    return ExactKernel(features) if self.method == 'exact' else lattice.build_traced(features)

  def _cell_means(self, images):
    """(N, H stride, W stride, 3) -> (N, H, W, 3) float32, means over cells."""
    count, height, width, channels = images.shape
    cells = (count, height // self.stride, self.stride, width // self.stride, self.stride, channels)
    return images.astype(np.float32).reshape(cells).mean((2, 4))

  def _check(self, logits, images) -> None:
    wanted = (*logits.shape[:1], *(n * self.stride for n in logits.shape[1:3]))
    if logits.ndim != 4 or logits.shape[3] != self.num_classes or images.shape[:3] != wanted:
      raise InputError(
        f'scores {logits.shape} and images {images.shape}: they are (N, H, W, {self.num_classes})'
        f' and (N, H, W, 3) with sides {self.stride} times as long'
      )
    if self.method not in METHODS:
      raise InputError(f'method is {self.method!r}; choose {" or ".join(METHODS)}')
    if not all(0 < value < math.inf for value in (self.gaussian, *self.bilateral)):
      raise InputError(
        f'standard deviations are {(self.gaussian, *self.bilateral)}; they must be above 0'
      )
    if min(self.iterations, self.test_iterations) < 0:
      raise InputError('iterations are 0 or more')
    if not is_traced(logits):
      check_scores(np.asarray(logits))
    if not is_traced(images):
      check_color_scale(images, self.bilateral[1])

"""Any network of ours with a CRF-RNN behind it, trained in a stage of its own or end to end."""

from typing import Literal, cast

import flax.linen as nn
import jax.numpy as jnp

from dilated_jax.crf import CrfRnn
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.models.upsampling import upsample
from dilated_jax.nn import ops
from dilated_jax.nn.table import Table


class CrfRnnModel(nn.Module):
  """A network whose logits are refined by a CRF-RNN; applied like the network.

  Its parameters are those of the network, and `crf/spatial`, `crf/bilateral`, `crf/compatibility`.
  Defaults are those of `options.CrfRnnOptions`, with which `models.create` makes it.

  Attributes:
    network: from `models.create`.
    grid: 'cells' refines the network's own logits, by the exact sum; 'pixels' upsamples them first
      and filters on the lattice, as the original: the logits are then full size.
    upsampling: for 'pixels', the way the network was trained for, see `upsampling.of_training`.
    iterations: of the mean field in training.
    test_iterations: otherwise.
    bilateral: standard deviations of the appearance kernel, in pixels and in color.
    train_bandwidths: whether the deviations are trained too.

  Source: paper, section 5 (context module and CRF-RNN); Zheng et al. 2015.
  """

  network: SegmentationModel
  grid: Literal['cells', 'pixels']
  upsampling: Literal['corner', 'corner_logits', 'deconvolution']
  iterations: int
  test_iterations: int
  bilateral: tuple[float, float]
  train_bandwidths: bool

  def setup(self):
    nn.share_scope(self, cast(nn.Module, self.network))
    pixels = self.full_size
    self.crf = CrfRnn(
      self.num_classes,
      iterations=self.iterations,
      test_iterations=self.test_iterations,
      bilateral=self.bilateral,
      stride=1 if pixels else self.stride,
      method='lattice' if pixels else 'exact',
      train_bandwidths=self.train_bandwidths,
    )

  def __call__(self, images, train: bool = False, own=None):
    """Maps images to logits, as the network does; all of it is trained."""
    logits = self.network(images, train, own)
    images, inside = self._without_margin(images), None
    if own is not None:
      cells = (own - 2 * self.margin) // (1 if self.network.full_size else self.stride)
      inside = ops.is_own(logits, cells)
      logits = jnp.where(inside, logits, jnp.zeros((), logits.dtype))
      inside = jnp.broadcast_to(inside[..., 0], logits.shape[:3])
    return self.apply_crf(logits, images, inside, train=train)

  def apply_crf(self, logits, images, inside=None, train: bool = False):
    """The CRF-RNN alone.

    Args:
      logits: of the network.
      images: (N, H, W, 3) without the margin.
      inside: (N, h, w) cells of `logits` that there are, see `CrfRnn`; None: all.
      train: as for `CrfRnn`.

    Returns:
      Logits as of `__call__`.
    """
    if self.grid == 'pixels' and not self.network.full_size:
      if inside is not None and self.upsampling != 'deconvolution':
        logits = _repeat_border(logits, inside)  # As behind the last cell in prediction.
      logits = upsample(logits, self.stride, self.upsampling)
      if inside is not None:
        inside = jnp.repeat(jnp.repeat(inside, self.stride, 1), self.stride, 2)
    # Networks that pad inside may have cells behind the image.
    step = 1 if self.full_size else self.stride
    rows, columns = (side // step for side in images.shape[1:3])
    if inside is not None:
      inside = inside[:, :rows, :columns]
    return self.crf(logits[:, :rows, :columns], images, train, inside=inside)

  def _without_margin(self, images):
    """The pixels that have logits: the images without the margin, in whole cells."""
    height, width = (side - 2 * self.margin for side in images.shape[1:3])
    if not self.network.full_size:
      height, width = (n // self.stride * self.stride for n in (height, width))
    return images[:, self.margin : self.margin + height, self.margin : self.margin + width]

  def apply_front_end(self, images, train: bool = False):
    """See the network."""
    return self.network.apply_front_end(images, train)

  def apply_context(self, scores, inside=None, train: bool = False):
    """See the network."""
    return self.network.apply_context(scores, inside, train)

  def without_context(self) -> SegmentationModel:
    """The network alone, without context module and CRF-RNN."""
    return self.network.without_context()

  def without_crf(self) -> SegmentationModel:
    """The network alone."""
    return self.network

  def with_axis_name(self, axis_name: str | None) -> 'CrfRnnModel':
    """The same with batch statistics averaged over the devices of an axis of `jax.pmap`."""
    return self.clone(network=self.network.with_axis_name(axis_name))

  @property
  def parts(self) -> tuple[str, ...]:
    return (*self.network.parts, 'crf')

  @property
  def dtype(self):
    return self.network.dtype

  @property
  def scales(self) -> tuple[float, ...]:
    return self.network.scales

  @property
  def num_classes(self) -> int:
    return self.network.num_classes

  @property
  def table(self) -> Table:
    return self.network.table

  @property
  def front_end_table(self) -> Table:
    return self.network.front_end_table

  @property
  def context_table(self) -> Table:
    return self.network.context_table

  @property
  def auxiliary_table(self) -> Table:
    return self.network.auxiliary_table

  @property
  def stride(self) -> int:
    return self.network.stride

  @property
  def margin(self) -> int:
    return self.network.margin

  @property
  def full_size(self) -> bool:
    return self.network.full_size or self.grid == 'pixels'


def _repeat_border(logits, inside):
  """Logits whose own cells, at the top left, are repeated beyond them."""
  for axis in (1, 2):
    own = inside.any(3 - axis).sum(1)[:, None]
    cells = jnp.minimum(jnp.arange(logits.shape[axis])[None], own - 1)
    shape = (len(logits), -1, 1, 1) if axis == 1 else (len(logits), 1, -1, 1)
    logits = jnp.take_along_axis(logits, cells.reshape(shape), axis)
  return logits

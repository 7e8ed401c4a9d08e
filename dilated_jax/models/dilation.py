"""The networks of the paper: a front end, alone or followed by a context module."""

import flax.linen as nn
import jax.numpy as jnp

from dilated_jax import geometry
from dilated_jax.layers import Table
from dilated_jax.models.stack import Stack


class Dilation(nn.Module):
  """A front end that scores classes on a coarse grid, and a context module that refines the scores.

  `model.init(key, images) -> variables`, `model.apply(variables, images, train=False) -> logits`.
  With `train=True` pass `rngs={'dropout': key}`, and `mutable=['batch_stats']` where the tables
  have batch normalisation. Parameters: `front_end/conv1_1/kernel`, `context/ctx_conv1_1/kernel`.

  Attributes:
    num_classes: channels of the logits.
    front_end_table: layers of the front end.
    context_table: layers of the context module and of the upsampling behind it; may be empty.
    dtype: of the computation (`jnp.float32` or `jnp.bfloat16`); logits are float32.
    remat: recompute activations in the backward pass, not keep them.
    axis_name: devices over which batch normalisation averages in training.
  """

  num_classes: int
  front_end_table: Table
  context_table: Table = ()
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  axis_name: str | None = None

  def setup(self):
    options = dict(dtype=self.dtype, remat=self.remat, axis_name=self.axis_name)
    self.front_end = Stack(self.front_end_table, **options)
    if self.context_table:
      self.context = Stack(self.context_table, **options)

  def __call__(self, images, train: bool = False):
    """Maps images to logits.

    Args:
      images: (N, H + 2 margin, W + 2 margin, 3) float32, RGB of 0..255 minus the RGB mean.
      train: dropout on, batch normalisation by the statistics of the batch.

    Returns:
      (N, H / stride, W / stride, num_classes) float32 logits; (N, H, W, num_classes) where the
      network ends in its own upsampling.

    Raises:
      InputError: the images are smaller than the receptive field of the front end.
    """
    for size in images.shape[1:3]:
      geometry.sizes(self.front_end_table, size)
    return self.refine(self.scores(images, train), train)

  def scores(self, images, train: bool = False):
    """The front end alone: its class scores (N, h, w, num_classes)."""
    return self.front_end(images, train)

  def refine(self, scores, train: bool = False):
    """The context module alone, on scores (N, h, w, num_classes); without one, the scores."""
    return self.context(scores, train) if self.context_table else scores

  @property
  def table(self) -> Table:
    """All layers, from the picture to the logits."""
    return self.front_end_table + self.context_table

  @property
  def stride(self) -> int:
    """Input pixels between cells of the network's grid."""
    return geometry.stride(self.table)

  @property
  def margin(self) -> int:
    """Input pixels lost on each side: 186 for the published front end."""
    return geometry.margin(self.table)

  @property
  def full_size(self) -> bool:
    """Whether the network upsamples its logits to label pixels itself."""
    return any(layer.kind == 'deconv' for layer in self.table)

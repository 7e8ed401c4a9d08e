"""The networks of the paper: a front end, alone or followed by a context module.

And those of others, whose scores the same context module refines: their tables stand beside this
file.
"""

from typing import Any

import flax.linen as nn
from jax.core import max_dim
import jax.numpy as jnp
from jax.typing import DTypeLike

from dilated_jax.nn import geometry, ops
from dilated_jax.nn.stack import Stack
from dilated_jax.nn.table import Table
from dilated_jax.typing import DimSize


class Dilation(nn.Module):
  """A front end that scores classes on a coarse grid, and a context module that refines the scores.

  `model.init(key, images) -> variables`, `model.apply(variables, images, train=False) -> logits`.
  With `train=True` pass `rngs={'dropout': key}`, and `mutable=['batch_stats']` where the tables
  have batch normalization. Parameters: `front_end/conv1_1/kernel`, `context/ctx_conv1_1/kernel`.

  Attributes:
    num_classes: channels of the logits.
    front_end_table: layers of the front end: all up to the scores.
    context_table: layers of the context module and of the upsampling behind it; may be empty.
    auxiliary_table: rows behind those of the front end that make the auxiliary answer with which it
      is trained, see `Stack`; may be empty.
    scales: sizes at which the front end sees the image; of the scores, brought to the size of the
      first's, the largest counts (DeepLab v2). Fields and costs are told of the first.
    dtype: of the computation (`jnp.float32` or `jnp.bfloat16`); logits are float32.
    remat: recompute activations in the backward pass, not keep them.
    axis_name: devices over which batch normalization averages in training.
  """

  num_classes: int
  front_end_table: Table
  context_table: Table = ()
  auxiliary_table: Table = ()
  scales: tuple[float, ...] = (1.0,)
  dtype: DTypeLike = jnp.float32
  remat: bool = False
  axis_name: str | None = None

  def setup(self):
    options: dict[str, Any] = dict(dtype=self.dtype, remat=self.remat, axis_name=self.axis_name)
    self.front_end = Stack(self.front_end_table, self.auxiliary_table, **options)
    if self.context_table:
      self.context = Stack(self.context_table, **options)

  def __call__(self, images, train: bool = False, own=None):
    """Maps images to logits.

    Args:
      images: (N, H + 2 margin, W + 2 margin, 3) float32, RGB of 0..255 minus the RGB mean.
      train: dropout on, batch normalization by the statistics of the batch.
      own: (2,) integers, which rows and columns, from the top left, are the images and their
        margins; None: all. At the top left of the logits is then what these give alone.

    Returns:
      (N, H / stride, W / stride, num_classes) float32 logits; (N, H, W, num_classes) where the
      network ends in its own upsampling. Of a network that pads inside there may be one row and one
      column more: its first cell is at the first pixel, and its last at or behind the last.

    Raises:
      InputError: the images are smaller than the receptive field of the front end.
    """
    for size in images.shape[1:3]:
      if isinstance(size, int):  # Of a program for any size, the program checks it itself.
        geometry.output_sizes(self.front_end_table, size)
    scores, of_scores = self._front_end(images, train, own)
    logits = self.context(scores, train, own=of_scores) if self.context_table else scores
    if self.full_size and not self.margin:  # FCN: what is made of the zeros behind the image.
      logits = logits[:, : images.shape[1], : images.shape[2]]
    return logits

  def apply_front_end(self, images, train: bool = False):
    """The front end alone: its class scores (N, h, w, num_classes)."""
    return self._front_end(images, train, None)[0]

  def _front_end(self, images, train: bool, own):
    """The class scores, and how many of their rows and columns are the images' own, or None."""
    scores, of_scores = self._scores_at(self.scales[0], images, train, own)
    size = scores.shape[1:3]
    for scale in self.scales[1:]:
      found, of_found = self._scores_at(scale, images, train, own)
      found = ops.resize(found, size, align_corners=False, own=of_found, own_size=of_scores)
      scores = jnp.maximum(scores, found)
    if self.upsampling and not self.margin:  # FCN: cells that no pixel is blended from.

      def end(side):
        return geometry.window(self.upsampling, side - 1)[1] + 1

      scores = scores[:, : end(images.shape[1]), : end(images.shape[2])]
      if own is not None:
        ends = [end(side) for side in range(max(images.shape[1:3]) + 1)]
        of_scores = jnp.minimum(of_scores, jnp.asarray(ends, jnp.int32)[own])
    return scores, of_scores

  def _scores_at(self, scale: float, images, train: bool, own):
    """The class scores of the images at another size, and which of them are their own."""
    if scale != 1:
      size = [_scaled(side, scale) for side in images.shape[1:3]]
      scaled = None
      if own is not None:
        sizes = [_scaled(side, scale) for side in range(max(images.shape[1:3]) + 1)]
        scaled = jnp.asarray(sizes, jnp.int32)[own]
      images = ops.resize(images, size, align_corners=False, own=own, own_size=scaled)
      own = scaled
    of_scores = None
    if own is not None:
      sizes = geometry.all_output_sizes(self.front_end_table, max(images.shape[1:3]))[-1]
      of_scores = jnp.asarray(sizes)[own]
    return self.front_end(images, train, own=own), of_scores

  def apply_context(self, scores, inside=None, train: bool = False):
    """The context module alone, on scores (N, h, w, num_classes); without one, the scores.

    With `inside` (N, h, w) the other cells are as beyond the border of the map, see `Stack`. Where
    the network ends in its own upsampling, the result has full size; of a network that pads inside
    there may be more of it than of the image, at the bottom and right.
    """
    return self.context(scores, train, inside) if self.context_table else scores

  def apply_crf(self, logits, images, inside=None, train: bool = False):
    """There is no CRF-RNN here: the logits as they are."""
    del images, inside, train
    return logits

  def without_context(self) -> 'Dilation':
    """The network without its context module."""
    # Of Dilation10 the deconvolution belongs to the context module.
    return self.clone(context_table=() if self.margin else self.upsampling)

  def without_crf(self) -> 'Dilation':
    """The network itself."""
    return self

  def with_axis_name(self, axis_name: str | None) -> 'Dilation':
    """The network with batch statistics averaged over the devices of an axis of `jax.pmap`."""
    return self.clone(axis_name=axis_name)

  @property
  def parts(self) -> tuple[str, ...]:
    """The parts that have weights: 'front_end', and 'context' if there is a context module."""
    has_context = any(layer.kind == 'conv' for layer in self.context_table)
    return ('front_end', 'context') if has_context else ('front_end',)

  @property
  def table(self) -> Table:
    """All layers, from the image to the logits; without the auxiliary ones."""
    return self.front_end_table + self.context_table

  @property
  def upsampling(self) -> Table:
    """The layers that bring the logits to full size; may be none."""
    return self.context_table[len(geometry.without_upsampling(self.context_table)) :]

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
    return bool(self.upsampling)


def _scaled(side: DimSize, scale: float) -> DimSize:
  """max(1, round(side * scale)) in integers, as sizes of any image are computed with too."""
  over, under = scale.as_integer_ratio()
  odd = side * over // under % 2  # Halves are rounded to even numbers.
  return max_dim(1, (2 * side * over + under - 1 + odd) // (2 * under))

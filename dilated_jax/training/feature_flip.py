"""Mirroring of the maps of a frozen network, on the host and in a compiled program."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.label_spec import IGNORE


@dataclasses.dataclass(frozen=True)
class FeatureFlip:
  """Mirrors every other example left to right, cell by cell.

  Of W cells, cell W - 1 - j takes the place of cell j, and pixels move with them: where cell j lies
  at pixel stride j + p, pixel x shows what was at stride (W - 1) + 2 p - x. Beyond the old borders
  that is 255 in labels, and the border pixel in images. With p = 0 the labels at 0, stride, 2
  stride, ... are mirrored among themselves; with p = (stride - 1) / 2 it is the plain flip.

  Attributes:
    stride: pixels between cells of the features.
    label_offset: p of the labels, see `models.upsampling.cell_offset`.
    image_offset: p of the images.
    random: whether there is any mirroring.

  Source: bin_label_data_layer.cpp of the authors' Caffe, which samples labels before it mirrors.
  """

  stride: int = 1
  label_offset: Fraction = Fraction(0)
  image_offset: Fraction = Fraction(0)
  random: bool = True

  def draw(self, rng: np.random.Generator) -> bool:
    """Whether an example is mirrored."""
    return self.random and bool(rng.random() >= 0.5)

  def __call__(self, example: dict, rng: np.random.Generator) -> dict:
    """An example of `cached_features`, mirrored or not."""
    return self.mirrored(example) if self.draw(rng) else example

  def mirrored(self, example: dict) -> dict:
    """The mirror image of an example, whose arrays may be NumPy's or JAX's."""
    found = {name: example[name][:, ::-1] for name in ('features', 'inside')}
    cells = example['features'].shape[1]
    columns, known = self._source(cells, example['label'].shape[1], self.label_offset)
    array = jnp if isinstance(example['label'], jax.Array) else np
    found['label'] = array.where(known[None], example['label'][:, columns], np.uint8(IGNORE))
    if 'image' in example:
      columns, _ = self._source(cells, example['image'].shape[1], self.image_offset)
      found['image'] = example['image'][:, columns]
    return found

  def render(self, stored: dict, numbers: dict) -> dict:
    """Examples of a batch, in a compiled program.

    Args:
      stored: all examples, stacked.
      numbers: 'index' (n,) int32, which of them the batch has, and 'mirror' (n,) bool.
    """

    def one(index, mirror):
      example = jax.tree.map(lambda array: array[index], stored)
      turned = self.mirrored(example) if self.random else example
      return {name: jnp.where(mirror, turned[name], example[name]) for name in example}

    return jax.vmap(one)(numbers['index'], numbers['mirror'])

  def _source(self, cells, length, offset):
    """Of each column its mirrored place or the border next to it, and whether it has one."""
    wanted = self.stride * (cells - 1) + int(2 * offset) - np.arange(length)
    columns = np.clip(wanted, 0, length - 1)
    return columns, wanted == columns

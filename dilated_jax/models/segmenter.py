"""A network with its weights and what they say about themselves: what everything else takes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import jax

from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.models.spec import ModelSpec


class Segmenter(NamedTuple):
  """A network that is ready to label images.

  Attributes:
    model: the Flax module, for `model.apply(variables, images)`.
    variables: its parameters and statistics: nested dicts of arrays.
    spec: classes, palette, mean, input size, upsampling and how the model is made.
  """

  model: SegmentationModel
  variables: Any
  spec: ModelSpec

  @classmethod
  def from_spec(cls, spec: ModelSpec, variables: Any) -> Segmenter:
    """Makes the model that the spec states; variables of parts that it lacks are left out."""
    model = spec.create()
    return cls(model, select_parts(variables, model.parts), spec)

  def on_device(self) -> Segmenter:
    """The same with its variables on the default device."""
    return self._replace(variables=jax.device_put(self.variables))

  def without_crf(self) -> Segmenter:
    """The same without its CRF-RNN; itself where it has none."""
    if 'crf' not in self.model.parts:
      return self
    return self.from_spec(self.spec.without_crf(), self.variables)


def select_parts(variables: Any, parts: Collection[str]) -> Any:
  """Those parts of a network's variables, of each kind.

  >>> select_parts({'params': {'front_end': 1, 'context': 2}}, ['context'])
  {'params': {'context': 2}}
  """
  return {
    kind: {part: tree for part, tree in by_part.items() if part in parts}
    for kind, by_part in variables.items()
  }

"""The stages of training (paper, section 5 and Appendix A), as data.

A stage says which part of the network it runs, which weights it changes, what it feeds the network
with and what need not be computed at every step.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from operator import methodcaller
from typing import Any, NamedTuple


class Frozen(NamedTuple):
  """What does not change in a stage, so that its output is computed once and kept.

  Attributes:
    network: takes a model to the network that is frozen.
    method: of that network, whose output is the stage's input.
    with_images: whether the stage needs the images too.
  """

  network: Callable[[Any], Any]
  method: str
  with_images: bool = False


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of training.

  Attributes:
    name: as on the command line.
    trains: parts of the network whose weights change; the others are constant.
    network: takes a model, or its `ModelSpec`, to the network that the stage runs and leaves
      behind, or its spec.
    method: of that network, which is trained.
    inputs: takes a batch and the RGB mean to the arguments of that method.
    frozen: None trains on images; else on the output of a frozen network.
  """

  name: str
  trains: tuple[str, ...]
  network: Callable[[Any], Any]
  method: str
  inputs: Callable[[dict, Any], tuple]
  frozen: Frozen | None = None


def _images(batch, mean):
  return (batch['image'].astype(mean.dtype) - mean,)


def _features(batch, mean):
  del mean
  return batch['features'], batch.get('inside')


def _features_and_images(batch, mean):
  # The CRF-RNN only compares colors, so that the mean makes no difference.
  return batch['features'], batch['image'].astype(mean.dtype), batch.get('inside')


_without_context, _without_crf = methodcaller('without_context'), methodcaller('without_crf')


def _whole(model):
  return model


STAGES = {
  stage.name: stage
  for stage in (
    Stage('front_end', ('front_end',), _without_context, '__call__', _images),
    Stage(
      'context', ('context',), _without_crf, 'apply_context', _features,
      Frozen(_without_context, 'apply_front_end'),
    ),
    Stage(
      'crf', ('crf',), _whole, 'apply_crf', _features_and_images,
      Frozen(_without_crf, '__call__', with_images=True),
    ),
    Stage('joint', ('front_end', 'context', 'crf'), _whole, '__call__', _images),
  )
}  # fmt: skip

"""Is there anything to normalize by? Refuses statistics over a single value, before training.

The variance of one value is 0, and what is normalized by it is 0 whatever the image holds. Training
hides it: the running statistics, which prediction uses, are then those of nothing, and predictions
are noise. Which layers meet it is found from the shapes of a step, without computing one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.models.weights_folder import abstract_variables
from dilated_jax.nn.normalization import BatchNorm


def check_statistics(model: SegmentationModel, area: tuple[int, int], images: int) -> None:
  """Refuses a network of which a layer would normalize by the statistics of a single value.

  Args:
    model: the network that is trained.
    area: height and width of the label area of an image.
    images: of which batch normalization sees the statistics: those of one part of an accumulated
      batch, on all devices together.

  Raises:
    InputError: there is such a layer; names it.
  """
  found = _statistics(model, area, images)
  for name, (kind, values, shape) in found.items():
    if values == 1:
      larger = _statistics(model, (2 * area[0], 2 * area[1]), images)
      crop = 'a larger `crop`, ' if larger[name].values > 1 else ''  # Not of a pooled image.
      ways = {
        'batch': f"a larger `batch_size`, fewer `grad_accum_steps`, {crop}or `norm='group'`",
        'group': f"{crop}a larger `width`, or `norm='none'`",
      }
      raise InputError(
        f'{name} normalizes by {kind} statistics of a single value (of {images} image at a time, '
        f'its map is {shape[1]}x{shape[2]}): their variance is 0, and what the network predicts '
        f'would be noise; take {ways[kind]}'
      )


def normalizes(model: SegmentationModel) -> bool:
  """Whether a layer of a network normalizes."""
  return any(layer.norm != 'none' for layer in model.table + model.auxiliary_table)


class _Statistic(NamedTuple):
  """What a layer normalizes by: 'batch' or 'group', of how many values, of an array of a shape."""

  kind: str
  values: int
  shape: tuple[int, ...]


def _statistics(
  model: SegmentationModel, area: tuple[int, int], images: int
) -> dict[str, _Statistic]:
  """What each layer that normalizes does so by, in a step of training."""
  if not normalizes(model):
    return {}
  found = {}

  def record(call, arguments, options, context):
    module, shape = context.module, np.shape(arguments[0]) if arguments else ()
    name = str(module.name).removesuffix('_norm')
    if isinstance(module, BatchNorm):
      found[name] = _Statistic('batch', math.prod(shape[:-1]), shape)
    elif isinstance(module, nn.GroupNorm):
      found[name] = _Statistic('group', math.prod(shape[1:]) // (module.num_groups or 1), shape)
    return call(*arguments, **options)

  def step(variables, x):
    return model.apply(
      variables, x, train=True, rngs={'dropout': jax.random.key(0)},
      mutable=['batch_stats', 'auxiliary'],
    )  # fmt: skip

  height, width = (side + 2 * model.margin for side in area)
  variables = abstract_variables(model)
  with nn.intercept_methods(record):
    jax.eval_shape(step, variables, jax.ShapeDtypeStruct((images, height, width, 3), 'float32'))
  return found

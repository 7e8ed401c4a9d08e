"""A training step of ours on one device, as a call of no arguments."""

from collections.abc import Callable

import jax
import numpy as np

from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.training import optimizers, step as train_step
from dilated_jax.training.config import OptimizerOptions
from dilated_jax.training.stages import Stage


def training_step(
  model: SegmentationModel,
  stage: Stage,
  optimizer: OptimizerOptions,
  mean,
  batch: dict,
  *,
  num_steps: int = 1000,
  **loss,
) -> Callable:
  """Compiles a step from fresh weights; each call makes one more step, and returns its metrics.

  Args:
    model: from `models.create`.
    stage: which parts of it are trained.
    optimizer: and its rate.
    mean: RGB mean, 0..255.
    batch: of every step, see `training.make_step`.
    num_steps: of the schedule of the rate.
    **loss: of `training.make_step`: `loss_resolution`, `class_weights`.
  """
  update = optimizers.create(optimizer, num_steps)
  side = 2 * model.margin + 64
  variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, side, side, 3), np.float32))
  state = train_step.create_state(variables, stage, update, jax.random.key(0))
  del variables  # Of the full width, half a gigabyte.
  make = train_step.make_step(model, stage, update, mean, frozen=optimizer.freezes, **loss)
  step = jax.jit(make, donate_argnums=0)
  compiled, states = step.lower(state, batch).compile(), [state]
  del state

  def call():
    states[0], metrics = compiled(states[0], batch)
    return metrics

  return call

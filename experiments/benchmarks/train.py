"""A training step of the full-width front end against PyTorch."""

import jax
import numpy as np

from dilated_jax import models
from dilated_jax.nn import costs
from dilated_jax.training import optimizers, stages, step as train_step
from dilated_jax.training.config import OptimizerOptions

from . import peers
from .timing import compare


def run(values, side: int = 404, num_classes: int = 21, **options) -> list[dict]:
  """Forward, backward and update of the VGG-16 front end on one picture."""
  model = models.create('front_end', num_classes, **options)
  optimizer = optimizers.create(OptimizerOptions('sgd', 1e-4), 1000)
  shape = (1, side, side, 3)
  variables = jax.jit(model.init)(jax.random.key(0), np.zeros(shape, np.float32))
  state = train_step.create_state(
    variables, stages.STAGES['front_end'], optimizer, jax.random.key(0)
  )
  del variables
  step = jax.jit(
    train_step.make_step(model, stages.STAGES['front_end'], optimizer, (104.0, 117.0, 123.0)),
    donate_argnums=0,
  )
  rng = np.random.default_rng(0)
  inner = side - 2 * model.margin
  batch = {
    'image': rng.integers(0, 256, shape).astype(np.uint8),
    'label': rng.integers(0, num_classes, (1, inner, inner)).astype(np.uint8),
  }
  states = [state]

  def ours():
    states[0], metrics = step(states[0], batch)
    return metrics

  torch = peers.pytorch(values)
  theirs = torch and torch.job(
    'training_step', layers=peers.layers_of(model.table), images=batch['image'],
    label=batch['label'][:, :: model.stride, :: model.stride],
  )  # fmt: skip
  return [
    compare(
      f'front end, training step, {side}x{side}', 'PyTorch', ours, theirs, (), values.repeats,
      flops=3 * costs.flops(model.table, side, side),
      bytes=3 * costs.traffic_bytes(model.table, side, side),
    )
  ]  # fmt: skip

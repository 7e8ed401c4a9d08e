"""Training steps of full-width networks beside PyTorch: one picture, forward, backward, update."""

from collections.abc import Iterator

import numpy as np

from dilated_jax import models
from dilated_jax.nn import costs
from dilated_jax.training.config import OptimizerOptions
from dilated_jax.training.stages import STAGES

from . import peers
from .timing import compare
from .training_step import training_step

# Network, stage, and side of what it is fed.
CASES = (('front_end', 'front_end', 404), ('dilation8', 'joint', 500))


def run(values, cases=CASES, **options) -> Iterator[dict]:
  """The VGG-16 front end, and it with the basic context module behind.

  Args:
    values: flags.
    cases: as `CASES`.
    **options: of the networks, as `width`.
  """
  for name, stage, side in cases:
    yield one(values, name, STAGES[stage], side, **options)


def one(values, name: str, stage, side: int, num_classes: int = 21, **options) -> dict:
  """The row of one network."""
  model = models.create(name, num_classes, **options)
  shape = (1, side, side, 3)
  rng = np.random.default_rng(0)
  inner = side - 2 * model.margin
  batch = {
    'image': rng.integers(0, 256, shape).astype(np.uint8),
    'label': rng.integers(0, num_classes, (1, inner, inner)).astype(np.uint8),
  }
  optimizer = OptimizerOptions('sgd', 1e-4)
  ours = training_step(model, stage, optimizer, (104.0, 117.0, 123.0), batch)
  torch = peers.pytorch(values)
  theirs = torch and torch.job(
    'training_step', layers=peers.layers_of(model.table), images=batch['image'],
    label=batch['label'][:, :: model.stride, :: model.stride],
  )  # fmt: skip
  return compare(
    f'{name}, training step, {side}x{side}', 'PyTorch', ours, theirs, (), values.repeats,
    flops=3 * costs.flops(model.table, side, side),
    bytes=3 * costs.traffic_bytes(model.table, side, side),
  )  # fmt: skip

"""What steps have measured: reports of some of them, and an end to a run that has gone wrong."""

from __future__ import annotations

import math

from absl import logging
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.training.config import StageConfig
from dilated_jax.training.stages import Stage


class Measurements:
  """Metrics of the steps of a stage, which stay on the devices until one of them is reported."""

  def __init__(self, config: StageConfig, stage: Stage, manager, num_classes: int, first: int):
    """Starts behind step `first`.

    Args:
      config: of the stage.
      stage: what it trains.
      manager: of the checkpoints, which are what is kept of a run that goes wrong.
      num_classes: from which it follows what is no better than guessing.
      first: steps done.
    """
    self._config, self._stage, self._manager = config, stage, manager
    self._limit, self._limited = 10 * math.log(num_classes), False
    self._metrics, self._next = [], first + 1  # The next step that may be asked for.
    self._layers = None

  def add(self, metrics: dict, count: int) -> None:
    """Takes the metrics of `count` more steps, arrays of a value for each."""
    self._metrics += [(metrics, index) for index in range(count)]

  def report(self, step: int) -> dict[str, float]:
    """Loss, accuracy and gradient norm of a step; those before it can't be asked for any more.

    Raises:
      InputError: the loss is not finite, or far worse than guessing; says why.
    """
    measured = self._metrics[: step - self._next + 1]
    values = {name: _value(measured[-1], name) for name in ('loss', 'accuracy', 'gradient_norm')}
    if not self._limited:  # Nor is a loss that the run began with.
      self._limit, self._limited = max(self._limit, 10 * values['loss']), True
    if not all(map(math.isfinite, values.values())) or values['loss'] > self._limit:
      raise InputError(self._diverged(values['loss'], step))
    self._tell_left_out(measured)
    del self._metrics[: len(measured)]
    self._next, self._layers = step + 1, measured[-1]
    return values

  def layer_gradient_norms(self) -> list[float]:
    """Gradient norms of the layers at the step that was reported last."""
    metrics, index = self._layers
    return np.asarray(metrics['layer_gradient_norms'])[index].tolist()

  def _tell_left_out(self, measured: list) -> None:
    """Logs how many images were left out for lack of room in the lattice of a CRF-RNN."""
    count = sum(int(_value(metrics, 'lack_room')) for metrics in measured)
    if not count:
      return
    smaller = ', a `crop` of at most 43,000 pixels' if self._stage.frozen is None else ''
    logging.warning(
      '%s: %d images since the last report were left out: the lattice of the CRF-RNN has no room '
      'for so many colors in so little space; if there are many, take a larger bandwidth of color '
      "(the second of `crf_rnn_bandwidths`), `crf_rnn_grid='cells'`%s or smoother images",
      self._stage.name, count, smaller,
    )  # fmt: skip

  def _diverged(self, loss: float, step: int) -> str:
    """What to say of a run that has diverged; the last good checkpoint stays."""
    good, rate = self._manager.latest_step(), self._config.optimizer.learning_rate
    kept = f'{self._manager.directory} keeps step {good}' if good else 'nothing was saved yet'
    return (
      f'{self._stage.name} diverged at step {step}: the loss is {loss:g}; most likely the learning '
      f'rate {rate:g} is too high: try a tenth, `warmup_steps` or `grad_clip_norm` with another '
      f'`workdir` ({kept})'
    )


def _value(measured: tuple[dict, int], name: str) -> float:
  metrics, index = measured
  return float(np.asarray(metrics[name])[index])

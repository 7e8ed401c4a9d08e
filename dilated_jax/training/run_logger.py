"""What a run tells of itself: to people a bar or log lines, to programs what `trackers` write."""

import sys

from absl import logging
import numpy as np
import tqdm

from dilated_jax.progress import Meter
from dilated_jax.training.trackers import Writers


class RunLogger:
  """Progress of a stage for people (a bar on a terminal, else log lines) and for programs."""

  def __init__(self, writers: Writers | None, stage: str, num_steps: int):
    """Begins the report of a stage.

    Args:
      writers: what programs are told by; None tells neither them nor people, as on other processes
        than the first.
      stage: its name.
      num_steps: of the stage.
    """
    self._writers, self._stage, self._total = writers, stage, num_steps
    self._bar = None
    if writers and sys.stderr.isatty():
      self._bar = tqdm.tqdm(total=num_steps, desc=stage, dynamic_ncols=True)

  def __call__(self, step: int, meter: Meter | None = None, **values):
    """Reports measured values after a step."""
    if not self._writers:
      return
    speed = {}
    if meter and meter.rate:
      speed = {'steps_per_second': round(meter.rate, 3), 'waiting': round(meter.waiting_share, 4)}
    self._writers.write(self._stage, step, {**values, **speed})
    text = '  '.join(f'{name} {value:.4g}' for name, value in values.items())
    if self._bar:
      self._bar.n = step
      self._bar.set_postfix_str(text)
    elif meter:
      logging.info(
        '%s %d/%d  %s  %.2f steps/s, %.0f %% waiting for images, %s left',
        self._stage, step, self._total, text, meter.rate, 100 * meter.waiting_share, meter.left,
      )  # fmt: skip
    else:
      logging.info('%s %d/%d  %s', self._stage, step, self._total, text)

  def details(self, step: int, **tables: dict):
    """Reports values of many classes or layers, by name; for programs alone."""
    if self._writers:
      self._writers.write(self._stage, step, tables)

  @property
  def takes_images(self) -> bool:
    """Whether `image` shows one anywhere."""
    return bool(self._writers and self._writers.take_images)

  def image(self, step: int, name: str, image: np.ndarray):
    """Shows a uint8 (H, W, 3) image, for programs alone."""
    if self._writers:
      self._writers.write_image(self._stage, step, name, image)

  def close(self):
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()

  def forget_after(self, step: int):
    """Has what was told of steps after `step` dropped: a resumed run tells it again."""
    if self._writers:
      self._writers.forget_after(self._stage, step)

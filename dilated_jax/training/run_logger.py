"""What a run tells of itself: to people a bar or log lines, to tools JSON lines and TensorBoard."""

import contextlib
import json
import math
import pathlib
import sys

from absl import logging
import jax
import tqdm

from dilated_jax.files import decode_json, write_atomic
from dilated_jax.progress import Meter


class RunLogger:
  """Progress for people (a bar on a terminal, else log lines) and for programs (JSON lines)."""

  def __init__(self, workdir, stage: str, num_steps: int):
    """Opens the report of a stage; TensorBoard's too, when tensorboardX is installed."""
    self._path = pathlib.Path(workdir) / 'metrics.jsonl'
    self._stage, self._total = stage, num_steps
    self._silent = jax.process_index() != 0
    self._bar, self.board = None, None
    if self._silent:
      return
    self._path.parent.mkdir(parents=True, exist_ok=True)
    if sys.stderr.isatty():
      self._bar = tqdm.tqdm(total=num_steps, desc=stage, dynamic_ncols=True)
    with contextlib.suppress(ImportError):
      import tensorboardX

      self.board = tensorboardX.SummaryWriter(str(self._path.parent / 'tensorboard'))

  def __call__(self, step: int, meter: Meter | None = None, **values):
    """Reports measured values after a step."""
    if self._silent:
      return
    speed = {}
    if meter and meter.rate:
      speed = {'steps_per_second': round(meter.rate, 3), 'waiting': round(meter.waiting_share, 4)}
    line = {'stage': self._stage, 'step': step, **values, **speed}
    with open(self._path, 'a') as file:
      file.write(json.dumps(line) + '\n')
    for name, value in values.items() if self.board else ():
      self.board.add_scalar(f'{self._stage}/{name}', value, step)
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
    if self._silent:
      return
    with open(self._path, 'a') as file:
      file.write(json.dumps({'stage': self._stage, 'step': step, **tables}) + '\n')
    for kind, table in tables.items() if self.board else ():
      for name, value in table.items():
        several = value if isinstance(value, dict) else {'': value}
        for part, number in several.items():
          tag = '/'.join(filter(None, (self._stage, kind, name, part)))
          self.board.add_scalar(tag, math.nan if number is None else number, step)

  def close(self):
    """Writes what is still in memory."""
    for writer in (self._bar, self.board):
      if writer is not None:
        writer.close()

  def forget_after(self, step: int):
    """Drops lines of this stage after `step`: a resumed run writes them again."""
    if self._silent or not self._path.exists():
      return
    kept = []
    for line in self._path.read_text(errors='replace').splitlines(keepends=True):
      with contextlib.suppress(
        ValueError, KeyError, TypeError
      ):  # A run that was killed may leave half a line.
        entry = decode_json(line)
        if entry['stage'] != self._stage or entry['step'] <= step:
          kept.append(line)
    write_atomic(self._path, ''.join(kept).encode())

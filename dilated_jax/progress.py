"""Progress of long work: a bar on a terminal, and a log line every few seconds elsewhere."""

from collections.abc import Iterable, Iterator, Sized
import contextlib
import sys
import time
from typing import TypeVar

from absl import logging
import tqdm

T = TypeVar('T')


class Meter:
  """Counts finished work; computes its speed and the time left.

  The speed is measured from the first update on, because the work before it includes compilation.

  Example:
    meter = Meter(total=num_steps, done=first_step)
    for step in range(first_step, num_steps):
      ...
      meter.update()
    logging.info('step %d: %.2f steps/s, %s left', step, meter.rate, meter.left)
  """

  def __init__(self, total: int, done: int = 0, clock=time.monotonic):
    """Starts counting.

    Args:
      total: number of items to do, including those done before.
      done: number of items done before, by a run that is resumed; they don't count for the speed.
      clock: function that returns the time in seconds.
    """
    self.total, self.done = total, done
    self._clock, self._start, self._at_start = clock, None, done
    self._waited = 0.0

  def update(self, count: int = 1) -> None:
    """Adds `count` finished items."""
    self.done += count
    if self._start is None:
      self._start, self._at_start = self._clock(), self.done

  @property
  def rate(self) -> float:
    """Items per second since the first update; 0.0 before the speed is known."""
    if self._start is None or self.done == self._at_start:
      return 0.0
    return (self.done - self._at_start) / max(self._clock() - self._start, 1e-9)

  @contextlib.contextmanager
  def waiting(self):
    """Measures the time that the work spends waiting, for `with`; see `waiting_share`."""
    start = self._clock()
    yield
    if self._start is not None:
      self._waited += self._clock() - start

  @property
  def waiting_share(self) -> float:
    """Share of the time since the first update that was spent in `waiting`, 0..1."""
    if self._start is None:
      return 0.0
    return self._waited / max(self._clock() - self._start, 1e-9)

  @property
  def left(self) -> str:
    """Time left at this speed, '1:02:03' or '2:03'; '?' before the speed is known."""
    return format_duration((self.total - self.done) / self.rate) if self.rate else '?'


def format_duration(seconds: float) -> str:
  """Formats seconds as 'h:mm:ss', or as 'm:ss' below an hour."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'


def track(
  iterable: Iterable[T], total: int | None = None, unit: str = 'images', every: float = 10.0
) -> Iterator[T]:
  """Yields from `iterable` and shows progress: a bar on a terminal, log lines elsewhere.

  Args:
    iterable: items to go through.
    total: number of items; None: the length of `iterable`, or unknown if it has none.
    unit: what the items are, in the plural.
    every: seconds between log lines.

  Yields:
    the items.
  """
  if total is None and isinstance(iterable, Sized):
    total = len(iterable)
  if sys.stderr.isatty():
    yield from tqdm.tqdm(iterable, total=total, unit=f' {unit}', dynamic_ncols=True)
    return
  meter, last = Meter(total or 0), time.monotonic()
  of = f' of {total}' if total else ''
  for element in iterable:
    yield element
    meter.update()
    if time.monotonic() - last >= every:
      last = time.monotonic()
      left = f', {meter.left} left' if total else ''
      logging.info('%d%s %s, %.2f %s/s%s', meter.done, of, unit, meter.rate, unit, left)

"""How far a long piece of work is: a bar on a terminal, a log line now and then anywhere else."""

import contextlib
import sys
import time

from absl import logging
import tqdm


class Meter:
  """Counts work done and tells its speed and the time left.

  The first update starts the speed's clock, since the work up to it compiles and warms up.

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
      total: all there is to do.
      done: what was done before (a resumed run); doesn't count for the speed.
      clock: function that tells seconds.
    """
    self.total, self.done = total, done
    self._clock, self._start, self._at_start = clock, None, done
    self._waited = 0.0

  def update(self, count: int = 1) -> None:
    """Notes that `count` more are done."""
    self.done += count
    if self._start is None:
      self._start, self._at_start = self._clock(), self.done

  @property
  def rate(self) -> float:
    """Things done a second since the first update; 0.0 until that is known."""
    if self._start is None or self.done == self._at_start:
      return 0.0
    return (self.done - self._at_start) / max(self._clock() - self._start, 1e-9)

  @contextlib.contextmanager
  def waiting(self):
    """Around what the work has to wait for."""
    start = self._clock()
    yield
    if self._start is not None:
      self._waited += self._clock() - start

  @property
  def waited(self) -> float:
    """Share of the time since the first update that was spent waiting, 0..1."""
    if self._start is None:
      return 0.0
    return self._waited / max(self._clock() - self._start, 1e-9)

  @property
  def left(self) -> str:
    """Time left at this speed as '1:02:03' or '2:03'; '?' until the speed is known."""
    return clock_text((self.total - self.done) / self.rate) if self.rate else '?'


def clock_text(seconds: float) -> str:
  """Sets seconds as 'h:mm:ss', or 'm:ss' below an hour."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'


def track(iterable, total: int | None = None, what: str = 'pictures', every: float = 10.0):
  """Yields from `iterable` and shows progress: a bar on a terminal, else log lines.

  Args:
    iterable: what to go through.
    total: its length, where `len` can't tell.
    what: name of the things counted, plural.
    every: seconds between log lines.

  Yields:
    The elements of `iterable`.
  """
  total = len(iterable) if total is None else total
  if sys.stderr.isatty():
    yield from tqdm.tqdm(iterable, total=total, unit=f' {what}', dynamic_ncols=True)
    return
  meter, last = Meter(total), time.monotonic()
  for element in iterable:
    yield element
    meter.update()
    if time.monotonic() - last >= every:
      last = time.monotonic()
      logging.info(
        '%d of %d %s, %.2f %s/s, %s left', meter.done, total, what, meter.rate, what, meter.left
      )

"""Two functions timed in turn."""

from collections.abc import Callable, Sequence
import statistics
import time

import jax
import numpy as np

from .peers import Job

_TURN_MS = 100  # About as long a turn lasts, where one run is shorter.


def compare(
  what: str,
  name: str,
  ours: Callable,
  theirs: Callable | Job | None,
  arguments: tuple,
  repeats: int,
  **more,
) -> dict:
  """Times of two functions, run in turn (A B A B ...) after runs that are not counted.

  A turn of a short function is several runs, so that each side is warm: caches and threads have
  served the other side before.

  Args:
    what: is measured, with its sizes.
    name: of what ours is compared with.
    ours: our function of `arguments`.
    theirs: the same of others: a function of `arguments`, or a job of another process, which times
      itself; None where it is not there, so that ours is timed alone.
    arguments: of both functions.
    repeats: turns of each.
    **more: of the row, see `row`.

  Returns:
    The row: medians, quartiles and the shortest time.
  """
  sides = [_clock(ours, arguments)]
  if theirs is not None:
    sides.append(theirs.milliseconds if isinstance(theirs, Job) else _clock(theirs, arguments))
  for side in sides:
    side(1)  # Compiles.
  counts = [round(min(max(_TURN_MS / side(1), 1), 50)) for side in sides]
  times = [[] for _ in sides]
  for _ in range(repeats):
    for side, count, found in zip(sides, counts, times, strict=True):
      if count > 1:
        side(1)
      found.append(side(count))
  medians = [statistics.median(found) for found in times]
  for side, found in zip(('ours', 'theirs'), times, strict=False):
    more |= {f'{side}_quartiles_ms': quartiles(found), f'{side}_min_ms': min(found)}
  return row(what, name, medians[0], medians[1] if theirs is not None else None, **more)


def row(what: str, theirs: str, ours_ms: float, theirs_ms: float | None, **more) -> dict:
  """A row of two times, and what else there is to tell.

  Args:
    what: was measured.
    theirs: name of what ours is compared with.
    ours_ms: our time, in milliseconds.
    theirs_ms: the other time; None where it could not be measured.
    **more: columns. `flops`, floating-point operations of a run, gives `gflops` a second of both;
      with `bytes`, what a run must at least read and write, the row is a point of the roofline, of
      the kind `point`, by default `what` up to its first comma.
  """
  result = {'what': what, 'theirs': theirs, 'ours_ms': ours_ms}
  if theirs_ms is not None:
    result |= {'theirs_ms': theirs_ms, 'ratio': theirs_ms / ours_ms}
  if 'flops' in more:
    result['gflops'] = more['flops'] / ours_ms / 1e6
    if theirs_ms is not None:
      result['their_gflops'] = more['flops'] / theirs_ms / 1e6
  return result | more


def quartiles(values: Sequence[float]) -> list[float]:
  """The first and the third quartile."""
  return [float(each) for each in np.quantile(values, (0.25, 0.75))]


def _clock(function: Callable, arguments: tuple) -> Callable[[int], float]:
  """A function that runs `function` so many times; the milliseconds of one run."""

  def measure(count):
    start = time.perf_counter()
    for _ in range(count):
      jax.block_until_ready(function(*arguments))
    return 1000 * (time.perf_counter() - start) / count

  return measure

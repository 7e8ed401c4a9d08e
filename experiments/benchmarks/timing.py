"""Two functions timed in turn."""

import statistics
import time

import jax


def compare(what: str, name: str, ours, theirs, arguments: tuple, repeats: int) -> dict:
  """Median times of two functions, run in turn after one run each that is not counted."""
  times = {ours: [], theirs: []}
  for repeat in range(repeats + 1):
    for function in (ours, theirs):
      start = time.perf_counter()
      jax.block_until_ready(function(*arguments))
      if repeat:
        times[function].append(1000 * (time.perf_counter() - start))
  mine, other = (statistics.median(times[function]) for function in (ours, theirs))
  return row(what, name, mine, other)


def row(what: str, theirs: str, ours_ms: float, theirs_ms: float, **more) -> dict:
  """A row of two times, and what else there is to tell."""
  return {
    'what': what, 'theirs': theirs, 'ours_ms': ours_ms, 'theirs_ms': theirs_ms,
    'ratio': theirs_ms / ours_ms, **more,
  }  # fmt: skip

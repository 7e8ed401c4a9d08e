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
  return {
    'what': what, 'theirs': name, 'ours_ms': mine, 'theirs_ms': other, 'ratio': other / mine,
  }  # fmt: skip

"""Times of work that is queued on a GPU: many calls, one wait."""

from collections.abc import Callable
import statistics
import time

import jax


def jax_wait(result) -> None:
  """Waits for what a call of JAX returned."""
  jax.block_until_ready(result)


def torch_wait(result) -> None:
  """Waits for all that PyTorch has queued."""
  import torch

  del result
  if torch.cuda.is_available():
    torch.cuda.synchronize()


def milliseconds(
  *calls: tuple[Callable, Callable], rounds: int = 5, seconds: float = 0.05
) -> list[float]:
  """Median time of each of several calls, in turn.

  Args:
    *calls: (function, wait) each; `wait(result)` returns when the work is done.
    rounds: medians are over this many.
    seconds: about this long a call is repeated in each round, with one wait at the end.
  """
  counts = []
  for function, wait in calls:
    wait(function())  # Compiles.
    wait(function())
    start = time.perf_counter()
    wait(function())
    counts.append(max(1, round(seconds / (time.perf_counter() - start))))
  times = [[] for _ in calls]
  for _ in range(rounds):
    for (function, wait), count, found in zip(calls, counts, times, strict=True):
      start = time.perf_counter()
      for _ in range(count):
        result = function()
      wait(result)
      found.append(1000 * (time.perf_counter() - start) / count)
  return [statistics.median(found) for found in times]

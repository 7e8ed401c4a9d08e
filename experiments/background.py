"""Reading ahead and writing behind, in threads: pictures are decoded and encoded meanwhile."""

import collections
from collections.abc import Callable, Iterable, Iterator
import concurrent.futures
import contextlib
import itertools

_DEPTH = 2  # Items that wait, for each thread.


def ahead(function: Callable, items: Iterable, workers: int) -> Iterator[tuple]:
  """Yields each item, in order, and a function that returns the function's result or raises.

  Args:
    function: of one item, called in threads.
    items: what to go through; of an endless iterable only as many are taken as are in work.
    workers: number of threads, which are at most `2 * workers` items ahead. 0: no thread; the
      function is called when its result is asked for.
  """
  items = iter(items)
  if not workers:
    for item in items:
      yield item, lambda item=item: function(item)
    return
  pool = concurrent.futures.ThreadPoolExecutor(workers, 'reading')
  waiting = collections.deque()
  try:
    for item in itertools.islice(items, _DEPTH * workers):
      waiting.append((item, pool.submit(function, item)))
    while waiting:
      item, future = waiting.popleft()
      yield item, future.result
      for item in itertools.islice(items, 1):
        waiting.append((item, pool.submit(function, item)))
  finally:
    pool.shutdown(cancel_futures=True)


class Behind:
  """Calls functions in threads, for `with`: the caller goes on, and waits when they lag behind.

  At the end of the block all are done. If one has raised, so does the next `submit` or the end of
  the block, and the calls that wait are not made.
  """

  def __init__(self, workers: int):
    """Takes the number of threads; with one, calls are made in order; 0 makes them at once."""
    self._depth = max(1, _DEPTH * workers)
    self._pool = concurrent.futures.ThreadPoolExecutor(workers, 'writing') if workers else None
    self._waiting = collections.deque()

  def __enter__(self):
    return self

  def submit(self, function: Callable, *args) -> None:
    """Has a function called, when fewer than `2 * workers` calls wait."""
    if self._pool is None:
      function(*args)
      return
    while len(self._waiting) >= self._depth or (self._waiting and self._waiting[0].done()):
      self._waiting.popleft().result()
    self._waiting.append(self._pool.submit(function, *args))

  def wait(self) -> None:
    """Returns when all calls are done."""
    while self._waiting:
      self._waiting.popleft().result()

  def __exit__(self, kind, error, trace):
    if self._pool is None:
      return
    try:
      # What has been made already is written after Ctrl-C too.
      with contextlib.ExitStack() as on_failure:
        on_failure.callback(self._pool.shutdown, cancel_futures=True)
        self.wait()
    except Exception:
      if kind is None:
        raise

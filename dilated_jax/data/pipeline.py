"""From a data set to batches: augmentation, order and threads.

The step number is the only state: batch k depends on (seed, k, process) alone, so that a run that
resumes, and any number of hosts, see the same data.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
import functools
import itertools

import numpy as np

from dilated_jax.errors import InputError


def batches(
  source: Sequence,
  transform: Callable,
  *,
  batch_size: int,
  seed: int,
  first: int = 0,
  process: int = 0,
  processes: int = 1,
  threads: int = 8,
  ahead: int = 2,
) -> Iterator[dict]:
  """Yields this process's share of batches first, first + 1, ... without end.

  Every epoch is a new permutation of the source, and batches run on over its end. The share of
  process p is rows p * n to (p + 1) * n of the whole batch, n = batch_size / processes.

  Args:
    source: examples by number, `source[i] -> dict`.
    transform: `transform(example, rng) -> dict of arrays`, with a `np.random.Generator` that
      depends on the seed and on the place of the example in the stream.
    batch_size: examples a batch, over all processes.
    seed: of the order and of the transform.
    first: number of the first batch.
    process: number of this process.
    processes: how many processes share a batch.
    threads: how many threads read and transform.
    ahead: how many batches are prepared while one is used.

  Returns:
    A generator of dicts of stacked arrays. Closing it ends its threads.

  Raises:
    InputError: an empty source, or a batch that can't be shared evenly; while iterating, an
      unreadable example, by number. Other errors keep their type and gain a note.
  """
  if len(source) == 0:
    raise InputError('the data set is empty: nothing to make batches of')
  if batch_size < 1 or batch_size % processes:
    raise InputError(
      f'a batch of {batch_size} examples can not be shared by {processes} processes; take a '
      'multiple of their number'
    )
  share = batch_size // processes

  def example(position):
    epoch, offset = divmod(position, len(source))
    index = int(_permutation(seed, epoch, len(source))[offset])
    try:
      return transform(source[index], np.random.default_rng((seed, 1, position)))
    except (InputError, OSError) as error:
      raise InputError(f'example {index} of the data set: {error}') from error
    except Exception as error:
      error.add_note(f'While reading example {index} of the data set, number {position} of the run')
      raise

  def generate():
    pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix='input')
    try:
      queue = collections.deque()
      for k in itertools.count(first):
        start = k * batch_size + process * share
        queue.append([pool.submit(example, start + i) for i in range(share)])
        if len(queue) > ahead:
          done = [job.result() for job in queue.popleft()]
          yield {name: np.stack([e[name] for e in done]) for name in done[0]}
    finally:
      pool.shutdown(cancel_futures=True)

  return generate()


@functools.lru_cache(maxsize=8)
def _permutation(seed, epoch, length):
  return np.random.default_rng((seed, 0, epoch)).permutation(length)

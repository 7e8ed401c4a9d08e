"""Batches of training examples: shuffled, augmented, divided among processes, prefetched.

The step number is the only state. Batch k depends on (seed, k, process) alone, so a run sees the
same data after it was resumed, and on any number of hosts.
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
  process_index: int = 0,
  process_count: int = 1,
  threads: int = 8,
  prefetch: int = 2,
  whole: bool = False,
) -> Iterator[dict]:
  """Yields this process's part of batches first, first + 1, ... without end.

  Every epoch is a new permutation of the source, and a batch may continue into the next epoch. The
  part of process p is rows p * n to (p + 1) * n of the whole batch, n = batch_size / process_count.

  Args:
    source: examples by index, `source[i] -> dict`.
    transform: `transform(example, rng) -> dict of arrays`. The `np.random.Generator` depends on
      the seed and the position of the example in the run.
    batch_size: number of examples in a batch, over all processes.
    seed: seed of the permutations and of the transform.
    first: number of the first batch.
    process_index: number of this process.
    process_count: number of processes that share a batch.
    threads: number of threads that read and transform.
    prefetch: number of batches that are prepared while one is used.
    whole: whether the transform takes a part of a batch at once, `transform(examples, rngs)`, and
      returns its arrays stacked.

  Returns:
    a generator of dicts of stacked arrays. Closing it ends its threads.

  Raises:
    InputError: the source is empty, or the processes can't share a batch evenly; while iterating,
      an example can't be read. Other errors keep their type, and a note names the example.
  """
  if len(source) == 0:
    raise InputError('the data set has no examples, so there are no batches')
  if batch_size < 1 or batch_size % process_count:
    raise InputError(
      f'{process_count} processes can not share a batch of {batch_size} examples evenly; choose a '
      '`batch_size` that is a multiple of the number of processes'
    )
  share = batch_size // process_count

  def drawn(position):
    epoch, offset = divmod(position, len(source))
    index = int(_permutation(seed, epoch, len(source))[offset])
    return index, np.random.default_rng((seed, 1, position))

  def example(position):
    index, rng = drawn(position)
    try:
      return transform(source[index], rng)
    except (InputError, OSError) as error:
      raise InputError(f'example {index} of the data set: {error}') from error
    except Exception as error:
      error.add_note(
        f'While reading example {index} of the data set, at position {position} of the run'
      )
      raise

  def part(start):
    indices, rngs = zip(*map(drawn, range(start, start + share)), strict=True)
    return transform([source[index] for index in indices], rngs)

  def generate():
    pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix='input')
    try:
      queue = collections.deque()
      for k in itertools.count(first):
        start = k * batch_size + process_index * share
        if whole:
          queue.append([pool.submit(part, start)])
        else:
          queue.append([pool.submit(example, start + i) for i in range(share)])
        if len(queue) > prefetch:
          found = [job.result() for job in queue.popleft()]
          yield found[0] if whole else _stacked(found)
    finally:
      pool.shutdown(cancel_futures=True)

  return generate()


def _stacked(examples):
  return {name: np.stack([each[name] for each in examples]) for name in examples[0]}


@functools.lru_cache(maxsize=8)
def _permutation(seed, epoch, length):
  return np.random.default_rng((seed, 0, epoch)).permutation(length)

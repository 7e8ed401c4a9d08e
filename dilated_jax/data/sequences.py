"""Sequences of examples: mapped, joined, cut, scaled down, cached in memory, prefetched."""

import collections
from collections.abc import Callable, Iterator, Sequence
import concurrent.futures

from absl import logging
import numpy as np
import PIL.Image

from dilated_jax.errors import InputError
from dilated_jax.images.preprocessing import downscale_image, scaled_size


class MappedSequence(Sequence):
  """The results of a function for each item of a sequence, computed when they are accessed."""

  def __init__(self, function: Callable, items: Sequence):
    """Takes a function of one item, and the items."""
    self._function, self._items = function, items

  def __len__(self):
    return len(self._items)

  def __getitem__(self, index):
    return self._function(self._items[index])


class Subset(MappedSequence):
  """Some examples of a source, read when they are accessed."""

  def __init__(self, source: Sequence, indices: Sequence[int]):
    """Takes the source, and the indices of its examples in their new order."""
    super().__init__(source.__getitem__, indices)


def take_evenly(source: Sequence, count: int | None) -> Sequence:
  """Returns `count` examples, spread evenly over a source; all of them if `count` is None."""
  if count is None or count >= len(source):
    return source
  return Subset(source, np.linspace(0, len(source) - 1, count).astype(int).tolist())


class ConcatSequence(Sequence):
  """Several sources one after the other; examples are read when they are accessed."""

  def __init__(self, sources: Sequence[Sequence]):
    """Takes the sources in order."""
    self._sources = tuple(sources)
    self._ends = np.cumsum([len(source) for source in self._sources])

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> dict:
    index = range(len(self))[index]  # Raises IndexError; resolves negative indices.
    number = int(np.searchsorted(self._ends, index, side='right'))
    return self._sources[number][index - int(self._ends[number])]


def downscale(source: Sequence, image_scale: float) -> Sequence:
  """Scales examples down: images by averaging, labels by nearest neighbor.

  Args:
    source: examples with 'image' uint8 (H, W, 3) and 'label' uint8 (H, W).
    image_scale: new size divided by old size, above 0 and at most 1.

  Raises:
    InputError: `image_scale` is out of range.
  """
  if not 0 < image_scale <= 1:
    raise InputError(f'`image_scale={image_scale}` must be above 0 and at most 1')
  if image_scale == 1:
    return source

  def downscale_example(example):
    height, width = scaled_size(example['label'].shape, image_scale)
    label = PIL.Image.fromarray(example['label'])
    label = np.asarray(label.resize((width, height), PIL.Image.Resampling.NEAREST))
    return {**example, 'image': downscale_image(example['image'], image_scale), 'label': label}

  return MappedSequence(downscale_example, source)


def cache_in_memory(source: Sequence, limit_bytes: int = 2**31, threads: int = 8) -> Sequence:
  """Decodes all examples and keeps them in memory, if they fit; otherwise returns the source.

  Args:
    source: examples, dicts of arrays and strings.
    limit_bytes: largest size in memory.
    threads: number of threads that read.
  """
  cached, size = [], 0
  for example in prefetch(source, threads):
    cached.append(example)
    size += sum(np.asarray(value).nbytes for value in example.values())
    if size > limit_bytes:
      logging.info(
        'the %d examples take more than %.1f GB: they are decoded when they are needed',
        len(source), limit_bytes / 1e9,
      )  # fmt: skip
      return source
  logging.info('%d examples in memory, %.2f GB', len(cached), size / 1e9)
  return cached


def prefetch(source: Sequence, threads: int = 8, depth: int = 16) -> Iterator:
  """Yields all examples in order, while threads read the next `depth` of them."""
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    futures = collections.deque()
    for index in range(len(source)):
      futures.append(pool.submit(source.__getitem__, index))
      if len(futures) == depth:
        yield futures.popleft().result()
    while futures:
      yield futures.popleft().result()

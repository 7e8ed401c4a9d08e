"""Sequences of examples: mapped, cut, kept in memory, read ahead."""

import collections
from collections.abc import Callable, Iterator, Sequence
import concurrent.futures

from absl import logging
import numpy as np
import PIL.Image

from dilated_jax.errors import InputError
from dilated_jax.images.preprocessing import _scaled_size, downscale_image


def downscale(source: Sequence, image_scale: float) -> Sequence:
  """Returns the source at a smaller size: pictures by averaging, labels by the nearest pixel.

  Args:
    source: examples with 'image' uint8 (H, W, 3) and 'label' uint8 (H, W).
    image_scale: new size by old size, above 0 and at most 1.
  """
  if not 0 < image_scale <= 1:
    raise InputError(f'picture scale {image_scale} must be above 0 and at most 1')
  if image_scale == 1:
    return source

  def smaller(example):
    height, width = _scaled_size(example['label'].shape, image_scale)
    label = PIL.Image.fromarray(example['label'])
    label = np.asarray(label.resize((width, height), PIL.Image.Resampling.NEAREST))
    return {**example, 'image': downscale_image(example['image'], image_scale), 'label': label}

  return MappedSequence(smaller, source)


class MappedSequence(Sequence):
  """What a function makes of each item, when it is asked for."""

  def __init__(self, function: Callable, items: Sequence):
    """Takes a function of one item, and the items."""
    self._function, self._items = function, items

  def __len__(self):
    return len(self._items)

  def __getitem__(self, index):
    return self._function(self._items[index])


class Subset(MappedSequence):
  """Some examples of a source, which are read when they are asked for."""

  def __init__(self, source: Sequence, indices: Sequence[int]):
    """Takes the numbers of the examples, in their new order."""
    super().__init__(source.__getitem__, indices)


def take_evenly(source: Sequence, count: int | None) -> Sequence:
  """Returns `count` examples of a source, spread evenly over it; all if None or fewer."""
  if count is None or count >= len(source):
    return source
  return Subset(source, np.linspace(0, len(source) - 1, count).astype(int))


def in_memory(source: Sequence, limit_bytes: int = 2**31, threads: int = 8) -> Sequence:
  """Decodes every example once and keeps it, if all of them fit; else returns the source."""
  kept, size = [], 0
  for example in read_ahead(source, threads):
    kept.append(example)
    size += sum(np.asarray(value).nbytes for value in example.values())
    if size > limit_bytes:
      logging.info(
        'data set of %d examples takes more than %.1f GB: decoding as needed',
        len(source),
        limit_bytes / 1e9,
      )
      return source
  logging.info('%d examples in memory, %.2f GB', len(kept), size / 1e9)
  return kept


def read_ahead(source: Sequence, threads: int = 8, depth: int = 16) -> Iterator[dict]:
  """Yields every example in order; threads read the next `depth` in the meantime."""
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    reading = collections.deque()
    for index in range(len(source)):
      reading.append(pool.submit(source.__getitem__, index))
      if len(reading) == depth:
        yield reading.popleft().result()
    while reading:
      yield reading.popleft().result()

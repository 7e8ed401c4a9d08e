"""Where the batches of a stage come from: from the host, or from examples kept on the device.

On the host, threads make the pixels of each batch, and every step waits for its pixels to travel.
On the device, the whole data set lies in its memory; the host draws the random numbers of a batch,
and the compiled program makes the pixels. Both draw the same numbers, so batch k is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import functools
from typing import NamedTuple

from absl import logging
import jax
import numpy as np

from dilated_jax.data import augmentation, device_augmentation, pipeline
from dilated_jax.data.sequences import prefetch
from dilated_jax.errors import InputError
from dilated_jax.training import memory
from dilated_jax.training.config import StageConfig
from dilated_jax.training.feature_flip import FeatureFlip


class Input(NamedTuple):
  """Where the batches of a stage come from.

  Attributes:
    source: what the host reads for each example.
    transform: what the host does to each, see `pipeline.batches`; to a whole batch of them where
      examples are stored.
    stored: arrays that every device keeps; None where the batches are made on the host.
    render: `render(stored, batch)`, a pure function that makes the batch of a training step of what
      the host has made; it becomes part of the compiled program. None as above.
  """

  source: Sequence
  transform: Callable
  stored: dict | None = None
  render: Callable | None = None

  def batches(self, config: StageConfig, first: int = 0) -> Iterator[dict]:
    """What the host makes for this process's part of batches first, first + 1, ...; close it."""
    return pipeline.batches(
      self.source,
      self.transform,
      batch_size=config.batch_size,
      seed=config.seed,
      first=first,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      threads=config.threads,
      # Those of the next call of the program are made while this one runs.
      prefetch=max(2, self.steps_per_dispatch(config)),
      whole=self.stored is not None,
    )

  def steps_per_dispatch(self, config: StageConfig) -> int:
    """How many steps one call of the compiled program takes."""
    if config.steps_per_dispatch:
      return config.steps_per_dispatch
    # Where a step is short, the host's calls would take longer than the steps.
    return 10 if self.stored and jax.default_backend() != 'cpu' else 1


def of_images(
  config: StageConfig, source: Sequence, crop: tuple[int, int], margin: int, mean
) -> Input:
  """The input of a stage that learns from images.

  Args:
    config: of the stage.
    source: examples with 'image' uint8 (H, W, 3) and 'label' uint8 (H, W).
    crop: height and width of the label area.
    margin: pixels around it that the network consumes.
    mean: RGB of the border 'mean'.

  Returns:
    The input.

  Raises:
    InputError: `input='device'` can't be had.
  """
  options = config.augmentation
  area = dict(crop=crop, margin=margin, options=options)
  on_host = Input(source, functools.partial(augmentation.augment, mean=mean, **area))
  unable = [name for name in device_augmentation.ON_HOST if getattr(options, name)]
  if unable and config.input == 'device':
    raise InputError(
      f"`{unable[0]}` is done on the host alone: give `input='host'` or `input='auto'`"
    )
  if not _wanted(config):
    return on_host
  if unable:
    logging.info('`%s` is done on the host: training images stay there', unable[0])
    return on_host
  what = f'{len(source)} training images'
  examples, height, width = [], 0, 0
  for example in prefetch(source):
    rows, columns = example['label'].shape
    if rows > height or columns > width:  # Refused before more are read.
      height, width = max(rows, height), max(columns, width)
      if not _fits(config, len(source) * 4 * height * width, what):
        return on_host
    examples.append(example)
  logging.info('%s are kept on the device', what)
  sizes = [example['label'].shape for example in examples]
  stored = {
    'image': np.zeros((len(sizes), height, width, 3), np.uint8),
    'label': np.zeros((len(sizes), height, width), np.uint8),
  }
  while examples:  # From the last on, each is given up as it is copied.
    example = examples.pop()
    rows, columns = example['label'].shape
    for name, array in stored.items():
      array[len(examples), :rows, :columns] = example[name]
  taps = device_augmentation.taps(set(sizes), options)

  def transform(indices, rngs):
    shapes = [sizes[index] for index in indices]
    numbers = device_augmentation.plan(shapes, rngs, taps=taps, **area)
    return numbers | {'index': np.array(indices, np.int32)}

  fill = options.fill(mean)
  render = functools.partial(device_augmentation.render, fill=fill)
  return Input(range(len(sizes)), transform, stored, render)


def of_features(config: StageConfig, features: Sequence, flip: FeatureFlip) -> Input:
  """The input of a stage that learns from maps.

  Args:
    config: of the stage.
    features: from `feature_cache.cached_features`.
    flip: mirrors them.

  Returns:
    The input.

  Raises:
    InputError: `input='device'` can't be had.
  """
  on_host = Input(features, flip)
  if not _wanted(config):
    return on_host
  size = len(features) * sum(array.nbytes for array in features[0].values())
  what = f'maps of {len(features)} training images'
  if not _fits(config, size, what):
    return on_host
  logging.info('%s are kept on the device', what)
  examples = list(prefetch(features))
  stored = {name: np.stack([example[name] for example in examples]) for name in examples[0]}

  def transform(indices, rngs):
    mirror = np.array([flip.draw(rng) for rng in rngs])
    return {'index': np.array(indices, np.int32), 'mirror': mirror}

  return Input(range(len(examples)), transform, stored, flip.render)


def _wanted(config: StageConfig) -> bool:
  """Whether the examples are to be kept on the device, if they fit."""
  # On a CPU the same cores make the pixels in either way.
  return config.input == 'device' or (config.input == 'auto' and jax.default_backend() != 'cpu')


# Of a data set that nobody has asked to be kept on the device: as much as is kept on the host.
_LARGEST = 2**31


def _fits(config: StageConfig, size: int, what: str) -> bool:
  """Whether an array of `size` bytes has room on each device; says so where it has none.

  Raises:
    InputError: it has none, and was asked for.
  """
  free = memory.free_memory()
  limit = free if config.input == 'device' else min(free / 2, _LARGEST)  # The network needs some.
  if size <= limit:
    return True
  told = f'{what} take {size / 1e9:.2f} GB on each device, of {free / 1e9:.2f} GB that are free'
  if config.input == 'device':
    raise InputError(f"{told}: give `input='host'`")
  logging.info("%s: they stay on the host; `input='device'` would keep them there", told)
  return False

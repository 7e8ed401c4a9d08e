"""The features of a prepared data set on disk: image, label map, name, and perhaps instances."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import functools
import math

import tensorflow_datasets as tfds

_MIN_SHARD_SIZE = 100  # Examples in a file; TFDS has all examples of a file in memory.
# Files of a split: a reader keeps all of them open, and a process often may open only 1024.
_MAX_SHARDS = 100


class _DatasetInfo(tfds.core.DatasetInfo):
  def initialize_from_bucket(self):
    """Does nothing, because TFDS's bucket has none of these data sets; a search leaves files."""


def info(
  builder, height: int | None = None, width: int | None = None, instances: bool = False
) -> tfds.core.DatasetInfo:
  """Makes the TFDS description of a data set of images and label maps, both PNG.

  Args:
    builder: TFDS builder; its docstring becomes the description.
    height: height of all images in pixels; None if they differ.
    width: width of all images in pixels; None if they differ.
    instances: whether examples may have an instance map, stored as the bytes of a PNG.

  Returns:
    the DatasetInfo that `builder._info` returns.
  """
  features = {
    'image': tfds.features.Image(shape=(height, width, 3), encoding_format='png'),
    'label': tfds.features.Image(shape=(height, width, 1), encoding_format='png'),
    'name': tfds.features.Text(),
  }
  if instances:  # Text takes any bytes, and no other feature can be missing in some examples.
    features['instances'] = tfds.features.Text(optional=True)
  return _DatasetInfo(
    builder=builder,
    features=tfds.features.FeaturesDict(features),
    description=builder.__doc__,
    disable_shuffling=True,
  )


def shards(
  examples: Sequence, write: Callable[[Iterable], Iterator[tuple[str, dict]]]
) -> list[Callable[[], Iterator]]:
  """Divides a split into files, for `tfds.core.ShardBasedBuilder`.

  TFDS's other builder, which can shuffle, has a whole split in memory, and needs TensorFlow for
  splits of more than 1 GB.

  Args:
    examples: examples of one split.
    write: takes some of the examples and yields (name, features) of each.

  Returns:
    a function for each file, which yields its (name, features).
  """
  size = max(_MIN_SHARD_SIZE, math.ceil(len(examples) / _MAX_SHARDS))
  return [
    functools.partial(write, examples[first : first + size])
    for first in range(0, len(examples), size)
  ]

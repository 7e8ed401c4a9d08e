"""What every data set of ours looks like on disk: a picture, its label map and its name."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import functools
import math

import tensorflow_datasets as tfds


class _Info(tfds.core.DatasetInfo):
  def initialize_from_bucket(self):
    """Does nothing: none of ours is in TFDS's bucket, and looking leaves a folder behind."""


def info(
  builder, height: int | None = None, width: int | None = None, instances: bool = False
) -> tfds.core.DatasetInfo:
  """The TFDS description of a data set of pictures and label maps, both PNG.

  Args:
    builder: the data set's builder; its docstring is the description.
    height: of all pictures, in pixels; None where they differ.
    width: likewise.
    instances: whether examples may have an instance map too, as the content of a PNG file, or None.

  Returns:
    For `builder._info`.
  """
  features = {
    'image': tfds.features.Image(shape=(height, width, 3), encoding_format='png'),
    'label': tfds.features.Image(shape=(height, width, 1), encoding_format='png'),
    'name': tfds.features.Text(),
  }
  if instances:  # As text: only text can be missing in some examples, and it holds any bytes.
    features['instances'] = tfds.features.Text(optional=True)
  return _Info(
    builder=builder,
    features=tfds.features.FeaturesDict(features),
    description=builder.__doc__,
    disable_shuffling=True,
  )


def shards(
  examples: Sequence, write: Callable[[Iterable], Iterator[tuple[str, dict]]]
) -> list[Callable[[], Iterator]]:
  """Divides a split into files, for `tfds.core.ShardBasedBuilder`.

  TFDS's other builder, which can shuffle, keeps a split in memory and needs TensorFlow beyond 1 GB.

  Args:
    examples: of one split.
    write: from some of them to what TFDS writes, one after the other.

  Returns:
    A function for each file.
  """
  size = max(_SHARD, math.ceil(len(examples) / _FILES))
  return [
    functools.partial(write, examples[first : first + size])
    for first in range(0, len(examples), size)
  ]


_SHARD = 100  # Examples in a file; TFDS has them all in memory once.
_FILES = 100  # Of a split, at most: a reader keeps all of them open, and often may open just 1024.

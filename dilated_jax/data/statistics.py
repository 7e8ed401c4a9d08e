"""Pixel counts of classes, class weights, and mean colors."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from dilated_jax.data.sequences import prefetch
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE


@dataclasses.dataclass(frozen=True)
class LabelCounts:
  """Pixel counts of one or more label maps with C classes.

  Attributes:
    pixels: pixels of each class, int64 (C,).
    image_pixels: for each class, all pixels of the images in which it occurs, int64 (C,).
    ignored: pixels that belong to no class.
    total: all pixels.
  """

  pixels: np.ndarray
  image_pixels: np.ndarray
  ignored: int
  total: int

  @classmethod
  def from_pixels(cls, pixels: np.ndarray, size: int) -> 'LabelCounts':
    """Returns the counts of one label map of `size` pixels, given those of each class."""
    return cls(pixels, np.where(pixels > 0, size, 0), size - int(pixels.sum()), size)

  @classmethod
  def zeros(cls, num_classes: int) -> 'LabelCounts':
    """Returns the counts of no label map at all, to which others are added."""
    return cls.from_pixels(np.zeros(num_classes, np.int64), 0)

  def __add__(self, other: 'LabelCounts') -> 'LabelCounts':
    return LabelCounts(
      self.pixels + other.pixels,
      self.image_pixels + other.image_pixels,
      self.ignored + other.ignored,
      self.total + other.total,
    )


def count_labels(source: Sequence, num_classes: int) -> LabelCounts:
  """Counts the pixels of every class in a data set.

  Args:
    source: examples with 'label' uint8 (H, W), 255 where ignored.
    num_classes: C.

  Raises:
    InputError: a label is neither a class id nor 255.
  """
  counts = (_count_example(example, num_classes) for example in prefetch(source))
  return sum(counts, LabelCounts.zeros(num_classes))


def _count_example(example, num_classes) -> LabelCounts:
  count = np.bincount(example['label'].ravel(), minlength=IGNORE + 1)
  invalid = np.flatnonzero(count[num_classes:IGNORE])
  if len(invalid):
    name = example.get('name', 'a label map')
    raise InputError(
      f'{name}: label {num_classes + invalid[0]}, and there are only {num_classes} classes'
    )
  return LabelCounts.from_pixels(count[:num_classes], example['label'].size)


CLASS_WEIGHTS = ('median', 'log', 'sqrt_log')


def class_weights(source: Sequence, num_classes: int, kind: str = 'median') -> np.ndarray:
  """Computes a loss weight for each class of a data set, larger for rare classes.

  Args:
    source: examples with 'label' uint8 (H, W), 255 where ignored.
    num_classes: C.
    kind: one of `CLASS_WEIGHTS`, see `weights_from_counts`.

  Returns:
    float32 (C,), 0 for a class that never occurs.
  """
  return weights_from_counts(count_labels(source, num_classes), kind)


def weights_from_counts(counts: LabelCounts, kind: str = 'median') -> np.ndarray:
  """Computes a loss weight for each class from pixel counts, larger for rare classes.

  Args:
    counts: from `count_labels`.
    kind: 'median', the median class frequency divided by that of the class, where the frequency of
      a class is its share of all pixels of the images in which it occurs (SegNet, after Eigen &
      Fergus 2015); 'log', 1 / ln(1.02 + share of all labeled pixels) (ENet); or 'sqrt_log', the
      square root of 'log', which gives fewer false positives of rare classes.

  Returns:
    float32 (C,), 0 for a class that never occurs.
  """
  pixels, image_pixels = counts.pixels, counts.image_pixels
  present = pixels > 0
  weights = np.zeros(len(pixels))
  if not present.any():
    return weights.astype(np.float32)
  if kind == 'median':
    frequency = pixels[present] / image_pixels[present]
    weights[present] = np.median(frequency) / frequency
  elif kind in ('log', 'sqrt_log'):
    weights[present] = 1 / np.log(1.02 + pixels[present] / pixels.sum())
    if kind == 'sqrt_log':
      weights = np.sqrt(weights)
  else:
    raise InputError(f'no class weights {kind!r}: choose one of {", ".join(CLASS_WEIGHTS)}')
  return weights.astype(np.float32)


def mean_color(source: Sequence) -> tuple[float, float, float]:
  """Returns the mean RGB of all pixels of a data set, 0..255."""
  return count_labels_and_mean(source, IGNORE)[1]


def count_labels_and_mean(
  source: Sequence, num_classes: int
) -> tuple[LabelCounts, tuple[float, float, float]]:
  """Returns the results of `count_labels` and `mean_color`, and reads every example only once."""
  counts, colors = LabelCounts.zeros(num_classes), np.zeros(3, np.int64)
  for example in prefetch(source):
    counts += _count_example(example, num_classes)
    colors += example['image'].sum((0, 1), dtype=np.int64)
  return counts, tuple((colors / max(counts.total, 1)).tolist())

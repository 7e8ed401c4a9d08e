"""Counts of classes in a data set, the class weights that follow from them, and mean colors."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from dilated_jax.data.sequences import read_ahead
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE


@dataclasses.dataclass(frozen=True)
class LabelCounts:
  """Pixels of each class, `pixels` int64 (C,), and all those of its images, `image_pixels` (C,)."""

  pixels: np.ndarray
  image_pixels: np.ndarray
  ignored: int
  total: int

  @classmethod
  def of_label(cls, pixels: np.ndarray, size: int) -> 'LabelCounts':
    """Those of one label of `size` pixels: what belongs to no class is ignored."""
    return cls(pixels, np.where(pixels > 0, size, 0), size - int(pixels.sum()), size)

  @classmethod
  def none(cls, num_classes: int) -> 'LabelCounts':
    """Those of no label at all."""
    return cls.of_label(np.zeros(num_classes, np.int64), 0)

  def __add__(self, other: 'LabelCounts') -> 'LabelCounts':
    return LabelCounts(
      self.pixels + other.pixels,
      self.image_pixels + other.image_pixels,
      self.ignored + other.ignored,
      self.total + other.total,
    )


def label_counts(source: Sequence, num_classes: int) -> LabelCounts:
  """Counts the pixels of every class, in one pass.

  Args:
    source: examples with 'label' uint8 (H, W), 255 where ignored.
    num_classes: C.

  Raises:
    InputError: a label that is neither a class nor 255.
  """
  counts = (_count(example, num_classes) for example in read_ahead(source))
  return sum(counts, LabelCounts.none(num_classes))


def _count(example, num_classes) -> LabelCounts:
  count = np.bincount(example['label'].ravel(), minlength=IGNORE + 1)
  wrong = np.flatnonzero(count[num_classes:IGNORE])
  if len(wrong):
    name = example.get('name', 'a label map')
    raise InputError(f'{name}: label {num_classes + wrong[0]} of only {num_classes} classes')
  return LabelCounts.of_label(count[:num_classes], example['label'].size)


CLASS_WEIGHTS = ('median', 'log', 'sqrt_log')


def class_weights(source: Sequence, num_classes: int, kind: str = 'median') -> np.ndarray:
  """Weighs classes by how rare they are, in one pass over the labels; see `weights_from_counts`.

  Args:
    source: examples with 'label' uint8 (H, W), 255 where ignored.
    num_classes: C.
    kind: one of `CLASS_WEIGHTS`.

  Returns:
    float32 (C,), 0 for a class that never occurs.
  """
  return weights_from_counts(label_counts(source, num_classes), kind)


def weights_from_counts(counts: LabelCounts, kind: str = 'median') -> np.ndarray:
  """Weighs classes by how rare they are.

  Args:
    counts: from `label_counts`.
    kind: 'median', the median class frequency by that of the class, where the frequency of a
      class is its share of all pixels of the pictures it occurs in (SegNet, after Eigen & Fergus
      2015); 'log', 1 / ln(1.02 + share of all labeled pixels) (ENet); or 'sqrt_log', the square
      root of that: rare classes are found, and less is taken for them that is not.

  Returns:
    float32 (C,), 0 for a class that never occurs.
  """
  pixels, image_pixels = counts.pixels, counts.image_pixels
  seen = pixels > 0
  weights = np.zeros(len(pixels))
  if not seen.any():
    return weights.astype(np.float32)
  if kind == 'median':
    frequency = pixels[seen] / image_pixels[seen]
    weights[seen] = np.median(frequency) / frequency
  elif kind in ('log', 'sqrt_log'):
    weights[seen] = 1 / np.log(1.02 + pixels[seen] / pixels.sum())
    if kind == 'sqrt_log':
      weights = np.sqrt(weights)
  else:
    raise InputError(f'no class weights {kind!r}: choose median, log or sqrt_log')
  return weights.astype(np.float32)


def mean_color(source: Sequence) -> tuple[float, float, float]:
  """Returns the mean RGB over all pixels of a source, 0..255."""
  return counts_and_mean(source, IGNORE)[1]


def counts_and_mean(
  source: Sequence, num_classes: int
) -> tuple[LabelCounts, tuple[float, float, float]]:
  """Returns what `label_counts` and `mean_color` do, in one pass over the pictures."""
  counts, colors = LabelCounts.none(num_classes), np.zeros(3, np.int64)
  for example in read_ahead(source):
    counts += _count(example, num_classes)
    colors += example['image'].sum((0, 1), dtype=np.int64)
  return counts, tuple((colors / max(counts.total, 1)).tolist())

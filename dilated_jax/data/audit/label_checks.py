"""Checks of label values, classes and borders over a whole data set."""

import collections
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dilated_jax.data.audit.encoding import LabelEncoding
from dilated_jax.data.audit.findings import Issue
from dilated_jax.data.audit.pair_stats import PairStats
from dilated_jax.data.folder.classes import NAME
from dilated_jax.data.folder.encoding import class_pixels, label_counts, value_to_id
from dilated_jax.data.folder.void import foreground_is_tiny
from dilated_jax.data.statistics import LabelCounts
from dilated_jax.label_spec import IGNORE, LabelSpec

MOSTLY_IGNORED = 0.9  # Share of ignored pixels in a label from which on it is an issue,
MANY_IGNORED = 0.5  # and in all labels together.
# Labels are ragged if their roughness exceeds `MIN_ROUGHNESS` and `ROUGHNESS_FACTOR` times the
# median of the data set, because thin objects and reduced labels always have stray pixels; or if it
# exceeds `MAX_ROUGHNESS`.
MIN_ROUGHNESS, ROUGHNESS_FACTOR, MAX_ROUGHNESS = 0.06, 4, 0.14
MANY_VALUES = 5  # More invalid values in one label come from smoothing, not from a missing class.


def check_values(encoding: LabelEncoding, spec: LabelSpec) -> Iterator[Issue]:
  """Finds invalid values, labels with little information, and errors that most labels share."""
  ids = value_to_id(spec, encoding.encoding)
  occurring = set().union(*(label.counts for label in encoding.labels.values()))
  stores_ids, number = encoding.encoding != 'colors', len(encoding.labels)
  stores_class_ids = stores_ids and not spec.raw_ids
  if stores_ids and occurring == {0, IGNORE} and IGNORE in spec.raw_ids:
    yield Issue('binary masks', 'labels', f'no other value occurs in {number} labels')
    return
  if stores_class_ids and not encoding.inferred and spec.name == NAME and IGNORE in occurring:
    pixels = collections.Counter()
    for label in encoding.labels.values():
      pixels.update(label.counts)
    if len(pixels) > 1 and foreground_is_tiny(pixels):
      most = ', '.join(f'{value} on {pixels[value]} pixels' for value, _ in pixels.most_common(4))
      yield Issue('only 0 and 255', 'labels', f'{most} in {number} labels')
      return
  starts_at_one = (
    stores_class_ids and 0 not in occurring and occurring - ids.keys() == {spec.num_classes}
  )
  if starts_at_one:
    detail = f'values 1..{spec.num_classes} and no 0 in {number} labels'
    yield Issue('ids start at 1', 'labels', detail)
  elif stores_class_ids and encoding.inferred and 0 not in occurring:
    yield Issue('no id 0', 'labels', f'the smallest value of {number} labels is {min(occurring)}')
  for file, label in encoding.labels.items():
    invalid = {value: count for value, count in label.counts.items() if value not in ids}
    invalid_pixels, size = sum(invalid.values()), sum(label.counts.values())
    if invalid and not starts_at_one:
      kind = 'invalid values'
      if not stores_ids and invalid_pixels <= spec.unknown_color_tolerance * size:
        kind = 'unknown colors'
      values = _format_values(invalid, stores_ids)
      yield Issue(kind, file, f'{values} on {invalid_pixels} of {size} pixels')
    pixels = class_pixels(label, spec, encoding.encoding)
    ignored = size - invalid_pixels - int(pixels.sum())
    if ignored == size:
      yield Issue('empty label', file, f'all {size} pixels are ignored')
    elif ignored >= MOSTLY_IGNORED * size:
      yield Issue('mostly ignored', file, f'{ignored / size:.1%} of the pixels are ignored')
    elif not invalid and np.count_nonzero(pixels) == 1:
      yield Issue('one class only', file, spec.names[int(pixels.argmax())])


def _format_values(counts, are_ids) -> str:
  most = sorted(counts, key=lambda value: (-counts[value], value))
  texts = [str(value) if are_ids else f'#{value:06x}' for value in most[:MANY_VALUES]]
  more = ''
  if len(counts) > MANY_VALUES:
    more = f', ... ({len(counts)} values, as after smoothing or JPEG)'
  return ('value ' if len(counts) == 1 else 'values ') + ', '.join(texts) + more


def count_by_split(
  pairs: Sequence[PairStats], encoding: LabelEncoding, spec: LabelSpec
) -> dict[str | None, LabelCounts]:
  """Counts the pixels of the classes in each split; None is the key of pairs without a split."""
  counts = {}
  for pair in pairs:
    if label := encoding.labels.get(pair.label):
      total = counts.get(pair.split, LabelCounts.zeros(spec.num_classes))
      counts[pair.split] = total + label_counts(label, spec, encoding.encoding)
  return counts


def check_classes(spec: LabelSpec, by_split: Mapping[str | None, LabelCounts]) -> Iterator[Issue]:
  """Finds classes that are missing, and data sets in which too many pixels are ignored."""
  pixels = np.sum([count.pixels for count in by_split.values()], axis=0)
  train = by_split.get('train')
  for index, name in enumerate(spec.names):
    if not pixels[index]:
      yield Issue('class never occurs', name, 'in no label')
    elif train and not train.pixels[index]:
      splits = [str(split) for split, count in by_split.items() if count.pixels[index]]
      yield Issue('class not in train', name, f'only in {" and ".join(splits)}')
  ignored = sum(count.ignored for count in by_split.values())
  total = sum(count.total for count in by_split.values())
  if ignored > MANY_IGNORED * total:
    yield Issue('many pixels ignored', 'labels', f'{ignored / total:.1%} of all pixels are ignored')


def check_borders(pairs: Sequence[PairStats]) -> Iterator[Issue]:
  """Finds labels whose borders are more ragged than those of the other labels."""
  values = [pair.roughness for pair in pairs if pair.label_stats]
  if not values:
    return
  median = float(np.median(values))
  limit = max(MIN_ROUGHNESS, min(ROUGHNESS_FACTOR * median, MAX_ROUGHNESS))
  for pair in pairs:
    if pair.roughness > limit:
      detail = f'{pair.roughness:.0%} of the border pixels are stray (median {median:.0%})'
      yield Issue('ragged borders', pair.label, detail)

"""Checks of images over a whole data set: gray images, duplicates, videos in several splits."""

import collections
from collections.abc import Iterator, Sequence
import itertools

import numpy as np

from dilated_jax.data.audit import duplicates
from dilated_jax.data.audit.findings import Issue
from dilated_jax.data.audit.pair_stats import PairStats

MOSTLY_GRAY = 0.5  # Share of gray images from which on they are normal for the data set.
MAX_NEAR_DUPLICATES = 10_000  # More near duplicates within splits are not listed.


def check_gray(pairs: Sequence[PairStats]) -> Iterator[Issue]:
  """Finds gray images."""
  gray = [pair for pair in pairs if pair.gray]
  readable = sum(pair.shape is not None for pair in pairs)
  if gray and len(gray) >= MOSTLY_GRAY * readable:
    yield Issue('gray images', 'images', f'{len(gray)} of {readable}')
  else:
    for pair in gray:
      yield Issue('gray among color images', pair.image, 'its three channels are equal')


def check_duplicates(pairs: Sequence[PairStats]) -> Iterator[Issue]:
  """Finds images and labels that occur more than once with exactly the same pixels."""
  for group in duplicates.equal_groups([pair.image_hash for pair in pairs]):
    first = pairs[group[0]]
    for other in (pairs[index] for index in group[1:]):
      same_file = first.file_hash and first.file_hash == other.file_hash
      detail = f'the same {"file" if same_file else "pixels"} as {_describe(first)}'
      kind = 'duplicate across splits' if other.split != first.split else 'duplicate'
      yield Issue(kind, other.image, detail, (other.image, first.image))
      if first.label_hash and other.label_hash and first.label_hash != other.label_hash:
        examples = other.label, first.label
        yield Issue('same image, different labels', other.label, detail, examples)
  for group in duplicates.equal_groups([pair.label_hash for pair in pairs]):
    first = pairs[group[0]]
    if first.label_stats is None or len(first.label_stats.counts) < 2:
      continue  # Labels with a single value are often equal.
    for other in (pairs[index] for index in group[1:]):
      if first.thumbnail is None or other.thumbnail is None or first.image_hash == other.image_hash:
        continue
      one, two = duplicates.signatures(np.stack([first.thumbnail, other.thumbnail]))
      if one @ two < duplicates.NEAR:
        detail = f'the same as {first.label}'
        examples = other.image, first.image
        yield Issue('same label, different images', other.label, detail, examples)


def check_similar(pairs: Sequence[PairStats]) -> Iterator[Issue]:
  """Finds images that look alike, and videos that are in several splits."""
  pairs = [pair for pair in pairs if pair.thumbnail is not None]
  if len(pairs) < 2:
    return
  thumbnails = np.stack([pair.thumbnail for pair in pairs if pair.thumbnail is not None])
  yield from _check_near_duplicates(pairs, thumbnails)
  yield from _check_sequences(pairs, thumbnails)


def _check_near_duplicates(pairs, thumbnails) -> Iterator[Issue]:
  typical = duplicates.typical_correlation(thumbnails)
  if typical >= duplicates.ALL_SIMILAR:
    detail = f'the correlation of random images is {typical:.2f}'
    yield Issue('similar images', 'images', detail)
    return
  listed = 0
  for first, second, correlation, flipped in duplicates.near_duplicates(thumbnails):
    one, other = pairs[first], pairs[second]
    if one.image_hash == other.image_hash:
      continue
    across = one.split != other.split
    listed += not across
    if listed > MAX_NEAR_DUPLICATES and not across:
      continue
    kind = 'near duplicate across splits' if across else 'near duplicate'
    flip = 'flipped, ' if flipped else ''
    detail = f'like {_describe(one)}, {flip}correlation {correlation:.2f}'
    yield Issue(kind, other.image, detail, (other.image, one.image))


def _check_sequences(pairs, thumbnails) -> Iterator[Issue]:
  names, splits = [pair.name for pair in pairs], [pair.split for pair in pairs]
  for sequence, indices, is_video in duplicates.split_sequences(names, splits, thumbnails):
    counts = collections.Counter(str(splits[index]) for index in indices)
    counts = ', '.join(f'{count} in {split}' for split, count in counts.items())
    detail = f'{counts}, {names[indices[0]]} to {names[indices[-1]]}'
    # Two successive frames, in different splits if there are such frames.
    nearest = min(
      itertools.pairwise(indices), key=lambda two: (splits[two[0]] == splits[two[1]], two)
    )
    kind = 'sequence in two splits' if is_video else 'name series in two splits'
    yield Issue(kind, sequence, detail, tuple(pairs[index].image for index in nearest))


def _describe(pair) -> str:
  return f'{pair.image} ({pair.split})' if pair.split else pair.image

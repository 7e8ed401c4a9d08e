"""Decides whether the value 255 in label images is a class or means 'ignore'."""

from collections.abc import Mapping

import numpy as np

from dilated_jax.data.folder.classes_file import CLASSES_FILE
from dilated_jax.data.folder.label_stats import LabelStats
from dilated_jax.data.label_specs import VOC_VOID
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE

# From this share of all pixels on, 255 is more than a margin around objects.
LARGE_VOID = 0.5
# Pixels of all classes but the largest, relative to those of 255: fewer are strays in masks.
TINY_CLASSES = 0.1
# Ids below this, if there are so many of them, are some of the ids 0, 1, 2, ...; the darkest pure
# color is 29 when it becomes gray.
SMALL_ID, MIN_SMALL = 50, 4
MAX_GRAYS = 7  # Pure colors but white have so many grays.
# A value that has fewer pixels relative to those of 255, and is close to a value that has many more
# or nowhere fills 2x2 pixels, is a stray: compression and smoothing leave such values.
STRAY_SHARE, STRAY_DISTANCE, STRAY_RATIO = 0.05, 8, 20


def is_void(labels: Mapping[str, LabelStats], ignored: tuple[int, ...] = ()) -> bool:
  """Decides what 255 means, from all label images of a data set together.

  ============================================  ================================================
  other values                                  255 is
  ============================================  ================================================
  none                                          void (nothing is labeled then)
  evenly spaced with it: 0; 0, 128; 0, 85, 170  a class: masks were stretched to be visible
  dense from 0: 0, 1, 2; half may be absent     void, like the borders of VOC, except
  - 255 covers half of all pixels or more       an error: it may be the object
  - the classes but the largest have less than  an error: masks of 0 and 255 with stray values
    a tenth of its pixels
  - no image has it together with two others    an error: masks of 0 and 1, and of 0 and 255
  at least four, all small: 0, 1, 9, 15         void, as if dense: some classes of many
  fewer, all small: 0, 15; or 1                 an error: void, or gray made from colors
  far apart: 0, 76, 150                         a class, as of colors that became gray
  - more than seven                             an error: some of many ids, such as COCO-Stuff's
  - some of them rare and close to others, or   an error: strays, as after JPEG
    nowhere 2x2 pixels
  ============================================  ================================================

  If a palette gives 255 the color of VOC's void, it is void.

  Args:
    labels: label images by file, which store ids and among them 255.
    ignored: values that are known to be ignored.

  Returns:
    True if 255 means 'ignore', False if it is a class.

  Raises:
    InputError: the values allow both; says what was found and how to state it.
  """
  counts = _count(labels, ignored)
  others = sorted(counts.keys() - {IGNORE})
  if not others or _palette_says_void(labels):
    return True
  strays = _strays(labels, counts)
  steps, is_small = np.diff([*others, IGNORE]), others[-1] < SMALL_ID
  if not strays and steps.max() - steps.min() <= 1 and steps.min() >= 2:
    if others == [0] or not is_small:
      return False
  elif 2 * len(others) >= others[-1] + 1 or (is_small and len(others) >= MIN_SMALL):
    if problem := _void_problem(labels, counts):
      raise _ambiguous(labels, counts, problem, strays)
    return True
  if strays:
    raise _ambiguous(labels, counts, 'stray values lie beside others, as after JPEG', strays)
  if is_small or len(others) > MAX_GRAYS:
    problem = 'these can be some of the ids 0, 1, 2, ..., or colors that became gray'
    raise _ambiguous(labels, counts, problem, strays)
  return False


def check_void(labels: Mapping[str, LabelStats], ignored: tuple[int, ...] = ()) -> None:
  """Checks labels in which 255 is taken to mean 'ignore', though nobody said so.

  Args:
    labels: label images by file.
    ignored: other values that are ignored.

  Raises:
    InputError: 255 may be the object, see `is_void`.
  """
  counts = _count(labels, ignored)
  if _palette_says_void(labels):
    return
  if counts.get(IGNORE) and len(counts) > 1 and (problem := _void_problem(labels, counts)):
    raise _ambiguous(labels, counts, problem, _strays(labels, counts))


def foreground_is_tiny(counts: Mapping[int, int]) -> bool:
  """Whether the classes but the largest have too few pixels beside 255 to be more than strays."""
  others = [count for value, count in counts.items() if value != IGNORE]
  return sum(others) - max(others, default=0) < TINY_CLASSES * counts.get(IGNORE, 0)


def _palette_says_void(labels) -> bool:
  with_255 = [label for label in labels.values() if IGNORE in label.counts]
  return all(len(each.palette) > IGNORE and each.palette[IGNORE] == VOC_VOID for each in with_255)


def _count(labels, ignored) -> dict[int, int]:
  counts = {}
  for label in labels.values():
    for value, count in label.counts.items():
      if value not in ignored:
        counts[value] = counts.get(value, 0) + count
  return counts


def _void_problem(labels, counts) -> str | None:
  """Returns why 255 may be the object, beside ids that are dense."""
  share = counts[IGNORE] / sum(counts.values())
  if share >= LARGE_VOID:
    return f'255 covers {share:.0%} of all pixels'
  if foreground_is_tiny(counts):
    return '255 covers far more than the other values but the largest'
  values = [label.counts.keys() & counts.keys() for label in labels.values()]
  if all(len(each) < 3 for each in values if IGNORE in each):
    with_255 = sum(IGNORE in each for each in values)
    return (
      f'{with_255} of {len(values)} labels have 255 in place of another class, as if masks of 0 '
      'and 255 were among masks of 0 and 1, which must be stored alike'
    )
  return None


def _strays(labels, counts) -> list[int]:
  if IGNORE not in counts:
    return []
  solid = frozenset().union(*(label.solid for label in labels.values()))

  def is_stray(value):
    near = (other for other in counts if 0 < abs(other - value) <= STRAY_DISTANCE)
    beside_many = any(counts[other] >= STRAY_RATIO * counts[value] for other in near)
    return counts[value] < STRAY_SHARE * counts[IGNORE] and (beside_many or value not in solid)

  return sorted(value for value in counts if value != IGNORE and is_stray(value))


def _ambiguous(labels, counts, problem, strays) -> InputError:
  total = sum(counts.values())
  rare = sorted(strays or counts.keys() - {IGNORE}, key=counts.__getitem__)
  rarest = rare[0]
  files = [file for file, label in labels.items() if rarest in label.counts]
  most = sorted(counts, key=counts.__getitem__, reverse=True)[:6]
  shares = ', '.join(f'{value} on {_share(counts[value], total)}' for value in most)
  more = f', ... ({len(counts)} values)' if len(counts) > len(most) else ''
  if strays:
    listed = f'{strays[:8]}'.replace(']', ', ...]' if len(strays) > 8 else ']')
    if_object = f'set the stray values to 0 or 255 and save PNG, or write {{"ignore": {listed}}}'
  else:
    if_object = f'write {{"ids": {sorted(counts)[:8]}}}'
  return InputError(
    f'{files[0]}: has {rarest} on {_pixels(labels[files[0]].counts[rarest])}; all labels: '
    f'{shares}{more}: {problem}; is 255 the object, or ignored? If it is the object, {if_object} '
    f'into {CLASSES_FILE}; if it is to be ignored, write {{"ignore": [255]}}'
  )


def _pixels(count) -> str:
  return f'{count} pixel{"s" * (count != 1)}'


def _share(count, total) -> str:
  share = count / total
  return f'{share:.1%}' if share >= 0.001 else _pixels(count)

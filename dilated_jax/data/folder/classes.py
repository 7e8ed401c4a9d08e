"""Infers the classes of label images from the values in them."""

from collections.abc import Mapping
import pathlib

import numpy as np

from dilated_jax.data.folder.classes_file import CLASSES_FILE, StatedClasses
from dilated_jax.data.folder.encoding import value_to_id
from dilated_jax.data.folder.label_stats import LabelStats, is_gray, pack_color, unpack_color
from dilated_jax.data.folder.notes import shorten
from dilated_jax.data.label_specs import voc_color
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE, LabelSpec

NAME = 'folder'  # Name of the data set.
MAX_COLORS = 64  # More colors than that are not classes, but smoothed borders.
# From so many values on that nowhere fill 2x2 pixels, labels were smoothed or compressed.
MIN_STRAY_VALUES = 8


def infer_classes(
  labels: Mapping[str, LabelStats], encoding: str, stated: StatedClasses, root
) -> tuple[LabelSpec, list[str]]:
  """Infers the classes of label images, as far as `classes.json` does not state them.

  Args:
    labels: all label images by file, with values in the encoding.
    encoding: from `encoding.detect_encoding`.
    stated: what `classes.json` states.
    root: folder of `classes.json`, for messages.

  Returns:
    the classes, whose mean is 0, and notes on how they were found.

  Raises:
    InputError: the labels need a `classes.json`, or contradict it.
  """
  counts = {}
  for label in labels.values():
    for value, count in label.counts.items():
      counts[value] = counts.get(value, 0) + count
  infer = _classes_from_colors if encoding == 'colors' else _classes_from_ids
  spec, notes = infer(labels, counts, stated, root)
  if spec.num_classes < 2:
    raise InputError(
      f'{_folder(labels)}: all labels are of one class ({spec.names[0]}); segmentation needs two'
    )
  ids = value_to_id(spec, encoding)
  present = {ids.get(value) for value in counts}
  absent = [name for index, name in enumerate(spec.names) if index not in present]
  if absent:
    notes.append(f'no pixel belongs to {shorten(absent)}')
  return spec, notes


def _classes_from_ids(labels, counts, stated, root):
  del root
  if stated.names or stated.palette or stated.ids:
    number = len(stated.names or stated.palette or stated.ids)
    excluded = {IGNORE} if stated.ignored_ids is None else set(stated.ignored_ids)
    ids = stated.ids or tuple(value for value in range(256) if value not in excluded)[:number]
    note = f'stated in {CLASSES_FILE}'
  else:
    ids, note = _infer_ids(labels, counts, stated)
  void = tuple(value for value in stated.ignored_ids or () if value != IGNORE)
  # The first color of that palette is black, which would look like pixels to ignore.
  default_palette = tuple(voc_color(index + 1) for index in range(len(ids)))
  spec = LabelSpec(
    NAME,
    names=stated.names or tuple(f'class {value}' for value in ids),
    palette=stated.palette or _stored_palette(labels, ids) or default_palette,
    mean=(0.0, 0.0, 0.0),
    void=void,
    raw_ids=() if ids == tuple(range(len(ids))) else ids,
  )
  ignored = sorted({*void, *({IGNORE} - set(ids))})
  notes = [
    f'labels: ids {_ranges(counts)}, so {len(ids)} classes ({note}): {shorten(spec.names)}; '
    f'{" and ".join(map(str, ignored)) or "nothing"} is ignored'
  ]
  if spec.raw_ids:
    notes.append(f'the network and its predictions number the classes 0..{len(ids) - 1}, in order')
  return spec, notes


def _infer_ids(labels, counts, stated) -> tuple[tuple[int, ...], str]:
  """Infers which ids are classes if `classes.json` does not state it."""
  excluded = set(stated.ignored_ids or ())
  values = sorted(set(counts) - excluded)
  if IGNORE in values and stated.ignored_ids is None:
    # 0 and 255, or 0, 85, 170 and 255, are evenly spaced: then 255 is a class too.
    steps = np.diff(values)
    if len(values) == 1 or steps.max() - steps.min() > 1 or steps.min() < 2:
      values.remove(IGNORE)
  if not values:
    raise InputError(f'{_folder(labels)}: every pixel of these labels is ignored; label some')
  _reject_smoothed_labels(labels, counts)
  span = [value for value in range(values[-1] + 1) if value not in excluded]
  if 2 * len(values) >= len(span):
    return tuple(span), f'{CLASSES_FILE} may name them'
  return tuple(values), f'{CLASSES_FILE} may name them; most ids in between do not occur'


def _classes_from_colors(labels, counts, stated, root):
  if stated.palette:
    palette, note = stated.palette, f'stated in {CLASSES_FILE}'
  elif stated.names:
    raise InputError(
      f'{root / CLASSES_FILE}: names {len(stated.names)} classes, and the labels are color masks; '
      'add "palette", the RGB colors of the classes in the same order'
    )
  else:
    _reject_smoothed_labels(labels, counts)
    values = sorted(set(counts) - set(map(pack_color, stated.ignored_colors)))
    if not 0 < len(values) <= MAX_COLORS:
      raise InputError(
        f'{_folder(labels)}: these color masks have {len(values)} colors that are not ignored; '
        f'state in {CLASSES_FILE} which of them are classes ("palette")'
      )
    palette = tuple(map(unpack_color, values))
    note = f'one for each color; {CLASSES_FILE} may name them'
  names = stated.names or tuple('#{:02x}{:02x}{:02x}'.format(*color) for color in palette)
  others = tuple((color, None) for color in stated.ignored_colors)
  spec = LabelSpec(NAME, names, palette, (0.0, 0.0, 0.0), other_colors=others)
  ignored = [color for color, index in spec.color_to_id.items() if index == IGNORE]
  return spec, [
    f'labels: color masks, {len(names)} classes ({note}): {shorten(names)}; '
    f'{" and ".join(map(str, ignored)) or "nothing"} is ignored'
  ]


def _reject_smoothed_labels(labels, counts):
  """Raises an error if many values nowhere fill 2x2 pixels, as after smoothing or JPEG."""
  solid = frozenset().union(*(label.solid for label in labels.values()))
  stray = set(counts) - solid
  if len(stray) < MIN_STRAY_VALUES:
    return
  path = max(labels, key=lambda each: len(set(labels[each].counts) - solid))
  raise InputError(
    f'{path}: {len(stray)} values of these labels nowhere fill 2x2 pixels, as after smoothing or '
    'JPEG; resize labels by nearest neighbor and store them as PNG, or state the classes in '
    f'{CLASSES_FILE}'
  )


def _stored_palette(labels, ids):
  """Returns the colors of the ids in a palette image, if the colors are distinct and not gray."""
  for label in labels.values():
    if len(label.palette) > max(ids):
      palette = tuple(label.palette[value] for value in ids)
      all_gray = all(is_gray(pack_color(color)) for color in palette)
      return None if all_gray or len(set(palette)) < len(palette) else palette
  return None


def _folder(labels):
  return pathlib.Path(next(iter(labels))).parent


def _ranges(values) -> str:
  """Formats numbers as ranges: 0..10, 255."""
  runs = []
  for value in sorted(values):
    if runs and value == runs[-1][1] + 1:
      runs[-1][1] = value
    else:
      runs.append([value, value])
  return ', '.join(f'{a}' if a == b else f'{a}..{b}' for a, b in runs[:8]) + (
    ', ...' if len(runs) > 8 else ''
  )

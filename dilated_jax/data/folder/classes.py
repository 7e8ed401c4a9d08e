"""Decides what the values of label images mean, for all commands."""

from collections.abc import Mapping
import pathlib
from typing import NamedTuple

from dilated_jax.data.folder.classes_file import CLASSES_FILE, StatedClasses
from dilated_jax.data.folder.encoding import detect_encoding, value_to_id
from dilated_jax.data.folder.label_stats import LabelStats, is_gray, pack_color, unpack_color
from dilated_jax.data.folder.notes import shorten
from dilated_jax.data.folder.void import check_void, is_void
from dilated_jax.data.label_specs import VOC_VOID, voc_color
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE, LabelSpec

NAME = 'folder'  # Name of the data set.
MAX_COLORS = 64  # More colors than that are not classes, but smoothed borders.
# From so many values on that nowhere fill 2x2 pixels, labels were smoothed or compressed.
MIN_STRAY_VALUES = 8
MIN_LABELS = 5  # With fewer labels, a value that only one of them has is not rare.
_VOC_COLORS = frozenset(voc_color(index) for index in range(21))


class Meaning(NamedTuple):
  """What the values of the label images of a data set mean.

  Attributes:
    spec: the classes, whose mean is 0.
    encoding: one of `encoding.ENCODINGS`.
    labels: label images by file, with values in the encoding.
    notes: how this was found, in sentences for people.
    rare: (value, file) of classes that occur in one file only, though there are several files.
    thin: (value, file) of classes that nowhere fill 2x2 pixels; the file has most of their pixels.
  """

  spec: LabelSpec
  encoding: str
  labels: Mapping[str, LabelStats]
  notes: list[str]
  rare: list[tuple[int, str]]
  thin: list[tuple[int, str]]


def understand(labels: Mapping[str, LabelStats], stated: StatedClasses, root) -> Meaning:
  """Decides what the values of label images mean: which are classes, and which are ignored.

  The one place that decides it, for preparing, training, evaluation and the audit. `classes.json`
  is believed. What it does not state:

  * Values are ids (gray or palette images), ids in three equal channels, or colors; see
    `encoding.detect_encoding`.
  * Ids 0..N of which at least half occur are classes, those that don't occur too; otherwise, each
    value that occurs is a class, in order. What 255 means is decided by `void.is_void`.
  * Each color is a class, black too, except VOC's color of void among VOC's colors.
  * A rare value is a class like others, and told. Many values that nowhere fill 2x2 pixels are an
    error: labels that were smoothed or compressed.

  Args:
    labels: all label images by file.
    stated: what `classes.json` states.
    root: folder of `classes.json`, for messages.

  Raises:
    InputError: the labels need a `classes.json`, or contradict it.
  """
  encoding, labels = detect_encoding(labels, stated)
  counts = {}
  for label in labels.values():
    for value, count in label.counts.items():
      counts[value] = counts.get(value, 0) + count
  infer = _classes_from_colors if encoding == 'colors' else _classes_from_ids
  spec, notes = infer(labels, counts, stated, pathlib.Path(root))
  if spec.num_classes < 2:
    raise InputError(
      f'{_folder(labels)}: all labels are of one class ({spec.names[0]}); segmentation needs two'
    )
  ids = value_to_id(spec, encoding)
  present = {ids.get(value) for value in counts}
  absent = [name for index, name in enumerate(spec.names) if index not in present]
  if absent:
    notes.append(f'no pixel belongs to {shorten(absent)}')
  rare, thin = _rare_values(labels, ids), _thin_values(labels, ids)
  show = (lambda value: f'#{value:06x}') if encoding == 'colors' else str
  for found, what in ((rare, 'occur in one label only'), (thin, 'nowhere fill 2x2 pixels')):
    if found:
      texts = [f'{show(value)} ({pathlib.Path(file).name})' for value, file in found[:5]]
      more = f', ... ({len(found)})' if len(found) > 5 else ''
      notes.append(f'warning: classes that {what}: {", ".join(texts)}{more}')
  return Meaning(spec, encoding, labels, notes, rare, thin)


def _rare_values(labels, ids) -> list[tuple[int, str]]:
  if len(labels) < MIN_LABELS:
    return []
  files = {}
  for file, label in labels.items():
    for value in label.counts:
      if ids.get(value, IGNORE) != IGNORE:
        files.setdefault(value, []).append(file)
  return [(value, found[0]) for value, found in sorted(files.items()) if len(found) == 1]


def _thin_values(labels, ids) -> list[tuple[int, str]]:
  solid = frozenset().union(*(label.solid for label in labels.values()))
  values = set().union(*(label.counts for label in labels.values())) - solid
  return [
    (value, max(labels, key=lambda file: labels[file].counts.get(value, 0)))
    for value in sorted(values)
    if ids.get(value, IGNORE) != IGNORE
  ]


def _classes_from_ids(labels, counts, stated, root):
  number = len(stated.names or stated.palette or ())
  if stated.ids:
    ids, note = stated.ids, f'stated in {CLASSES_FILE}'
    if stated.ignored_ids is None and IGNORE not in ids:
      check_void(labels)
  elif number:
    ids, note = _numbered_ids(labels, counts, stated, number, root), f'stated in {CLASSES_FILE}'
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
  share = sum(counts.get(value, 0) for value in ignored) / sum(counts.values())
  how_many = f'{share:.1%} of all pixels' if share else 'does not occur'
  is_ignored = f'{"are" if len(ignored) > 1 else "is"} ignored ({how_many})'
  notes = [
    f'labels: ids {_ranges(counts)}, so {len(ids)} classes ({note}): {shorten(spec.names)}; '
    + (f'{" and ".join(map(str, ignored))} {is_ignored}' if ignored else 'none is ignored')
  ]
  if IGNORE in ids and not stated.ids and len(ids) > 2:
    notes.append(
      f'255 is a class here, as the other values are not 0, 1, 2, ...; to ignore it, write '
      f'{{"ignore": [255]}} into {CLASSES_FILE}'
    )
  if spec.raw_ids:
    notes.append(f'the network and its predictions number the classes 0..{len(ids) - 1}, in order')
  return spec, notes


def _values(labels, counts, stated) -> list[int]:
  """Returns the values that are classes, sorted; 255 is one of them if `is_void` says so."""
  ignored = stated.ignored_ids or ()
  values = sorted(set(counts) - set(ignored))
  # An empty list states that nothing is ignored.
  if IGNORE in values and stated.ignored_ids != () and is_void(labels, ignored):
    values.remove(IGNORE)
  return values


def _numbered_ids(labels, counts, stated, number, root) -> tuple[int, ...]:
  """Returns the ids of stated classes without stated ids: 0, 1, 2, ..., or the values that occur.

  The values that occur are taken if they are far apart, or 255 is one of them, and there are as
  many of them as classes.
  """
  excluded = {IGNORE} if stated.ignored_ids is None else set(stated.ignored_ids)
  first = tuple(value for value in range(256) if value not in excluded)[:number]
  values = _values(labels, counts, stated)
  if len(values) == number and (IGNORE in values or 2 * number < values[-1] + 1):
    return tuple(values)
  if IGNORE in values and IGNORE not in first:
    raise InputError(
      f'{root / CLASSES_FILE}: states {number} classes, and the labels have {_ranges(counts)}, of '
      'which 255 looks like a class; add "ids", the values of the classes in the same order, or '
      '"ignore": [255]'
    )
  return first


def _infer_ids(labels, counts, stated) -> tuple[tuple[int, ...], str]:
  """Infers which ids are classes if `classes.json` does not state it."""
  excluded = set(stated.ignored_ids or ())
  _reject_smoothed_labels(labels, counts)
  values = _values(labels, counts, stated)
  if not values:
    raise InputError(f'{_folder(labels)}: every pixel of these labels is ignored; label some')
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
    ignored = set(map(pack_color, stated.ignored_colors))
    if set(map(unpack_color, counts)) - {VOC_VOID} <= _VOC_COLORS:
      ignored.add(pack_color(VOC_VOID))
    values = sorted(set(counts) - ignored)
    if not 0 < len(values) <= MAX_COLORS:
      raise InputError(
        f'{_folder(labels)}: these color masks have {len(values)} colors that are not ignored; '
        f'state in {CLASSES_FILE} which of them are classes ("palette")'
      )
    palette = tuple(map(unpack_color, values))
    note = f'one for each color; {CLASSES_FILE} may name them'
  names = stated.names or tuple('#{:02x}{:02x}{:02x}'.format(*color) for color in palette)
  others = tuple((color, None) for color in stated.ignored_colors)
  if not stated.palette and pack_color(VOC_VOID) in counts and VOC_VOID not in palette:
    others = (*dict.fromkeys((*others, (VOC_VOID, None))),)
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
  pixels = sum(counts[value] for value in stray) / sum(counts.values())
  raise InputError(
    f'{path}: {len(stray)} values of these labels nowhere fill 2x2 pixels, as after smoothing or '
    f'JPEG ({pixels:.1%} of all pixels; {len(counts) - len(stray)} values do fill some); resize '
    f'labels by nearest neighbor and store them as PNG, or state the classes in {CLASSES_FILE}'
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

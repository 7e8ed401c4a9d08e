"""What the label pictures of a folder of one's own hold, and which classes they have.

`classes.json` in the folder says what it wants to; the rest is found from the pictures.
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib

import numpy as np

from dilated_jax.data.statistics import LabelCounts
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files
from dilated_jax.label_spec import IGNORE, LabelSpec, bitwise_color

NAME = 'folder'
CLASSES_FILE = 'classes.json'
MAX_COLORS = 64  # More colors than that are no classes but smoothed borders.
MAX_STRAY = 8  # As many values that nowhere fill 2x2 pixels come from smoothing or loss.


@dataclasses.dataclass(frozen=True)
class FolderSpec:
  """What `classes.json` says; None and empty where it says nothing."""

  names: tuple[str, ...] | None = None
  palette: tuple[tuple[int, int, int], ...] | None = None
  ids: tuple[int, ...] | None = None
  ignore: tuple[int, ...] | None = None
  ignored_colors: tuple[tuple[int, int, int], ...] = ()
  mean: tuple[float, float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Stored:
  """What one label picture holds.

  Attributes:
    form: 'gray', 'palette' or 'colors'.
    shape: (H, W).
    values: pixels of each number, or of each color as 0xRRGGBB.
    solid: the values that fill 2x2 pixels somewhere.
    palette: RGB colors of a palette picture, else empty.
  """

  form: str
  shape: tuple[int, int]
  values: Mapping[int, int]
  solid: frozenset[int]
  palette: tuple[tuple[int, int, int], ...] = ()

  @property
  def grays(self) -> bool:
    """Whether it has three equal channels."""
    return self.form == 'colors' and all(map(_is_gray, self.values))

  def in_form(self, form: str) -> 'Stored':
    """The same with values as `find_form` says: of 'channels' the first, of 'colors' RGB."""
    if form == 'channels':
      return self._renamed(lambda code: code & 0xFF, 'gray')
    if form == 'colors' and self.form == 'palette':
      palette = [*map(_packed, self.palette), *[0] * (256 - len(self.palette))]
      return self._renamed(palette.__getitem__, 'colors')
    return self

  def _renamed(self, rename, form):
    values = {}
    for value, count in self.values.items():
      values[rename(value)] = values.get(rename(value), 0) + count
    solid = frozenset(map(rename, self.solid))
    return dataclasses.replace(self, form=form, values=values, solid=solid)


def read_stored(path) -> Stored:
  """Reads what a label picture holds, whatever it means; see `read_codes`."""
  return store(*read_codes(path))


def read_codes(path) -> tuple[str, np.ndarray | None, np.ndarray]:
  """Reads a label picture, whatever it means.

  Args:
    path: picture file.

  Returns:
    'gray', 'palette' or 'colors'; the palette as (n, 3) uint8, if any; the numbers, or colors
    as 0xRRGGBB, as integers (H, W).

  Raises:
    InputError: the file is missing, damaged or compressed with loss, or holds values beyond 8 bits.
  """
  form, palette = image_files.stored_as(path)
  if form == 'colors':
    colors = image_files.read_colors(path).astype(np.int32)
    return form, None, (colors[..., 0] << 16) | (colors[..., 1] << 8) | colors[..., 2]
  return form, palette, image_files.read_label(path)


def store(form: str, palette: np.ndarray | None, codes: np.ndarray) -> Stored:
  """Counts what `read_codes` gives."""
  colors = () if palette is None else tuple(map(tuple, palette.tolist()))
  corner = codes[:-1, :-1]
  same = (corner == codes[1:, :-1]) & (corner == codes[:-1, 1:]) & (corner == codes[1:, 1:])
  return Stored(form, codes.shape, _counted(codes), frozenset(_counted(corner[same])), colors)


def _counted(codes) -> dict[int, int]:
  if codes.dtype == np.uint8:
    counts = np.bincount(codes.ravel(), minlength=256)
    return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}
  values, counts = np.unique(codes, return_counts=True)
  return dict(zip(values.tolist(), counts.tolist(), strict=True))


def find_form(
  labels: Mapping[pathlib.Path, Stored], spec: FolderSpec
) -> tuple[str, dict[pathlib.Path, Stored]]:
  """Finds out how label pictures are to be read.

  Args:
    labels: what they hold.
    spec: what is known beforehand.

  Returns:
    the form, see `Found.form`, and the labels with values in it.

  Raises:
    InputError: some hold numbers and some hold colors.
  """
  of = {label.form: path for path, label in labels.items()}
  if 'colors' in of and 'gray' in of:
    raise InputError(
      f'{of["colors"]} is a color mask and {of["gray"]} holds numbers; a folder of labels holds '
      'one kind'
    )
  known = {0, *map(_packed, (*(spec.palette or ()), *spec.ignored_colors))}
  painted = {path: label.in_form('colors') for path, label in labels.items()}
  meant = spec.palette and all(set(label.values) <= known for label in painted.values())
  if 'colors' in of:
    if not meant and all(label.grays for label in labels.values()):
      return 'channels', {path: label.in_form('channels') for path, label in labels.items()}
    return 'colors', painted
  if any(label.form == 'gray' for label in labels.values()):
    return 'numbers', dict(labels)
  # Palettes of their own, as quantised pictures have: only the colors mean the same everywhere.
  agreed = dict(enumerate(spec.palette or ())) if meant else {}
  for label in labels.values():
    if not agrees(label, agreed):
      return 'colors', painted
    agreed |= {value: label.palette[value] for value in label.values if value < len(label.palette)}
  return 'numbers', dict(labels)


def agrees(label: Stored, colors: Mapping[int, tuple[int, int, int]]) -> bool:
  """Whether the palette of a label picture gives the numbers in it these colors, if any."""
  own = dict(enumerate(label.palette))
  return all(colors.get(value, own.get(value)) == own.get(value) for value in label.values)


def find_classes(
  labels: Mapping[pathlib.Path, Stored], form: str, spec: FolderSpec, root
) -> tuple[LabelSpec, list[str]]:
  """Finds the classes of label pictures.

  Args:
    labels: what they hold, in the form.
    form: how they are read, from `find_form`.
    spec: what is known beforehand.
    root: the folder, for messages.

  Returns:
    the classes (their mean is 0), and notes.

  Raises:
    InputError: they can't be understood without `classes.json`, or contradict it.
  """
  totals = {}
  for label in labels.values():
    for value, count in label.values.items():
      totals[value] = totals.get(value, 0) + count
  find = _color_classes if form == 'colors' else _number_classes
  classes, notes = find(labels, totals, spec, root)
  if classes.num_classes < 2:
    raise InputError(
      f'{_folder(labels)}: these labels know one class only ({classes.names[0]}); '
      'there is nothing to tell apart'
    )
  valid = valid_values(classes, form)
  seen = {valid.get(value) for value in totals}
  never = [name for index, name in enumerate(classes.names) if index not in seen]
  if never:
    notes.append(f'no pixel is of {some(never)}')
  return classes, notes


def _number_classes(labels, totals, spec, root):
  del root
  if spec.names or spec.palette or spec.ids:
    count = len(spec.names or spec.palette or spec.ids)
    left_out = {IGNORE} if spec.ignore is None else set(spec.ignore)
    ids = spec.ids or tuple(value for value in range(256) if value not in left_out)[:count]
    note = f'{CLASSES_FILE} says which'
  else:
    ids, note = _numbers(labels, totals, spec)
  void = tuple(value for value in spec.ignore or () if value != IGNORE)
  # Black, the first color of that scheme, would look like pixels to ignore.
  drawn = tuple(bitwise_color(index + 1) for index in range(len(ids)))
  classes = LabelSpec(
    NAME,
    names=spec.names or tuple(f'class {value}' for value in ids),
    palette=spec.palette or _own_palette(labels, ids) or drawn,
    mean=(0.0, 0.0, 0.0),
    void=void,
    raw_ids=() if ids == tuple(range(len(ids))) else ids,
  )
  ignored = sorted({*void, *({IGNORE} - set(ids))})
  notes = [
    f'labels: numbers {_listed(totals)}, so {len(ids)} classes ({note}): {some(classes.names)}; '
    f'{" and ".join(map(str, ignored)) or "nothing"} is ignored'
  ]
  if classes.raw_ids:
    notes.append(f'the network and predict number the classes 0..{len(ids) - 1} in this order')
  return classes, notes


def _numbers(labels, totals, spec) -> tuple[tuple[int, ...], str]:
  """Which numbers are classes, where nobody says it."""
  left_out = set(spec.ignore or ())
  values = sorted(set(totals) - left_out)
  if IGNORE in values and spec.ignore is None:
    # 0 and 255, or 0, 85, 170 and 255: a scale on which 255 is one more class.
    steps = np.diff(values)
    if len(values) == 1 or steps.max() - steps.min() > 1 or steps.min() < 2:
      values.remove(IGNORE)
  if not values:
    raise InputError(f'{_folder(labels)}: every pixel of these labels is to be ignored')
  _refuse_strays(labels, totals)
  span = [value for value in range(values[-1] + 1) if value not in left_out]
  if 2 * len(values) >= len(span):
    return tuple(span), f'{CLASSES_FILE} would name them'
  return tuple(values), f'{CLASSES_FILE} would name them; most numbers in between do not occur'


def _color_classes(labels, totals, spec, root):
  if spec.palette:
    palette, note = spec.palette, f'{CLASSES_FILE} says which'
  elif spec.names:
    raise InputError(
      f'{root / CLASSES_FILE}: names {len(spec.names)} classes and the labels are color masks; '
      'add "palette", the RGB colors of the classes in the same order'
    )
  else:
    _refuse_strays(labels, totals)
    codes = sorted(set(totals) - set(map(_packed, spec.ignored_colors)))
    if not 0 < len(codes) <= MAX_COLORS:
      raise InputError(
        f'{_folder(labels)}: these color masks have {len(codes)} colors that count; '
        f'say in {CLASSES_FILE} which are classes ("palette")'
      )
    palette = tuple((code >> 16, code >> 8 & 255, code & 255) for code in codes)
    note = f'one for each color; {CLASSES_FILE} would name them'
  names = spec.names or tuple('#{:02x}{:02x}{:02x}'.format(*color) for color in palette)
  others = tuple((color, None) for color in spec.ignored_colors)
  classes = LabelSpec(NAME, names, palette, (0.0, 0.0, 0.0), other_colors=others)
  ignored = [color for color, index in classes.colors.items() if index == IGNORE]
  return classes, [
    f'labels: color masks, {len(names)} classes ({note}): {some(names)}; '
    f'{" and ".join(map(str, ignored)) or "nothing"} is ignored'
  ]


def _refuse_strays(labels, totals):
  """Values that nowhere fill 2x2 pixels were made by smoothing or by compression with loss."""
  solid = frozenset().union(*(label.solid for label in labels.values()))
  stray = set(totals) - solid
  if len(stray) < MAX_STRAY:
    return
  path = max(labels, key=lambda each: len(set(labels[each].values) - solid))
  raise InputError(
    f'{path}: {len(stray)} values of these labels nowhere fill 2x2 pixels, as after smoothing or '
    'JPEG; resize labels by the nearest pixel and store them without loss, or say the classes in '
    f'{CLASSES_FILE}'
  )


def illegal(labels, classes: LabelSpec, form: str) -> list[str]:
  """A sentence for each label picture that holds values that are no class."""
  valid = valid_values(classes, form)
  sentences = []
  for path, label in labels.items():
    wrong = sorted(set(label.values) - valid.keys())
    if wrong:
      listed = [f'#{value:06x}' if form == 'colors' else str(value) for value in wrong[:4]]
      listed += ['...'] * (len(wrong) > 4)
      sentences.append(f'{path}: holds {", ".join(listed)}, which no class has')
  return sentences


def valid_values(classes: LabelSpec, form: str) -> dict[int, int]:
  """The class id, or 255, of each value that `Stored.values` may have."""
  if form == 'colors':
    return {_packed(color): index for color, index in classes.colors.items()}
  ids = classes.raw_ids or range(classes.num_classes)
  void = dict.fromkeys((*classes.void, IGNORE), IGNORE)
  return void | {value: index for index, value in enumerate(ids)}


def class_pixels(label: Stored, classes: LabelSpec, form: str) -> np.ndarray:
  """Pixels of each class in a label picture, int64 (C,)."""
  valid, counts = valid_values(classes, form), np.zeros(IGNORE + 1, np.int64)
  for value, count in label.values.items():
    counts[valid.get(value, IGNORE)] += count
  return counts[: classes.num_classes]


def counts(label: Stored, classes: LabelSpec, form: str) -> LabelCounts:
  """Counts the pixels of a label picture."""
  height, width = label.shape
  return LabelCounts.of_label(class_pixels(label, classes, form), height * width)


def _folder(labels):
  return pathlib.Path(next(iter(labels))).parent


def _own_palette(labels, ids):
  """The colors that palette pictures give these numbers, if they can be told apart."""
  for label in labels.values():
    if len(label.palette) > max(ids):
      palette = tuple(label.palette[value] for value in ids)
      grays = all(_is_gray(_packed(color)) for color in palette)
      return None if grays or len(set(palette)) < len(palette) else palette
  return None


def read_spec(path) -> FolderSpec:
  """Reads a `classes.json`; see the head of this file.

  Raises:
    InputError: it isn't one; says which part.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return FolderSpec()
  try:
    content = json.loads(path.read_text('utf-8-sig'))
  except (ValueError, RecursionError) as error:
    reason = ' '.join(str(error).split())[:100]
    raise InputError(f'{path}: is not JSON ({reason})') from None
  if not isinstance(content, dict):
    raise InputError(f'{path}: holds no {{"names": [...], ...}}')
  known = {'names', 'palette', 'ids', 'ignore', 'mean', 'found'}
  if unknown := sorted(content.keys() - known):
    raise InputError(
      f'{path}: {unknown[0]!r} means nothing here; known: {", ".join(sorted(known))}'
    )

  def listed(name, check, what):
    values = content.get(name)
    if values is None:
      return None
    if not isinstance(values, list) or not all(map(check, values)):
      raise InputError(f'{path}: "{name}" must be a list of {what}')
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)

  names = listed('names', lambda name: isinstance(name, str) and name.strip(), 'names')
  palette = listed('palette', _is_color, 'colors [red, green, blue], 0..255')
  ids = listed('ids', _is_byte, 'numbers 0..255')
  ignore = listed('ignore', lambda value: _is_byte(value) or _is_color(value),
                  'numbers 0..255 and colors')  # fmt: skip
  mean = listed('mean', lambda value: _is_number(value) and 0 <= value <= 255, 'numbers 0..255')
  for name, values in (('names', names), ('palette', palette), ('ids', ids)):
    if values is not None and not 0 < len(values) < IGNORE:
      raise InputError(
        f'{path}: "{name}" has {len(values)} elements; 1 to {IGNORE - 1} are possible'
      )
    if values and len(set(values)) < len(values):
      raise InputError(f'{path}: "{name}" has an element twice')
    if values and names and len(values) != len(names):
      raise InputError(f'{path}: {len(names)} names and {len(values)} elements in "{name}"')
  if palette and ids and len(palette) != len(ids):
    raise InputError(f'{path}: {len(ids)} ids and {len(palette)} colors')
  if mean is not None and len(mean) != 3:
    raise InputError(f'{path}: "mean" must be three numbers, of red, green and blue')
  colors = tuple(value for value in ignore or () if isinstance(value, tuple))
  numbers = None if ignore is None else tuple(v for v in ignore if not isinstance(v, tuple))
  if len(names or palette or ()) > 256 - len(numbers or ()):
    raise InputError(f'{path}: "ignore" leaves too few numbers for {len(names or palette)} classes')
  if both := [value for value in ids or () if value in (numbers or ())]:
    raise InputError(f'{path}: {both[0]} is in "ids" and in "ignore"')
  if both := [color for color in palette or () if color in colors]:
    raise InputError(f'{path}: the color {list(both[0])} is in "palette" and in "ignore"')
  return FolderSpec(names, palette, ids, numbers, colors, mean)


def _is_number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_byte(value) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_color(value) -> bool:
  return isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value))


def _is_gray(code) -> bool:
  return code >> 16 == code >> 8 & 255 == code & 255


def _packed(color) -> int:
  red, green, blue = color
  return (red << 16) | (green << 8) | blue


def some(names) -> str:
  """Lists the first dozen names, and their number where there are more."""
  names = list(names)
  return ', '.join(map(str, names[:12])) + (f', ... ({len(names)})' if len(names) > 12 else '')


def _listed(values) -> str:
  """Numbers as ranges: 0..10, 255."""
  runs = []
  for value in sorted(values):
    if runs and value == runs[-1][1] + 1:
      runs[-1][1] = value
    else:
      runs.append([value, value])
  return ', '.join(f'{a}' if a == b else f'{a}..{b}' for a, b in runs[:8]) + (
    ', ...' if len(runs) > 8 else ''
  )

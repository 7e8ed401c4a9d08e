"""What the label pictures of a folder hold, and reading them as the labels of a data set.

Label pictures hold numbers (gray, or indices of a palette) or colors. The numbers are class ids,
in the order of the data set or of whatever made them; for Cityscapes they may be official ids. A
folder tells which by file names, by `predictions.json`, or by its content as a whole; where none of
them decides, nothing is guessed.
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files, matching
from dilated_jax.label_spec import IGNORE, LabelSpec

KINDS = ('ids', 'train_ids', 'colors')


@dataclasses.dataclass(frozen=True)
class LabelReader:
  """Reads the label pictures of one folder.

  Attributes:
    classes: of the data set.
    order: the same classes in the order in which the pictures have them.
    kinds: one of `KINDS` for each path: 'ids' are the official ids of a data set that tells them
      from class ids, 'train_ids' class ids, 'colors' RGB colors.
    description: says in words how the pictures are read.
  """

  classes: LabelSpec
  order: LabelSpec
  kinds: Mapping[pathlib.Path, str]
  description: str

  def read(self, path) -> np.ndarray:
    """Reads a label picture.

    Args:
      path: one of `kinds`.

    Returns:
      (H, W) uint8, the values of the data set's own label files, for `classes.to_train_ids`; 255
      for pixels of no class.

    Raises:
      InputError: the picture isn't of the kind, or holds what is no class.
    """
    kind = self.kinds[path]
    if kind == 'ids':
      return image_files.read_label(path)
    if kind == 'colors':
      ids = self.order.colors_to_train_ids(image_files.read_colors(path), path)
    else:
      ids = _without_official_ids(self.order).to_train_ids(image_files.read_label(path), path)
    places = self.classes.class_order(self.order.names, 'the pictures')
    values = np.full(256, IGNORE, np.uint8)
    values[: len(places)] = np.take(self.classes.raw_ids or range(len(places)), places)
    return values[ids]


def detect_reader(
  paths, classes: LabelSpec, role: str, *, kind: str | None = None, order: LabelSpec | None = None
) -> LabelReader:
  """Finds out how the label pictures of a folder are to be read.

  Args:
    paths: all label pictures of the folder that will be read.
    classes: of the data set.
    role: 'labels' or 'predictions', for messages and for the flags that they name.
    kind: one of `KINDS`, or None to find out.
    order: the classes in the order in which the pictures have them; None for that of `classes`.

  Returns:
    a LabelReader.

  Raises:
    InputError: names and content don't tell, or contradict each other, `kind` or `order`.
  """
  if order:
    classes.class_order(order.names, f'the {role}')
  official = bool(classes.raw_ids)
  names = {path: _by_name(path, official) for path in paths}
  if kind == 'ids' and not official:
    kind = 'train_ids'
  for path, named in names.items():
    if kind and named and named != kind:
      raise InputError(f'{path}: its name says {named} and --{role}_are={kind} contradicts it')
  kinds = {path: named for path, named in names.items() if named}
  unnamed, reasons = [path for path in names if path not in kinds], []
  if kinds:
    reasons.append('by their names')
  if unnamed:
    reason = f'as --{role}_are says'
    if not kind:
      kind, reason = _by_content(unnamed, classes, role, order)
    reasons.append(reason)
    kinds |= dict.fromkeys(unnamed, kind)

  found = dict.fromkeys(kinds.values())
  if order and 'ids' in found:
    raise InputError(
      f'the {role} hold official ids ({reasons[0]}), and {order.name} gives them another order'
    )
  words = {'ids': 'official ids', 'colors': 'colors'}
  words['train_ids'] = 'train ids' if official else 'class ids'
  description = f'{role}: {" and ".join(words[each] for each in found)}, {" and ".join(reasons)}'
  if order:
    description += f'; classes matched by name from {order.name} ({", ".join(order.names)})'
  return LabelReader(classes, order or classes, kinds, description)


def read_class_order(folder) -> LabelSpec | None:
  """Reads the `predictions.json` that `predict` leaves beside its label maps.

  Args:
    folder: of label maps.

  Returns:
    the classes in the order that the label maps have, named after the file; None without the file.

  Raises:
    InputError: the file is damaged.
  """
  path = pathlib.Path(folder) / 'predictions.json'
  if not path.exists():
    return None
  try:
    content = json.loads(path.read_bytes())
    names = tuple(map(str, content['classes']))
    palette = tuple((int(red), int(green), int(blue)) for red, green, blue in content['palette'])
    if len(names) != len(palette) or not 0 < len(names) < IGNORE:
      raise ValueError(f'{len(names)} classes and {len(palette)} colors')
    if any(not 0 <= value <= 255 for color in palette for value in color):
      raise ValueError('colors beyond 0..255')
  except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
    raise InputError(
      f'{path}: holds no classes and palette ({type(error).__name__}: {error}); delete it or let '
      'predict write it again'
    ) from None
  return LabelSpec(str(path), names, palette, mean=(0.0, 0.0, 0.0))


def _without_official_ids(classes: LabelSpec) -> LabelSpec:
  return dataclasses.replace(classes, raw_ids=(), void=()) if classes.raw_ids else classes


def _by_name(path, official: bool) -> str | None:
  suffix = matching.label_kind(path)
  if suffix == 'instanceIds':
    raise InputError(f'{path}: is an instance map; label pictures are wanted (*_labelIds.png)')
  kinds = {
    'labelIds': 'ids',
    'labelTrainIds': 'train_ids',
    'color': 'colors',
  }
  kind = kinds.get(suffix) if suffix else None
  return 'train_ids' if kind == 'ids' and not official else kind


def _by_content(paths, classes, role, order) -> tuple[str, str]:
  """Kind of pictures whose names say nothing, and how it was found."""
  stored = {path: image_files.read_mode_and_palette(path) for path in paths}
  colored = [path for path in paths if stored[path][0] == 'colors']
  if colored and len(colored) < len(paths):
    other = next(path for path in paths if stored[path][0] != 'colors')
    raise InputError(
      f'{colored[0]} is a color mask and {other} is none; a folder of {role} holds one kind'
    )
  if colored:
    return 'colors', 'as the pictures are RGB'
  if order:
    return 'train_ids', 'as their order is given'
  palettes = [palette for _, palette in stored.values() if palette is not None]
  if len(palettes) == len(paths):
    listed = [list(map(tuple, palette[: classes.num_classes].tolist())) for palette in palettes]
    if all(colors == list(classes.palette) for colors in listed):
      return 'train_ids', f'as the palette of {classes.name} says'
    if _all_known(zip(paths, palettes, strict=True), classes.color_to_id):
      return 'colors', f'as their palettes hold colors of {classes.name} in an order of their own'
  if not classes.raw_ids:
    return 'train_ids', 'as the pictures hold numbers'
  return _by_values(paths, classes, role)


def _all_known(pictures_and_palettes, colors) -> bool:
  """Whether palette pictures use colors of the data set only, and not just those to ignore."""
  found = set()
  for path, palette in pictures_and_palettes:
    used = np.unique(image_files.read_label(path))
    if used[-1] >= len(palette):
      return False
    found.update(map(tuple, palette[used].tolist()))
    if not found <= set(colors):
      return False
  return any(colors[color] != IGNORE for color in found)


def _by_values(paths, classes, role) -> tuple[str, str]:
  """Tells official ids from train ids."""
  seen = set()
  for path in paths:
    seen.update(np.unique(image_files.read_label(path)).tolist())
    large = [value for value in seen - {IGNORE} if value >= classes.num_classes]
    if large:
      return 'ids', f'as {min(large)} occurs, which is no train id'
  void = sorted(seen & {IGNORE, *classes.void})
  if void:
    listed = ', '.join(map(str, void[:3]))
    return 'train_ids', f'as only train ids occur, of which {listed} as official ids would be void'
  raise InputError(
    f'{paths[0].parent}: the values of these {role} ({", ".join(map(str, sorted(seen)))}) can be '
    f'official ids or train ids: say which with --{role}_are=ids or --{role}_are=train_ids'
  )

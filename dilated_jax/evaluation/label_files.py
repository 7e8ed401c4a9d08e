"""Reads the label images of a folder as labels of a data set, whatever they hold.

Label images hold numbers (gray values, or indices of a palette) or colors. Numbers are class ids,
in the order of the data set or of the program that wrote them; for Cityscapes they may be official
ids. The kind is detected from the file names, from `predictions.json`, or from the content of all
files together. If none of these decides, nothing is guessed.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib

from jaxtyping import UInt8
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.files import decode_json
from dilated_jax.images import files as image_files, matching
from dilated_jax.label_spec import IGNORE, LabelSpec

KINDS = ('ids', 'train_ids', 'colors')


@dataclasses.dataclass(frozen=True)
class LabelReader:
  """Reads the label images of one folder.

  Attributes:
    classes: of the data set.
    order: the same classes, in the order of the numbers in the images.
    kinds: one of `KINDS` for each path: 'ids' are official ids, in a data set where these differ
      from class ids; 'train_ids' are class ids, and 'colors' RGB colors.
    description: how the images are read, in words.
  """

  classes: LabelSpec
  order: LabelSpec
  kinds: Mapping[pathlib.Path, str]
  description: str

  def read(self, path: pathlib.Path) -> UInt8[np.ndarray, 'h w']:
    """Reads a label image.

    Args:
      path: one of `kinds`.

    Returns:
      The values that the data set's own label files have, for `classes.to_train_ids`; 255 for
      pixels of no class.

    Raises:
      InputError: the image is not of its kind, or holds values that are not classes.
    """
    kind = self.kinds[path]
    if kind == 'ids':
      return _read_numbers(path)
    if kind == 'colors':
      ids = self.order.colors_to_train_ids(image_files.read_colors(path), path)
    else:
      ids = _without_official_ids(self.order).to_train_ids(_read_numbers(path), path)
    positions = self.classes.class_order(self.order.names, 'the images')
    values = np.full(256, IGNORE, np.uint8)
    values[: len(positions)] = np.take(self.classes.raw_ids or range(len(positions)), positions)
    return values[ids]


def detect_reader(
  paths: Sequence[pathlib.Path],
  classes: LabelSpec,
  role: str,
  *,
  kind: str | None = None,
  order: LabelSpec | None = None,
) -> LabelReader:
  """Detects how the label images of a folder must be read.

  Args:
    paths: all label images of the folder that will be read.
    classes: of the data set.
    role: 'labels' or 'predictions', for messages.
    kind: one of `KINDS`; None detects it.
    order: the classes, in the order of the numbers in the images; None: in that of `classes`.

  Returns:
    The reader.

  Raises:
    InputError: names and content do not decide, or contradict each other, `kind` or `order`.
  """
  if order:
    classes.class_order(order.names, f'the {role}')
  official = bool(classes.raw_ids)
  names = {path: _by_name(path, official) for path in paths}
  if kind == 'ids' and not official:
    kind = 'train_ids'
  for path, named in names.items():
    if kind and named and named != kind:
      raise InputError(f'{path}: its name says {named}, which contradicts `kind={kind!r}`')
  kinds = {path: named for path, named in names.items() if named}
  unnamed, reasons = [path for path in names if path not in kinds], []
  if kinds:
    reasons.append('by their names')
  if unnamed:
    reason = 'as requested'
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


def read_class_order(folder: str | os.PathLike) -> LabelSpec | None:
  """Reads the `predictions.json` that `predict` writes next to its label maps.

  Args:
    folder: of the label maps.

  Returns:
    The classes, in the order of the numbers in the label maps, with the file as their name. None if
    there is no such file.

  Raises:
    InputError: the file is damaged.
  """
  path = pathlib.Path(folder) / 'predictions.json'
  if not path.exists():
    return None
  try:
    content = decode_json(path.read_bytes())
    names = tuple(map(str, content['classes']))
    palette = tuple((int(red), int(green), int(blue)) for red, green, blue in content['palette'])
    if len(names) != len(palette) or not 0 < len(names) < IGNORE:
      raise ValueError(f'{len(names)} classes and {len(palette)} colors')
    if any(not 0 <= value <= 255 for color in palette for value in color):
      raise ValueError('colors beyond 0..255')
  except (ValueError, TypeError, LookupError, OverflowError) as error:
    raise InputError(
      f'{path}: holds no classes and palette ({type(error).__name__}: {error}); delete it or let '
      'predict write it again'
    ) from None
  return LabelSpec(str(path), names, palette, mean=(0.0, 0.0, 0.0))


def read_dataset(folder: str | os.PathLike) -> str:
  """Reads in `predictions.json` which data set the network was trained on; '' if it is not told."""
  content = decode_json((pathlib.Path(folder) / 'predictions.json').read_bytes())
  return str(content.get('dataset') or '')


def _without_official_ids(classes: LabelSpec) -> LabelSpec:
  return dataclasses.replace(classes, raw_ids=(), void=()) if classes.raw_ids else classes


def _by_name(path, official: bool) -> str | None:
  suffix = matching.label_kind(path)
  if suffix == 'instanceIds':
    raise InputError(f'{path}: is an instance map; label images are needed (*_labelIds.png)')
  kinds = {
    'labelIds': 'ids',
    'labelTrainIds': 'train_ids',
    'color': 'colors',
  }
  kind = kinds.get(suffix) if suffix else None
  return 'train_ids' if kind == 'ids' and not official else kind


def _by_content(paths, classes, role, order) -> tuple[str, str]:
  """The kind of images whose names do not state it, and the reason in words."""
  stored = {path: image_files.read_mode_and_palette(path) for path in paths}
  colored = [path for path in paths if stored[path][0] == 'colors']
  if colored and len(colored) < len(paths):
    other = next(path for path in paths if stored[path][0] != 'colors')
    raise InputError(
      f'{colored[0]} is a color mask and {other} is none; a folder of {role} holds one kind'
    )
  if colored and not _are_numbers_in_channels(paths, classes):
    return 'colors', 'as the images are RGB'
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
    return 'train_ids', 'as the images hold numbers'
  return _by_values(paths, classes, role)


def _are_numbers_in_channels(paths, classes) -> bool:
  """Whether RGB images have three equal channels everywhere, and a gray that is no known color."""
  found = set()
  for path in paths:
    colors = image_files.read_colors(path)
    if (colors != colors[..., :1]).any():
      return False
    found.update((value,) * 3 for value in np.unique(colors).tolist())
  return not found <= classes.color_to_id.keys()


def _read_numbers(path) -> UInt8[np.ndarray, 'h w']:
  """Reads the numbers of a label image, also from three equal channels."""
  if image_files.read_mode_and_palette(path)[0] == 'colors':
    colors = image_files.read_colors(path)
    if (colors == colors[..., :1]).all():
      return colors[..., 0]
  return image_files.read_label(path)


def _all_known(paths_and_palettes, colors) -> bool:
  """Whether images with palettes use colors of the data set only, and not just ignored ones."""
  found = set()
  for path, palette in paths_and_palettes:
    used = np.unique(image_files.read_label(path))
    if used[-1] >= len(palette):
      return False
    found.update(map(tuple, palette[used].tolist()))
    if not found <= set(colors):
      return False
  return any(colors[color] != IGNORE for color in found)


def _by_values(paths, classes, role) -> tuple[str, str]:
  """Distinguishes official ids from train ids."""
  seen, own = set(), {*classes.raw_ids, *classes.void, IGNORE}
  # 255 is a class of some: of masks of 0 and 255, say.
  train_ids = {*range(classes.num_classes), IGNORE} - ({IGNORE} & {*classes.raw_ids})
  for path in paths:
    seen.update(np.unique(_read_numbers(path)).tolist())
    if large := seen - train_ids:
      return 'ids', f'as {min(large)} occurs, which is not a train id'
  if others := seen - own:
    return 'train_ids', f'as {min(others)} occurs, which is not an official id'
  void = sorted(seen & {IGNORE, *classes.void})
  if void:
    listed = ', '.join(map(str, void[:3]))
    return 'train_ids', f'as only train ids occur, of which {listed} as official ids would be void'
  raise InputError(
    f'{paths[0].parent}: the values of these {role} ({", ".join(map(str, sorted(seen)))}) can be '
    "official ids or train ids: say which with `kind='ids'` or `kind='train_ids'`"
  )

"""Reads `classes.json`, in which a folder may state its classes; every field is optional.

  {"names": ["road", "car"], "palette": [[128, 64, 128], [0, 0, 142]], "ids": [0, 1],
   "ignore": [255, [0, 0, 0]], "mean": [105, 108, 110]}

`names` and `palette` (RGB) are in the order of the class ids. `ids` are the values of the classes
in label images that store ids, by default 0, 1, 2, ...; `ignore` lists ids or colors of pixels to
ignore. `detected` is information about a prepared folder, and is not read.
"""

import dataclasses
import pathlib
from typing import Any

from dilated_jax.errors import InputError, one_line
from dilated_jax.files import decode_json, decode_text
from dilated_jax.images.checks import is_of_unit_scale
from dilated_jax.label_spec import IGNORE

CLASSES_FILE = 'classes.json'
_FIELDS = ('names', 'palette', 'ids', 'ignore', 'mean', 'detected')


@dataclasses.dataclass(frozen=True)
class StatedClasses:
  """The classes that `classes.json` states; None or empty where it says nothing.

  Attributes:
    names: class names.
    palette: RGB color of each class, 0..255.
    ids: value of each class in label images.
    ignored_ids: values of pixels to ignore.
    ignored_colors: RGB colors of pixels to ignore.
    mean: RGB mean, 0..255.
  """

  names: tuple[str, ...] | None = None
  palette: tuple[tuple[int, int, int], ...] | None = None
  ids: tuple[int, ...] | None = None
  ignored_ids: tuple[int, ...] | None = None
  ignored_colors: tuple[tuple[int, int, int], ...] = ()
  mean: tuple[float, float, float] | None = None


def read_classes_file(path) -> StatedClasses:
  """Reads and checks a `classes.json`, see the head of this module.

  Args:
    path: file; it may be missing.

  Raises:
    InputError: the file is damaged, or a field is wrong or contradicts another one.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return StatedClasses()
  content = _read_json(path)
  names = _read_field(path, content, 'names', _is_name, 'names')
  palette = _read_field(path, content, 'palette', _is_color, 'colors [red, green, blue], 0..255')
  ids = _read_field(path, content, 'ids', _is_byte, 'numbers 0..255')
  ignore = _read_field(path, content, 'ignore', _is_byte_or_color, 'numbers 0..255 and colors')
  mean = _read_field(path, content, 'mean', _is_color_value, 'numbers 0..255')
  ignored_ids = None if ignore is None else tuple(v for v in ignore if not isinstance(v, tuple))
  ignored_colors = tuple(value for value in ignore or () if isinstance(value, tuple))
  stated = StatedClasses(names, palette, ids, ignored_ids, ignored_colors, mean)
  _check(path, stated)
  return stated


def _read_json(path) -> dict:
  try:
    content = decode_json(decode_text(path.read_bytes()))
  except ValueError as error:
    raise InputError(f'{path}: is not JSON ({one_line(error, 100)})') from None
  if not isinstance(content, dict):
    raise InputError(f'{path}: is not a JSON object {{"names": [...], ...}}')
  if unknown := sorted(content.keys() - set(_FIELDS)):
    raise InputError(f'{path}: unknown field {unknown[0]!r}; choose from {", ".join(_FIELDS)}')
  return content


def _read_field(path, content, name, is_valid, expected) -> Any:
  values = content.get(name)
  if values is None:
    return None
  if not isinstance(values, list) or not all(map(is_valid, values)):
    raise InputError(f'{path}: "{name}" must be a list of {expected}')
  return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def _check(path, stated: StatedClasses) -> None:
  """Checks the lengths of the fields, and that they don't contradict each other."""
  names, palette, ids = stated.names, stated.palette, stated.ids
  for field, values in (('names', names), ('palette', palette), ('ids', ids)):
    if values is not None and not 0 < len(values) < IGNORE:
      raise InputError(f'{path}: "{field}" has {len(values)} elements; give 1 to {IGNORE - 1}')
    if values and len(set(values)) < len(values):
      raise InputError(f'{path}: "{field}" has an element twice')
    if values and names and len(values) != len(names):
      raise InputError(f'{path}: {len(names)} names and {len(values)} elements in "{field}"')
  if palette and ids and len(palette) != len(ids):
    raise InputError(f'{path}: {len(ids)} ids and {len(palette)} colors')
  if stated.mean is not None and len(stated.mean) != 3:
    raise InputError(f'{path}: "mean" must be three numbers: red, green and blue')
  if stated.mean is not None and is_of_unit_scale(stated.mean):
    raise InputError(f'{path}: "mean" is one of images of 0 to 1; give 255 times as much')
  ignored = stated.ignored_ids or ()
  count = len(names or palette or ())
  if count > 256 - len(ignored):
    raise InputError(f'{path}: "ignore" leaves too few ids for {count} classes')
  if both := [value for value in ids or () if value in ignored]:
    raise InputError(f'{path}: {both[0]} is in "ids" and in "ignore"')
  if both := [color for color in palette or () if color in stated.ignored_colors]:
    raise InputError(f'{path}: the color {list(both[0])} is in "palette" and in "ignore"')


def _is_name(value) -> bool:
  return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_byte(value) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_color(value) -> bool:
  return isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value))


def _is_byte_or_color(value) -> bool:
  return _is_byte(value) or _is_color(value)


def _is_color_value(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 255

"""The classes of one data set, and how its raw label files become class ids."""

import dataclasses

from absl import logging
import numpy as np

from dilated_jax.errors import InputError

IGNORE = 255  # Label of pixels that count neither in a loss nor in a score.


@dataclasses.dataclass(frozen=True)
class LabelSpec:
  """The classes of a data set, or of published weights that order them differently.

  Attributes:
    name: name of the data set.
    names: class names, in the order of the class ids.
    palette: RGB color of each class, 0..255.
    mean: RGB mean of the training images, 0..255.
    void: values of raw label files that mean 'ignore', besides 255.
    raw_ids: value of each class in raw label files; empty if that is the class id.
    other_colors: further RGB colors of raw color masks, each with the name of its class, or with
      None if its pixels are ignored.
    unknown_color_tolerance: largest share of a color mask's pixels, 0..1, that may have a color
      outside this table; such pixels are ignored.
  """

  name: str
  names: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  mean: tuple[float, float, float]
  void: tuple[int, ...] = ()
  raw_ids: tuple[int, ...] = ()
  other_colors: tuple[tuple[tuple[int, int, int], str | None], ...] = ()
  unknown_color_tolerance: float = 0.0

  @property
  def num_classes(self) -> int:
    return len(self.names)

  @property
  def color_to_id(self) -> dict[tuple[int, int, int], int]:
    """The class id of each RGB color in color masks, or 255 if its pixels are ignored.

    Black is ignored unless it is the color of a class, because masks paint ignored pixels black.
    """
    others = {
      color: IGNORE if name is None else self.names.index(name) for color, name in self.other_colors
    }
    palette = {color: index for index, color in enumerate(self.palette)}
    return {(0, 0, 0): IGNORE} | others | palette

  def to_train_ids(self, mask: np.ndarray, path) -> np.ndarray:
    """Turns a raw label map into class ids; void values become 255.

    Args:
      mask: integers (H, W), as stored in the label file.
      path: the label file, for error messages.

    Returns:
      uint8 (H, W) of class ids 0..num_classes-1, 255 for ignored pixels.

    Raises:
      InputError: `mask` is not an integer array (H, W), or has other values.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
      raise InputError(
        f'{path}: a label image of {self.name} has one channel of class ids, found shape '
        f'{mask.shape} of {mask.dtype}; store class ids as 8-bit gray or palette PNG'
      )
    class_ids = dict.fromkeys((*self.void, IGNORE), IGNORE)
    class_ids |= {raw: index for index, raw in enumerate(self.raw_ids or range(self.num_classes))}
    invalid = [int(value) for value in np.unique(mask) if value not in class_ids]
    if invalid:
      values = ', '.join(map(str, invalid[:8])) + (', ...' if len(invalid) > 8 else '')
      if self.raw_ids:
        valid = f'values {min(self.raw_ids + self.void)}..{max(self.raw_ids + self.void)}'
        ignored = IGNORE
      else:
        valid = f'classes 0..{self.num_classes - 1}'
        ignored = ' and '.join(map(str, (*self.void, IGNORE)))
      raise InputError(
        f'{path}: invalid label values {values}; {self.name} has {valid}, and {ignored} to ignore'
      )
    table = np.full(256, IGNORE, np.uint8)
    for raw, index in class_ids.items():
      table[raw] = index  # The id -1 of Cityscapes is the last element, 255.
    return table[mask]

  def colors_to_train_ids(self, mask: np.ndarray, path) -> np.ndarray:
    """Turns a color mask into class ids; see `color_to_id`.

    Args:
      mask: uint8 (H, W, 3) RGB.
      path: the label file, for messages.

    Returns:
      uint8 (H, W) of class ids 0..num_classes-1, 255 for ignored pixels.

    Raises:
      InputError: more than `unknown_color_tolerance` of the pixels have a color of no class.
    """
    class_ids = {_pack(color): index for color, index in self.color_to_id.items()}
    known = np.array(sorted(class_ids), np.uint32)
    packed = _pack(np.moveaxis(np.asarray(mask, np.uint32), -1, 0))
    nearest = np.minimum(np.searchsorted(known, packed), len(known) - 1)
    ids = np.array([class_ids[color] for color in known.tolist()], np.uint8)[nearest]
    unknown = known[nearest] != packed
    if unknown.any():
      row, column = np.argwhere(unknown)[0].tolist()
      color = tuple(mask[row, column].tolist())
      if unknown.mean() > self.unknown_color_tolerance:
        advice = 'save color masks without smoothing, or store class ids'
        if len(set(color)) == 1:  # Gray, as programs write ids that have no gray format, too.
          advice += '; of ids in three equal channels, store one as 8-bit gray PNG'
        raise InputError(
          f'{path}: the color {color} at row {row}, column {column} belongs to no class of '
          f'{self.name}; {advice}'
        )
      logging.warning(
        '%s: ignoring %d pixels with colors that belong to no class, such as %s',
        path, unknown.sum(), color,
      )  # fmt: skip
      ids[unknown] = IGNORE
    return ids

  def class_order(self, names, owner: str) -> np.ndarray:
    """Maps the same classes in another order to the class ids of this table, by name.

    Args:
      names: names of the same classes in another order; upper and lower case are the same.
      owner: what has the names, in the plural, for the error message.

    Returns:
      (C,) uint8; element i is the class id of the class called names[i].

    Raises:
      InputError: the names differ from those of this table.
    """
    ours, theirs = [[name.casefold() for name in each] for each in (self.names, names)]
    if sorted(ours) != sorted(theirs):
      extra = [name for name in names if name.casefold() not in ours]
      missing = [name for name in self.names if name.casefold() not in theirs]
      raise InputError(
        f'{owner} have {len(theirs)} classes and {self.name} has {len(ours)}: only in {owner}: '
        f'{", ".join(extra) or "none"}; only in {self.name}: {", ".join(missing) or "none"}; '
        f'evaluate on the data set that {owner} were made for'
      )
    return np.array([ours.index(name) for name in theirs], np.uint8)


def _pack(color):
  """Packs R, G and B into one integer 0xRRGGBB; also works on three arrays."""
  red, green, blue = color
  return (red << 16) | (green << 8) | blue

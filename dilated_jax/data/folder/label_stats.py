"""Reads label images of unknown meaning, and counts the values in them."""

from collections.abc import Mapping
import dataclasses

import numpy as np

from dilated_jax.images import files as image_files


@dataclasses.dataclass(frozen=True)
class LabelStats:
  """The values in one label image.

  A value is a gray value, a palette index, or a color as 0xRRGGBB, by the mode.

  Attributes:
    mode: 'gray', 'palette' or 'colors'.
    shape: (H, W).
    counts: number of pixels of each value.
    solid: values that fill a block of 2x2 pixels somewhere.
    palette: RGB colors of a palette image, empty for other modes.
  """

  mode: str
  shape: tuple[int, int]
  counts: Mapping[int, int]
  solid: frozenset[int]
  palette: tuple[tuple[int, int, int], ...] = ()

  @property
  def has_equal_channels(self) -> bool:
    """Whether this is an RGB image with three equal channels."""
    return self.mode == 'colors' and all(map(is_gray, self.counts))

  @property
  def renumbered_gray(self) -> int | None:
    """An index whose gray is another number, if the palette gives all of them grays."""
    if self.mode != 'palette' or not self.in_encoding('colors').has_equal_channels:
      return None
    others = (index for index in self.counts if self.palette[index : index + 1] != ((index,) * 3,))
    return next((index for index in others if index < len(self.palette)), None)

  def in_encoding(self, encoding: str) -> 'LabelStats':
    """Returns the same with the values of an encoding, see `encoding.detect_encoding`.

    The values of 'channels' are those of the first channel, and those of 'colors' RGB colors.
    """
    label = self
    if encoding in ('channels', 'colors') and self.mode == 'palette':
      palette = [*map(pack_color, self.palette), *[0] * (256 - len(self.palette))]
      label = self._map_values(palette.__getitem__, 'colors')
    if encoding == 'channels':
      return label._map_values(lambda value: value & 0xFF, 'gray')
    return label

  def _map_values(self, function, mode):
    counts = {}
    for value, count in self.counts.items():
      counts[function(value)] = counts.get(function(value), 0) + count
    solid = frozenset(map(function, self.solid))
    return dataclasses.replace(self, mode=mode, counts=counts, solid=solid)


def read_label_stats(path) -> LabelStats:
  """Reads a label image and counts its values; raises the errors of `read_values`."""
  return count_values(*read_values(path))


def read_values(path) -> tuple[str, np.ndarray | None, np.ndarray]:
  """Reads a label image of unknown meaning.

  Args:
    path: image file.

  Returns:
    mode: 'gray', 'palette' or 'colors'.
    palette: (n, 3) uint8, or None.
    values: (H, W) integers, see `LabelStats`.

  Raises:
    InputError: the file is missing or damaged, is a JPEG, or has values above 255.
  """
  mode, palette = image_files.read_mode_and_palette(path)
  if mode == 'colors':
    colors = image_files.read_colors(path).astype(np.int32)
    return mode, None, (colors[..., 0] << 16) | (colors[..., 1] << 8) | colors[..., 2]
  return mode, palette, image_files.read_label(path)


def count_values(mode: str, palette: np.ndarray | None, values: np.ndarray) -> LabelStats:
  """Counts the values that `read_values` returns."""
  colors = () if palette is None else tuple(map(tuple, palette.tolist()))
  if len(colors) > 1 and all(color == (i, i, i) for i, color in enumerate(colors)):
    mode, colors = 'gray', ()  # Such a palette says nothing: gray stored in another way.
  corner = values[:-1, :-1]
  solid = (corner == values[1:, :-1]) & (corner == values[:-1, 1:]) & (corner == values[1:, 1:])
  return LabelStats(mode, values.shape, _count(values), frozenset(_count(corner[solid])), colors)


def _count(values) -> dict[int, int]:
  if values.dtype == np.uint8:
    counts = np.bincount(values.ravel(), minlength=256)
    return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}
  unique, counts = np.unique(values, return_counts=True)
  return dict(zip(unique.tolist(), counts.tolist(), strict=True))


def is_gray(value: int) -> bool:
  """Returns whether a color 0xRRGGBB has three equal channels."""
  return value >> 16 == value >> 8 & 255 == value & 255


def pack_color(color: tuple[int, int, int]) -> int:
  """Packs an RGB color as 0xRRGGBB."""
  red, green, blue = color
  return (red << 16) | (green << 8) | blue


def unpack_color(value: int) -> tuple[int, int, int]:
  """Returns the RGB color of 0xRRGGBB."""
  return value >> 16, value >> 8 & 255, value & 255

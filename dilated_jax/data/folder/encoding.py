"""How label images store classes: as ids, as ids in three channels, or as colors."""

from collections.abc import Mapping

import numpy as np

from dilated_jax.data.folder.classes_file import CLASSES_FILE, StatedClasses
from dilated_jax.data.folder.label_stats import LabelStats, pack_color
from dilated_jax.data.statistics import LabelCounts
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE, LabelSpec

ENCODINGS = ('ids', 'channels', 'colors')  # 'channels' are ids in three equal channels.


def detect_encoding(
  labels: Mapping[str, LabelStats], stated: StatedClasses
) -> tuple[str, dict[str, LabelStats]]:
  """Detects the encoding of label images from their content.

  Args:
    labels: all label images, by file.
    stated: classes that are known already.

  Returns:
    one of `ENCODINGS`, and the labels with values in it.

  Raises:
    InputError: some label images have ids and others colors, or grays in a palette.
  """
  example = {label.mode: path for path, label in labels.items()}
  if 'colors' in example and 'gray' in example:
    raise InputError(
      f'{example["colors"]} is a color mask and {example["gray"]} has class ids; all labels of a '
      'folder must be of one kind'
    )
  known = {0, *map(pack_color, (*(stated.palette or ()), *stated.ignored_colors))}
  as_colors = {path: label.in_encoding('colors') for path, label in labels.items()}
  palette_matches = stated.palette and all(
    set(label.counts) <= known for label in as_colors.values()
  )
  if 'colors' in example:
    if not palette_matches and all(label.has_equal_channels for label in labels.values()):
      return 'channels', {path: label.in_encoding('channels') for path, label in labels.items()}
    return 'colors', as_colors
  if 'gray' in example:
    for path, label in labels.items():
      if (index := label.renumbered_gray) is not None:
        raise InputError(
          f'{path}: has the gray {label.palette[index][0]} as number {index} of a palette, and '
          f'{example["gray"]} has gray values; save all labels as gray PNG'
        )
    return 'ids', dict(labels)
  # Quantized images have palettes of their own: then only the colors mean the same everywhere.
  common = dict(enumerate(stated.palette or ())) if palette_matches else {}
  for label in labels.values():
    if not palette_agrees(label, common):
      if not palette_matches and all(each.has_equal_channels for each in as_colors.values()):
        return 'channels', {path: each.in_encoding('channels') for path, each in labels.items()}
      return 'colors', as_colors
    common |= {value: label.palette[value] for value in label.counts if value < len(label.palette)}
  return 'ids', dict(labels)


def palette_agrees(label: LabelStats, colors: Mapping[int, tuple[int, int, int]]) -> bool:
  """Returns whether a palette gives the ids in its image these colors, where both have one."""
  own = dict(enumerate(label.palette))
  return all(colors.get(value, own.get(value)) == own.get(value) for value in label.counts)


def value_to_id(spec: LabelSpec, encoding: str) -> dict[int, int]:
  """Returns the class id, or 255, of every valid value of `LabelStats.counts`."""
  if encoding == 'colors':
    return {pack_color(color): index for color, index in spec.color_to_id.items()}
  ids = spec.raw_ids or range(spec.num_classes)
  void = dict.fromkeys((*spec.void, IGNORE), IGNORE)
  return void | {value: index for index, value in enumerate(ids)}


def class_pixels(label: LabelStats, spec: LabelSpec, encoding: str) -> np.ndarray:
  """Counts the pixels of each class in a label image: int64 (C,)."""
  ids, counts = value_to_id(spec, encoding), np.zeros(IGNORE + 1, np.int64)
  for value, count in label.counts.items():
    counts[ids.get(value, IGNORE)] += count
  return counts[: spec.num_classes]


def label_counts(label: LabelStats, spec: LabelSpec, encoding: str) -> LabelCounts:
  """Counts the pixels of a label image, also the ignored ones."""
  height, width = label.shape
  return LabelCounts.from_pixels(class_pixels(label, spec, encoding), height * width)


def invalid_labels(labels: Mapping[str, LabelStats], spec: LabelSpec, encoding: str) -> list[str]:
  """Returns a message for each label image that has values of no class."""
  valid, messages = value_to_id(spec, encoding).keys(), []
  for path, label in labels.items():
    invalid = sorted(set(label.counts) - valid)
    if invalid:
      values = [f'#{value:06x}' if encoding == 'colors' else str(value) for value in invalid[:4]]
      values += ['...'] * (len(invalid) > 4)
      messages.append(
        f'{path}: has {", ".join(values)}, which belong to no class of {CLASSES_FILE}'
      )
  return messages

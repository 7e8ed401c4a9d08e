"""Finds the encoding of the labels of a data set, and the labels that have another one."""

import collections
from collections.abc import Iterator, Mapping
import dataclasses

from dilated_jax.data.audit.findings import Issue
from dilated_jax.data.folder.classes import NAME, understand
from dilated_jax.data.folder.classes_file import StatedClasses
from dilated_jax.data.folder.encoding import class_pixels, palette_agrees, value_to_id
from dilated_jax.data.folder.label_stats import LabelStats
from dilated_jax.errors import InputError
from dilated_jax.label_spec import LabelSpec


@dataclasses.dataclass(frozen=True)
class LabelEncoding:
  """How the labels of a data set are encoded.

  Attributes:
    spec: classes; None if they can't be found.
    encoding: one of `folder.encoding.ENCODINGS`.
    inferred: whether the classes were inferred from the labels.
    description: all this in a sentence.
    labels: values of each label by file, without labels of another encoding.
  """

  spec: LabelSpec | None
  encoding: str
  inferred: bool
  description: str
  labels: Mapping[str, LabelStats]


def match_encoding(
  labels: Mapping[str, LabelStats], spec: LabelSpec
) -> tuple[LabelEncoding, list[Issue]]:
  """Chooses the encoding that makes most labels valid, given the classes of the data set.

  Args:
    labels: values of each label by file.
    spec: classes of the data set.

  Returns:
    the encoding, and issues of labels that have another one.
  """
  options = [('ids', spec, 'ids of the label files' if spec.raw_ids else 'class ids')]
  if spec.raw_ids:
    options.append(('ids', dataclasses.replace(spec, raw_ids=(), void=()), 'class ids'))
  # As `detect_encoding` reads a folder.
  if spec.name == NAME and all(label.has_equal_channels for label in labels.values()):
    options = [('channels', spec, 'class ids in three equal channels')]
  if spec.name != NAME:
    options.append(('colors', spec, 'colors'))

  def rank(option):
    encoding, spec, _ = option
    suited = [label.in_encoding(encoding) for label in labels.values() if _suits(label, encoding)]
    valid = value_to_id(spec, encoding).keys()
    valid_labels = sum(set(label.counts) <= valid for label in suited)
    # Class ids can be valid as raw ids, too: then most of them would be void, not classes.
    pixels = sum(int(class_pixels(label, spec, encoding).sum()) for label in suited)
    return valid_labels, len(suited), pixels

  encoding, spec, words = max(options, key=rank)
  issues, matching = _separate(labels, encoding)
  description = f'labels: {words} of {spec.name}' if spec.name != NAME else f'labels: {words}'
  return LabelEncoding(spec, encoding, False, description, matching), issues


def infer_encoding(
  labels: Mapping[str, LabelStats], stated: StatedClasses, root
) -> tuple[LabelEncoding, list[Issue]]:
  """Infers encoding and classes as `folder.scan` does, from all labels of the usual kind.

  Args:
    labels: values of each label by file.
    stated: classes that are known already.
    root: folder of `classes.json`, for messages.

  Returns:
    the encoding, and issues of labels that have another one.
  """
  modes = collections.Counter(label.mode for label in labels.values())
  as_colors = 2 * modes['colors'] > len(labels) or (modes['colors'] and not modes['gray'])
  issues, matching = _separate(labels, 'colors' if as_colors else 'ids')
  matching = {file: labels[file] for file in matching}
  try:
    spec, encoding, matching, notes, rare, thin = understand(matching, stated, root)
  except InputError as error:
    issues.append(Issue('labels not understood', 'labels', str(error)))
    encoding = 'colors' if as_colors else 'ids'
    return LabelEncoding(None, encoding, True, 'labels: not understood', matching), issues
  for kind, found in (('value in one file only', rare), ('stray value', thin)):
    for value, file in found:
      text = f'#{value:06x}' if encoding == 'colors' else str(value)
      detail = f'{text} on {matching[file].counts[value]} of {sum(matching[file].counts.values())}'
      issues.append(Issue(kind, file, f'{detail} pixels'))
  return LabelEncoding(spec, encoding, True, '; '.join(notes), matching), issues


def _suits(label: LabelStats, encoding: str) -> bool:
  """Returns whether a label can have this encoding."""
  return label.mode != ('colors' if encoding == 'ids' else 'gray')


def _separate(labels, encoding) -> tuple[list[Issue], dict[str, LabelStats]]:
  """Returns issues of labels with another encoding, and the other labels."""
  issues = []
  for file, label in labels.items():
    if not _suits(label, encoding):
      if encoding == 'colors':
        issues.append(Issue('ids among color masks', file, f'mode {label.mode}'))
      elif label.has_equal_channels:
        issues.append(Issue('three equal channels', file, 'RGB with three equal channels'))
      else:
        issues.append(Issue('color mask among ids', file, f'RGB, {len(label.counts)} colors'))
  if encoding == 'ids':
    issues += _check_palettes(labels)
  return issues, {
    file: label.in_encoding(encoding) for file, label in labels.items() if _suits(label, encoding)
  }


def _check_palettes(labels) -> Iterator[Issue]:
  """Finds labels whose palette gives their ids other colors than most palettes do."""
  with_palette = {file: label for file, label in labels.items() if label.mode == 'palette'}
  occurrences = collections.Counter(
    (value, label.palette[value])
    for label in with_palette.values()
    for value in label.counts
    if value < len(label.palette)
  )
  usual = {}
  for (value, color), _ in occurrences.most_common():
    usual.setdefault(value, color)
  odd = [file for file, label in with_palette.items() if not palette_agrees(label, usual)]
  if 2 * len(odd) < len(with_palette):
    for file in odd:
      yield Issue('different palette', file, 'its palette differs from those of the other labels')

"""Formats the report of an audit: a table, JSON, and an image of examples."""

import collections
from collections.abc import Iterator
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dilated_jax.data.audit.findings import SEVERITIES, Finding
from dilated_jax.images.visualization import image_grid

MAX_ISSUES = 3  # Issues of each kind in the table.
MAX_ROWS = 16  # Rows of the image of examples, at most two of each kind.
_CELL = (240, 180)  # Width and height of an example in pixels.
_INVALID_COLOR = (255, 0, 255)
_FONT_SIZE = 14


def format_table(report) -> str:
  """Formats a report for a terminal: number of images, classes, findings."""
  lines = [_summary(report), report.encoding_description, '']
  if report.counts:
    lines += [*_class_table(report), '']
  for finding in report.findings:
    count = len(finding.issues)
    title = f'{finding.kind} ({count}): {finding.advice}'
    indent = f'{finding.severity:8} '
    lines += textwrap.wrap(title, 100, initial_indent=indent, subsequent_indent=' ' * len(indent))
    for issue in finding.issues[:MAX_ISSUES]:
      lines.append(f'         {issue.file}: {issue.detail}')
    if count > MAX_ISSUES:
      lines.append(f'         ... and {count - MAX_ISSUES} more')
  counts = collections.Counter(finding.severity for finding in report.findings)
  totals = ', '.join(
    f'{counts[severity]} {severity}{"s" * (counts[severity] != 1)}' for severity in SEVERITIES
  )
  lines.append(f'{"valid" if report.valid else "INVALID"}: {totals}')
  return '\n'.join(lines)


def to_json(report) -> dict:
  """Returns a dict for a JSON file: all issues of every finding, pixel counts and class weights."""
  names = report.spec.names if report.spec else ()
  return {
    'valid': report.valid,
    'images': len(report.pairs),
    'splits': {str(split): count for split, count in _count_splits(report).items()},
    'sizes': {f'{w}x{h}': count for (h, w), count in _count_sizes(report).most_common()},
    'labels': report.encoding_description,
    'classes': names,
    'values': {_format_value(value, report): count for value, count in report.values.items()},
    'pixels': {
      str(split): dict(zip(names, count.pixels.tolist(), strict=True))
      for split, count in report.counts.items()
    },
    'ignored': {str(split): count.ignored for split, count in report.counts.items()},
    'class_weights': {
      kind: dict(zip(names, np.round(weights, 4).tolist(), strict=True))
      for kind, weights in report.class_weights.items()
    },
    'findings': [_finding_to_json(finding) for finding in report.findings],
  }


def _finding_to_json(finding: Finding) -> dict:
  return {
    'severity': finding.severity,
    'kind': finding.kind,
    'advice': finding.advice,
    'issues': [{'file': issue.file, 'detail': issue.detail} for issue in finding.issues],
  }


def draw_examples(report) -> np.ndarray | None:
  """Draws examples of the findings: image, label, and a description of the issue.

  Args:
    report: report of an audit.

  Returns:
    (H, W, 3) uint8; None if no finding can be shown.
  """
  rows = []
  for finding in report.findings:
    for issue in finding.issues[:2]:
      cells = list(_example_cells(report, issue)) if len(rows) < MAX_ROWS else []
      if cells:
        title = f'{finding.severity}: {finding.kind}'
        text = '\n'.join([title, issue.file, issue.detail, finding.advice])
        rows.append([*cells, _text_cell(text)])
  titles = 'image', 'label, or other image or label', ''
  return image_grid(rows, titles, side=1) if rows else None


def _example_cells(report, issue) -> Iterator[np.ndarray]:
  """Yields the example files of an issue, or the image and label of its file."""
  for file in issue.examples or (issue.file,):
    pair = next((pair for pair in report.pairs if file in (pair.image, pair.label)), None)
    if pair is None:
      return
    image, values = report.read(pair)
    label = None if values is None else _color_label(values, pair.label_stats, report)
    if not issue.examples:
      yield from (_image_cell(image), _image_cell(label))
    else:
      yield _image_cell(image if file == pair.image else label)


def _color_label(values, label_stats, report):
  """Draws a label in the colors of its classes, or a color mask as it is."""
  if label_stats.mode == 'palette' and (report.encoding != 'ids' or not report.spec):
    return np.array([*label_stats.palette, *[(0, 0, 0)] * 256], np.uint8)[values]
  if label_stats.mode == 'colors' and report.encoding != 'channels':
    return np.stack([values >> 16, values >> 8 & 255, values & 255], -1).astype(np.uint8)
  if not report.spec:
    return np.repeat(values[..., None].astype(np.uint8), 3, -1)
  ids, palette = report.value_to_id, [*report.spec.palette, *[(0, 0, 0)] * 256]
  unique, inverse = np.unique(values & 255, return_inverse=True)
  colors = [palette[ids[value]] if value in ids else _INVALID_COLOR for value in unique.tolist()]
  return np.array(colors, np.uint8)[inverse.reshape(values.shape)]


def _image_cell(image):
  """Scales an image to the size of a cell; draws a gray cell if there is no image."""
  if image is None:
    return np.full((*_CELL[::-1], 3), 200, np.uint8)
  height, width = image.shape[:2]
  scale = min(_CELL[0] / width, _CELL[1] / height)
  size = max(1, round(width * scale)), max(1, round(height * scale))
  resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
  return np.asarray(Image.fromarray(image).resize(size, resampling))


def _text_cell(text):
  font = ImageFont.load_default(size=_FONT_SIZE)
  lines = [line for part in text.split('\n') for line in textwrap.wrap(part, 60) or ['']]
  height = max(_CELL[1], (len(lines) + 1) * _FONT_SIZE * 4 // 3)
  cell = Image.new('RGB', (480, height), 'white')
  ImageDraw.Draw(cell).multiline_text((4, 2), '\n'.join(lines), 'black', font)
  return np.asarray(cell)


def _count_splits(report) -> collections.Counter:
  return collections.Counter(pair.split for pair in report.pairs)


def _count_sizes(report) -> collections.Counter:
  return collections.Counter(pair.shape for pair in report.pairs if pair.shape)


def _summary(report) -> str:
  counts = ', '.join(f'{count} {split}' for split, count in _count_splits(report).items() if split)
  sizes = _count_sizes(report)
  shapes = [f'{width}x{height}' for (height, width), _ in sizes.most_common(3)]
  more = f' and {len(sizes) - 3} more' if len(sizes) > 3 else ''
  return f'{len(report.pairs)} pairs{f" ({counts})" if counts else ""}; {", ".join(shapes)}{more}'


def _class_table(report) -> Iterator[str]:
  """Yields the lines of a table: share of each class in each split, and class weights."""
  names = [*report.spec.names, 'ignored']
  width = max(map(len, names)) + 2
  head = [str(split or 'all') for split in report.counts] + list(report.class_weights)
  yield ' ' * width + ''.join(f'{title:>10}' for title in head)
  for index, name in enumerate(names):
    ignored = index == len(report.spec.names)
    cells = [
      f'{(count.ignored if ignored else count.pixels[index]) / max(count.total, 1):.2%}'
      for count in report.counts.values()
    ]
    if not ignored:
      cells += [f'{weights[index]:.3f}' for weights in report.class_weights.values()]
    yield f'{name:{width}}' + ''.join(f'{cell:>10}' for cell in cells)


def _format_value(value, report) -> str:
  return f'#{value:06x}' if report.encoding == 'colors' else str(value)

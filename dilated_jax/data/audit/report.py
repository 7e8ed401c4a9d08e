"""An audit's report for people: a table, JSON, and a sheet of the worst cases."""

import collections
from collections.abc import Iterator
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dilated_jax.data.audit.findings import SEVERITIES, Finding
from dilated_jax.images import visualization

SHOWN = 3  # Faults of a kind in the table.
ROWS = 16  # Of the sheet, two of a kind at most.
_BOX = (240, 180)  # Width and height of a picture on the sheet.
_STRANGE = (255, 0, 255)  # What is no class.
_LETTERS = 14


def table(report) -> str:
  """Sets a report for a terminal: what is there, the classes, and what was found."""
  lines = [_pictures(report), report.how, '']
  if report.counts:
    lines += [*_classes(report), '']
  for finding in report.findings:
    count = len(finding.faults)
    lines += _wrapped(f'{finding.kind} ({count}): {finding.advice}', f'{finding.severity:8} ')
    for fault in finding.faults[:SHOWN]:
      lines.append(f'         {fault.file}: {fault.found}')
    if count > SHOWN:
      lines.append(f'         ... and {count - SHOWN} more')
  numbers = collections.Counter(finding.severity for finding in report.findings)
  kinds = ', '.join(
    f'{numbers[severity]} {severity}{"s" * (numbers[severity] != 1)}' for severity in SEVERITIES
  )
  lines.append(f'{"valid" if report.valid else "NOT LEGAL"}: {kinds}')
  return '\n'.join(lines)


def content(report) -> dict:
  """Packs a report for JSON: all faults of every finding, counts, shares and weights."""
  names = report.classes.names if report.classes else ()
  return {
    'valid': report.valid,
    'pictures': len(report.pairs),
    'splits': {str(split): count for split, count in _splits(report).items()},
    'sizes': {f'{w}x{h}': count for (h, w), count in _sizes(report).most_common()},
    'labels': report.how,
    'classes': names,
    'values': {_value(value, report): count for value, count in report.values.items()},
    'pixels': {
      str(split): dict(zip(names, count.pixels.tolist(), strict=True))
      for split, count in report.counts.items()
    },
    'ignored': {str(split): count.ignored for split, count in report.counts.items()},
    'class_weights': {
      kind: dict(zip(names, np.round(weights, 4).tolist(), strict=True))
      for kind, weights in report.weights.items()
    },
    'findings': [_finding(finding) for finding in report.findings],
  }


def _finding(finding: Finding) -> dict:
  return {
    'severity': finding.severity,
    'kind': finding.kind,
    'advice': finding.advice,
    'files': [{'file': fault.file, 'found': fault.found} for fault in finding.faults],
  }


def image_grid(report) -> np.ndarray | None:
  """Draws the worst cases: picture, label, and what was found.

  Args:
    report: of an audit.

  Returns:
    (H, W, 3) uint8; None if there is nothing to show.
  """
  rows = []
  for finding in report.findings:
    for fault in finding.faults[:2]:
      cells = list(_cells(report, fault)) if len(rows) < ROWS else []
      if cells:
        text = f'{finding.severity}: {finding.kind}\n{fault.file}\n{fault.found}\n{finding.advice}'
        rows.append([*cells, _text(text)])
  titles = 'picture', 'label, or the other of two', ''
  return visualization.image_grid(rows, titles, side=1) if rows else None


def _cells(report, fault) -> Iterator[np.ndarray]:
  """The files that a fault shows, or the picture and label of its file."""
  for place in fault.shown or (fault.file,):
    pair = next((pair for pair in report.pairs if place in (pair.image, pair.label)), None)
    if pair is None:
      return
    image, codes = report.read(pair)
    label = None if codes is None else _painted(codes, pair.stored, report)
    if not fault.shown:
      yield from (_fitted(image), _fitted(label))
    else:
      yield _fitted(image if place == pair.image else label)


def _painted(codes, stored, report):
  """A label in the colors of its classes; a color mask as it is."""
  if stored.form == 'palette' and (report.form == 'colors' or not report.classes):
    return np.array([*stored.palette, *[(0, 0, 0)] * 256], np.uint8)[codes]
  if stored.form == 'colors' and report.form != 'channels':
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1).astype(np.uint8)
  if not report.classes:
    return np.repeat(codes[..., None].astype(np.uint8), 3, -1)
  valid, palette = report.valid_values, [*report.classes.palette, *[(0, 0, 0)] * 256]
  values, places = np.unique(codes & 255, return_inverse=True)
  colors = [_STRANGE if value not in valid else palette[valid[value]] for value in values.tolist()]
  return np.array(colors, np.uint8)[places.reshape(codes.shape)]


def _fitted(image):
  """A picture in a box of one size for all; gray where there is none."""
  if image is None:
    return np.full((*_BOX[::-1], 3), 200, np.uint8)
  height, width = image.shape[:2]
  scale = min(_BOX[0] / width, _BOX[1] / height)
  size = max(1, round(width * scale)), max(1, round(height * scale))
  way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
  return np.asarray(Image.fromarray(image).resize(size, way))


def _text(text):
  font = ImageFont.load_default(size=_LETTERS)
  lines = [line for part in text.split('\n') for line in textwrap.wrap(part, 60) or ['']]
  box = Image.new('RGB', (480, max(_BOX[1], (len(lines) + 1) * _LETTERS * 4 // 3)), 'white')
  ImageDraw.Draw(box).multiline_text((4, 2), '\n'.join(lines), 'black', font)
  return np.asarray(box)


def _splits(report) -> dict:
  return collections.Counter(pair.split for pair in report.pairs)


def _sizes(report) -> collections.Counter:
  return collections.Counter(pair.shape for pair in report.pairs if pair.shape)


def _pictures(report) -> str:
  counts = ', '.join(f'{count} {split}' for split, count in _splits(report).items() if split)
  sizes = _sizes(report)
  shapes = [f'{width}x{height}' for (height, width), _ in sizes.most_common(3)]
  more = f' and {len(sizes) - 3} more' if len(sizes) > 3 else ''
  return f'{len(report.pairs)} pairs{f" ({counts})" if counts else ""}; {", ".join(shapes)}{more}'


def _classes(report) -> Iterator[str]:
  """Shares of the classes by split, and class weights."""
  names = [*report.classes.names, 'ignored']
  width = max(map(len, names)) + 2
  head = [str(split or 'all') for split in report.counts] + list(report.weights)
  yield ' ' * width + ''.join(f'{title:>10}' for title in head)
  for index, name in enumerate(names):
    cells = [
      f'{(count.ignored if name == "ignored" else count.pixels[index]) / max(count.total, 1):.2%}'
      for count in report.counts.values()
    ]
    if index < len(names) - 1:
      cells += [f'{weights[index]:.3f}' for weights in report.weights.values()]
    yield f'{name:{width}}' + ''.join(f'{cell:>10}' for cell in cells)


def _wrapped(text, head):
  return textwrap.wrap(text, 100, initial_indent=head, subsequent_indent=' ' * len(head))


def _value(value, report) -> str:
  return f'#{value:06x}' if report.form == 'colors' else str(value)

"""Matrices of numbers as tables and pictures of shaded cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math

from .markup import Content, Markup, element
from .page import number, scrolling

_SHADES = 10  # h1 is little, h10 is full.
_ROOM = 336  # Width that a picture takes where its columns can be that narrow.
_FITS = 480  # Width of a picture that is scaled down for a phone; wider ones are moved.


def shade(value: float | None) -> str | None:
  """The class of a cell for a value of 0 to 1."""
  if value is None or math.isnan(value) or value <= 0:
    return None
  return f'h{max(1, min(_SHADES, math.ceil(value * _SHADES)))}'


def matrix(
  rows: Sequence[Content],
  columns: Sequence[Content],
  values: Sequence[Sequence[float | None]],
  *,
  caption: str,
  corner: str,
  show: Callable[[float | None], str],
) -> Markup:
  """A table of shaded numbers of 0 to 1."""
  head = [element('th', corner, scope='col')]
  head += [element('th', element('span', each), scope='col', class_='upright') for each in columns]
  body = [
    element(
      'tr',
      element('th', name, scope='row'),
      [element('td', show(value), class_=shade(value)) for value in line],
    )
    for name, line in zip(rows, values, strict=True)
  ]
  content = element(
    'table',
    element('caption', caption, class_='unseen'),
    element('thead', element('tr', head)),
    element('tbody', body),
    class_='heat',
  )
  return scrolling(content, caption)


def picture(
  title: str,
  rows: Sequence[str],
  columns: Sequence[str],
  values: Sequence[Sequence[float | None]],
  *,
  column_title: str,
  log: bool = False,
  show: Callable[[float | None], str] = number,
) -> Markup | None:
  """A figure of shaded cells, for more of them than a table could hold.

  Args:
    title: what is drawn.
    rows: names of the rows.
    columns: names of the columns.
    values: by row and column; None is left blank.
    column_title: what the columns are.
    log: whether shades follow the logarithm.
    show: how a value is written.
  """
  found = [v for line in values for v in line if v is not None and (v > 0 if log else v == v)]
  if not found:
    return None
  low, high = (min(found), max(found)) if log else (0.0, max(found))

  def share(value: float | None) -> float | None:
    if value is None or (log and value <= 0):
      return None
    if not log:
      return value / high if high else 0.0
    return 1.0 if low == high else 0.08 + 0.92 * math.log(value / low) / math.log(high / low)

  left, cell = 8 + 6.6 * max(map(len, rows)), 15
  width = max(24.0, min(44.0, (_ROOM - left) / len(columns)))
  parts = []
  for row, (name, line) in enumerate(zip(rows, values, strict=True)):
    y = row * cell
    parts.append(element('text', name, x=left - 6, y=y + 11, class_='tick end'))
    for column, value in enumerate(line):
      if kind := shade(share(value)):
        parts.append(
          element(
            'rect',
            element('title', f'{name}, {columns[column]}: {show(value)}'),
            x=round(left + column * width, 1), y=y, width=round(width - 1, 1), height=cell - 1,
            class_=kind,
          )
        )  # fmt: skip
  bottom, every = len(rows) * cell, max(1, math.ceil(40 / width))
  for column in range(0, len(columns), every):
    x = left + (column + 0.5) * width
    parts.append(element('text', columns[column], x=x, y=bottom + 14, class_='tick middle'))
  total = left + len(columns) * width
  middle = left + len(columns) * width / 2
  parts.append(element('text', column_title, x=middle, y=bottom + 30, class_='tick middle'))
  drawing = element(
    'svg', element('title', title), parts, viewBox=f'0 0 {total:g} {bottom + 36:g}', role='img',
    class_='heat' if total <= _FITS else 'heat wide', width=round(total), height=bottom + 36,
  )  # fmt: skip
  shades = element(
    'p', f'{show(low)} ',
    [element('svg', element('rect', width=12, height=12, class_=f'h{n}'), viewBox='0 0 12 12',
             class_='swatch', aria_hidden='true') for n in range(1, _SHADES + 1)],
    f' {show(high)}', class_='note',
  )  # fmt: skip
  return element('figure', element('figcaption', title), scrolling(drawing, title), shades)

"""Line charts as inline SVG, with their numbers beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import scales
from .markup import Markup, element
from .page import details, number, percent, table

# In units of the drawing, which is as wide as its figure.
_WIDTH, _HEIGHT = 400, 224
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 12, 38  # At the left, seven characters of a tick.
_MOST_POINTS, _MOST_DOTS, _MOST_ROWS = 400, 60, 100
_SMALLEST, _LARGEST = 1e-200, 1e200


class Series(NamedTuple):
  """One line of a chart.

  Attributes:
    name: of the line.
    points: (x, y) in the order of x; y None or not finite leaves a gap.
    style: classes that color it, s0 to s7, or o0 to o9 for what has an order; d0 to d3 dash it.
  """

  name: str
  points: Sequence[tuple[float, float | None]]
  style: str = 's0'


def line_chart(
  title: str,
  series: Sequence[Series],
  *,
  x: str,
  log: bool | None = None,
  zero: bool = True,
  show: Callable[[float | None], str] = number,
  x_scale: scales.Scale | None = None,
) -> Markup | None:
  """A figure of lines; None where there is no number to draw.

  Args:
    title: what is drawn, with its unit.
    series: the lines.
    x: what lies along the horizontal axis.
    log: whether the vertical axis is logarithmic; None: where values span a factor of 50.
    zero: whether a linear one starts at 0.
    show: how a value is written.
    x_scale: the horizontal axis, where it is not to be found from the values.
  """
  series = [each._replace(points=_finite(each.points)) for each in series]
  series = [each for each in series if each.points]
  if not series:
    return None
  ys = [y for each in series for _, y in each.points]
  positive = [y for y in ys if y > 0]
  if log is None:
    log = len(positive) == len(ys) and max(ys) > 50 * min(ys)
  log = log and bool(positive)
  y_scale = scales.logarithmic(positive) if log else scales.linear(ys, zero=zero)
  x_scale = x_scale or scales.linear([x for each in series for x, _ in each.points], tight=True)
  names = [each.name for each in series if each.name]
  drawing = element(
    'svg',
    element('title', f'{title}{": " * bool(names)}{", ".join(names)}'),
    _axes(x_scale, y_scale, x, show),
    [_line(each, x_scale, y_scale, show) for each in series],
    viewBox=f'0 0 {_WIDTH} {_HEIGHT}', role='img', class_='chart',
  )  # fmt: skip
  legend = [element('li', _key(each), each.name) for each in series]
  return element(
    'figure',
    element('figcaption', title),
    drawing,
    element('ul', legend, class_='legend') if len(series) > 1 else None,
    details('Numbers', _numbers(title, series, x, show)),
  )


def thin(items: Sequence, most: int) -> list:
  """At most so many of the items, spread evenly, the first and the last among them."""
  if len(items) <= most:
    return list(items)
  return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _finite(points) -> list[tuple[float, float]]:
  """Those that can be drawn: differences of numbers near 1e308 overflow."""
  return [
    (x, 0.0 if abs(y) < _SMALLEST else y)
    for x, y in points
    if y is not None and abs(y) < _LARGEST and abs(x) < _LARGEST
  ]


def _place(x_scale, y_scale, x, y) -> tuple[float, float]:
  across = _LEFT + x_scale.at(x) * (_WIDTH - _LEFT - _RIGHT)
  return round(across, 1), round(_HEIGHT - _BOTTOM - y_scale.at(y) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _axes(x_scale, y_scale, x: str, show) -> list[Markup]:
  """Lines and numbers of both axes."""
  bottom, parts = _HEIGHT - _BOTTOM, []
  factor = 100 if show is percent else 1
  for tick in y_scale.ticks:
    _, y = _place(x_scale, y_scale, x_scale.low, tick)
    parts.append(element('line', x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_='rule'))
    parts.append(
      element('text', scales.text(factor * tick), x=_LEFT - 6, y=y + 4, class_='tick end')
    )
  for tick in x_scale.ticks:
    across, _ = _place(x_scale, y_scale, tick, y_scale.low)
    parts.append(element('line', x1=across, x2=across, y1=bottom, y2=bottom + 4, class_='rule'))
    parts.append(element('text', scales.text(tick), x=across, y=bottom + 17, class_='tick middle'))
  middle = (_LEFT + _WIDTH - _RIGHT) / 2
  parts.append(element('text', x, x=middle, y=_HEIGHT - 5, class_='tick middle'))
  return parts


def _line(series: Series, x_scale, y_scale, show) -> Markup:
  """A line; of many points the means of neighbors, in a band of their extremes."""
  points, band = list(series.points), None
  if len(points) > _MOST_POINTS:
    size = -(-len(points) // (_MOST_POINTS // 2))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    middle = [sum(x for x, _ in group) / len(group) for group in groups]
    low, high = ([pick(y for _, y in group) for group in groups] for pick in (min, max))
    edge = [*zip(middle, high, strict=True), *zip(middle[::-1], low[::-1], strict=True)]
    band = element('polygon', points=_path(edge, x_scale, y_scale), class_=f'band {series.style}')
    points = [
      (x, sum(y for _, y in group) / len(group)) for x, group in zip(middle, groups, strict=True)
    ]
  dots = []
  for x, y in thin(points, _MOST_DOTS) if band is None else ():
    across, down = _place(x_scale, y_scale, x, y)
    text = f'{series.name}{", " * bool(series.name)}{number(x)}: {show(y)}'
    small = len(points) <= 16
    dots.append(
      element(
        'g',
        element('title', text),
        element('circle', cx=across, cy=down, r=3, class_=f'dot {series.style}') if small else None,
        element('circle', cx=across, cy=down, r=8, class_='aim'),
      )
    )
  line = element('polyline', points=_path(points, x_scale, y_scale), class_=f'line {series.style}')
  return element('g', band, line, dots)


def _path(points, x_scale, y_scale) -> str:
  return ' '.join('{},{}'.format(*_place(x_scale, y_scale, x, y)) for x, y in points)


def _key(series: Series) -> Markup:
  line = element('line', x1=0, x2=24, y1=5, y2=5, class_=f'line {series.style}')
  return element('svg', line, viewBox='0 0 24 10', class_='key', aria_hidden='true')


def _numbers(title: str, series: Sequence[Series], x: str, show) -> Markup:
  """The points as a table."""
  values = [dict(each.points) for each in series]
  all_x = thin(sorted({at for each in values for at in each}), _MOST_ROWS)
  rows = [(number(at), *(show(each[at]) if at in each else '' for each in values)) for at in all_x]
  head = [x, *(each.name or title for each in series)]
  return table(head, rows, caption=title)

"""Lines across an axis for each setting, as inline SVG: which settings go with which result."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple

from . import scales
from .markup import Markup, element

# In units of the drawing, which is as wide as its figure.
_WIDTH, _HEIGHT = 800, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 60, 34, 12
_MOST_LINES, _MOST_LABEL = 500, 18


class Line(NamedTuple):
  """One run.

  Attributes:
    name: of the run.
    values: its settings, a text for each axis; None where it has no such setting.
    result: what came out.
    rank: 0 for the best, 1 for the worst.
  """

  name: str
  values: Sequence[str | None]
  result: float
  rank: float


class _Axis(NamedTuple):
  """Where values lie along a vertical axis, 0 at the bottom and 1 at the top."""

  ticks: list[tuple[float, str]]
  places: dict[str, float]


def chart(title: str, names: Sequence[str], lines: Sequence[Line], result: str) -> Markup | None:
  """A figure with an axis for each setting and one for the result; None without lines.

  Args:
    title: what is drawn.
    names: of the settings.
    lines: the runs.
    result: what came out of them.
  """
  if not lines or not names:
    return None
  columns = [[line.values[index] for line in lines] for index in range(len(names))]
  axes = [_axis([value for value in column if value is not None]) for column in columns]
  last = scales.linear([line.result for line in lines])
  across = [
    round(_LEFT + index * (_WIDTH - _LEFT - _RIGHT) / len(names), 1)
    for index in range(len(names) + 1)
  ]
  parts = [_drawn(axis.ticks, x, name) for axis, x, name in zip(axes, across, names, strict=False)]
  parts.append(
    _drawn([(last.at(tick), scales.text(tick)) for tick in last.ticks], across[-1], result)
  )
  # The best are drawn last, above the others.
  for line in sorted(lines, key=lambda line: -line.rank)[-_MOST_LINES:]:
    points = [
      (x, axis.places[value])
      for axis, x, value in zip(axes, across, line.values, strict=False)
      if value is not None
    ]
    points.append((across[-1], last.at(line.result)))
    text = ', '.join(
      [f'{name} {value}' for name, value in zip(names, line.values, strict=True) if value]
    )
    parts.append(
      element(
        'g',
        element('title', f'{line.name}: {text}: {result} {line.result:.6g}'),
        element(
          'polyline', points=' '.join(f'{x},{_down(y)}' for x, y in points),
          class_=f'line o{min(9, round(9 * (1 - line.rank)))}',
        ),
      )
    )  # fmt: skip
  drawing = element(
    'svg', element('title', title), parts,
    viewBox=f'0 0 {_WIDTH} {_HEIGHT}', role='img', class_='chart',
  )  # fmt: skip
  return element('figure', element('figcaption', title), drawing, class_='wide')


def _axis(values: Sequence[str]) -> _Axis:
  """An axis of numbers where all values are numbers, else of names."""
  different = list(dict.fromkeys(values))
  numbers = {value: number for value in different if (number := _number(value)) is not None}
  if len(numbers) < len(different) or len(different) < 2:
    places = {
      value: (index + 0.5) / len(different) for index, value in enumerate(reversed(different))
    }
    return _Axis([(place, value) for value, place in places.items()], places)
  found = list(numbers.values())
  log = min(found) > 0 and max(found) >= 20 * min(found)
  scale = scales.logarithmic(found) if log else scales.linear(found)
  ticks = [(scale.at(tick), scales.text(tick)) for tick in scale.ticks]
  return _Axis(ticks, {value: scale.at(number) for value, number in numbers.items()})


def _number(text: str) -> float | None:
  try:
    value = float(text)
  except ValueError:
    return None
  return value if math.isfinite(value) else None


def _down(share: float) -> float:
  return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _drawn(ticks: Sequence[tuple[float, str]], x: float, name: str) -> list[Markup]:
  parts = [
    element('line', x1=x, x2=x, y1=_down(0), y2=_down(1), class_='rule'),
    element('text', _short(name), x=x, y=_TOP - 16, class_='tick middle'),
  ]
  for share, text in ticks:
    y = _down(share)
    parts.append(element('line', x1=x - 3, x2=x + 3, y1=y, y2=y, class_='rule'))
    parts.append(element('text', _short(text), x=x - 6, y=y + 4, class_='tick end'))
  return parts


def _short(text: str) -> str:
  return text if len(text) <= _MOST_LABEL else f'{text[: _MOST_LABEL - 1]}…'

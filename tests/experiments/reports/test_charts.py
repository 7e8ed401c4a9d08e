"""charts.py, scales.py and heat.py: where numbers lie, and that they can be read."""

import math
import re

import pytest

from experiments.reports import charts, heat, page, scales
from experiments.reports.charts import Series
from tests.html_pages import Page


@pytest.mark.parametrize(
  'values', [[3, 97], [0], [5], [-2, 7], [0.11, 0.13], [1e-7, 3e-7], [3e-14], [1e6, 9e6], []]
)
def test_linear_scales_hold_their_values_between_round_ticks(values):
  for options in ({}, {'zero': True}, {'tight': True}):
    scale = scales.linear(values, **options)
    assert (
      2 <= len(scale.ticks) <= 8 and scale.low <= min(values, default=0) and scale.low < scale.high
    )
    assert max(values, default=0) <= scale.high
    steps = {float(f'{b - a:.9g}') for a, b in zip(scale.ticks, scale.ticks[1:])}
    assert len(steps) == 1 and re.fullmatch(r'[125]e[+-]\d+', f'{steps.pop():.0e}')
    assert (scale.at(scale.low), scale.at(scale.high)) == (0, 1)
  assert scales.linear([3, 97], zero=True).low == 0 and scales.linear([-5, 9], zero=True).low < 0
  assert scales.linear([0, 900], tight=True).high == 900


def test_logarithmic_scales():
  assert scales.logarithmic([0.03, 40]).ticks == (0.01, 0.1, 1, 10, 100)
  assert scales.logarithmic([2, 30]).ticks == (2, 5, 10, 20, 50)
  scale = scales.logarithmic([1, 1e4])
  assert [round(scale.at(x), 9) for x in (1, 100, 1e4, 0, 1e9)] == [0, 0.5, 1, 0, 1]
  assert len(scales.logarithmic([1e-12, 1e12]).ticks) <= 8
  assert scales.logarithmic([7]).low < 7 < scales.logarithmic([7]).high


def test_how_ticks_are_written():
  written = [scales.text(x) for x in (0.0, 2.5, 1500.0, 25e4, 1e-4, 3e6, -20.0, 0.1 + 0.2)]
  assert written == ['0', '2.5', '1500', '250k', '1e-4', '3M', '-20', '0.3']
  small = [scales.text(tick) for tick in scales.linear([1e-5, 2.4e-4], zero=True).ticks]
  assert small == ['0', '5e-5', '1e-4', '1.5e-4', '2e-4', '2.5e-4']


def points_of(figure: str) -> list[list[tuple[float, float]]]:
  return [
    [tuple(map(float, pair.split(','))) for pair in found.split()]
    for found in re.findall(r'<polyline points="([^"]*)"', figure)
  ]


def test_a_line_goes_where_its_numbers_are():
  series = [Series('a', [(0, 0.0), (50, 5.0), (100, 10.0)]), Series('b', [(0, 10.0), (100, 0.0)])]
  figure = charts.line_chart('Loss', series, x='step', log=False)
  (a0, a1, a2), (b0, b2) = points_of(figure)
  assert a0[0] == b0[0] and a2[0] == b2[0] and a1[0] == pytest.approx((a0[0] + a2[0]) / 2)
  assert a0[1] == b2[1] > a1[1] > a2[1] == b0[1]
  found = Page(figure.encode())
  assert found.tables['Loss'] == [
    ['step', 'a', 'b'], ['0', '0', '10'], ['50', '5', ''], ['100', '10', '0'],
  ]  # fmt: skip
  assert 'a, 50: 5' in found.text  # Told where the mouse is.


def test_what_is_not_finite_is_left_out():
  series = [Series('a', [(0, math.nan), (1, 1.0), (2, None), (3, math.inf), (4, 2.0)])]
  figure = charts.line_chart('Loss', series, x='step')
  assert len(points_of(figure)[0]) == 2 and 'nan' not in figure and 'inf' not in figure
  assert charts.line_chart('Loss', [Series('a', [(0, None)])], x='step') is None


def test_many_points_become_a_band():
  values = [(step, float(step % 10)) for step in range(20_000)]
  figure = charts.line_chart('Loss', [Series('a', values)], x='step', log=False)
  (line,) = points_of(figure)
  assert len(line) <= 200 and figure.count('<polygon') == 1 and len(figure) < 40_000
  rows = Page(figure.encode()).tables['Loss']
  assert len(rows) == 101 and rows[1][0] == '0' and rows[-1][0] == f'{19_999:,}'


def test_wide_ranges_are_logarithmic():
  wide = [Series('', [(0, 1000.0), (1, 1.0)])]
  assert '>100<' in charts.line_chart('Loss', wide, x='step')
  assert '>100<' not in charts.line_chart('Loss', wide, x='step', log=False)


def test_shades():
  assert [heat.shade(x) for x in (None, math.nan, 0, 0.01, 0.55, 1, 2)] == [
    None, None, None, 'h1', 'h6', 'h10', 'h10',
  ]  # fmt: skip


def test_a_picture_tells_its_numbers():
  made = heat.picture(
    'IoU', ['a', 'b<'], ['1', '2'], [[0.5, None], [1.0, 0.0]], column_title='step',
    show=page.percent,
  )  # fmt: skip
  found = Page(made.encode())
  assert 'a, 1: 50.0' in found.text and 'b<, 1: 100.0' in found.text
  assert len(re.findall(r'<rect[^>]*><title>', made)) == 2  # Neither None nor 0.
  assert heat.picture('IoU', ['a'], ['1'], [[None]], column_title='step') is None

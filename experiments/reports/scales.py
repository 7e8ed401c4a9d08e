"""Axes: which numbers stand at them, and where a number lies along them."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple


class Scale(NamedTuple):
  """One axis of a chart.

  Attributes:
    low: number at its start.
    high: number at its end.
    ticks: numbers that are written at it.
    log: whether equal ratios are equally long.
  """

  low: float
  high: float
  ticks: tuple[float, ...]
  log: bool = False

  def at(self, value: float) -> float:
    """Where a number lies, 0 at the start and 1 at the end; beyond them it is moved to them."""
    low, high = self.low, self.high
    if self.log:
      low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
    return min(1.0, max(0.0, (value - low) / (high - low)))


def linear(
  values: Sequence[float], *, zero: bool = False, tight: bool = False, count: int = 5
) -> Scale:
  """A scale that holds all values, from one round number to another.

  Args:
    values: any finite numbers.
    zero: whether it starts at 0 where no value is below.
    tight: whether it ends at the largest value, and not at the next tick.
    count: about how many ticks.

  >>> linear([3, 97]).ticks
  (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)
  """
  low, high = (min(values), max(values)) if values else (0.0, 1.0)
  if zero and low > 0:
    low = 0.0
  if low == high:
    low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
  rough = (high - low) / count
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * 0.999)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  ticks = tuple(float(f'{index * step:.12g}') for index in range(first, last + 1))
  if tight:
    return Scale(ticks[0], high, tuple(tick for tick in ticks if tick <= high))
  return Scale(ticks[0], ticks[-1], ticks)


def logarithmic(values: Sequence[float]) -> Scale:
  """A scale of powers of ten that holds all values above 0; of less than two, with 2 and 5.

  >>> logarithmic([0.03, 40]).ticks
  (0.01, 0.1, 1.0, 10.0, 100.0)
  >>> logarithmic([2, 30]).ticks
  (2.0, 5.0, 10.0, 20.0, 50.0)
  """
  positive = [value for value in values if value > 0]
  low, high = (min(positive), max(positive)) if positive else (0.1, 1.0)
  if low == high:
    low, high = low / 2, high * 2
  first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
  if last - first > 2:
    step = -(-(last - first) // 6)
    ticks = tuple(10.0**power for power in range(first, last + step, step))
  else:
    near = [m * 10.0**power for power in range(first, last + 1) for m in (1, 2, 5)]
    start = max(tick for tick in near if tick <= low * 1.000001)
    end = min(tick for tick in near if tick >= high * 0.999999)
    ticks = tuple(tick for tick in near if start <= tick <= end)
  return Scale(ticks[0], ticks[-1], tuple(float(f'{tick:.6g}') for tick in ticks), log=True)


def at_values(values: Sequence[float]) -> Scale:
  """A logarithmic scale with a tick at each value, as of widths that double."""
  return Scale(values[0], values[-1], tuple(values), log=True)


def text(tick: float) -> str:
  """How a tick is written.

  >>> [text(tick) for tick in (0.0, 2.5, 1500.0, 250000.0, 0.0001, 0.00015)]
  ['0', '2.5', '1500', '250k', '1e-4', '1.5e-4']
  """
  if tick and abs(tick) < 1e-3:
    mantissa, _, power = f'{tick:.5e}'.partition('e')
    return f'{float(mantissa):g}e{int(power)}'
  for limit, unit in ((1e9, 'G'), (1e6, 'M'), (1e4, 'k')):
    if abs(tick) >= limit:
      size = {'G': 1e9, 'M': 1e6, 'k': 1e3}[unit]
      return f'{tick / size:g}{unit}'
  return f'{tick:.6g}'

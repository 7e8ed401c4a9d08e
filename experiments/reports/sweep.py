"""The page of a sweep: its table, which settings matter, and the pages of its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import pathlib
from typing import Protocol

from absl import logging

from dilated_jax.files import write_atomic

from . import page, parallel_coordinates
from .charts import Series, line_chart
from .markup import Markup, element

_MOST_CURVES = 60


class Trial(Protocol):
  """What the page needs to know of a trial, see `sweeps.study.Trial`."""

  number: int
  state: str
  value: float | None
  flags: dict[str, str]
  reports: dict[int, float]
  reason: str


def write(workdir, trials: Sequence, metric: str, direction: str, importance: Mapping) -> None:
  """Writes report.html into the workdir of a sweep; where it can't, a warning says so.

  Args:
    workdir: of the sweep.
    trials: the best first.
    metric: what was measured.
    direction: 'maximize' or 'minimize'.
    importance: of each setting, see `sweeps.study.Study.importance`.
  """
  path = pathlib.Path(workdir) / 'report.html'
  try:
    write_atomic(path, render(path.parent, trials, metric, direction, importance))
  except Exception as error:  # A page is no reason to lose what it is about.
    kind = type(error).__name__
    logging.warning('%s: this page could not be written (%s: %s)', path, kind, error)


def render(
  workdir: pathlib.Path, trials: Sequence, metric: str, direction: str, importance: Mapping
) -> bytes:
  """The page of a sweep."""
  names = list(dict.fromkeys(name for each in trials for name in each.flags))
  complete = [each for each in trials if each.state == 'complete']
  sections = [page.section('Trials', _table(workdir, trials, names, metric))]
  lines = [
    parallel_coordinates.Line(
      f'{each.number:04}', [each.flags.get(name) for name in names], each.value,
      index / max(1, len(complete) - 1),
    )
    for index, each in enumerate(complete)
  ]  # fmt: skip
  if drawn := parallel_coordinates.chart('Settings and results', names, lines, metric):
    remark = page.note('A line for each trial that was finished, the best ones on top.')
    sections.append(page.section('Settings', drawn, remark))
  if importance:
    sections.append(page.section('Importance', _importance(importance)))
  if curves := _curves(trials, metric):
    sections.append(page.section('Curves', curves))
  if failed := [each for each in trials if each.state == 'failed']:
    rows = [(f'{each.number:04}', each.reason) for each in failed]
    told = page.table(['trial', 'reason'], rows, caption='Trials that failed', words=2)
    sections.append(page.section('Failed', told))
  lead = [element('p', _lead(trials))]
  if complete:
    best = complete[0]
    settings = ', '.join(f'{name} {_short(value)}' for name, value in best.flags.items())
    lead.append(page.tiles([(f'best {metric}', page.number(best.value), settings)]))
  return page.page(f'Sweep: {"/".join(workdir.resolve().parts[-2:])}', lead, sections)


def _lead(trials: Sequence) -> str:
  counts = {
    state: sum(each.state == state for each in trials)
    for state in ('complete', 'pruned', 'failed', 'running')
  }
  told = [f'{count:,} {state}' for state, count in counts.items() if count]
  return f'{len(trials):,} trials: {", ".join(told)}'


def _table(workdir: pathlib.Path, trials: Sequence, names, metric: str) -> Markup:
  rows = []
  for each in trials:
    name, link = f'{each.number:04}', f'trials/{each.number:04}/report.html'
    if not (workdir / link).exists():
      link = f'trials/{each.number:04}/scores.html'
    head = element('a', name, href=link) if (workdir / link).exists() else name
    settings = (_short(each.flags.get(flag, '–')) for flag in names)
    rows.append((head, *settings, page.number(each.value), each.state))
  return page.table(
    ['trial', *names, metric, 'state'], rows, caption='All trials', words=1 + len(names)
  )


def _short(value: str) -> str:
  """The value of a flag; of a number that was drawn five digits."""
  try:
    return value if len(value) < 10 else f'{float(value):.5g}'
  except ValueError:
    return value


def _importance(importance: Mapping[str, float]) -> list[Markup]:
  most = max(importance.values()) or 1.0
  rows = [(name, page.percent(share), page.bar(share / most)) for name, share in importance.items()]
  return [
    page.table(['setting', 'share, %', ''], rows, caption='Importance of settings'),
    page.note(
      'How much each setting decides whether a trial is among the best quarter (PED-ANOVA, '
      'Watanabe, Bansal and Hutter 2023). Of few trials it is a hint, no more.'
    ),
  ]


def _curves(trials: Sequence, metric: str) -> Markup | None:
  told = [each for each in trials if len(each.reports) > 1][:_MOST_CURVES]
  series = [
    Series(
      f'{each.number:04}{" (stopped early)" if each.state == "pruned" else ""}',
      [(float(step), value) for step, value in each.reports.items()],
      f's{index % 8} d{index // 8 % 4}',
    )
    for index, each in enumerate(told)
  ]
  return line_chart(f'{metric}, the best trials first', series, x='step', zero=False)

"""What a sweep leaves: one table of all trials, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
import csv
import io
import json
import pathlib

from dilated_jax.files import write_atomic

from .. import tables
from ..reports import sweep as page
from .study import Study, Trial

LEFT = ('table.md', 'results.json', 'results.csv', 'report.html')


def ranked(trials: Sequence[Trial], direction: str) -> list[Trial]:
  """The trials, the best first; then those that were stopped early, failed, and still run."""
  order = ('complete', 'pruned', 'failed', 'running')
  sign = -1 if direction == 'maximize' else 1

  def key(trial: Trial):
    value = 0.0 if trial.value is None else sign * trial.value
    return order.index(trial.state), value, trial.number

  return sorted(trials, key=key)


def columns(trials: Sequence[Trial]) -> list[str]:
  """The flags that trials get, in the order in which the space names them."""
  return list(dict.fromkeys(name for trial in trials for name in trial.flags))


def table(trials: Sequence[Trial], direction: str, metric: str) -> list[str]:
  """The table in Markdown."""
  names = columns(trials)
  rows = [
    (
      f'{each.number:04}',
      [*(shown(each.flags.get(name, '-')) for name in names), number(each.value), each.state],
    )
    for each in ranked(trials, direction)
  ]
  return tables.markdown(['trial', *names, metric, 'state'], rows)


def shown(value: str) -> str:
  """The value of a flag in a cell; numbers with five digits that count."""
  try:
    if value.lstrip('-').isdecimal():
      return value
    return f'{float(value):.5g}'
  except ValueError:
    return value.replace('|', '\\|') or '""'


def number(value: float | None) -> str:
  return '-' if value is None else f'{value:.6g}'


def write(workdir: pathlib.Path, study: Study, metric: str, command: str) -> list[Trial]:
  """Writes all tables and the page into the workdir.

  Args:
    workdir: of the sweep.
    study: its trials.
    metric: what was measured.
    command: that each trial ran.

  Returns:
    The trials, the best first.
  """
  trials = study.trials()
  rows = [
    {'trial': each.number, 'state': each.state, metric: each.value, **each.flags} for each in trials
  ]
  order = ranked(trials, study.direction)
  best = order[0].number if order and order[0].state == 'complete' else None
  importance = study.importance()
  content = {
    'command': command, 'metric': metric, 'direction': study.direction, 'best': best,
    'importance': importance,
    'trials': [
      {
        'trial': each.number, 'state': each.state, 'value': each.value, 'flags': each.flags,
        **({'reason': each.reason} if each.reason else {}),
      }
      for each in trials
    ],
  }  # fmt: skip
  write_atomic(workdir / 'results.json', json.dumps(content, indent=2).encode() + b'\n')
  text = io.StringIO()
  writer = csv.DictWriter(text, ['trial', 'state', metric, *columns(trials)], lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  write_atomic(workdir / 'results.csv', text.getvalue().encode())
  lines = table(trials, study.direction, metric)
  write_atomic(workdir / 'table.md', ('\n'.join(lines) + '\n').encode())
  page.write(workdir, order, metric, study.direction, importance)
  return order

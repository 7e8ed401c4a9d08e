"""What a trial leaves in its folder: what it measured, whether it has finished, its last words."""

from __future__ import annotations

from collections.abc import Sequence
import json
import math
import pathlib
from typing import Any

from ..reports import source
from .command import Command

LOG = 'log.txt'


def of_trial(workdir, number: int) -> pathlib.Path:
  """The folder of a trial."""
  return pathlib.Path(workdir) / 'trials' / f'{number:04}'


def measured(value: Any, metric: str) -> float | None:
  """A value by its name, `a.b` where it is b of a table a; None where there is no such number.

  >>> measured({'val_per_class_iou': {'car': 0.5}}, 'val_per_class_iou.car')
  0.5
  """
  while metric:
    if not isinstance(value, dict):
      return None
    if metric in value:
      value, metric = value[metric], ''
    else:
      head, _, metric = metric.partition('.')
      value = value.get(head) if metric else None
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  return float(value) if is_number and math.isfinite(value) else None


def reports(folder: pathlib.Path, command: Command, metric: str) -> list[tuple[int, float]]:
  """What a training has reported so far, (step, value) in the order of steps.

  Steps of a stage are counted on from the last one of the stage before. Other commands report
  nothing before they have finished.
  """
  found = []
  if command.name == 'train':
    before = 0
    for lines in _by_stage(folder / command.kind.scores).values():
      values = {step: measured(line, metric) for step, line in lines if _has(line, metric)}
      found += [(before + step, value) for step, value in sorted(values.items())]
      before += max(step for step, _ in lines)
  return found


def state(folder: pathlib.Path, command: Command) -> tuple:
  """Something that changes when there is something new to read."""
  try:
    found = (folder / command.kind.scores).stat()
  except OSError:
    return ()
  return found.st_size, found.st_mtime_ns, found.st_ino


def result(
  folder: pathlib.Path, command: Command, metric: str, direction: str, stages: Sequence[str]
) -> float | None:
  """What came out of a trial that has finished: of a training the best of its last stage."""
  if command.name != 'train':
    try:
      return measured(json.loads((folder / command.kind.scores).read_text()), metric)
    except (OSError, ValueError):
      return None
  lines = _by_stage(folder / command.kind.scores).get(stages[-1], [])
  values = [measured(line, metric) for _, line in lines if _has(line, metric)]
  return (max if direction == 'maximize' else min)(values, default=None)


def finished(folder: pathlib.Path, command: Command, stages: Sequence[str]) -> bool:
  """Whether a command that ended without an error has done all of its work.

  One that was asked to end (SIGTERM) ends without an error too.
  """
  if command.name == 'train':
    return (folder / stages[-1] / 'weights' / 'model.json').exists()
  return (folder / command.kind.scores).exists()


def last_line(folder: pathlib.Path) -> str:
  """The last line that the command has written, its error if it told one."""
  try:
    text = (folder / LOG).read_bytes()[-20_000:].decode(errors='replace')
  except OSError:
    return ''
  lines = [each.rpartition('\r')[2].strip() for each in text.splitlines()]
  lines = [''.join(filter(str.isprintable, each)) for each in lines if each]
  errors = [each for each in lines[-20:] if each.startswith('error: ')]
  return (errors or lines or [''])[-1].removeprefix('error: ')[:300]


def _has(line: dict, metric: str) -> bool:
  return measured(line, metric) is not None


def _by_stage(path: pathlib.Path) -> dict[str, list[tuple[int, dict]]]:
  """The lines of metrics.jsonl, (step, values) by stage."""
  found: dict[str, list[tuple[int, dict]]] = {}
  if path.is_file():
    for line in source.metric_lines(path):
      found.setdefault(line['stage'], []).append((line['step'], line))
  return found

"""The page of several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
import string
from typing import Any

from dilated_jax.evaluation import metrics

from . import curves, page, scores, settings
from .charts import Series, line_chart
from .markup import Markup, element
from .source import Source


def render(sources: Sequence[Source]) -> bytes:
  """The page of two runs or more, at most 26."""
  named = list(zip(string.ascii_uppercase, sources, strict=False))
  sections = [page.section('Runs', _runs(named))]
  for stage in dict.fromkeys(stage.name for source in sources for stage in source.stages):
    found = [(f'{a}', one) for a, source in named for one in source.stages if one.name == stage]
    sections.append(page.section(f'Stage {stage}', curves.compared(found)))
    if drift := _drift(found):
      sections.append(page.section(f'Layers in stage {stage}', page.grid(drift)))
  scored = [(letter, source.scores) for letter, source in named if source.scores]
  if len(scored) > 1:
    palette = {k: v for source in sources for k, v in source.palette.items()}
    sections.append(page.section('Classes', _classes(scored, palette)))
  if near := scores.boundaries(scored):
    sections.append(page.section('Boundaries', page.grid(near)))
  sections.append(page.section('Settings that differ', settings.differences(named)))
  title = f'{len(sources)} runs side by side'
  lead = element('p', ' · '.join(f'{letter}: {source.path.name}' for letter, source in named))
  return page.page(title, lead, sections)


def _runs(named: Sequence[tuple[str, Source]]) -> Markup:
  """A column for each run."""
  found = [metrics.means(source.scores) if source.scores else {} for _, source in named]
  titles = list(dict.fromkeys(name for means in found for name in means))
  rows = [
    (title, *(str(value(source) or '–') for _, source in named))
    for title, value in (
      ('run', lambda source: source.path),
      ('network', lambda source: source.about.get('model') or source.about.get('weights')),
      ('data set', lambda source: source.about.get('dataset')),
    )
  ]
  rows += [(f'{name}, %', *(page.percent(means.get(name)) for means in found)) for name in titles]
  head = ['', *(letter for letter, _ in named)]
  return page.table(head, rows, caption='The runs', words=len(head))


def _classes(scored: Sequence[tuple[str, dict[str, Any]]], palette: dict) -> list[Markup]:
  """IoU of every class in each run, and by how much each differs from the first."""
  (first, _), *others = scored
  names = list(dict.fromkeys(name for _, found in scored for name in found['per_class_iou']))
  table = {name: [found['per_class_iou'].get(name) for _, found in scored] for name in names}
  table['all classes'] = [found['mean_iou'] for _, found in scored]
  changes = [abs(change) for values in table.values() for change in _changes(values) if change]
  most = max(changes, default=1.0)
  rows = [_row(page.class_name(name, palette), values, most) for name, values in table.items()]
  head = ['class', *(f'{letter}, %' for letter, _ in scored)]
  for letter, _ in others:
    head += [f'{letter} − {first}', '']
  remark = page.note(
    f'IoU in percent, and differences in percentage points; bars to the right: more than {first}.'
  )
  return [remark, page.table(head, rows, caption='IoU by class')]


def _row(name, values: Sequence[float | None], most: float) -> list:
  cells = [page.percent(value) for value in values]
  for change in _changes(values):
    cells += (
      ['–', None]
      if change is None
      else [f'{100 * change:+.1f}', page.bar(change / most, 'difference')]
    )
  return [name, *cells]


def _changes(values: Sequence[float | None]) -> list[float | None]:
  base = values[0]
  return [None if value is None or base is None else value - base for value in values[1:]]


def _drift(stages) -> Markup | None:
  """How far each layer of each run is from the identity at its last checkpoint."""
  lines = []
  for index, (letter, stage) in enumerate(stages):
    found = stage.tables('layer_drift')
    if found:
      last = list(found.values())[-1]
      points = [(float(number), value) for number, value in enumerate(last.values(), 1)]
      lines.append(Series(letter, points, f's{index % 8} d{index // 8 % 4}'))
  title = 'Distance from the identity at the last checkpoint, ‖W − I‖ / ‖I‖'
  return line_chart(title, lines, x='layer of the context module', log=False)

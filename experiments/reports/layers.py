"""What becomes of single layers: drift from the identity, gradients, activations, operations."""

from __future__ import annotations

from . import charts, heat, page
from .charts import Series
from .markup import Markup, element, join
from .source import Stage

_MOST_LINES = 12


def of_stage(stage: Stage) -> list[Markup | None]:
  """All that is known of the layers of a stage; empty where nothing is."""
  drawn = [part for part in (drift(stage), gradients(stage), dead(stage)) if part is not None]
  return [page.grid(drawn), outputs(stage)] if drawn else []


def drift(stage: Stage) -> Markup | None:
  """How far each layer has come from the identity that it started as."""
  found = stage.tables('layer_drift')
  names = list(dict.fromkeys(name for table in found.values() for name in table))
  if not names:
    return None
  title = 'Distance from the identity, ‖W − I‖ / ‖I‖'
  values = {name: [(step, table.get(name)) for step, table in found.items()] for name in names}
  if len(names) > _MOST_LINES:
    return _picture(title, found)
  lines = [
    Series(short(name, names), values[name], f'o{round(9 * index / max(1, len(names) - 1))}')
    for index, name in enumerate(names)
  ]
  return charts.line_chart(title, lines, x='step', log=False)


def gradients(stage: Stage) -> Markup | None:
  """The norm of the gradient of each layer."""
  return _picture('Norm of the gradient by layer', stage.tables('layer_gradient_norm'), log=True)


def dead(stage: Stage) -> Markup | None:
  """Channels that are never active, of the layers that have any."""
  tables = {
    step: {name: each['dead'] for name, each in table.items() if 'dead' in each}
    for step, table in stage.tables('layer_activations').items()
  }
  some = {name for table in tables.values() for name, share in table.items() if share > 0}
  found = {step: {k: v for k, v in table.items() if k in some} for step, table in tables.items()}
  return _picture('Dead channels by layer, %', found, show=page.percent)


def outputs(stage: Stage) -> Markup | None:
  """What the layers put out on a few training images."""
  found = stage.tables('layer_activations')
  if not found:
    return None
  step, last = list(found.items())[-1]
  names = list(last)
  rows = [
    (short(name, names), page.number(each['mean']), page.number(each['std']),
     page.percent(each.get('zeros')), page.percent(each.get('dead')))
    for name, each in last.items()
  ]  # fmt: skip
  head = ['layer', 'mean', 'standard deviation', 'zeros, %', 'dead channels, %']
  title = f'Outputs of the layers after step {step:,}'
  remark = 'On a few training images. A channel is dead if it is 0 at every cell of all of them.'
  return join([element('h3', title), page.note(remark), page.table(head, rows, caption=title)])


def operations(stage: Stage) -> list[Markup]:
  """What took the time of the steps that were traced."""
  if not stage.operations:
    return []
  steps, first = stage.operations['steps'], stage.operations['first_step']
  found = stage.operations['operations']
  total = sum(row['milliseconds'] for row in found) or 1.0
  rows = [
    (row['name'], row['program'], page.bar(row['milliseconds'] / total),
     page.number(row['milliseconds'] / steps), page.number(row['calls'] / steps))
    for row in found
  ]  # fmt: skip
  head = ['operation', 'program', '', 'ms a step', 'calls a step']
  return [
    page.note(
      f'The {len(found)} operations that took longest in {steps} steps from step {first} on; times '
      'are summed over threads and devices. What contains others counts their time too.'
    ),
    page.table(head, rows, caption='Operations by time', words=3),
  ]


def short(name: str, names: list[str]) -> str:
  """A layer without its part, where no other has the same name."""
  last = name.rpartition('/')[2]
  return last if sum(other.rpartition('/')[2] == last for other in names) == 1 else name


def _picture(title: str, tables: dict[int, dict], **options) -> Markup | None:
  """Values of layers at checkpoints, shaded."""
  names = list(dict.fromkeys(name for table in tables.values() for name in table))
  if not names:
    return None
  steps = charts.thin(list(tables), 24)
  return heat.picture(
    title, [short(name, names) for name in names], [f'{step}' for step in steps],
    [[tables[step].get(name) for step in steps] for name in names], column_title='step', **options,
  )  # fmt: skip

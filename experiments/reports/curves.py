"""How a training went: curves against the step."""

from __future__ import annotations

from collections.abc import Sequence

from . import charts, heat, page
from .charts import Series
from .markup import Markup
from .source import Stage


def of_stage(stage: Stage) -> list[Markup | None]:
  """The curves of one stage."""
  accuracies = [
    Series('mean IoU, val', stage.curve('val_mean_iou'), 's0'),
    Series('accuracy, val', stage.curve('val_accuracy'), 's2'),
    Series('accuracy, training batch', stage.curve('accuracy'), 's6 d1'),
  ]
  drawn = [
    charts.line_chart('Loss', [Series('', stage.curve('loss'), 's0')], x='step'),
    charts.line_chart('Scores, %', accuracies, x='step', show=page.percent, log=False),
    *(chart([('', stage)], index) for index in range(2, len(_CURVES))),
  ]
  return [page.grid(*drawn, per_class(stage))]


def compared(stages: Sequence[tuple[str, Stage]]) -> Markup:
  """The curves of stages of one name in several runs, over each other."""
  return page.grid(*(chart(stages, index) for index in range(len(_CURVES))))


def chart(stages: Sequence[tuple[str, Stage]], index: int) -> Markup | None:
  """One of the curves, a line for each of several stages."""
  title, key, show, log = _CURVES[index]
  lines = []
  for position, (name, stage) in enumerate(stages):
    # A step takes a batch, so that this is the speed in images; of unknown batches there is none.
    factor = stage.settings.get('batch_size', 0) if key == 'steps_per_second' else 1
    style = f's{position % 8} d{position // 8 % 4}'
    lines.append(Series(name, stage.curve(key, factor) if factor else [], style))
  if key == 'waiting' and all(value < 0.01 for line in lines for _, value in line.points):
    return None
  return charts.line_chart(title, lines, x='step', show=show, log=log)


# Title, key in metrics.jsonl, how it is written, whether its axis is logarithmic.
_CURVES = (
  ('Loss', 'loss', page.number, None),
  ('Mean IoU on val, %', 'val_mean_iou', page.percent, False),
  ('Learning rate', 'learning_rate', page.number, None),
  ('Images per second, mean so far', 'steps_per_second', page.number, False),
  ('Norm of the gradient', 'gradient_norm', page.number, True),
  ('Time spent waiting for images, %', 'waiting', page.percent, False),
)


def per_class(stage: Stage) -> Markup | None:
  """The IoU of every class at each checkpoint."""
  found = stage.tables('val_per_class_iou')
  if len(found) < 2:
    return None
  steps = charts.thin(list(found), 24)
  names = list(found[steps[0]])
  return heat.picture(
    'IoU by class on val, %', names, [f'{step}' for step in steps],
    [[found[step].get(name) for step in steps] for name in names],
    column_title='step', show=page.percent,
  )  # fmt: skip

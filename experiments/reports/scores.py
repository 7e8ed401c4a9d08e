"""Scores on a page: means, classes, confusions, boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dilated_jax.evaluation import metrics

from . import charts, heat, page, scales
from .markup import Markup, element

_MOST_NUMBERS = 32  # Classes, for a confusion matrix of numbers.
_MOST_CONFUSIONS = 12


def tiles(scores: dict[str, Any]) -> list[tuple[str, str, str]]:
  """The means, for `page.tiles`."""
  return [
    (title, page.percent(value), '%')
    for title, value in metrics.means(scores).items()
    if value is not None
  ]


def classes(scores: dict[str, Any], palette: dict[str, Any]) -> Markup:
  """A row for each class."""
  columns = metrics.by_class(scores)
  rows = [
    (
      page.class_name(name, palette),
      page.bar(value),
      *(page.percent(column[name]) for column in columns.values()),
    )
    for name, value in columns['IoU'].items()
  ]
  overall = metrics.means(scores)
  rows.append(
    (
      'all classes',
      page.bar(overall['mean IoU']),
      page.percent(overall['mean IoU']),
      page.percent(overall['mean accuracy']) if 'mean accuracy' in overall else '',
      *([''] * (len(columns) - 2)),
    )
  )
  head = ['class', '', *(f'{title}, %' for title in columns)]
  return page.table(head, rows, caption='Scores by class', words=2)


def categories(scores: dict[str, Any]) -> Markup | None:
  """A row for each category of Cityscapes."""
  if 'category_iou' not in scores:
    return None
  others = scores.get('category_iiou')
  rows = [
    (name, page.bar(iou), page.percent(iou), *([page.percent(others[name])] if others else []))
    for name, iou in scores['category_iou'].items()
  ]
  head = ['category', '', 'IoU, %', *(['iIoU, %'] if others else [])]
  return page.table(head, rows, caption='Scores by category', words=2)


def confusion(scores: dict[str, Any]) -> list[Markup | None]:
  """How many of the pixels of each class are taken for which, and what is confused most."""
  names = list(scores.get('confusion_names', scores['per_class_iou']))
  counts = np.asarray(scores['confusion'], np.float64)
  if len(names) != len(counts):
    return []
  heads = names + ['no class'] * (counts.shape[1] - len(names))
  shares = metrics.safe_divide(counts, counts.sum(axis=1, keepdims=True))
  present = [i for i in range(len(names)) if counts[i].sum() or counts[:, i].sum()]
  columns = present + [j for j in range(len(names), len(heads)) if counts[:, j].any()]
  values = [[_or_none(shares[i, j]) for j in columns] for i in present]
  rows, across = [names[i] for i in present], [heads[j] for j in columns]
  caption = 'Confusion matrix: of the pixels of each class, % that are predicted as each class'
  if len(present) <= _MOST_NUMBERS:
    drawn = heat.matrix(
      rows, across, values, caption=caption, corner='truth, predicted as', show=_share
    )
  else:
    drawn = heat.picture(caption, rows, across, values, column_title='predicted as', show=_share)
  return [
    page.note(
      'A row is the truth, a column the prediction; a cell is the share of the pixels of its row, '
      'in percent.'
    ),
    drawn,
    element('h3', 'Confused most'),
    _confusions(names, heads, counts, shares),
  ]


def _confusions(names, heads, counts, shares) -> Markup:
  """The largest numbers beside the diagonal."""
  wrong = counts.copy()
  np.fill_diagonal(wrong, 0)
  order = np.argsort(-wrong, axis=None, kind='stable')[:_MOST_CONFUSIONS]
  rows = []
  for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
    if wrong[i, j]:
      pixels = f'{int(wrong[i, j]):,}'
      rows.append((names[i], heads[j], pixels, page.percent(float(shares[i, j]))))
  if not rows:
    return page.note('Nothing: every pixel is right.')
  head = ['truth', 'predicted as', 'pixels', '% of the truth']
  return page.table(head, rows, caption='What is confused most', words=2)


def boundaries(scores: Sequence[tuple[str, dict[str, Any]]]) -> Markup | None:
  """Mean IoU against the width of the band around boundaries, a line for each of several scores."""
  lines = [
    charts.Series(
      name,
      [(float(width), value) for width, value in found['boundary']['trimap'].items()],
      f's{index % 8} d{index % 4}',
    )
    for index, (name, found) in enumerate(scores)
    if found.get('boundary', {}).get('trimap')
  ]
  if not lines:
    return None
  widths = sorted({width for line in lines for width, _ in line.points})
  return charts.line_chart(
    'Mean IoU near boundaries, %',
    lines,
    x='pixels within this distance of a boundary',
    show=page.percent,
    log=False,
    x_scale=scales.at_values(widths) if len(widths) > 1 else None,
  )


def _or_none(value) -> float | None:
  return None if np.isnan(value) else float(value)


def _share(value: float | None) -> str:
  if value is None:
    return '–'
  return '' if value == 0 else '<0.1' if value < 0.0005 else page.percent(value)

"""The page of a comparison of systems, as `compare` makes it."""

from __future__ import annotations

from collections.abc import Sequence
import json
import pathlib
import statistics
from typing import Any
import urllib.parse

from absl import logging
import numpy as np

from dilated_jax.files import write_atomic

from .. import comparison_images, comparison_tables
from . import heat, images, page, scores
from .markup import Markup, element


def write(workdir, cells: Sequence[dict], published_file, pictures: np.ndarray | None = None):
  """Writes report.html; where it can't be written, a warning says so.

  Args:
    workdir: of the comparison.
    cells: of `compare`, a dictionary for each system and seed, in the order of the tables.
    published_file: JSON of published figures; need not exist.
    pictures: what each system sees, uint8 (H, W, 3), if that is drawn already.
  """
  path = pathlib.Path(workdir) / 'report.html'
  try:
    write_atomic(path, render(path.parent, cells, published_file, pictures))
  except Exception as error:  # A page is no reason to lose what it is about.
    kind = type(error).__name__
    logging.warning('%s: this page could not be written (%s: %s)', path, kind, error)


def render(workdir: pathlib.Path, cells, published_file, pictures=None) -> bytes:
  """The page of a comparison."""
  published = comparison_tables.figures(pathlib.Path(published_file))
  remark = page.note(comparison_tables.what_and_where(cells))
  by_system, by_class = (
    make(cells, published) for make in (comparison_tables.by_system, comparison_tables.by_class)
  )
  sections = [
    page.section('Systems', _table('Mean IoU of the systems', by_system), remark),
    page.section(
      'Classes', _shaded(cells), page.details('With published figures', _table('IoU', by_class))
    ),
  ]
  found = [(comparison_images.title(each), _scores(workdir, each)) for each in _one_seed(cells)]
  if near := scores.boundaries([(name, each) for name, each in found if each]):
    sections.append(page.section('Boundaries', page.grid(near)))
  if pictures is not None:
    sections.append(
      page.section('Images', images.whole(pictures, 'Images, truths, and what each system says'))
    )
  sections.append(page.section('Trainings', _trainings(workdir, cells)))
  first = cells[0]
  lead = element('p', f'{first["dataset"]} {first["split"]} · {first["pictures"]:,} images')
  return page.page(f'Comparison: {"/".join(workdir.resolve().parts[-2:])}', lead, sections)


def _table(caption: str, made) -> Markup:
  head, rows = made
  return page.table(head, [(name, *values) for name, values in rows], caption=caption)


def _shaded(cells) -> Markup:
  """The mean over seeds of the IoU of every class, shaded."""
  systems: dict[str, list[dict[str, Any]]] = {}
  for each in cells:
    found = {**each['per_class_iou'], 'all classes': each['mean_iou']}
    systems.setdefault(comparison_images.title(each), []).append(found)
  columns = list(next(iter(systems.values()))[0])
  values = [[_mean(found, column) for column in columns] for found in systems.values()]
  return heat.matrix(
    list(systems), columns, values, caption='IoU by class, %', corner='IoU, %', show=page.percent
  )


def _mean(found: Sequence[dict], column: str) -> float | None:
  values = [scores[column] for scores in found if scores[column] is not None]
  return statistics.mean(values) if values else None


def _one_seed(cells) -> list[dict]:
  return [each for each in cells if each['seed'] == cells[0]['seed']]


def _scores(workdir: pathlib.Path, each: dict) -> dict | None:
  """All scores of a system, if its folder has them."""
  path = _folder(workdir, each) / f'scores_{each["split"].replace("/", "_")}.json'
  return json.loads(path.read_text()) if path.exists() else None


def _folder(workdir: pathlib.Path, each: dict) -> pathlib.Path:
  return workdir / '_'.join(str(each[part]) for part in ('model', 'context', 'crf', 'seed'))


def _trainings(workdir: pathlib.Path, cells) -> Markup:
  """Links to the pages of trainings and scores, beside this one."""
  rows = []
  for each in cells:
    folder = _folder(workdir, each)
    pages = [folder / 'report.html', folder / f'scores_{each["split"].replace("/", "_")}.html']
    links = [
      element('a', title, href=urllib.parse.quote(f'{folder.name}/{path.name}'))
      if path.exists()
      else '–'
      for title, path in zip(('training', 'scores'), pages, strict=True)
    ]
    rows.append((comparison_images.title(each), f'{each["seed"]}', *links))
  head = ['system', 'seed', 'training', 'scores']
  return page.table(head, rows, caption='Pages of each system', words=4)

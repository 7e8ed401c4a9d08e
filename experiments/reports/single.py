"""The page of one run: of a training, or of scores."""

from __future__ import annotations

from collections.abc import Sequence
import pathlib

from absl import logging

from dilated_jax.files import write_atomic

from . import curves, images, layers, page, scores, settings, source as sources
from .markup import Markup, element
from .source import Source, Stage


def write(path, source: Source) -> bool:
  """Writes the page of a run; where it can't be written, a warning says so.

  Args:
    path: of the HTML file.
    source: the run.

  Returns:
    Whether it is written.
  """
  try:
    write_atomic(path, render(source))
    return True
  except Exception as error:  # A page is no reason to lose what it is about.
    kind = type(error).__name__
    logging.warning('%s: this page could not be written (%s: %s)', path, kind, error)
    return False


def write_training(workdir) -> None:
  """Writes report.html into the workdir of a training, as `write` does; before a step nothing."""
  workdir = pathlib.Path(workdir)
  if not (workdir / 'metrics.jsonl').exists():
    return
  try:
    source = sources.of_training(workdir)
  except Exception as error:
    logging.warning('%s: no page could be made of it: %s', workdir, error)
    return
  write(workdir / 'report.html', source)


def render(source: Source) -> bytes:
  """The page of a run."""
  sections = [part for stage in source.stages for part in _of_stage(stage)]
  if source.scores:
    where = 'val' if source.stages else source.scores.get('split') or 'label images'
    sections += _of_scores(source, f' on {where}' if source.stages else '')
  for stage in source.stages:
    if found := layers.of_stage(stage):
      sections.append(page.section(f'Layers in stage {stage.name}', found))
    if found := layers.operations(stage):
      sections.append(page.section(f'Operations in stage {stage.name}', found))
  if any(found := settings.of_one(source)):
    sections.append(page.section('Settings', found))
  return page.page(title(source), _lead(source), sections)


def title(source: Source) -> str:
  """What the run is called."""
  name = source.path.resolve()
  kind = 'Training' if source.stages else 'Scores'
  return f'{kind}: {"/".join(name.parts[-2:])}'


def _lead(source: Source) -> list[Markup]:
  """What it is, and its few most telling numbers."""
  about, told = source.about, []
  if source.stages:
    told = [about.get('model'), about.get('dataset')]
    if parameters := about.get('parameters'):
      told.append(f'{parameters:,} parameters')
    if count := about.get('training_images'):
      told.append(f'{count:,} training images')
  elif source.scores:
    told = [source.scores.get(key) for key in ('dataset', 'split')]
    told += [f'{source.scores["pictures"]:,} images', f'protocol {source.scores["protocol"]}']
  told.append(about.get('date'))
  numbers = []
  for stage in source.stages:
    numbers += _stage_numbers(stage)
  if not source.stages and source.scores:
    numbers = scores.tiles(source.scores)
  return [element('p', ' · '.join(filter(None, told))), page.tiles(numbers)]


def _stage_numbers(stage: Stage) -> list[tuple[str, str, str]]:
  total = stage.settings.get('num_steps', stage.steps_done)
  state = 'finished' if stage.finished else f'of {total:,} steps'
  found = [(f'{stage.name}, steps', f'{stage.steps_done:,}', state)]
  if stage.scores:
    iou = page.percent(stage.scores['mean_iou'])
    found.append((f'{stage.name}, mean IoU on val', iou, f'%, step {stage.scores["step"]:,}'))
  if losses := stage.curve('loss'):
    found.append((f'{stage.name}, loss', page.number(losses[-1][1]), f'step {losses[-1][0]:,}'))
  return found


def _of_stage(stage: Stage) -> list[Markup]:
  return [page.section(f'Stage {stage.name}', curves.of_stage(stage))]


def _of_scores(source: Source, where: str) -> list[Markup]:
  """Sections about the scores of a run."""
  found, palette = source.scores, source.palette
  assert found
  best = f'After step {found["step"]:,}, the best so far.' if source.stages else None
  notes: Sequence[str] = [*found.get('read_as', ()), *found.get('notes', ())]
  sections = [
    page.section(
      f'Classes{where}',
      page.note(best) if best else None,
      [page.note(line) for line in notes],
      scores.classes(found, palette),
      scores.categories(found),
    ),
    page.section(f'Confusion{where}', scores.confusion(found)),
  ]
  if near := scores.boundaries([('', found)]):
    sections.append(page.section('Boundaries', page.grid(near)))
  colors = source.about.get('palette')
  if any(source.images) and colors:
    remark = page.note(
      'By the mean IoU of each image alone, over the classes in its truth or prediction. The '
      'difference shows wrong pixels in red and ignored ones in dark gray.'
    )
    shown = images.best_and_worst(source.images, colors)
    sections.append(page.section(f'Images{where}', remark, shown))
  return sections

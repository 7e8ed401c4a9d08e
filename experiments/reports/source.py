"""The files of a run: what a training has written into its workdir, or the scores of `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import pathlib
import re
from typing import Any, NamedTuple

from dilated_jax.errors import InputError
from dilated_jax.evaluation import extremes
from dilated_jax.files import decode_json

Images = tuple[list[extremes.Labeled], list[extremes.Labeled]]


class Stage(NamedTuple):
  """One stage of a training.

  Attributes:
    name: of the stage.
    lines: of metrics.jsonl that are its own.
    settings: what it was told.
    finished: whether it has left weights.
    scores: the best on the validation images, or None.
    images: that were labeled best and worst then.
    operations: of its profile, or None.
  """

  name: str
  lines: list[dict[str, Any]]
  settings: dict[str, Any]
  finished: bool
  scores: dict[str, Any] | None
  images: Images
  operations: dict[str, Any] | None

  def curve(self, key: str, factor: float = 1.0) -> list[tuple[float, float]]:
    """What a value was at each step at which it was reported."""
    return [(line['step'], factor * line[key]) for line in self.lines if line.get(key) is not None]

  def tables(self, key: str) -> dict[int, dict]:
    """What values of classes or layers were, by step."""
    return {line['step']: line[key] for line in self.lines if line.get(key)}

  @property
  def steps_done(self) -> int:
    """The last step that was reported."""
    return max((line['step'] for line in self.lines), default=0)


class Source(NamedTuple):
  """What is known of a run.

  Attributes:
    path: where it was read.
    stages: of a training; of scores there are none.
    scores: those of `evaluate`, or the best of the last stage; None where there are none.
    images: that were labeled best and worst.
    flags: as they were given, by name.
    about: model, data set, classes, palette, and what made the run, as far as it is known.
  """

  path: pathlib.Path
  stages: tuple[Stage, ...]
  scores: dict[str, Any] | None
  images: Images
  flags: dict[str, str]
  about: dict[str, Any]

  @property
  def palette(self) -> dict[str, Any]:
    """Colors by the name of a class; may be empty."""
    return dict(zip(self.about.get('classes', ()), self.about.get('palette', ()), strict=False))


def load(path) -> Source:
  """Reads a run.

  Args:
    path: workdir of `train`, or the JSON file of `evaluate`.

  Raises:
    InputError: it is neither.
  """
  path = pathlib.Path(path)
  if (path / 'metrics.jsonl').is_file():
    return of_training(path)
  if path.is_file():
    return of_scores(path, _json(path))
  if not path.exists():
    raise InputError(f'{path}: there is no such file or folder')
  raise InputError(
    f'{path}: has no metrics.jsonl; name the workdir of train, or the JSON file of evaluate'
  )


def of_training(workdir) -> Source:
  """Reads the workdir of a training."""
  workdir = pathlib.Path(workdir)
  lines = list(metric_lines(workdir / 'metrics.jsonl'))
  names = list(dict.fromkeys(line['stage'] for line in lines))
  stages = tuple(_stage(workdir / name, lines) for name in names)
  scored = [stage for stage in stages if stage.scores]
  about = _json_or_none(workdir / 'about.json') or {}
  return Source(
    path=workdir,
    stages=stages,
    scores=scored[-1].scores if scored else None,
    images=scored[-1].images if scored else ([], []),
    flags=_flags(workdir / 'flags.txt'),
    about=about,
  )


def of_scores(path, scores: dict, images: Images = ([], []), palette: dict | None = None) -> Source:
  """What is known of scores.

  Args:
    path: of their file.
    scores: its content.
    images: that were labeled best and worst.
    palette: colors by class.

  Raises:
    InputError: these are no scores.
  """
  if not isinstance(scores, dict) or not {'per_class_iou', 'confusion'} <= scores.keys():
    raise InputError(f'{path}: these are no scores of evaluate')
  given = scores.get('flags') or {}
  flags = {name: _typed(value) for name, value in given.items() if value is not None}
  about = {'dataset': scores.get('dataset'), 'weights': scores.get('weights')}
  if palette:
    about |= {'classes': list(palette), 'palette': list(palette.values())}
  return Source(pathlib.Path(path), (), scores, images, flags, about | (scores.get('made') or {}))


def _stage(folder: pathlib.Path, lines) -> Stage:
  images: Images = ([], [])
  with contextlib.suppress(OSError, InputError):
    images = extremes.load(folder / 'val_images.npz')
  return Stage(
    name=folder.name,
    lines=[line for line in lines if line['stage'] == folder.name],
    settings=_json_or_none(folder / 'config.json') or {},
    finished=(folder / 'weights' / 'model.json').exists(),
    scores=_json_or_none(folder / 'val.json'),
    images=images,
    operations=_json_or_none(folder / 'profile' / 'operations.json'),
  )


def metric_lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """The lines of metrics.jsonl; a run that was killed may have left half a one."""
  for text in path.read_text(errors='replace').splitlines():
    with contextlib.suppress(ValueError, AttributeError):
      line = decode_json(text)
      # A stage is the name of a folder in the workdir.
      stage, step = line.get('stage'), line.get('step')
      if isinstance(stage, str) and re.fullmatch(r'\w{1,99}', stage) and type(step) is int:
        yield line


def _flags(path: pathlib.Path) -> dict[str, str]:
  """Flags by name, from a flag file."""
  found: dict[str, str] = {}
  for line in path.read_text(errors='replace').splitlines() if path.exists() else ():
    name, equals, value = line.strip().removeprefix('--').partition('=')
    if not equals:
      name, value = (name[2:], 'false') if name.startswith('no') else (name, 'true')
    found[name] = f'{found[name]}, {value}' if name in found else value
  return found


def _typed(value) -> str:
  """The value of a flag as it is typed."""
  if isinstance(value, list):
    return ','.join(map(str, value))
  return str(value).lower() if isinstance(value, bool) else str(value)


def _json(path: pathlib.Path):
  try:
    return decode_json(path.read_text())
  except ValueError as error:
    raise InputError(f'{path}: this is no JSON ({error})') from error


def _json_or_none(path: pathlib.Path) -> dict | None:
  with contextlib.suppress(OSError, InputError):
    found = _json(path)
    return found if isinstance(found, dict) else None
  return None

"""Where a run writes what it measures: JSON lines, TensorBoard, Weights & Biases, MLflow.

The lines are always written; trackers are asked for, and are classes of the same three methods.
None of them uses the network unless its own environment variables say so, and a run that is
continued goes on in the same place: ids of runs are kept in `trackers.json` of the workdir. To
trackers, steps that were lost and are done again are told twice, with the same values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import time
from typing import Any, Protocol
import warnings

from absl import logging
import numpy as np

from dilated_jax.errors import InputError, first_line
from dilated_jax.files import decode_json, naming, write_atomic


class Tracker(Protocol):
  """What an experiment tracker is written by."""

  def write(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
    """Takes numbers by name, or tables of them: numbers, or dicts of numbers, by name.

    A number may be None, where there is none: the IoU of a class that does not occur.
    """

  def write_image(self, stage: str, step: int, name: str, image: np.ndarray) -> None:
    """Takes a uint8 (H, W, 3) image."""

  def close(self, finished: bool) -> None:
    """Writes what is still in memory, and whether the run is finished or was cut."""


def flatten(values: Mapping[str, Any], above: str = '') -> Iterator[tuple[str, Any]]:
  """The numbers of nested dicts by names with slashes; an empty name adds none.

  >>> dict(flatten({'loss': 1.5, 'iou': {'road': 0.5, 'car': None}}))
  {'loss': 1.5, 'iou/road': 0.5, 'iou/car': None}
  """
  for name, value in values.items():
    path = '/'.join(filter(None, (above, name)))
    if isinstance(value, Mapping):
      yield from flatten(value, path)
    else:
      yield path, value


class JsonLines:
  """`metrics.jsonl`: a line for each report."""

  def __init__(self, workdir):
    self._path = pathlib.Path(workdir) / 'metrics.jsonl'
    self._path.parent.mkdir(parents=True, exist_ok=True)

  def write(self, stage, step, values):
    """Adds a line."""
    with naming(self._path), open(self._path, 'a') as file:
      file.write(json.dumps({'stage': stage, 'step': step, **values}) + '\n')

  def forget_after(self, stage, step):
    """Drops lines of this stage after `step`."""
    if not self._path.exists():
      return
    kept = []
    for line in self._path.read_text(errors='replace').splitlines(keepends=True):
      with contextlib.suppress(
        ValueError, KeyError, TypeError
      ):  # A run that was killed may leave half a line.
        entry = decode_json(line)
        if entry['stage'] != stage or entry['step'] <= step:
          kept.append(line)
    write_atomic(self._path, ''.join(kept).encode())


class TensorBoard:
  """Curves and images in `tensorboard/` of the workdir."""

  def __init__(self, workdir: pathlib.Path, parameters: Mapping[str, Any]):
    import tensorboardX

    # Its thread dies where the disk is full, and then a queue of some length would fill up and
    # whoever adds to it would wait for ever.
    self._board = tensorboardX.SummaryWriter(str(workdir / 'tensorboard'), max_queue=0)
    text = '\n'.join(f'    {name}: {value}' for name, value in flatten(parameters))
    self._board.add_text('parameters', text)

  def write(self, stage, step, values):
    with self._abandoning():
      for name, value in flatten(values, stage):
        if value is not None:
          self._board.add_scalar(name, value, step)

  def write_image(self, stage, step, name, image):
    with self._abandoning():
      self._board.add_image(f'{stage}/{name}', image, step, dataformats='HWC')

  def close(self, finished):
    with self._abandoning():
      self._board.close()

  @contextlib.contextmanager
  def _abandoning(self):
    """Where its file can't be written, nobody tries again, not even at the end of the process."""
    writer = self._board.file_writer.event_writer
    try:
      if not writer._worker.is_alive():  # The thread that writes.
        raise OSError('its files can not be written')
      yield
    except OSError:
      writer._event_queue.cancel_join_thread()  # Else the process would wait for it.
      with writer._ev_writer._lock:
        record = writer._ev_writer._py_recordio_writer
        file, record._writer = record._writer, _Nowhere()
        with open(os.devnull, 'wb') as nowhere:  # For what is in the file's buffer.
          os.dup2(nowhere.fileno(), file.fileno())
        file.close()
      raise


class _Nowhere:
  """Stands in for a file that can't be written."""

  def write(self, content):
    pass

  def flush(self):
    pass

  def close(self):
    pass


class WeightsAndBiases:
  """A run of Weights & Biases, in `wandb/` of the workdir unless WANDB_MODE is not 'offline'."""

  def __init__(self, workdir: pathlib.Path, parameters: Mapping[str, Any]):
    mode = os.environ.get('WANDB_MODE', 'offline')
    if mode != 'online':
      os.environ.setdefault('WANDB_ERROR_REPORTING', 'false')
    os.environ.setdefault('WANDB_SILENT', 'true')
    import wandb

    kept = _kept(workdir).get('wandb')
    self._begun = float(_kept(workdir).get('wandb_begun', time.time()))
    self._row = -1
    self._run: Any = wandb.init(
      mode=mode,  # pyright: ignore[reportArgumentType]
      dir=workdir,
      project=os.environ.get('WANDB_PROJECT', 'dilated_jax'),
      name=os.environ.get('WANDB_NAME', workdir.name),
      config=dict(parameters),
      id=kept,
      resume='allow' if kept and mode == 'online' else None,
      settings=wandb.Settings(console='off'),
    )
    self._image, self._stages = wandb.Image, set()
    _keep(workdir, wandb=self._run.id, wandb_begun=f'{self._begun}')
    if mode == 'offline':
      logging.info(
        '%s: wandb sync sends this run to Weights & Biases; with WANDB_MODE=online it is sent as '
        'it goes', workdir / 'wandb',
      )  # fmt: skip

  def write(self, stage, step, values):
    self._log(stage, step, {k: v for k, v in flatten(values, stage) if v is not None})

  def write_image(self, stage, step, name, image):
    self._log(stage, step, {f'{stage}/{name}': self._image(image)})

  def _log(self, stage, step, values):
    # Stages count from 0, but rows of W&B only upwards: in milliseconds, in every part of a run.
    self._row = max(self._row + 1, round(1000 * (time.time() - self._begun)))
    if stage not in self._stages:
      self._run.define_metric(f'{stage}/step', hidden=True)
      self._run.define_metric(f'{stage}/*', step_metric=f'{stage}/step')
      self._stages.add(stage)
    self._run.log({f'{stage}/step': step, **values}, step=self._row)

  def close(self, finished):
    self._run.finish(exit_code=0 if finished else 1)


class MLflow:
  """A run of MLflow, in `mlflow.db` of the workdir unless MLFLOW_TRACKING_URI says otherwise."""

  def __init__(self, workdir: pathlib.Path, parameters: Mapping[str, Any]):
    os.environ.setdefault('MLFLOW_DISABLE_TELEMETRY', 'true')
    with warnings.catch_warnings(action='ignore'):  # What its packages say to each other.
      self._begin(workdir, parameters)

  def _begin(self, workdir, parameters):
    from mlflow import MlflowClient, entities, exceptions

    place = os.environ.get('MLFLOW_TRACKING_URI')
    artifacts = None if place else (workdir / 'mlflow_artifacts').absolute().as_uri()
    self._client: Any = MlflowClient(place or f'sqlite:///{workdir.absolute() / "mlflow.db"}')
    self._metric = entities.Metric
    kept = _kept(workdir).get('mlflow')
    if kept:
      try:
        self._client.update_run(kept, status='RUNNING')
        self._id = kept
        return
      except exceptions.MlflowException as error:
        logging.warning('MLflow lacks run %s (%s): a new one is begun', kept, first_line(error))
    name = os.environ.get('MLFLOW_EXPERIMENT_NAME', 'dilated_jax')
    found = self._client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else self._client.create_experiment(name, artifacts)
    self._id = self._client.create_run(experiment, run_name=workdir.name).info.run_id
    texts = ((_allowed(name), f'{value}') for name, value in flatten(parameters))
    self._client.log_batch(self._id, params=[entities.Param(*text) for text in texts])
    _keep(workdir, mlflow=self._id)

  def write(self, stage, step, values):
    now = time.time_ns() // 10**6
    metrics = [
      self._metric(_allowed(name), float(value), now, step)
      for name, value in flatten(values, stage)
      if value is not None
    ]
    for start in range(0, len(metrics), 1000):  # As many as one call takes.
      self._client.log_batch(self._id, metrics[start : start + 1000])

  def write_image(self, stage, step, name, image):
    self._client.log_image(self._id, image, key=f'{stage}/{name}', step=step)

  def close(self, finished):
    self._client.set_terminated(self._id, 'FINISHED' if finished else 'KILLED')


def _allowed(name: str) -> str:
  """The name with characters that MLflow does not take replaced, of classes for example."""
  return re.sub(r'[^/\w.\- :]', '_', name)


TRACKERS = {'tensorboard': TensorBoard, 'wandb': WeightsAndBiases, 'mlflow': MLflow}
_PACKAGES = {
  'tensorboard': ['tensorboardX'],
  'wandb': ['wandb'],
  'mlflow': ['mlflow', 'sqlalchemy', 'alembic'],
}


def default() -> tuple[str, ...]:
  """TensorBoard, where it can be written."""
  return ('tensorboard',) if importlib.util.find_spec('tensorboardX') else ()


def check(names: Sequence[str]) -> None:
  """Raises an InputError for a tracker that there is not, or whose package is missing."""
  for name in names:
    if name not in TRACKERS:
      raise InputError(f'`trackers` has {name!r}; choose among {", ".join(TRACKERS)}')
    missing = [each for each in _PACKAGES[name] if importlib.util.find_spec(each) is None]
    if missing:
      raise InputError(
        f"`trackers` has {name}, which needs {missing[0]}: pip install 'dilated_jax[{name}]'"
      )


class Writers:
  """All that a run is written to. A tracker that fails is told once and left out from then on."""

  def __init__(
    self, workdir, names: Sequence[str] = (), parameters: Mapping[str, Any] | None = None
  ):
    """Opens `metrics.jsonl` and trackers; use it by `with`.

    Args:
      workdir: folder of the run.
      names: of trackers, keys of `TRACKERS`.
      parameters: of the run, by name.

    Raises:
      InputError: there is no such tracker, its package is missing, or it can't begin.
    """
    check(names)
    workdir = pathlib.Path(workdir)
    self._lines = JsonLines(workdir)
    self._trackers: list[Tracker] = []
    for name in names:
      try:
        self._trackers.append(TRACKERS[name](workdir, parameters or {}))
      except Exception as error:  # Servers, settings, versions: whatever the package raises.
        self._each('close', False)
        raise InputError(f'`trackers`: {name} can not begin: {first_line(error)}') from error

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    self._each('close', kind is None)

  @property
  def take_images(self) -> bool:
    """Whether an image is shown anywhere."""
    return bool(self._trackers)

  def write(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
    """Writes numbers, or tables of them, everywhere; see `Tracker`."""
    self._lines.write(stage, step, values)
    self._each('write', stage, step, values)

  def write_image(self, stage: str, step: int, name: str, image: np.ndarray) -> None:
    """Writes a uint8 (H, W, 3) image wherever it is shown."""
    self._each('write_image', stage, step, name, image)

  def forget_after(self, stage: str, step: int) -> None:
    """Drops lines of the steps of a stage after `step`, which were lost."""
    self._lines.forget_after(stage, step)

  def _each(self, method: str, *arguments) -> None:
    for tracker in tuple(self._trackers):
      try:
        getattr(tracker, method)(*arguments)
      except Exception as error:  # A full disk, a server that is gone: no reason to stop training.
        name = type(tracker).__name__
        logging.warning('%s is left out from here on: %s', name, first_line(error))
        self._trackers.remove(tracker)


def _kept(workdir: pathlib.Path) -> dict[str, str]:
  """Ids of runs that were begun in this workdir."""
  with contextlib.suppress(OSError, ValueError, TypeError):
    return dict(decode_json((workdir / 'trackers.json').read_text()))
  return {}


def _keep(workdir: pathlib.Path, **ids: str) -> None:
  content = json.dumps({**_kept(workdir), **ids}, indent=2)
  write_atomic(workdir / 'trackers.json', content.encode() + b'\n')

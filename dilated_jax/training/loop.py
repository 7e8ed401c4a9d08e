"""A run: the stages of training one after the other, each with its checkpoints and scores.

A workdir holds `metrics.jsonl` (a line a report), and for each stage a folder with `config.json`
(what it is), `checkpoints` and `weights`; `weights` of the workdir itself are those of the last
stage. `train` tells the story: each stage is set up, its steps are run, and it is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
import json
import math
import pathlib
import shutil
import signal
import threading
from typing import Any

from absl import logging
import jax
import numpy as np

from dilated_jax.data import augmentation, pipeline, statistics
from dilated_jax.errors import InputError
from dilated_jax.files import replace_folder, write_atomic
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter, select_parts
from dilated_jax.models.spec import ModelSpec
from dilated_jax.progress import Meter
from dilated_jax.training import (
  checkpoints,
  feature_cache,
  optimizers,
  parallel,
  step as train_step,
)
from dilated_jax.training.config import StageConfig
from dilated_jax.training.run_logger import RunLogger
from dilated_jax.training.stages import STAGES, Stage
from dilated_jax.training.validation import Validation


class Preempted(Exception):
  """The run was asked to end (SIGTERM); its state is saved, and the same command continues it."""


def init_variables(model, seed: int):
  """Fresh variables of a network, made in one compiled program.

  Args:
    model: from `models.create`.
    seed: of the weights.

  Returns:
    Its variables.
  """
  side = 2 * model.margin + model.stride
  # This generator compiles in a tenth of the time of JAX's default, which matters for a program
  # of as many random arrays as layers.
  key = jax.random.key(seed, impl='rbg')
  return jax.jit(model.init)(key, np.zeros((1, side, side, 3), np.float32))


def train(
  configs: Sequence[StageConfig],
  spec: ModelSpec,
  variables,
  source: Sequence,
  validation_source: Sequence,
  classes: LabelSpec,
  workdir,
) -> dict:
  """Trains the stages one after the other; stages that are finished already are skipped.

  Args:
    configs: the stages.
    spec: of the network.
    variables: of the network, to start from.
    source: examples to learn from, at the size at which the network sees images.
    validation_source: examples to choose the best checkpoint by, at their own size; may be empty.
    classes: of the data set.
    workdir: path of the folder of the run.

  Returns:
    The variables of the network, with the best checkpoint of each stage.

  Raises:
    InputError: wrong options or data, or the loss is not finite.
    Preempted: SIGTERM came.

  Each stage leaves in `weights` the network that it has made: 'front_end' the front end alone, the
  others the whole network as far as it is trained.
  """
  workdir = pathlib.Path(workdir)
  if not len(source):
    raise InputError('there is no image to learn from')
  for config in configs:
    check(config, spec)
  validation = Validation(validation_source, classes)
  for config in configs:
    folder = workdir / config.stage
    if (folder / 'weights' / 'model.json').exists():
      logging.info('stage %s is finished: %s', config.stage, folder / 'weights')
      variables = weights_folder.load_pretrained(variables, folder / 'weights')
    else:
      trained = train_stage(config, spec, variables, source, validation, workdir)
      variables = _with_parts(variables, trained)
    if jax.process_index() == 0:
      _copy_weights(folder / 'weights', workdir / 'weights')
  return variables


def train_stage(
  config: StageConfig, spec: ModelSpec, variables, source, validation: Validation, workdir
) -> dict:
  """Trains one stage, or goes on with it; see `train`.

  Returns:
    The variables of the network that the stage has made.
  """
  stage_run = set_up(config, spec, variables, source, validation.classes, workdir)
  with (
    contextlib.closing(RunLogger(workdir, config.stage, config.num_steps)) as logger,
    checkpoints.manager(stage_run.folder / 'checkpoints') as manager,
    _terminated() as terminated,
  ):
    state = run_steps(stage_run, manager, logger, validation, terminated)
    trained = finish(stage_run, manager, state, by_score=bool(validation))
    if terminated():  # After the last step: too late to stop this stage, in time for the next.
      raise Preempted(f'asked to end: {config.stage} is finished')
  return trained


# One stage: set up, run, finish.


@dataclasses.dataclass(frozen=True)
class StageRun:
  """All that the steps of a stage need.

  Attributes:
    config: its settings.
    stage: what it trains, and on what.
    spec: of the network that the stage makes, see `Stage.network`.
    variables: of that network, before the stage.
    source: the examples.
    transform: what is done to each, see `pipeline.batches`.
    runner: the step on all devices.
    state: before the first step.
    learning_rate: the rate as a function of the step.
    folder: of the stage.
  """

  config: StageConfig
  stage: Stage
  spec: ModelSpec
  variables: Any
  source: Sequence
  transform: Callable
  runner: parallel.Runner
  state: train_step.TrainState
  learning_rate: Callable
  folder: pathlib.Path

  def segmenter(self, state: train_step.TrainState) -> Segmenter:
    """The network that the stage has made so far."""
    variables = train_step.merge_variables(self.variables, state)
    return Segmenter.from_spec(self.spec, variables)


def set_up(
  config: StageConfig, spec: ModelSpec, variables, source, classes: LabelSpec, workdir
) -> StageRun:
  """Makes what a stage needs, its frozen features included; see `train` for the arguments."""
  stage = STAGES[config.stage]
  spec = stage.network(spec)
  model = spec.create()
  variables = select_parts(variables, model.parts)
  folder = pathlib.Path(workdir) / stage.name
  examples, transform = _examples(config, stage, model, variables, spec.mean, source, folder)
  class_weights = None
  if config.class_weights != 'none':
    class_weights = statistics.class_weights(source, classes.num_classes, config.class_weights)
  optimizer = optimizers.create(config.optimizer, config.num_steps)
  make_step = functools.partial(
    train_step.make_step,
    model,
    stage,
    optimizer,
    spec.mean,
    loss_resolution=config.loss_resolution,
    class_weights=class_weights,
    grad_accum_steps=config.grad_accum_steps,
  )
  return StageRun(
    config=config,
    stage=stage,
    spec=spec,
    variables=variables,
    source=examples,
    transform=transform,
    runner=_runner(config, make_step),
    state=train_step.create_state(variables, stage, optimizer, jax.random.key(config.seed)),
    learning_rate=optimizers.schedule(config.optimizer, config.num_steps),
    folder=folder,
  )


def run_steps(
  stage_run: StageRun,
  manager,
  logger: RunLogger,
  validation: Validation,
  terminated: Callable[[], bool] = lambda: False,
) -> train_step.TrainState:
  """Runs the steps of a stage, from its latest checkpoint on if there is one.

  Args:
    stage_run: from `set_up`.
    manager: from `checkpoints.manager`.
    logger: of the run.
    validation: scores checkpoints.
    terminated: whether the process was asked to end.

  Returns:
    The state after the last step.

  Raises:
    InputError: the loss is not finite, or far worse than guessing.
    Preempted: `terminated()` was true; the state is saved.
  """
  config, state, runner = stage_run.config, stage_run.state, stage_run.runner
  first = manager.latest_step() or 0
  if first:
    logging.info('%s continues after step %d', config.stage, first)
    state = checkpoints.restore(manager, first, state)
  logger.forget_after(first)
  state = runner.put_state(state)
  batches = pipeline.batches(
    stage_run.source,
    stage_run.transform,
    batch_size=config.batch_size,
    seed=config.seed,
    first=first,
    process=jax.process_index(),
    processes=jax.process_count(),
    threads=config.threads,
  )
  with contextlib.closing(batches):
    meter, measured = Meter(config.num_steps, done=first), None
    limit = 10 * math.log(validation.classes.num_classes)  # Far worse than guessing.
    for step in range(first + 1, config.num_steps + 1):
      # One step runs while the next batch is made ready.
      before = measured
      with meter.waiting():  # For images; the step before is still running meanwhile.
        batch = next(batches)
      state, measured = runner.step(state, runner.put(batch))
      jax.block_until_ready(before)
      meter.update()
      last = step == config.num_steps
      due = last or (bool(config.eval_every) and step % config.eval_every == 0)
      stop = terminated() or manager.reached_preemption(step)
      if step == first + 1 or step % config.log_every == 0 or due or stop:
        values = {name: float(value) for name, value in measured.items()}
        if step == first + 1:
          limit = max(limit, 10 * values['loss'])
        if not all(map(math.isfinite, values.values())) or values['loss'] > limit:
          raise InputError(_diverged(values['loss'], step, stage_run, manager))
        rate = float(stage_run.learning_rate(step - 1))
        logger(step, **values, learning_rate=rate, meter=meter)
      if due or stop:
        score = _score(stage_run, state, logger, validation) if due else -1.0
        checkpoints.save(manager, step, state, score)
      if stop and not last:
        manager.wait_until_finished()
        raise Preempted(f'asked to end: {config.stage} is saved after step {step}')
  manager.wait_until_finished()
  return state


def finish(stage_run: StageRun, manager, state: train_step.TrainState, *, by_score: bool) -> dict:
  """Writes the weights of a stage.

  Args:
    stage_run: from `set_up`.
    manager: from `checkpoints.manager`.
    state: of the same structure as those saved.
    by_score: whether the checkpoint of the best score is taken, or the latest.

  Returns:
    The variables of the network that the stage has made.
  """
  best = manager.best_step() if by_score else manager.latest_step()
  state = checkpoints.restore(manager, best, jax.device_get(state))
  name, steps = stage_run.config.stage, stage_run.config.num_steps
  logging.info('%s: weights of step %d of %d', name, best, steps)
  made = stage_run.segmenter(state)
  if jax.process_index() == 0:
    weights_folder.save_weights(stage_run.folder / 'weights', made.spec, made.variables)
  return made.variables


def check(config: StageConfig, spec: ModelSpec) -> None:
  """Refuses, before anything is trained, what could not be trained when its turn comes.

  Raises:
    InputError: the network lacks the part that the stage trains, or the sizes don't fit.
  """
  model, stage = spec.create(), STAGES[config.stage]
  later = set(stage.trains) - {'front_end'}
  if later and not later & set(model.parts):
    what, option = 'context module', "`context`, as in 'basic'; dilation8 has one"
    if later == {'crf'}:
      what, option = 'CRF-RNN', "`crf`, 'rnn'"
    raise InputError(f'stage {stage.name} trains a {what}; {spec.model} has none: give {option}')
  height, width = config.crop
  on_images = stage.frozen is None
  if on_images and (height % model.stride or width % model.stride):
    raise InputError(f'crop is {height}x{width}; both must be multiples of {model.stride}')
  bands = config.mesh_height if config.parallelism == 'mesh' else 1
  if on_images and 0 < height < 2 * bands * model.stride and bands > 1:
    # XLA's partitioner returns wrong gradients for some maps of which a device holds one row.
    raise InputError(
      f'crop is {height} high: {bands} bands of the mesh need {2 * bands * model.stride} or more'
    )
  if config.batch_size % config.grad_accum_steps:
    raise InputError(
      f'batch_size {config.batch_size} can not be cut into {config.grad_accum_steps} equal parts'
    )


def check_or_save_config(folder, config: dict) -> None:
  """Writes what a stage is into its folder, or checks that it is the same.

  A stage that ended before its first checkpoint has left nothing to protect: it may change.

  Args:
    folder: of the stage.
    config: JSON-able settings, by name.

  Raises:
    InputError: the folder holds a stage with other settings; says which.
  """
  path = pathlib.Path(folder) / 'config.json'
  config = json.loads(json.dumps(config))
  begun = any((path.parent / 'checkpoints').glob('[0-9]*')) or (path.parent / 'weights').exists()
  if path.exists() and begun:
    try:
      old = dict(json.loads(path.read_text()))
    except ValueError as error:
      raise InputError(f'{path}: not the settings of a stage; take another `workdir`') from error
    differences = [
      f'{name} is {config.get(name)!r} and was {old.get(name)!r}'
      for name in sorted(old.keys() | config.keys())
      if old.get(name) != config.get(name)
    ]
    if differences:
      raise InputError(
        f'{folder}: holds another run: {"; ".join(differences)}; take another `workdir`, or the '
        'same settings to continue it'
      )
  if jax.process_index() == 0:
    write_atomic(path, json.dumps(config, indent=2).encode() + b'\n')


def _examples(config, stage, model, variables, mean, source, folder):
  """The source of a stage's examples, and what is done to each."""
  if stage.frozen:
    features = feature_cache.cached_features(
      stage.frozen.network(model),
      variables,
      mean,
      source,
      config.feature_dir or folder / 'features',
      method=stage.frozen.method,
      with_images=stage.frozen.with_images,
    )
    flip = feature_cache.random_flip if config.random_flip else feature_cache.unchanged
    return features, flip
  crop = config.crop
  if not any(crop):  # The whole image: the next multiple of the stride.
    crop = tuple(-(-side // model.stride) * model.stride for side in source[0]['label'].shape)
  options = augmentation.Augmentation(
    crop, model.margin, config.random_flip, config.random_scale, config.color_jitter
  )
  return source, functools.partial(augmentation.augment, options=options)


def _runner(config: StageConfig, make_step: Callable) -> parallel.Runner:
  if config.parallelism == 'mesh':
    return parallel.mesh(make_step, height=config.mesh_height)
  # As many devices as share the batch evenly: a laptop with one image a step works too.
  share = config.batch_size // jax.process_count() // config.grad_accum_steps
  devices = jax.local_devices()
  used = math.gcd(share, len(devices)) if jax.process_count() == 1 else len(devices)
  if used < len(devices):
    logging.warning(
      'only %d of %d devices are used: they must divide the batch of %d evenly',
      used,
      len(devices),
      config.batch_size,
    )
  return parallel.pmap(make_step, devices[:used])


def _score(stage_run, state, logger: RunLogger, validation: Validation) -> float:
  """Mean IoU on the validation images, logged; -1 without them."""
  if not validation:
    return -1.0
  segmenter = stage_run.segmenter(state)
  segmenter = segmenter._replace(variables=parallel.local(segmenter.variables))
  scores = validation.scores(segmenter)
  step = int(state.step)
  logger(step, val_mean_iou=scores['mean_iou'], val_accuracy=scores['pixel_accuracy'])
  if logger.board:
    grid = validation.image_grid(segmenter)
    logger.board.add_image(f'{stage_run.stage.name}/val', grid, step, dataformats='HWC')
  return scores['mean_iou']


def _diverged(loss, step, stage_run, manager) -> str:
  """What to say of a run that has diverged; the last good checkpoint stays."""
  good, config = manager.latest_step(), stage_run.config
  folder = stage_run.folder / 'checkpoints'
  kept = f'{folder} keeps step {good}' if good else 'nothing was saved yet'
  return (
    f'{config.stage} diverged at step {step}: the loss is {loss:g}; most likely the learning rate '
    f'{config.optimizer.learning_rate:g} is too high: try a tenth, `warmup_steps` or '
    f'`grad_clip_norm` with another `workdir` ({kept})'
  )


def _with_parts(variables, trained):
  """Variables of a whole network with the parts of another put in."""
  return {kind: {**by_part, **trained.get(kind, {})} for kind, by_part in variables.items()}


def _copy_weights(source, target):
  """Makes `target` the same weights folder as `source`."""
  temporary = target.with_name(f'.{target.name}.new')
  shutil.rmtree(temporary, ignore_errors=True)
  shutil.copytree(source, temporary)
  replace_folder(temporary, target)


@contextlib.contextmanager
def _terminated():
  """Within, SIGTERM sets a flag and does not end the process; yields a function that reads it."""
  event = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield event.is_set  # Only the main thread may set handlers: a notebook's worker, say.
    return
  if jax.process_count() > 1:
    # JAX's own handler lets all processes agree on a step (`reached_preemption`); ours would hide
    # the signal from it, and each process would stop at a step of its own.
    yield lambda: False
    return
  before = signal.signal(signal.SIGTERM, lambda *_: event.set())
  try:
    yield event.is_set
  finally:
    signal.signal(signal.SIGTERM, before)

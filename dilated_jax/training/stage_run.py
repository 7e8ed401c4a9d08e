"""One stage of a run in its three steps: set up, run the steps, finish. `loop` calls them."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
from fractions import Fraction
import functools
import math
import pathlib
from typing import Any

from absl import logging
import jax

from dilated_jax.data import statistics
from dilated_jax.data.sequences import prefetch, take_evenly
from dilated_jax.errors import InputError
from dilated_jax.evaluation.extremes import Extremes
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models import upsampling, weights_folder
from dilated_jax.models.segmenter import Segmenter, select_parts
from dilated_jax.models.spec import ModelSpec
from dilated_jax.progress import Meter
from dilated_jax.training import (
  checkpoints,
  diagnostics,
  feature_cache,
  inputs,
  memory,
  optimizers,
  parallel,
  step as train_step,
  workdir,
)
from dilated_jax.training.config import StageConfig
from dilated_jax.training.feature_flip import FeatureFlip
from dilated_jax.training.inputs import Input
from dilated_jax.training.measurements import Measurements
from dilated_jax.training.profile import Profile
from dilated_jax.training.run_logger import RunLogger
from dilated_jax.training.stages import STAGES, Stage
from dilated_jax.training.validation import Validation


class Preempted(Exception):
  """The run was asked to end (SIGTERM); its state is saved, and the same command continues it."""


@dataclasses.dataclass(frozen=True)
class StageRun:
  """All that the steps of a stage need.

  Attributes:
    config: its settings.
    stage: what it trains, and on what.
    spec: of the network that the stage makes, see `Stage.network`.
    variables: of that network, before the stage.
    input: where the batches come from.
    runner: steps on all devices.
    state: before the first step.
    learning_rate: the rate as a function of the step.
    folder: of the stage.
    activations: measures them, if they are asked for.
  """

  config: StageConfig
  stage: Stage
  spec: ModelSpec
  variables: Any
  input: Input
  runner: parallel.Runner
  state: train_step.TrainState
  learning_rate: Callable
  folder: pathlib.Path
  activations: diagnostics.Activations | None = None

  def segmenter(self, state: train_step.TrainState) -> Segmenter:
    """The network that the stage has made so far."""
    variables = train_step.merge_variables(self.variables, state)
    return Segmenter.from_spec(self.spec, variables)


def set_up(
  config: StageConfig, spec: ModelSpec, variables, source, classes: LabelSpec, run_folder
) -> StageRun:
  """Makes what a stage needs, its frozen features included; see `train` for the arguments."""
  stage = STAGES[config.stage]
  spec = stage.network(spec)
  model = spec.create()
  variables = select_parts(variables, model.parts)
  folder = pathlib.Path(run_folder) / stage.name
  given = _input(config, stage, model, variables, spec.mean, source, folder)
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
    label_smoothing=config.label_smoothing,
    jaccard_loss=config.jaccard_loss,
    grad_accum_steps=config.grad_accum_steps,
    ema_decay=config.ema_decay,
    frozen=config.optimizer.freezes,
  )
  key = jax.random.key(config.seed)
  average = bool(config.ema_decay)
  return StageRun(
    config=config,
    stage=stage,
    spec=spec,
    variables=variables,
    input=given,
    runner=_runner(config, make_step, given),
    state=train_step.create_state(variables, stage, optimizer, key, average=average),
    learning_rate=jax.jit(optimizers.schedule(config.optimizer, config.num_steps)),
    folder=folder,
    activations=_activations(config, model, spec.mean, source),
  )


def run_steps(
  stage_run: StageRun,
  manager,
  logger: RunLogger,
  validation: Validation,
  terminated: Callable[[], bool] = lambda: False,
  on_checkpoint: Callable[[], None] = lambda: None,
) -> train_step.TrainState:
  """Runs the steps of a stage, from its latest checkpoint on if there is one.

  Args:
    stage_run: from `set_up`.
    manager: from `checkpoints.manager`.
    logger: of the run.
    validation: scores checkpoints.
    terminated: whether the process was asked to end.
    on_checkpoint: called after each checkpoint.

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
  logger.forget_after(first or -1)  # Step 0 is reported again.
  state = runner.put_state(state)
  if not first:
    workdir.forget_scores(stage_run.folder)
    _report_layers(stage_run, state, logger)
  at_once = stage_run.input.steps_per_dispatch(config)
  measured = Measurements(config, stage_run.stage, manager, validation.classes.num_classes, first)
  profile = Profile(stage_run.folder / 'profile', config.profile)
  with contextlib.closing(stage_run.input.batches(config, first)) as batches:
    meter, step, metrics, dispatch = Meter(config.num_steps, done=first), first, None, 0
    while step < config.num_steps:  # All are done where a run was cut before it wrote weights.
      # Checkpoints and scores are of states, which there are only between two dispatches.
      next_due = config.num_steps
      if config.eval_every:
        next_due = min(next_due, step + config.eval_every - step % config.eval_every)
      # Of other numbers each would be one more program to compile.
      count = at_once if step + at_once <= next_due else 1
      # One dispatch runs while the next batches are made ready.
      before = metrics
      profile.before(step, metrics)
      with meter.waiting():  # For images; the dispatch before is still running meanwhile.
        several = [next(batches) for _ in range(count)]
      state, metrics = runner.step(state, runner.put(several))
      jax.block_until_ready(before)
      measured.add(metrics, count)
      meter.update(count)
      done, step = step, step + count
      due = step == next_due
      # Processes agree on the next number that all of them will ask about: that of a dispatch.
      stop = terminated() or manager.reached_preemption(dispatch)
      dispatch += 1
      for number in range(done + 1, step + 1):
        asked = number == step and (due or stop)
        if number == first + 1 or number % config.log_every == 0 or asked:
          values = measured.report(number)
          rate = float(stage_run.learning_rate(number - 1))
          logger(number, **values, learning_rate=rate, meter=meter)
      if due or stop:
        score = -1.0
        _check_finite(stage_run, state, manager, step)
        if due:
          _report_layers(stage_run, state, logger, measured)
          score = _score(stage_run, state, logger, validation)
        checkpoints.save(manager, step, state, score)
        on_checkpoint()
      if stop and step < config.num_steps:
        manager.wait_until_finished()
        raise Preempted(f'asked to end: {config.stage} is saved after step {step}')
    profile.close(step, metrics)
  manager.wait_until_finished()
  return state


def finish(stage_run: StageRun, manager, state: train_step.TrainState, *, by_score: bool) -> dict:
  """Writes the weights of a stage: `weights`, and if they were chosen, `weights_last` beside them.

  Args:
    stage_run: from `set_up`.
    manager: from `checkpoints.manager`.
    state: of the same structure as those saved.
    by_score: whether `weights` are those of the best score, or of the last step.

  Returns:
    The variables of the network that the stage has made, those of `weights`.
  """
  last = manager.latest_step()
  chosen = {'weights_last': last, 'weights': manager.best_step()} if by_score else {'weights': last}
  made = {}
  for name, step in chosen.items():  # `weights` last: a stage that has them is finished.
    found = checkpoints.restore(manager, step, jax.device_get(state))
    made[name] = stage_run.segmenter(found)
    folder = stage_run.folder / name
    score = f', mean IoU {100 * manager.metrics(step)["mean_iou"]:.1f} on val' if by_score else ''
    logging.info('%s: step %d of %d%s', folder, step, stage_run.config.num_steps, score)
    if jax.process_index() == 0:
      weights_folder.save_weights(folder, made[name].spec, made[name].variables)
  return made['weights'].variables


def _input(config, stage, model, variables, mean, source, folder) -> Input:
  """Where the batches of a stage come from."""
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
    return inputs.of_features(config, features, feature_flip(config, stage, model))
  sizes = image_sizes(config, source)
  crop = label_area(config, model, sizes)
  if (count := len(sizes)) > 1:
    logging.info(
      'whole images of %d sizes are trained: %dx%d holds the largest, and around smaller ones is '
      'their border, without labels; `crop` would cut them to one size', count, *crop,
    )  # fmt: skip
  memory.tell(config, model, crop)
  return inputs.of_images(config, source, crop, model.margin, mean)


def _activations(config: StageConfig, model, mean, source) -> diagnostics.Activations | None:
  """What measures activations on a few training images; None where they are not asked for."""
  if not config.activation_images or jax.process_index():
    return None
  examples = take_evenly(source, config.activation_images)
  return diagnostics.Activations(model, mean, [example['image'] for example in examples])


def _report_layers(stage_run: StageRun, state, logger: RunLogger, measured=None) -> None:
  """Logs what there is to say about single layers."""
  if jax.process_index():
    return
  tables = {'layer_drift': diagnostics.identity_drift(stage_run.spec.create(), state.params)}
  if measured:
    names = optimizers.layer_names(state.params)
    norms = measured.layer_gradient_norms()
    tables['layer_gradient_norm'] = dict(zip(names, norms, strict=True))
  if stage_run.activations:
    variables = parallel.local(stage_run.segmenter(state).variables)
    tables['layer_activations'] = stage_run.activations(variables)
  tables = {kind: table for kind, table in tables.items() if table}
  if tables:
    logger.details(int(state.step), **tables)


def _check_finite(stage_run: StageRun, state, manager, step: int) -> None:
  """Refuses to save what no later step could mend, though the loss before it was finite.

  Raises:
    InputError: a weight or a running statistic is NaN or infinite.
  """
  name = weights_folder.not_finite(parallel.local((state.params, state.batch_stats)))
  if name:
    good = manager.latest_step()
    kept = f'{manager.directory} keeps step {good}' if good else 'nothing was saved yet'
    raise InputError(
      f'{stage_run.config.stage} diverged at step {step}: {name.partition("/")[2]} holds NaN or '
      'infinity: try a tenth of the learning rate, `warmup_steps` or `grad_clip_norm` with '
      f'another `workdir` ({kept})'
    )


def feature_flip(config: StageConfig, stage: Stage, model) -> FeatureFlip:
  """How features are mirrored, and labels and images by the pixels that belong to their cells."""
  frozen, random = stage.frozen.network(model), config.augmentation.random_flip
  if stage.frozen.method == '__call__' and frozen.full_size:
    return FeatureFlip(random=random)  # Features of pixels.
  method = upsampling.of_training(model, config.loss_resolution)
  label_offset = upsampling.cell_offset(model, method)
  # A CRF-RNN on pixels upsamples the features as the loss does; one on cells averages their colors.
  image_offset = label_offset if model.full_size else Fraction(model.stride - 1, 2)
  return FeatureFlip(model.stride, label_offset, image_offset, random)


def label_area(config: StageConfig, model, sizes: set[tuple[int, int]]) -> tuple[int, int]:
  """Height and width of the label area of a training image: the crop, or what holds every image.

  Args:
    config: of the stage.
    model: that is trained.
    sizes: from `image_sizes`.
  """
  if all(config.crop):
    return config.crop
  stride = model.stride  # Of whole images the next multiple of it.
  height, width = (-(-max(sides) // stride) * stride for sides in zip(*sizes, strict=True))
  return config.crop[0] or height, config.crop[1] or width


def image_sizes(config: StageConfig, source) -> set[tuple[int, int]]:
  """Sizes of the training images; where all are cut to a crop, none is read."""
  return set() if all(config.crop) else {each['label'].shape for each in prefetch(source)}


def _runner(config: StageConfig, make_step: Callable, given: Input) -> parallel.Runner:
  kept = dict(stored=given.stored, render=given.render)
  if config.parallelism == 'mesh':
    return parallel.mesh(make_step, height=config.mesh_height, **kept)
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
  return parallel.pmap(make_step, devices[:used], **kept)


def _score(stage_run, state, logger: RunLogger, validation: Validation) -> float:
  """Mean IoU on the validation images, logged; -1 without them."""
  if not validation:
    return -1.0
  segmenter = stage_run.segmenter(state)
  segmenter = segmenter._replace(variables=parallel.local(segmenter.variables))
  extremes = Extremes(validation.classes.num_classes)
  scores = validation.scores(segmenter, watch=extremes.add)
  step = int(state.step)
  logger(step, val_mean_iou=scores['mean_iou'], val_accuracy=scores['pixel_accuracy'])
  logger.details(step, val_per_class_iou=scores['per_class_iou'])
  if jax.process_index() == 0:
    workdir.keep_best_scores(stage_run.folder, {'step': step, **scores}, extremes)
  if logger.takes_images:
    logger.image(step, 'val', validation.image_grid(segmenter))
  return scores['mean_iou']

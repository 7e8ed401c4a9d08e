"""A run: the stages of training one after the other, each with its checkpoints and scores.

A workdir holds `metrics.jsonl` (a line a report), and for each stage a folder with `config.json`
(what it is), `checkpoints`, `weights`, and the best scores and images of a validation split
(`val.json`, `val_images.npz`); `weights` of the workdir itself are those of the last stage. Where
`weights` are the best on the validation images, `weights_last` beside them are of the last step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import contextlib
import pathlib
import shutil
import signal
import threading
from typing import Any, Literal

from absl import logging
import jax
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.files import system_errors
from dilated_jax.label_spec import IGNORE, LabelSpec
from dilated_jax.models import upsampling
from dilated_jax.models.pretrained import load_pretrained
from dilated_jax.models.segmenter import select_parts
from dilated_jax.models.spec import ModelSpec
from dilated_jax.models.weights_folder import abstract_variables
from dilated_jax.training import checkpoints, optimizers
from dilated_jax.training.config import StageConfig
from dilated_jax.training.normalization import check_statistics, normalizes
from dilated_jax.training.run_logger import RunLogger
from dilated_jax.training.stage_run import (
  Preempted,
  finish,
  image_sizes,
  label_area,
  run_steps,
  set_up,
)
from dilated_jax.training.stages import STAGES
from dilated_jax.training.trackers import Writers
from dilated_jax.training.unread import check_unread
from dilated_jax.training.validation import Validation
from dilated_jax.training.workdir import copy_weights

__all__ = ['Preempted', 'check', 'init_variables', 'train', 'train_stage']


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
  *,
  score_size: Literal['labels', 'network'] = 'labels',
  on_checkpoint: Callable[[], None] = lambda: None,
  checkpoint_dir=None,
  trackers: Sequence[str] = (),
  parameters: Mapping[str, Any] | None = None,
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
    score_size: of the validation images, as for `evaluation.evaluate`.
    on_checkpoint: called on the first process after each checkpoint and after each stage.
    checkpoint_dir: folder of the checkpoints of all stages, where that is not `workdir`; may be in
      a bucket, gs://BUCKET/FOLDER.
    trackers: names of experiment trackers, see `training.trackers`.
    parameters: what they are told of the run, by name.

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
  check_options(configs, spec)
  for config in configs:
    _check_normalization(config, spec, source)
  _check_labels(source, validation_source)
  validation = Validation(validation_source, classes, score_size)
  finished = [(workdir / config.stage / 'weights' / 'model.json').exists() for config in configs]
  with contextlib.ExitStack() as stack:
    writers = None
    if jax.process_index() == 0 and not all(finished):
      writers = stack.enter_context(Writers(workdir, trackers, parameters))
    for config, is_finished in zip(configs, finished):
      folder = workdir / config.stage
      if is_finished:
        logging.info('stage %s is finished: %s', config.stage, folder / 'weights')
        variables = load_pretrained(spec, variables, folder / 'weights').variables
      else:
        trained = train_stage(
          config, spec, variables, source, validation, workdir, writers,
          on_checkpoint=on_checkpoint, checkpoint_dir=checkpoint_dir,
        )  # fmt: skip
        variables = _with_parts(variables, trained)
      if jax.process_index() == 0:
        if (folder / 'weights_last').exists():
          copy_weights(folder / 'weights_last', workdir / 'weights_last')
        else:
          shutil.rmtree(workdir / 'weights_last', ignore_errors=True)  # Of an earlier stage.
        copy_weights(folder / 'weights', workdir / 'weights')  # Last: they say that all is there.
        on_checkpoint()
  return variables


def train_stage(
  config: StageConfig,
  spec: ModelSpec,
  variables,
  source,
  validation: Validation,
  workdir,
  writers: Writers | None,
  *,
  on_checkpoint: Callable[[], None] = lambda: None,
  checkpoint_dir=None,
) -> dict:
  """Trains one stage, or goes on with it; see `train`, and for `writers` see `RunLogger`.

  Returns:
    The variables of the network that the stage has made.
  """
  stage_run = set_up(config, spec, variables, source, validation.classes, workdir)
  saved = checkpoints.folder_of(checkpoint_dir or workdir, config.stage)
  with (
    system_errors(stage_run.folder / 'checkpoints'),
    contextlib.closing(RunLogger(writers, config.stage, config.num_steps)) as logger,
    checkpoints.manager(saved) as manager,
    _terminated() as terminated,
  ):
    told = on_checkpoint if jax.process_index() == 0 else lambda: None
    state = run_steps(stage_run, manager, logger, validation, terminated, told)
    trained = finish(stage_run, manager, state, by_score=bool(validation))
    if terminated():  # After the last step: too late to stop this stage, in time for the next.
      raise Preempted(f'asked to end: {config.stage} is finished')
  return trained


def check_options(configs: Sequence[StageConfig], spec: ModelSpec) -> None:
  """Refuses options of stages that are wrong whatever the images are.

  Raises:
    InputError: an option is not read, or fits neither the network nor the devices.
  """
  for config in configs:
    check_unread(config)
    check(config, spec)
  _check_multipliers(configs, spec)


def check(config: StageConfig, spec: ModelSpec) -> None:
  """Refuses, before anything is trained, what could not be trained when its turn comes.

  Raises:
    InputError: the network lacks the part that the stage trains, or the sizes don't fit each other
      or the devices.
  """
  check_sizes(config, spec)
  _check_shares(config)


def check_sizes(config: StageConfig, spec: ModelSpec) -> None:
  """The part of `check` that asks for no device: a program that only starts others needs none."""
  model, stage = spec.create(), STAGES[config.stage]
  later = set(stage.trains) - {'front_end'}
  if later and not later & set(model.parts):
    what, option = 'context module', "`context`, as in 'basic'; dilation8 has one"
    if later == {'crf'}:
      what, option = 'CRF-RNN', "`crf`, 'rnn'"
    raise InputError(f'stage {stage.name} trains a {what}; {spec.model} has none: give {option}')
  height, width = config.crop
  on_images = stage.frozen is None
  rest = max(height % model.stride, width % model.stride)
  if on_images and rest > (more := _one_more(config, model)):
    also = ', or one pixel more' if more else ''
    raise InputError(f'`crop={height}x{width}`: both must be multiples of {model.stride}{also}')
  bands = config.mesh_height if config.parallelism == 'mesh' else 1
  if on_images and 0 < height < 2 * bands * model.stride and bands > 1:
    # XLA's partitioner returns wrong gradients for some maps of which a device holds one row.
    raise InputError(
      f'`crop={height}x{width}`: {bands} bands of the mesh need a height of '
      f'{2 * bands * model.stride} or more'
    )
  if config.batch_size % config.grad_accum_steps:
    raise InputError(
      f'`batch_size={config.batch_size}` can not be cut into equal parts by '
      f'`grad_accum_steps={config.grad_accum_steps}`'
    )


def _check_shares(config: StageConfig) -> None:
  """Refuses a batch that processes and devices can't share evenly."""
  # Several processes use all their devices, one process as many as share the batch evenly.
  processes, parts = jax.process_count(), config.grad_accum_steps
  shares = processes
  if processes > 1 and config.parallelism == 'pmap':
    shares = jax.device_count() * parts
  if config.batch_size % shares:
    raise InputError(
      f'`batch_size={config.batch_size}` can not be shared evenly by {jax.device_count()} devices '
      f'of {processes} processes in {parts} parts each (`grad_accum_steps`): take a multiple of '
      f'{shares}'
    )


def _check_labels(source: Sequence, validation_source: Sequence) -> None:
  """Refuses images of which no pixel has a class; as a rule the first one has."""
  for examples, what in ((source, 'to learn'), (validation_source, 'to choose by')):
    if len(examples) and not any((example['label'] != IGNORE).any() for example in examples):
      of = 'training' if examples is source else 'validation'
      raise InputError(f'no pixel of the {of} images has a class: nothing {what}')


def _check_normalization(config: StageConfig, spec: ModelSpec, source: Sequence) -> None:
  """Refuses statistics over one value in a stage that trains on images."""
  stage = STAGES[config.stage]
  if stage.frozen is not None:  # Trains no layer that normalizes.
    return
  network = stage.network(spec).without_crf().create()
  if normalizes(network):  # Else no image needs to be read for it.
    area = label_area(config, network, image_sizes(config, source))
    check_statistics(network, area, config.batch_size // config.grad_accum_steps)


def _one_more(config: StageConfig, model) -> int:
  """1 where crops of 8 n + 1 pixels fit: cells lie at pixels 0, 8, ..., 8 n; else 0."""
  method = upsampling.of_training(model, config.loss_resolution)
  fits = method == 'corner_logits' and 'crf' not in model.parts and config.parallelism == 'pmap'
  return int(fits)


def _check_multipliers(configs: Sequence[StageConfig], spec: ModelSpec) -> None:
  """Refuses factors on the learning rate of layers that no stage trains.

  Raises:
    InputError: there is one; names the layers that are trained.
  """
  if not any(config.optimizer.lr_multipliers for config in configs):
    return  # Without tracing the network.
  trained = {part for config in configs for part in STAGES[config.stage].trains}
  parameters = select_parts(abstract_variables(spec.create()), trained)['params']
  layers = optimizers.layer_names(parameters)
  for unused in (config.optimizer.unused_multipliers(layers) for config in configs):
    if unused:
      listed = layers if len(layers) < 40 else [*layers[:12], '...', *layers[-24:]]
      raise InputError(
        f'`lr_multipliers` has {unused[0]!r}, which fits none of the layers that are trained: '
        f'{", ".join(listed)}'
      )


def _with_parts(variables, trained):
  """Variables of a whole network with the parts of another put in."""
  return {kind: {**by_part, **trained.get(kind, {})} for kind, by_part in variables.items()}


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

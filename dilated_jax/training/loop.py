"""A run: the stages of training one after the other, each with its checkpoints and scores.

A workdir holds `metrics.jsonl` (a line a report), and for each stage a folder with `config.json`
(what it is), `checkpoints` and `weights`; `weights` of the workdir itself are those of the last
stage.
"""

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

from absl import logging
import jax
import numpy as np

from dilated_jax import evaluation, inference
from dilated_jax.data import augmentation, pipeline, sequences, statistics
from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics
from dilated_jax.files import replace_folder, write_atomic
from dilated_jax.images import visualization
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models import weights_folder
from dilated_jax.models.spec import ModelSpec
from dilated_jax.progress import Meter
from dilated_jax.training import (
  checkpoints,
  feature_cache,
  optimizers,
  parallel,
  stages,
  step as train_step,
)
from dilated_jax.training.run_logger import RunLogger


@dataclasses.dataclass(frozen=True)
class StageConfig:
  """One stage of training.

  Attributes:
    stage: 'front_end', 'context' or 'joint', see `training.STAGES`.
    num_steps: optimizer steps.
    batch_size: pictures a step, over all devices and processes.
    crop: height and width of the label area of a training picture; the network sees its margin on
      every side besides. (0, 0) takes the size of the first picture. Not used on feature maps.
    optimizer: see `optimizers.Options`.
    loss_resolution: 'grid' or 'full', see `training.make_step`.
    class_weights: 'none', or a kind of `input.class_weights`.
    grad_accum_steps: parts into which a batch is cut to save memory.
    mirror, scale, color: augmentation, see `input.Augmentation`; feature maps are only mirrored.
    seed: of the weights, the order of the pictures, augmentation and dropout.
    parallelism: 'pmap' or 'mesh', see `parallel`.
    mesh_height: bands of rows into which 'mesh' divides a picture.
    log_every, eval_every: steps between reports, and between checkpoints with their scores on the
      validation pictures; eval_every 0 does that at the end alone.
    threads: that read and transform pictures.
    feature_dir: folder of the front end's maps; None: a folder of the stage.
  """

  stage: str
  num_steps: int
  batch_size: int = 8
  crop: tuple[int, int] = (0, 0)
  optimizer: optimizers.Options = optimizers.Options()  # noqa: RUF009 (frozen)
  loss_resolution: str = 'grid'
  class_weights: str = 'none'
  grad_accum_steps: int = 1
  random_flip: bool = True
  random_scale: tuple[float, float] = (1.0, 1.0)
  color_jitter: float = 0.0
  seed: int = 0
  parallelism: str = 'pmap'
  mesh_height: int = 1
  log_every: int = 20
  eval_every: int = 0
  threads: int = 4
  feature_dir: str | None = None


class Preempted(Exception):
  """The run was asked to end (SIGTERM); its state is saved, the same command goes on with it."""


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


def run(
  configs: Sequence[StageConfig],
  spec: ModelSpec,
  variables,
  train: Sequence,
  val: Sequence,
  classes: LabelSpec,
  workdir,
) -> dict:
  """Trains the stages one after the other; stages that are finished already are skipped.

  Args:
    configs: the stages.
    spec: of the network; its model, mean and upsampling are used, and it goes into the weights.
    variables: to start from.
    train: pictures to learn from, at the size the network sees them.
    val: pictures to choose the best checkpoint by, at their own size; may be empty.
    classes: of the data set.
    workdir: folder of the run.

  Returns:
    The variables of the best checkpoint of the last stage.

  Raises:
    InputError: wrong options or data, or the loss is not finite.
    Preempted: SIGTERM came.

  What a stage leaves in `weights` is what it has made: after 'front_end' the front end alone, after
  the others the whole network.
  """
  workdir = pathlib.Path(workdir)
  if not len(train):
    raise InputError('there is no picture to learn from')
  for config in configs:
    _check(config, spec, variables)
  for config in configs:
    folder = workdir / config.stage
    if (folder / 'weights' / 'model.json').exists():
      logging.info('stage %s is finished: %s', config.stage, folder / 'weights')
      variables = weights_folder.load_pretrained(variables, folder / 'weights')
    else:
      variables = run_stage(config, spec, variables, train, val, classes, workdir)
    if jax.process_index() == 0:
      _copy_weights(folder / 'weights', workdir / 'weights')
  return variables


def run_stage(
  config: StageConfig, spec: ModelSpec, variables, train, val, classes, workdir
) -> dict:
  """Trains one stage; see `run`."""
  stage, everything = stages.STAGES[config.stage], variables
  if 'crf' not in stage.trains:
    spec = spec.without_crf()
    variables = {
      kind: {part: tree for part, tree in parts.items() if part != 'crf'}
      for kind, parts in variables.items()
    }
  model = spec.create()
  folder = pathlib.Path(workdir) / stage.name
  source, transform = _examples(config, model, stage, spec, variables, train, folder)
  weights = None
  if config.class_weights != 'none':
    weights = statistics.class_weights(train, classes.num_classes, config.class_weights)
  optimizer = optimizers.create(config.optimizer, config.num_steps)
  rate = optimizers.schedule(config.optimizer, config.num_steps)
  make = functools.partial(
    train_step.make_step,
    model,
    stage,
    optimizer,
    spec.mean,
    loss_resolution=config.loss_resolution,
    class_weights=weights,
    grad_accum_steps=config.grad_accum_steps,
  )
  runner = _runner(config, make)
  state = train_step.create_state(variables, stage, optimizer, jax.random.key(config.seed))
  report = RunLogger(workdir, stage.name, config.num_steps)

  def result(state):
    """The spec and the variables of the network that this stage has made so far."""
    whole = train_step.merge_variables(variables, state)
    if stage.method == 'scores':
      return spec.front_end(), {kind: {'front_end': whole[kind]['front_end']} for kind in whole}
    return spec, whole

  def score(state):
    """Mean IoU on the validation pictures; -1 without them."""
    if not len(val):
      return -1.0
    made, found = result(state)
    network, found = made.create(), parallel.local(found)
    scores = evaluate(network, found, made, val, classes)
    if scores['mean_iou'] is None:
      raise InputError('no pixel of the validation pictures has a class: nothing to choose by')
    step = int(state.step)
    report(step, val_mean_iou=scores['mean_iou'], val_accuracy=scores['pixel_accuracy'])
    if report.board:
      shown = [val[i] for i in range(min(4, len(val)))]
      report.board.add_image(
        f'{stage.name}/val', _image_grid(network, found, made, shown), step, dataformats='HWC'
      )
    return scores['mean_iou']

  with (
    contextlib.closing(report),
    checkpoints.manager(folder / 'checkpoints') as manager,
    _terminated() as terminated,
  ):
    first = manager.latest_step() or 0
    if first:
      logging.info('%s goes on after step %d', stage.name, first)
      state = checkpoints.restore(manager, first, state)
    report.forget_after(first)
    state = runner.put_state(state)
    batches = pipeline.batches(
      source,
      transform,
      batch_size=config.batch_size,
      seed=config.seed,
      first=first,
      process=jax.process_index(),
      processes=jax.process_count(),
      threads=config.threads,
    )
    with contextlib.closing(batches):
      meter, measured = Meter(config.num_steps, done=first), None
      limit = 10 * math.log(classes.num_classes)  # Far worse than guessing.
      for step in range(first + 1, config.num_steps + 1):
        # One step runs while the next batch is made ready.
        before = measured
        with meter.waiting():  # For pictures; the step before is still running meanwhile.
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
            raise InputError(_diverged(values['loss'], step, folder, manager, config))
          report(step, **values, learning_rate=float(rate(step - 1)), meter=meter)
        if due or stop:
          mean_iou = score(state) if due else -1.0
          checkpoints.save(manager, step, state, mean_iou)
        if stop and not last:
          manager.wait_until_finished()
          raise Preempted(f'asked to end: {stage.name} is saved after step {step}')
    manager.wait_until_finished()
    best = manager.best_step() if len(val) else manager.latest_step()
    state = checkpoints.restore(manager, best, jax.device_get(state))
  logging.info('%s: weights of step %d of %d', stage.name, best, config.num_steps)
  if jax.process_index() == 0:
    weights_folder.save_weights(folder / 'weights', *result(state))
  if terminated():  # After the last step: too late to stop this stage, in time for the next.
    raise Preempted(f'asked to end: {stage.name} is finished')
  return train_step.merge_variables(everything, state)


def evaluate(model, variables, spec, source, classes, **options) -> dict:
  """Scores a network, every process on its share of the pictures; see `inference.evaluate`."""
  indices = range(jax.process_index(), len(source), jax.process_count())
  share = sequences.Subset(source, indices)
  total = np.zeros((classes.num_classes, classes.num_classes), np.int64)
  if len(share):
    scores = evaluation.evaluate(
      model, variables, spec, share, classes, show_progress=False, **options
    )
    total += np.array(scores['confusion'], np.int64)
  total = parallel.gather_sum(total)
  return metrics.scores(total, classes.names)


def _image_grid(model, variables, spec, examples):
  """Pictures, truths and predictions, for TensorBoard."""
  rows = []
  for example in examples:
    labels = inference.label_maps(model, variables, spec, example['image'][None])[0]
    maps = (visualization.colorize(ids, spec.palette) for ids in (example['label'], labels))
    rows.append([example['image'], *maps])
  return visualization.image_grid(rows, ['picture', 'truth', 'prediction'])


def _check(config, spec, variables):
  """Refuses, before anything is trained, what could not be trained when its turn comes."""
  model, stage = spec.create(), stages.STAGES[config.stage]
  behind = set(stage.trains) - {'front_end'}
  if behind and not behind & set(variables['params']):
    what, give = 'context module', '--model=dilation8 has, and so have others with --context=basic'
    if behind == {'crf'}:
      what, give = 'CRF-RNN', '--crf=rnn gives it one'
    raise InputError(f'stage {stage.name} trains a {what}; {spec.model} has none: {give}')
  height, width = config.crop
  if stage.reads == 'image' and (height % model.stride or width % model.stride):
    raise InputError(f'crop is {height}x{width}; both must be multiples of {model.stride}')
  bands = config.mesh_height if config.parallelism == 'mesh' else 1
  if stage.reads == 'image' and 0 < height < 2 * bands * model.stride and bands > 1:
    # XLA's partitioner returns wrong gradients for some maps of which a device holds one row.
    raise InputError(
      f'crop is {height} high: {bands} bands of the mesh need {2 * bands * model.stride} or more'
    )
  if config.batch_size % config.grad_accum_steps:
    raise InputError(
      f'batch_size {config.batch_size} can not be cut into {config.grad_accum_steps} equal parts'
    )


def _examples(config, model, stage, spec, variables, train, folder):
  """The source of a stage's examples, and what is done to each."""
  if stage.reads == 'features':
    maps = feature_cache.cached_features(
      getattr(model, 'network', model),
      variables,
      spec.mean,
      train,
      config.feature_dir or folder / 'features',
      whole=stage.method == 'structure',
    )
    return maps, feature_cache.random_flip if config.random_flip else feature_cache.unchanged
  crop = config.crop if any(config.crop) else train[0]['label'].shape
  # The whole picture where no crop is asked for: the next multiple of the stride.
  if not any(config.crop):
    crop = tuple(-(-side // model.stride) * model.stride for side in crop)
  options = augmentation.Augmentation(
    crop, model.margin, config.random_flip, config.random_scale, config.color_jitter
  )
  return train, functools.partial(augmentation.augment, options=options)


def _runner(config: StageConfig, make: Callable) -> parallel.Runner:
  if config.parallelism == 'mesh':
    return parallel.mesh(make, height=config.mesh_height)
  # As many devices as share the batch evenly: a laptop with one picture a step works too.
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
  return parallel.pmap(make, devices[:used])


def _diverged(loss, step, folder, manager, config) -> str:
  """What to tell of a run that has diverged; the last good checkpoint stays."""
  good = manager.latest_step()
  kept = f'{folder}/checkpoints keeps step {good}' if good else 'nothing was saved yet'
  return (
    f'{config.stage} diverged at step {step}: the loss is {loss:g}; most likely the learning rate '
    f'{config.optimizer.learning_rate:g} is too high: try a tenth, --warmup_steps or '
    f'--grad_clip_norm with another --workdir ({kept})'
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
      raise InputError(f'{path}: not the settings of a stage; take another --workdir') from error
    differences = [
      f'{name} is {config.get(name)!r} and was {old.get(name)!r}'
      for name in sorted(old.keys() | config.keys())
      if old.get(name) != config.get(name)
    ]
    if differences:
      raise InputError(
        f'{folder}: holds another run: {"; ".join(differences)}; take another --workdir, or the '
        'same settings to go on'
      )
  if jax.process_index() == 0:
    write_atomic(path, json.dumps(config, indent=2).encode() + b'\n')


def _copy_weights(source, target):
  """Makes `target` the same weights folder as `source`."""
  temporary = target.with_name(f'.{target.name}.new')
  shutil.rmtree(temporary, ignore_errors=True)
  shutil.copytree(source, temporary)
  replace_folder(temporary, target)


@contextlib.contextmanager
def _terminated():
  """Within, SIGTERM sets a flag instead of ending the process; yields a function that tells it."""
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

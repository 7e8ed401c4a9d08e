"""Trains a network in the paper's stages, evaluates it, and resumes where it stopped.

  dilated-jax train --workdir=/tmp/run --dataset=scenes --stage=front_end,context
  dilated-jax train --workdir=/tmp/run --dataset=folder --data_dir=FOLDER

FOLDER holds your own pictures and masks, in images/ and labels/; classes, mean and splits that it
does not state are found, told and written to classes.json in the workdir.

The same command goes on with a run that was interrupted. Options of a stage take one value for all
stages, or one for each, separated by commas.
"""

import dataclasses
import pathlib

from absl import flags, logging
import jax
import numpy as np

from dilated_jax import data, models
from dilated_jax.data import sequences, statistics
from dilated_jax.errors import InputError
from dilated_jax.files import format_json, write_atomic
from dilated_jax.models import weights_folder
from dilated_jax.models.spec import ModelSpec
from dilated_jax.training import loop, optimizers, stages
from dilated_jax.training.config import StageConfig
from dilated_jax.training.workdir import check_or_save_config

from . import cli, networks

_STAGES = tuple(stages.STAGES)
_CLASS_WEIGHTS = ('none', *statistics.CLASS_WEIGHTS)


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}

  # What is run
  flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True, **into)
  flags.DEFINE_enum('dataset', 'scenes', data.NAMES, 'Data set.', **into)
  flags.DEFINE_string(
    'data_dir', None,
    'Folder of prepared data sets (default: as TFDS), or for --dataset=folder that of your own.',
    **into,
  )  # fmt: skip
  flags.DEFINE_string('manual_dir', None, 'Folder of the raw data set, to prepare it from.', **into)
  flags.DEFINE_string('train_split', 'train', 'Pictures to learn from.', **into)
  flags.DEFINE_string(
    'val_split', 'val', 'Pictures to choose the best weights by; empty: none.', **into
  )
  flags.DEFINE_multi_string(
    'init', None, 'Weights folder to start from, wholly or in parts.', **into
  )
  flags.DEFINE_list('stage', ['front_end'], f'Stages, in order: {", ".join(_STAGES)}.', **into)
  flags.DEFINE_integer('seed', 0, 'Of weights, order, augmentation and dropout.', 0, **into)

  networks.define_flags(values)
  for flag in networks.FLAGS:  # Defined elsewhere, but flags of this command.
    flags.declare_key_flag(flag, values)

  # The stages
  flags.DEFINE_list('num_steps', ['1000'], 'Steps.', **into)
  flags.DEFINE_list('batch_size', ['8'], 'Pictures a step, over all devices.', **into)
  flags.DEFINE_list(
    'crop', ['0'], 'Label area of a training picture, HxW; 0: the whole picture.', **into
  )
  flags.DEFINE_list('learning_rate', ['1e-3'], 'Highest learning rate.', **into)
  flags.DEFINE_list('momentum', ['0.9'], 'Momentum of sgd and caffe.', **into)
  flags.DEFINE_enum(
    'optimizer',
    'caffe',
    ('caffe', 'sgd', 'adamw'),
    'See dilated_jax/training/optimizers.py.',
    **into,
  )
  flags.DEFINE_enum(
    'schedule', 'constant', ('constant', 'step', 'poly', 'cosine'), 'Learning rate.', **into
  )
  flags.DEFINE_integer('step_size', 100_000, 'Steps of the schedule "step".', lower_bound=1, **into)
  flags.DEFINE_integer(
    'warmup_steps', 0, 'Steps in which the rate rises from 0.', lower_bound=0, **into
  )
  flags.DEFINE_float('weight_decay', 5e-4, 'On kernels.', lower_bound=0.0, **into)
  flags.DEFINE_float(
    'bias_lr_multiplier', 2.0, 'Factor on the learning rate of biases.', lower_bound=0.0, **into
  )
  flags.DEFINE_float(
    'grad_clip_norm', 0.0, 'Largest norm of the gradient; 0: no limit.', lower_bound=0.0, **into
  )
  flags.DEFINE_integer(
    'grad_accum_steps', 1, 'Parts of a batch, to save memory.', lower_bound=1, **into
  )
  flags.DEFINE_enum(
    'loss_resolution',
    'grid',
    ('grid', 'full'),
    'Loss on the network grid, or on all pixels.',
    **into,
  )
  flags.DEFINE_list('class_weights', ['none'], f'In the loss: {", ".join(_CLASS_WEIGHTS)}.', **into)
  flags.DEFINE_float(
    'image_scale', 1.0, 'Size at which the network sees pictures.', 0.01, 1.0, **into
  )
  flags.DEFINE_bool('random_flip', True, 'Mirror every other picture.', **into)
  flags.DEFINE_list('random_scale', ['1', '1'], 'Range of the random zoom.', **into)
  flags.DEFINE_float('color_jitter', 0.0, 'Strength of the color jitter.', 0.0, 1.0, **into)

  # How it is run
  flags.DEFINE_enum('parallelism', 'pmap', ('pmap', 'mesh'), 'How devices share the work.', **into)
  flags.DEFINE_integer(
    'mesh_height', 1, 'Bands of rows of a picture with mesh.', lower_bound=1, **into
  )
  flags.DEFINE_bool('distributed', False, 'Run on several hosts, this command on each.', **into)
  flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, off a TPU pod.', **into)
  flags.DEFINE_integer('processes', None, 'Number of processes, off a TPU pod.', **into)
  flags.DEFINE_integer('process', None, 'Number of this process, off a TPU pod.', **into)
  flags.DEFINE_integer('log_every', 20, 'Steps between reports.', lower_bound=1, **into)
  flags.DEFINE_integer(
    'eval_every', 500, 'Steps between checkpoints; 0: at the end.', lower_bound=0, **into
  )
  flags.DEFINE_string('feature_dir', None, 'Folder of the maps of a frozen front end.', **into)
  flags.DEFINE_integer('threads', 4, 'That read pictures.', lower_bound=1, **into)


# One value a stage; each stage remembers its own.
_EACH = ('stage', 'learning_rate', 'momentum')
# What tells how a run is done, not what it is, may change when it is taken up again.
_FREE = (
  'workdir', 'data_dir', 'manual_dir', 'parallelism', 'mesh_height', 'distributed', 'coordinator',
  'processes', 'process', 'log_every', 'threads', 'feature_dir',
)  # fmt: skip


def main(values=flags.FLAGS):
  if '://' in values.workdir:
    raise InputError(f'--workdir={values.workdir}: give a folder; hosts of a pod share one by NFS')
  if values.distributed:
    try:
      jax.distributed.initialize(values.coordinator, values.processes, values.process)
    except ValueError as error:
      raise InputError(
        f'--distributed: {error}; off a TPU pod give --coordinator, --processes and --process'
      ) from error
  elif values.coordinator:
    raise InputError('--coordinator is for several hosts; give --distributed too')
  workdir = pathlib.Path(values.workdir).absolute()
  configs = stage_configs(values)
  options = networks.options(values)
  if options.get('crf') == 'rnn' and values.loss_resolution == 'full':
    options['crf_rnn_upsampling'] = 'deconvolution'
  load = dict(data_dir=values.data_dir, manual_dir=values.manual_dir)
  classes = data.classes(values.dataset, **load)
  found = data.describe_folder(values.dataset, **load)
  models.create(values.model, classes.num_classes, **options)  # Wrong options end here.
  settings = {flag.name: flag.value for flag in _own_flags(values)}
  if found:
    settings['pictures'] = found['detected']['fingerprint']  # Others would make it another run.
  for config in configs:
    # Stages may share a workdir from command to command; each has settings of its own.
    own = {name: value for name, value in settings.items() if name not in _FREE + _EACH}
    own |= {name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE}
    check_or_save_config(workdir / config.stage, own)
  if jax.process_index() == 0:
    lines = [flag.serialize() for flag in _own_flags(values) if flag.value is not None]
    write_atomic(workdir / 'flags.txt', '\n'.join(lines).encode() + b'\n')
    if found:
      write_atomic(workdir / 'classes.json', format_json(weighed(found)))
  for note in found['detected']['notes'] if found else ():
    logging.info('%s', note)

  # Data
  train = data.load(values.dataset, values.train_split, **load)
  val = data.load(values.dataset, values.val_split, **load) if values.val_split else []
  train = sequences.cache_in_memory(sequences.downscale(train, values.image_scale))

  # Network
  spec = ModelSpec(
    model=values.model,
    options=options,
    classes=classes.names,
    palette=classes.palette,
    mean=classes.mean,
    image_scale=values.image_scale,
    upsampling='deconvolution' if values.loss_resolution == 'full' else 'corner',
    dataset=values.dataset,
  )
  variables = loop.init_variables(spec.create(), values.seed)
  for folder in starting_points(values, workdir):
    variables = weights_folder.load_pretrained(variables, folder)
  logging.info(
    '%s: %d parameters, %d training pictures, %d devices',
    values.model,
    sum(x.size for x in jax.tree.leaves(variables['params'])),
    len(train),
    jax.device_count(),
  )

  try:
    loop.train(configs, spec, variables, train, val, classes, workdir)
  except loop.Preempted as reason:
    logging.info('%s; the same command goes on from there', reason)
    return
  print(f'weights: {workdir / "weights"}')


def weighed(found: dict) -> dict:
  """What was found about a folder, with class weights."""
  detected = found['detected']
  pixels, image_pixels = (np.array(detected[f'train_{of}']) for of in ('pixels', 'image_pixels'))
  counts = statistics.LabelCounts(pixels, image_pixels, ignored=0, total=0)
  weights = {
    kind: np.round(statistics.weights_from_counts(counts, kind), 4).tolist()
    for kind in statistics.CLASS_WEIGHTS
  }
  return found | {'detected': detected | {'class_weights': weights}}


def starting_points(values, workdir) -> list:
  """Weights folders to start from: those of --init, or of stages that the workdir has already."""
  first = values.stage[0]
  if values.init or first == 'front_end':
    return values.init or []
  earlier = [workdir / stage / 'weights' for stage in _STAGES[: _STAGES.index(first)]]
  found = [folder for folder in earlier if (folder / 'model.json').exists()]
  if not found and first in ('context', 'crf'):
    raise InputError(
      f'--stage={first} needs a trained front end: give --init=FOLDER, or --stage=front_end,{first}'
    )
  return found


def stage_configs(values) -> list[StageConfig]:
  """The stages of the flags."""
  names = values.stage
  for name in names:
    if name not in _STAGES:
      raise InputError(f'--stage={name}: no such stage; choose among {", ".join(_STAGES)}')
  if len(set(names)) < len(names):
    raise InputError(f'--stage={",".join(names)}: a stage can be run once')
  if not names:
    raise InputError(f'--stage names none; choose among {", ".join(_STAGES)}')
  random_scale = tuple(cli.parsed('random_scale', text, float) for text in values.random_scale)
  if len(random_scale) != 2:
    raise InputError(
      f'--random_scale has {len(random_scale)} values; give the smallest and the largest'
    )
  shared = {f.name for f in dataclasses.fields(StageConfig)} & set(values)
  shared -= {
    'stage',
    'optimizer',
    'num_steps',
    'batch_size',
    'crop',
    'random_scale',
    'class_weights',
  }
  optimizer = {f.name for f in dataclasses.fields(optimizers.Options)} & set(values)
  optimizer -= {'learning_rate', 'momentum'}
  columns = zip(
    names,
    _each(values, 'num_steps', len(names), cli.count),
    _each(values, 'batch_size', len(names), cli.count),
    _each(values, 'crop', len(names), cli.size),
    _each(values, 'learning_rate', len(names), float),
    _each(values, 'momentum', len(names), float),
    _each(values, 'class_weights', len(names), _weights),
    strict=True,
  )
  return [
    StageConfig(
      stage=name,
      num_steps=steps,
      batch_size=batch,
      crop=crop,
      random_scale=random_scale,
      class_weights=class_weights,
      optimizer=optimizers.Options(
        name=values.optimizer,
        learning_rate=rate,
        momentum=momentum,
        **{option: values[option].value for option in optimizer},
      ),
      **{option: values[option].value for option in shared},
    )
    for name, steps, batch, crop, rate, momentum, class_weights in columns
  ]


def _each(values, name, count, convert):
  """The values of a list flag, one for each stage."""
  given = [cli.parsed(name, text, convert) for text in values[name].value]
  if len(given) not in (1, count):
    raise InputError(f'--{name} has {len(given)} values for {count} stages; give 1 or {count}')
  return given * count if len(given) == 1 else given


def _weights(text):
  if text not in _CLASS_WEIGHTS:
    raise ValueError(f'choose {", ".join(_CLASS_WEIGHTS)}')
  return text


def _own_flags(values):
  return values.get_key_flags_for_module('__main__' if __name__ == '__main__' else __name__)


if __name__ == '__main__':
  define_flags()
  cli.run(main)

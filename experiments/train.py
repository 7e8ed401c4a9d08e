"""Trains a network in the paper's stages, evaluates it, and resumes where it stopped.

  dilated-jax train --workdir=/tmp/run --dataset=scenes --stage=front_end,context
  dilated-jax train --workdir=/tmp/run --dataset=folder --data_dir=FOLDER

FOLDER holds your own pictures and masks, in images/ and labels/; classes, mean and splits that it
does not state are found, told and written to classes.json in the workdir.

The same command goes on with a run that was interrupted. Options of a stage take one value for all
stages, or one for each, separated by commas.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib

from absl import flags, logging
import numpy as np

from dilated_jax import data, models, training
from dilated_jax.errors import InputError
from dilated_jax.files import format_json, write_atomic
from dilated_jax.options import describe
from dilated_jax.training.config import StageConfig
from dilated_jax.training.stages import STAGES
from dilated_jax.training.trackers import TRACKERS

from . import about, bucket, cli, hosts, networks, option_flags, path_flags, starting_weights
from .reports import single


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}

  # What is run
  path_flags.define('workdir', None, 'Folder of the run.', required=True, **into)
  flags.DEFINE_enum('dataset', 'scenes', data.NAMES, 'Data set.', **into)
  path_flags.define(
    'data_dir', None,
    'Folder of prepared data sets (default: as TFDS), or for --dataset=folder that of your own.',
    **into,
  )  # fmt: skip
  path_flags.define('manual_dir', None, 'Folder of the raw data set, to prepare it from.', **into)
  flags.DEFINE_string('train_split', 'train', 'Pictures to learn from.', **into)
  flags.DEFINE_string(
    'val_split', 'val', 'Pictures to choose the best weights by; empty: none.', **into
  )
  path_flags.define_multi(
    'init',
    None,
    'Weights folder or file (as of convert) to start from, wholly or in parts.',
    **into,
  )
  flags.DEFINE_list('stage', ['front_end'], f'Stages, in order: {", ".join(STAGES)}.', **into)
  flags.DEFINE_float(
    'image_scale', 1.0, 'Size at which the network sees images.', 0.01, 1.0, **into
  )
  flags.DEFINE_enum(
    'score_size',
    'labels',
    ('labels', 'network'),
    'Size of the scores on --val_split: of the labels, or at which the network sees images.',
    **into,
  )
  flags.DEFINE_list(
    'mean', None,
    'RGB mean that is subtracted from images, R,G,B of 0 to 255 (default: that of the weights of '
    '--init if they are trained, else that of the data set).', **into,
  )  # fmt: skip
  networks.define_flags(values)
  option_flags.define_flags(StageConfig, values)

  flags.DEFINE_list(
    'trackers', None,
    f'Experiment trackers: {", ".join(TRACKERS)} (default: tensorboard, where it is installed).',
    **into,
  )  # fmt: skip
  hosts.define_flags(values)


# What says how a run is done, not what it is, may change when it is continued; so may the options
# of a stage that are declared so.
_MAY_CHANGE = ('workdir', 'data_dir', 'manual_dir', 'trackers', *hosts.NAMES)


def main(values=flags.FLAGS):
  training.trackers.check(trackers_of(values))
  path_flags.check_folder(values, 'workdir', at_once=True)
  bucket.is_in_bucket(values.workdir)
  with hosts.joined(values):
    run(values)


def run(values):
  """Trains, in one of several processes or in the only one."""
  import jax  # Here, because --help does not need it.

  copy = None
  workdir = pathlib.Path(values.workdir).absolute()
  if bucket.is_in_bucket(values.workdir):
    copy = bucket.Copy(values.workdir, jax.process_index())
    workdir = copy.folder
  holds = jax.process_index() == 0 or copy
  with training.workdir.held(workdir) if holds else contextlib.nullcontext():
    _train(values, workdir, copy)


def _train(values, workdir, copy):
  import jax

  checkpoint_dir = workdir
  if copy:
    copy.fetch()
    checkpoint_dir = values.workdir
  configs = stage_configs(values)
  options = networks.options(values)
  load = dict(data_dir=values.data_dir, manual_dir=values.manual_dir)
  classes = data.classes(values.dataset, **load)
  found = data.describe_folder(values.dataset, **load)
  network = models.create(values.model, classes.num_classes, **options)  # Wrong options end here.
  upsampling = models.upsampling.of_training(network, values.loss_resolution)
  if options.get('crf') == 'rnn' and upsampling != 'corner':
    options['crf_rnn_upsampling'] = upsampling

  # The network and its start
  starts = starting_weights.locate(values, workdir)
  spec = models.ModelSpec(
    model=values.model,
    options=options,
    classes=classes.names,
    palette=classes.palette,
    mean=starting_weights.mean_of(values, classes.mean, starts),
    image_scale=values.image_scale,
    upsampling=upsampling,
    dataset=values.dataset,
  )
  frozen = bool(STAGES[values.stage[0]].frozen)
  starting_weights.tell_other_upsampling(spec, starts, frozen=frozen)
  starting_weights.tell_other_resnet(spec, starts)
  training.loop.check_options(configs, spec)
  variables = training.loop.init_variables(spec.create(), values.seed)
  variables = starting_weights.load(starts, spec, variables, values.stage)

  # Data
  train = data.load(values.dataset, values.train_split, **load)
  val = validation(values, load)

  # The run, once nothing is wrong
  settings = run_settings(values)
  if found:
    settings['pictures'] = found['detected']['fingerprint']  # Others would make it another run.
  for config in configs:
    # Stages may share a workdir from command to command; each has settings of its own.
    own = settings | stage_settings(config)
    training.workdir.check_or_save_config(
      workdir / config.stage, own, checkpoint_dir, default_settings(values, config.stage)
    )
  told = settings | {config.stage: stage_settings(config) for config in configs}
  if jax.process_index() == 0:
    lines = [flag.serialize() for flag in _own_flags(values) if flag.value is not None]
    write_atomic(workdir / 'flags.txt', '\n'.join(lines).encode() + b'\n')
    if found:
      write_atomic(workdir / 'classes.json', format_json(weighed(found)))
  for note in found['detected']['notes'] if found else ():
    logging.info('%s', cli.as_typed(note))

  train = data.sequences.downscale(train, values.image_scale)
  train = data.sequences.cache_in_memory(train)
  parameters = sum(x.size for x in jax.tree.leaves(variables['params']))
  logging.info(
    '%s: %d parameters, %d training pictures, %d devices',
    values.model,
    parameters,
    len(train),
    jax.device_count(),
  )

  if jax.process_index() == 0:
    known = dict(model=values.model, options=options, dataset=values.dataset)
    known |= dict(classes=classes.names, palette=classes.palette, parameters=parameters)
    content = known | {'training_images': len(train)} | about.made()
    write_atomic(workdir / 'about.json', json.dumps(content, indent=2).encode() + b'\n')

  def report():
    if jax.process_index() == 0:
      single.write_training(workdir)
      if copy:
        copy.carry_back()

  try:
    training.loop.train(
      configs,
      spec,
      variables,
      train,
      val,
      classes,
      workdir,
      score_size=values.score_size,
      on_checkpoint=report,
      checkpoint_dir=checkpoint_dir,
      trackers=trackers_of(values),
      parameters=told,
    )
  except training.Preempted as reason:
    logging.info('%s; the same command goes on from there', reason)
    return
  finally:
    report()
  where = values.workdir.rstrip('/') if copy else workdir
  print(f'report: {where}/report.html')
  print(f'weights: {where}/weights')


def validation(values, load):
  """The pictures to choose the best weights by; none where there is no val split and none is asked.

  Raises:
    InputError: there is no such split.
  """
  if not values.val_split:
    return []
  if values['val_split'].using_default_value and 'val' not in data.splits(values.dataset, **load):
    logging.warning(
      '%s has no val split: nothing is held out, and the weights are those of the last step',
      values.data_dir or values.dataset,
    )
    return []
  try:
    return data.load(values.dataset, values.val_split, **load)
  except InputError as error:
    if 'no split' not in str(error):
      raise
    raise InputError(f'--val_split: {error}; --val_split= trains without one') from None


def trackers_of(values) -> tuple[str, ...]:
  """The names of the trackers of a run."""
  return training.trackers.default() if values.trackers is None else tuple(values.trackers)


def run_settings(values) -> dict:
  """What the flags say of a run besides its stages, without what may change."""
  return {flag.name: flag.value for flag in _run_flags(values)}


def default_settings(values, stage: str) -> dict:
  """What `run_settings` and `stage_settings` are of a run to which no flag is given."""
  return {flag.name: flag.default for flag in _run_flags(values)} | stage_settings(
    StageConfig(stage)
  )


def stage_settings(config: StageConfig) -> dict:
  """What a stage is, without what may change."""
  options = describe(StageConfig)
  return {
    name: value
    for name, value in dataclasses.asdict(config).items()
    if name not in options or not options[name].may_change
  }


def weighed(found: dict) -> dict:
  """What was found about a folder, with class weights."""
  detected = found['detected']
  pixels, image_pixels = (np.array(detected[f'train_{of}']) for of in ('pixels', 'image_pixels'))
  counts = data.statistics.LabelCounts(pixels, image_pixels, ignored=0, total=0)
  weights = {
    kind: np.round(data.statistics.weights_from_counts(counts, kind), 4).tolist()
    for kind in data.statistics.CLASS_WEIGHTS
  }
  return found | {'detected': detected | {'class_weights': weights}}


def stage_configs(values) -> list[StageConfig]:
  """The stages of the flags."""
  names = values.stage
  cli.check_choices('stage', names, STAGES)
  if len(set(names)) < len(names):
    raise InputError(f'--stage={",".join(names)}: a stage can be run once')
  configs = [
    option_flags.from_flags(StageConfig, values, index=index, count=len(names), stage=name)
    for index, name in enumerate(names)
  ]
  return _read_somewhere(configs, values)


def _read_somewhere(configs, values) -> list[StageConfig]:
  """The stages without what they do not read of flags that are given for all of them.

  Raises:
    InputError: a flag is read by no stage, or a stage does not read the value that it was given.
  """
  known = {option.name: option for option in option_flags.options_of(StageConfig)}
  unread = [training.unread.unread_options(config) for config in configs]
  for name, why in [item for options in unread for item in options.items()]:
    one_each = known[name].per_stage and len(values[name].value) > 1
    if one_each or all(name in options for options in unread):
      raise InputError(f'--{name} is not read: {why}')
  return [training.unread.without_unread(config) for config in configs]


def _run_flags(values):
  """Those that say what a run is, besides its stages."""
  left = {*_MAY_CHANGE, 'stage', *option_flags.flag_names(StageConfig)}
  return [flag for flag in _own_flags(values) if flag.name not in left]


def _own_flags(values):
  return values.get_key_flags_for_module('__main__' if __name__ == '__main__' else __name__)


if __name__ == '__main__':
  define_flags()
  cli.run(main)

"""The weights that a run of train starts from: where they are, and how they fit."""

from __future__ import annotations

from collections.abc import Sequence
import os
from typing import NamedTuple

from absl import logging

from dilated_jax import models, weights
from dilated_jax.errors import InputError
from dilated_jax.images.checks import is_of_unit_scale
from dilated_jax.training.stages import STAGES

from . import cli


class Start(NamedTuple):
  """Weights to start from.

  Attributes:
    name: of the folder or file.
    spec: what they are.
    weights: those of a converted file; None: the folder is read when they are needed.
  """

  name: str
  spec: models.ModelSpec
  weights: models.Segmenter | None = None


def locate(values, workdir) -> list[Start]:
  """The weights to start from: those of --init, or of stages that the workdir has already."""
  first = values.stage[0]
  if values.init or first == 'front_end':
    return [opened(path) for path in values.init or ()]
  stages = list(STAGES)
  earlier = [workdir / stage / 'weights' for stage in stages[: stages.index(first)]]
  found = [opened(folder) for folder in earlier if (folder / 'model.json').exists()]
  if not found and first in ('context', 'crf'):
    raise InputError(
      f'--stage={first} needs a trained front end: give --init=FOLDER, or --stage=front_end,{first}'
    )
  return found


def opened(path) -> Start:
  """A weights folder, or what `convert` makes of a file.

  Raises:
    InputError: it is neither.
  """
  if not os.path.isfile(path):
    return Start(str(path), models.load_spec(path))
  logging.info('%s: converting', path)
  result = weights.convert.convert(path, fc='optional')
  for note in result.notes:
    if not note.startswith('untrained'):  # Of which `load_pretrained` says more.
      logging.info('%s: %s', path, note)
  network = models.Segmenter(result.spec.create(), result.variables, result.spec)
  return Start(str(path), result.spec, network)


def mean_of(values, usual, starts: Sequence[Start]) -> tuple[float, ...]:
  """The RGB mean that the network subtracts, and what the log says of it.

  A network goes on with the mean that it was trained with, or its filters would see other colors.
  VGG's filters, as the paper takes them, start on the mean of the data set.

  Args:
    values: the flags.
    usual: the mean of the data set.
    starts: from `locate`; of several the last one counts.

  Raises:
    InputError: --mean is not three numbers of 0 to 255.
  """
  specs = [start.spec for start in starts]
  trained = [spec for spec in specs if not spec.untrained or spec.model != 'front_end']
  theirs = trained[-1].mean if trained else usual
  mean = theirs
  if values.mean is not None:
    mean = cli.parsed('mean', ','.join(values.mean), rgb)
  elif theirs != usual:
    logging.info('mean %s, that of the weights of --init; the data set has %s', theirs, usual)
  others = {spec.mean for spec in trained} - {mean}
  if others:
    logging.warning('mean %s, but weights of --init were trained with %s', mean, *others)
  return mean


def tell_other_upsampling(spec, starts: Sequence[Start], *, frozen: bool) -> None:
  """Logs where cells of weights to start from lie elsewhere, or scores meet labels off their place.

  Args:
    spec: of the run.
    starts: from `locate`.
    frozen: whether the first stage learns from the scores of a network that does not change.
  """
  resolutions = {'corner': 'grid', 'deconvolution': 'full'}
  for folder, other, _ in starts:
    lies, lay = (
      models.upsampling.cell_offset(one.create(), one.upsampling) for one in (spec, other)
    )
    if lies == lay or other.untrained or not (frozen or other.model == spec.model):
      continue
    remedy = ''
    if {spec.upsampling, other.upsampling} <= resolutions.keys():
      remedy = f'; --loss_resolution={resolutions[other.upsampling]} is that of these weights'
    logging.warning(
      '%s: trained with upsampling %s, cell 0 at pixel %g; this run has %s, cell 0 at pixel %g%s',
      folder, other.upsampling, lay, spec.upsampling, lies, remedy,
    )  # fmt: skip


def tell_other_resnet(spec, starts: Sequence[Start]) -> None:
  """Logs where a ResNet of weights to start from begins or steps otherwise than that of the run.

  Args:
    spec: of the run.
    starts: from `locate`.
  """
  own = models.trunk.trunk(spec.create().front_end_table)
  for name, other, _ in starts:
    theirs = models.trunk.trunk(other.create().front_end_table)
    if not own or not theirs or own.kind != theirs.kind:
      continue
    same_strides = own.strided == theirs.strided or not own.strided or not theirs.strided
    if own.stem == theirs.stem and same_strides:
      continue
    strided = {'basic': 'conv1', 'bottleneck': 'conv2'}[theirs.unit]
    torchvision = theirs.stem == '7x7' and theirs.strided == strided
    remedy = '; --variant=torchvision is that of these weights' if torchvision else ''
    logging.warning(
      '%s: a ResNet that begins with %s and strides in %s; this run has %s and %s%s',
      name, theirs.stem, theirs.strided, own.stem, own.strided, remedy,
    )  # fmt: skip


def load(starts: Sequence[Start], spec, variables, stages):
  """The variables with what starting weights have of them, the last one counting most.

  Raises:
    InputError: nothing of some fits, or a stage would learn from layers that nothing trains.
  """
  fresh = None
  for name, _, given in starts:
    variables, now = models.load_pretrained(spec, variables, name, weights=given)
    fresh = now if fresh is None else fresh & now
  trained = set()
  for stage in map(STAGES.get, stages):
    trained |= set(stage.trains)
    frozen = stage.frozen.network(spec.create()) if stage.frozen and starts else None
    names = {layer.name for layer in frozen.table} if frozen else ()
    untrained = sorted(
      layer for layer in fresh or ()
      if layer.partition('/')[0] not in trained and layer.partition('/')[2] in names
    )  # fmt: skip
    if untrained:
      part = untrained[0].partition('/')[0]
      raise InputError(
        f'--stage={stage.name} learns from a trained {part}, and of that of {starts[-1].name} '
        f'{", ".join(untrained)} would start afresh (the log says why): train it first, '
        f'--stage={part},{",".join(stages)}'
      )
  return variables


def rgb(text: str) -> tuple[float, ...]:
  """Parses an RGB color of three numbers.

  Raises:
    ValueError: it is none.
  """
  try:
    found = tuple(map(float, text.split(',')))
  except ValueError:
    found = ()
  if len(found) != 3 or not all(0 <= value <= 255 for value in found):
    raise ValueError('give three numbers of 0 to 255, as in 122.68,116.67,104.01')
  if is_of_unit_scale(found):
    raise ValueError('a mean of images of 0 to 1; these have 0 to 255: give 255 times as much')
  return found

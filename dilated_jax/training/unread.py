"""Options that a stage does not read. Whoever gives one has expected something of it."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

from dilated_jax.data.augmentation import Augmentation
from dilated_jax.errors import InputError
from dilated_jax.options import Options, describe, nested
from dilated_jax.training.config import StageConfig
from dilated_jax.training.stages import STAGES


def unread_options(config: StageConfig) -> dict[str, str]:
  """Options that a stage does not read and that have another value than by default.

  Args:
    config: of the stage.

  Returns:
    By the option's name, why it is not read.
  """
  stage, optimizer = STAGES[config.stage], config.optimizer
  of_images = {'crop', *describe(Augmentation)} - {'random_flip'}
  cases = (
    (stage.frozen, of_images, f'stage {stage.name} learns from maps of whole images, made once'),
    (not stage.frozen, {'feature_dir'}, f'stage {stage.name} learns from images and keeps no maps'),
    (optimizer.schedule != 'step', {'gamma', 'step_size'}, "it belongs to `schedule='step'`"),
    (optimizer.schedule != 'poly', {'power'}, "it belongs to `schedule='poly'`"),
    (optimizer.name == 'adamw', {'momentum'}, "`optimizer='adamw'` has none"),
    (config.parallelism != 'mesh', {'mesh_height'}, "it belongs to `parallelism='mesh'`"),
  )
  why = {name: reason for applies, names, reason in cases if applies for name in names}
  return {name: why[name] for name in _changed(config) if name in why}


def check_unread(config: StageConfig) -> None:
  """Raises an InputError if a stage is given an option that it does not read."""
  for name, why in unread_options(config).items():
    raise InputError(f'`{name}` is not read: {why}')


def without_unread(config: StageConfig) -> StageConfig:
  """The same stage with the defaults of options that it does not read."""
  return _with_defaults(config, unread_options(config).keys())


def _changed(options: Options) -> Iterator[str]:
  """Names of options that have another value than by default, nested ones included."""
  for name, about in describe(type(options)).items():
    if getattr(options, name) != about.default:
      yield name
  for name in nested(type(options)):
    yield from _changed(getattr(options, name))


def _with_defaults(options: Any, names) -> Any:
  defaults = {k: about.default for k, about in describe(type(options)).items() if k in names}
  inner = {k: _with_defaults(getattr(options, k), names) for k in nested(type(options))}
  return dataclasses.replace(options, **defaults, **inner)

from . import (
  checkpoints as checkpoints,
  config as config,
  diagnostics as diagnostics,
  feature_cache as feature_cache,
  feature_flip as feature_flip,
  inputs as inputs,
  loop as loop,
  loops as loops,
  losses as losses,
  measurements as measurements,
  optimizers as optimizers,
  parallel as parallel,
  profile as profile,
  run_logger as run_logger,
  stage_run as stage_run,
  stages as stages,
  step as step,
  trackers as trackers,
  unread as unread,
  validation as validation,
  workdir as workdir,
)
from .config import StageConfig as StageConfig
from .loop import Preempted as Preempted, train as train
from .stages import STAGES as STAGES, Stage as Stage

from . import (
  checkpoints as checkpoints,
  feature_cache as feature_cache,
  loop as loop,
  losses as losses,
  optimizers as optimizers,
  parallel as parallel,
  run_logger as run_logger,
  stages as stages,
  step as step,
)

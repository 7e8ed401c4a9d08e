"""What a stage of training is told: one frozen dataclass."""

import dataclasses

from dilated_jax.training import optimizers


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
    random_flip, random_scale, color_jitter: augmentation, see `augmentation.Augmentation`; feature maps are only mirrored.
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

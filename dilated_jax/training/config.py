"""What a stage of training is told: frozen dataclasses of options."""

from collections.abc import Iterable
import dataclasses
import fnmatch
import math
from typing import Literal

from dilated_jax.data.augmentation import Augmentation
from dilated_jax.data.statistics import CLASS_WEIGHTS
from dilated_jax.errors import InputError
from dilated_jax.options import Options, option
from dilated_jax.training.stages import STAGES


@dataclasses.dataclass(frozen=True)
class OptimizerOptions(Options):
  """How the weights follow the gradient.

  Attributes:
    name: 'caffe' has the learning rate inside the velocity, v <- m v + r g, w <- w - v; 'sgd'
      outside, v <- m v + g, w <- w - r v, as optax. They differ only where the rate changes.
      'adamw' has decoupled weight decay.
    learning_rate: highest learning rate.
    schedule: 'constant'; 'step', times `gamma` every `step_size` steps; 'poly', times
      (1 - k / steps)^power; 'cosine', down to 0 in half a period.
    warmup_steps: steps in which the rate rises from 0.
    momentum: of 'sgd' and 'caffe'.
    weight_decay: L2 on kernels (not on biases and normalization); the authors take 5e-4.
    bias_lr_multiplier: factor on the rate of biases of convolutions; the authors take 2.
    lr_multipliers: factors on the rate of layers, 'LAYER:FACTOR' each, beside that of biases. LAYER
      is a name of `layer_names` or its last part, or a pattern of these, as in 'fc8:10',
      'pyramid*:10' or 'front_end/conv*:0', which trains no convolution of VGG and computes no
      gradient for them. Of several that fit a layer the last one counts.
    gamma, step_size: of the schedule 'step'.
    power: of the schedule 'poly'.
    grad_clip_norm: largest norm of the whole gradient; 0 leaves it alone.
  """

  name: Literal['caffe', 'sgd', 'adamw'] = option(
    'caffe',
    'Optimizer; caffe has the learning rate inside the velocity, sgd outside of it.',
    flag='optimizer',
  )
  learning_rate: float = option(1e-3, 'Highest learning rate.', low=0, per_stage=True)
  schedule: Literal['constant', 'step', 'poly', 'cosine'] = option(
    'constant', 'Schedule of the learning rate.'
  )
  warmup_steps: int = option(0, 'Steps in which the learning rate rises from 0.', low=0)
  momentum: float = option(0.9, 'Momentum of sgd and caffe.', low=0, below=1, per_stage=True)
  weight_decay: float = option(5e-4, 'Weight decay of kernels.', low=0)
  bias_lr_multiplier: float = option(
    2.0, 'Factor on the learning rate of biases of convolutions.', low=0
  )
  lr_multipliers: tuple[str, ...] | None = option(
    None, 'Factors on the learning rate of layers, as in fc8:10,pyramid*:10.'
  )
  gamma: float = option(0.1, 'Factor at each drop of the schedule step.', low=0)
  step_size: int = option(100_000, 'Steps between the drops of the schedule step.', low=1)
  power: float = option(0.9, 'Exponent of the schedule poly.', low=0)
  grad_clip_norm: float = option(0.0, 'Largest norm of the gradient; 0: no limit.', low=0)

  def __post_init__(self):
    super().__post_init__()
    self.multiplier_of('')  # Refuses what is no factor.

  def multiplier_of(self, layer: str) -> float:
    """The factor on the learning rate of a layer, of its kernel and its bias alike.

    Args:
      layer: as `front_end/fc8`.

    Raises:
      InputError: one of `lr_multipliers` is not a layer and a factor.
    """
    factor = 1.0
    for text in self.lr_multipliers or ():
      pattern, number = _split(text)
      if fits(pattern, layer):
        factor = number
    return factor

  def freezes(self, layer: str) -> bool:
    """Whether a layer, as in `multiplier_of`, is left as it is."""
    return self.multiplier_of(layer) == 0

  def unused_multipliers(self, layers: Iterable[str]) -> list[str]:
    """Those of `lr_multipliers` that fit none of the layers."""
    layers = list(layers)
    return [
      text
      for text in self.lr_multipliers or ()
      if not any(fits(_split(text)[0], layer) for layer in layers)
    ]


def fits(pattern: str, layer: str) -> bool:
  """Whether a pattern of `lr_multipliers` means a layer.

  >>> [fits(pattern, 'front_end/fc8') for pattern in ('fc8', 'front_end/fc?', '*8', 'fc')]
  [True, True, True, False]
  """
  return any(fnmatch.fnmatchcase(name, pattern) for name in (layer, layer.rpartition('/')[2]))


def _split(text: str) -> tuple[str, float]:
  """Pattern and factor of one of `lr_multipliers`."""
  pattern, _, number = text.rpartition(':')
  try:
    factor = float(number)
  except ValueError:
    factor = math.nan
  if not pattern or not 0 <= factor < math.inf:
    raise InputError(
      f'`lr_multipliers` has {text!r}; give a layer and a factor of 0 or more each, as in fc8:10'
    )
  return pattern, factor


@dataclasses.dataclass(frozen=True)
class StageConfig(Options):
  """One stage of training. `unread` tells which options a stage does not read.

  Attributes:
    stage: 'front_end', 'context', 'crf' or 'joint', see `stages.STAGES`.
    num_steps: optimizer steps.
    batch_size: images a step, over all devices and processes.
    crop: height and width of the label area of a training image; the network sees its margin on
      every side besides. 0 holds the whole of every image.
    optimizer: see `OptimizerOptions`.
    loss_resolution: 'grid' or 'full', see `step.make_step`.
    class_weights: 'none', or a kind of `statistics.class_weights`.
    label_smoothing: share of each pixel's target that all classes divide evenly, see
      `losses.cross_entropy`.
    jaccard_loss: share of the soft Jaccard loss in the loss, see `losses.soft_jaccard`.
    grad_accum_steps: parts into which a batch is cut to save memory.
    ema_decay: of the moving average of the weights that is scored and written, see
      `step.make_step`; 0: the weights themselves are.
    augmentation: of the images, see `Augmentation`; feature maps are mirrored, and no more.
    seed: of the weights, the order of the images, augmentation and dropout.
    parallelism: 'pmap' or 'mesh', see `parallel`.
    mesh_height: bands of rows into which 'mesh' divides an image.
    log_every, eval_every: steps between reports, and between checkpoints with their scores on the
      validation images; eval_every 0 does that at the end alone.
    input: where batches are made: 'host'; 'device', from a data set that is kept there; 'auto': on
      GPUs and TPUs on the device if the data set is small enough, see `inputs`.
    steps_per_dispatch: steps that one call of the compiled program takes; 0: 10 on GPUs and TPUs
      with batches made there, else 1. Checkpoints come when they are due in any case.
    threads: that read and transform images.
    profile: steps that are traced, see `profile`; 0: none.
    activation_images: training images on which the activations of each layer are measured at
      checkpoints, see `diagnostics.Activations`; 0: none.
    feature_dir: folder of the front end's maps; None: a folder of the stage.
  """

  stage: str = option(dataclasses.MISSING, 'Stage.', choices=tuple(STAGES), flag=False)
  num_steps: int = option(1000, 'Optimizer steps.', low=1, per_stage=True)
  batch_size: int = option(8, 'Images a step, over all devices.', low=1, per_stage=True)
  crop: tuple[int, int] = option(
    (0, 0), 'Label area of a training image, HxW; 0: as large as the largest.', low=0, size=True,
    per_stage=True,
  )  # fmt: skip
  optimizer: OptimizerOptions = OptimizerOptions()
  loss_resolution: Literal['grid', 'full'] = option(
    'grid', 'Loss on the network grid, or on all pixels.'
  )
  class_weights: str = option(
    'none', 'Weights of the classes in the loss.', choices=('none', *CLASS_WEIGHTS), per_stage=True
  )
  label_smoothing: float = option(
    0.0, "Share of each pixel's target that all classes divide evenly.", low=0, below=1,
    per_stage=True,
  )  # fmt: skip
  jaccard_loss: float = option(
    0.0, 'Share of the soft Jaccard loss, 1 - IoU of the probabilities, in the loss.', low=0,
    high=1, per_stage=True,
  )  # fmt: skip
  grad_accum_steps: int = option(1, 'Parts of a batch, to save memory.', low=1)
  ema_decay: float = option(
    0.0, 'Decay of the moving average of the weights that is scored and written; 0: none.', low=0,
    below=1,
  )  # fmt: skip
  augmentation: Augmentation = Augmentation()  # noqa: RUF009 (frozen)
  seed: int = option(0, 'Seed of weights, order, augmentation and dropout.', low=0)
  parallelism: Literal['pmap', 'mesh'] = option(
    'pmap', 'How devices share the work.', may_change=True
  )
  mesh_height: int = option(1, 'Bands of rows of an image with mesh.', low=1, may_change=True)
  log_every: int = option(20, 'Steps between reports.', low=1, may_change=True)
  eval_every: int = option(500, 'Steps between checkpoints; 0: at the end.', low=0)
  input: Literal['auto', 'host', 'device'] = option(
    'auto', 'Where training images are cropped, zoomed and colored; device: kept in its memory.',
    may_change=True,
  )  # fmt: skip
  steps_per_dispatch: int = option(
    0, 'Steps in one call of the compiled program; 0: as fits the input.', low=0, may_change=True
  )
  threads: int = option(4, 'Threads that read images.', low=1, may_change=True)
  profile: int = option(
    0, "Steps that JAX's profiler traces, once they are compiled; 0: none.", low=0, may_change=True
  )
  activation_images: int = option(
    0, 'Training images on which activations are measured at checkpoints; 0: none.', low=0,
    may_change=True,
  )  # fmt: skip
  feature_dir: str | None = option(
    None, 'Folder of the maps of a frozen front end.', path=True, may_change=True
  )

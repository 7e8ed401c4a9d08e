"""What the steps of a stage take of a device's memory, told before they run."""

from absl import logging
import jax

from dilated_jax.inference.prediction import memory
from dilated_jax.nn import costs
from dilated_jax.training.config import StageConfig


def predict(
  config: StageConfig, model, area: tuple[int, int], devices: int = 1
) -> costs.TrainingMemory:
  """Memory of a step of a stage that is fed images, see `costs.training_memory`.

  Args:
    config: of the stage.
    model: that it trains, all of it.
    area: (height, width) of the label area of its images.
    devices: that share the batch.

  Returns:
    Bytes of a device. A network that sees an image at several sizes takes more.
  """
  height, width = (side + 2 * model.margin for side in area)
  on_cpu = jax.default_backend() == 'cpu'  # Which computes in float32.
  labels = config.loss_resolution == 'full' or model.full_size
  return costs.training_memory(
    model.table, height, width,
    batch_size=-(-config.batch_size // devices),
    itemsize=4 if on_cpu else jax.numpy.dtype(model.dtype).itemsize,
    optimizer_slots=(2 if config.optimizer.name == 'adamw' else 1) + bool(config.ema_decay),
    grad_accum_steps=config.grad_accum_steps,
    remat=getattr(model.without_crf(), 'remat', False),
    label_size=area if labels else (0, 0),
  )  # fmt: skip


def free_memory() -> int:
  """Free bytes of memory of each device."""
  local = jax.local_devices()
  # CPU devices share one memory.
  return memory() // (len(local) if local[0].platform == 'cpu' else 1)


def tell(config: StageConfig, model, area: tuple[int, int]) -> None:
  """Logs what a step takes; a warning with remedies where the device has less.

  Args:
    config: as for `predict`.
    model: as for `predict`.
    area: as for `predict`.
  """
  needed, free = predict(config, model, area, jax.device_count()), free_memory()
  text = (
    f'{config.stage}: a step takes about {_size(needed.total)} (weights and optimizer '
    f'{_size(needed.weights + needed.optimizer)}, gradients {_size(needed.gradients)}, activations '
    f'{_size(needed.activations)})'
  )
  if needed.total > free:
    logging.warning(
      '%s, and only %s are free: if it fails, take `remat`, a smaller `crop` or `batch_size`, or '
      'more `grad_accum_steps`', text, _size(free),
    )  # fmt: skip
  else:
    logging.info('%s of %s free', text, _size(free))


def _size(size: int) -> str:
  return f'{size / 2**30:.1f} GiB' if size >= 2**30 else f'{size / 2**20:.0f} MiB'

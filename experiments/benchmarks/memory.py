"""Memory of training steps at the paper's settings: by geometry, as XLA plans it, and measured."""

from collections.abc import Iterator
import json
import subprocess
import sys

import jax
import numpy as np

from dilated_jax import models
from dilated_jax.nn import costs
from dilated_jax.training import optimizers, stages, step as train_step
from dilated_jax.training.config import OptimizerOptions

# Name of the setting, and what `compiled` is told: crops are label areas, without the margin.
SETTINGS = {
  'VOC front end': dict(name='front_end', classes=21, crop=128, batch=14),
  'CamVid front end': dict(name='front_end', classes=11, crop=256, batch=8),
  'CamVid joint': dict(name='dilation8', classes=11, crop=480, batch=1),
  'VOC joint': dict(name='dilation8', classes=21, crop=528, batch=14, context='large'),
  'Cityscapes joint': dict(name='dilation10', classes=19, crop=1024, batch=1, resolution='full'),
}


def run(values, settings=SETTINGS) -> Iterator[dict]:
  """Each setting with the paper's batch and with one image, which is run too; all with `remat`."""
  del values
  for what, setting in settings.items():
    for batch in sorted({1, setting['batch']}):
      for remat in (False, True):
        yield row(what, run_too=batch == 1, **setting | dict(batch=batch, remat=remat))


def row(what: str, run_too: bool, **setting) -> dict:
  """What a step takes, in GiB: predicted, planned, and the peak of a process that runs it."""
  compiled, predicted, _ = compile_step(**setting)
  planned = compiled.memory_analysis()
  planned = (
    planned.argument_size_in_bytes + planned.output_size_in_bytes
    - planned.alias_size_in_bytes + planned.temp_size_in_bytes
  )  # fmt: skip
  del compiled
  found = {
    'what': f'{what}, batch {setting["batch"]}{", remat" * setting["remat"]}',
    'predicted_gib': predicted.total / 2**30,
    'planned_gib': planned / 2**30,
    'predicted_/_planned': predicted.total / planned,
  }
  return found | ({'process_gib': peak_of_process(setting) / 2**30} if run_too else {})


def compile_step(
  name: str, classes: int, crop: int, batch: int, remat: bool, resolution: str = 'grid', **options
):
  """The compiled step of a stage on images, what it is predicted to take, and its arguments."""
  model = models.create(name, classes, remat=remat, **options)
  stage = stages.STAGES['front_end' if name == 'front_end' else 'joint']
  optimizer = optimizers.create(OptimizerOptions(), 1000)
  side = crop + 2 * model.margin
  image = jax.ShapeDtypeStruct((batch, side, side, 3), np.uint8)
  label = jax.ShapeDtypeStruct((batch, crop, crop), np.uint8)
  float_image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
  state = jax.eval_shape(
    lambda key: train_step.create_state(
      model.init(key, np.zeros(float_image.shape, np.float32)), stage, optimizer, key
    ),
    jax.random.key(0),
  )
  step = train_step.make_step(model, stage, optimizer, (0, 0, 0), loss_resolution=resolution)
  given = state, {'image': image, 'label': label}
  predicted = costs.training_memory(
    model.table, side, side, batch_size=batch, remat=remat,
    label_size=(crop, crop) if resolution == 'full' else (0, 0),
  )  # fmt: skip
  return jax.jit(step, donate_argnums=0).lower(*given).compile(), predicted, given


def peak_of_process(setting: dict) -> int:
  """Peak memory, in bytes, of a process that runs one step on zeros, JAX included; Linux."""
  program = f'import json, {__name__} as suite; suite.run_step(json.loads({json.dumps(setting)!r}))'
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
  return 1024 * int(done.stdout.split()[-1])


def run_step(setting: dict) -> None:
  """Runs one step, and prints the peak memory of this process in KiB."""
  compiled, _, given = compile_step(**setting)

  def zeros(like):
    if jax.numpy.issubdtype(like.dtype, jax.dtypes.prng_key):
      return jax.random.key(0)
    return jax.numpy.zeros(like.shape, like.dtype)

  jax.block_until_ready(compiled(*jax.tree.map(zeros, given)))
  with open('/proc/self/status') as file:
    print(next(line for line in file if line.startswith('VmHWM')).split()[1])

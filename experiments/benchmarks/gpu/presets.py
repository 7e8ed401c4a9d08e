"""Steps per second of presets, on drawn-at-random pictures of the size of theirs.

Beside the steps as training runs them, pictures made ready by the host's threads, those with one
batch that is on the device already: what the host costs.
"""

from collections.abc import Iterator
import contextlib
import tempfile
import time

from absl import flags
import jax
import numpy as np

from dilated_jax import data, models, training
from dilated_jax.data import pipeline

from ... import flag_files, networks, train
from . import clock

# Height and width of a training picture, as the network sees it.
SIZES = {'scenes': (128, 160), 'camvid_cpu': (180, 240), 'paper/camvid': (720, 960)}


def rows(small: bool) -> Iterator[dict]:
  """The first stage of each preset."""
  for name, size in SIZES.items():
    if small and name != 'scenes':
      continue
    yield speed(name, size, seconds=1.0 if small else 5.0)


def speed(name: str, size: tuple[int, int], seconds: float) -> dict:
  """Steps per second of a preset."""
  values = flags.FlagValues()
  train.define_flags(values)
  values(['train', *flag_files.expand([f'--flagfile=preset:{name}', '--workdir=none'])])
  config = train.stage_configs(values)[0]
  classes = data.classes(values.dataset)
  spec = models.ModelSpec(
    values.model, networks.options(values), classes.names, classes.palette, classes.mean
  )
  rng = np.random.default_rng(0)
  source = [
    {
      'image': rng.integers(0, 256, (*size, 3)).astype(np.uint8),
      'label': rng.integers(0, classes.num_classes, size).astype(np.uint8),
    }
    for _ in range(32)
  ]
  variables = training.loop.init_variables(spec.create(), 0)
  with tempfile.TemporaryDirectory() as workdir:
    run = training.stage_run.set_up(config, spec, variables, source, classes, workdir)
    batches = pipeline.batches(
      run.source, run.transform, batch_size=config.batch_size, seed=0, threads=config.threads
    )
    states = [run.runner.put_state(run.state)]
    with contextlib.closing(batches):
      ready = run.runner.put(next(batches))

      def on_device():
        states[0], metrics = run.runner.step(states[0], ready)
        return metrics

      (device_ms,) = clock.milliseconds((on_device, clock.jax_wait), rounds=3, seconds=seconds / 5)
      count, start = 0, time.perf_counter()
      while not count or time.perf_counter() - start < seconds:
        states[0], metrics = run.runner.step(states[0], run.runner.put(next(batches)))
        jax.block_until_ready(metrics)
        count += 1
      rate = count / (time.perf_counter() - start)
  return {
    'what': f'preset {name}, {config.stage}, batches of {config.batch_size}',
    'steps_per_second': rate, 'steps_per_second_of_the_device': 1000 / device_ms,
  }  # fmt: skip

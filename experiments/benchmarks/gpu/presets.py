"""Steps per second of presets, on drawn-at-random pictures of the size of theirs.

As training runs them: with pictures made ready by the host's threads, and with pictures kept on the
device, one step a dispatch and several. Beside them, steps with batches that are ready on the
device: what all else costs.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import tempfile
import time

from absl import flags
import jax
import numpy as np

from dilated_jax import data, models, training

from ... import flag_files, networks, train
from . import clock

# Height and width of a training picture, as the network sees it.
SIZES = {'scenes': (128, 160), 'camvid_cpu': (180, 240), 'paper/camvid': (720, 960)}

# Input, and steps a dispatch.
WAYS = ('host', 1), ('device', 1), ('device', 10)


def rows(small: bool) -> Iterator[dict]:
  """The first stage of each preset."""
  for name, size in SIZES.items():
    if small and name != 'scenes':
      continue
    # On a CPU, a program of ten steps takes ten times as long to compile.
    ways = WAYS[:2] if small else WAYS
    yield from speeds(name, size, 1.0 if small else 2.0, ways)


def speeds(name: str, size: tuple[int, int], seconds: float, ways=WAYS) -> Iterator[dict]:
  """Steps per second of a preset, with each input."""
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
  for given, at_once in ways:
    one = dataclasses.replace(config, input=given, steps_per_dispatch=at_once)
    with tempfile.TemporaryDirectory() as workdir:
      run = training.stage_run.set_up(one, spec, variables, source, classes, workdir)
      rate, ready = steps_per_second(run, seconds)
    yield {
      'what': f'preset {name}, {config.stage}, batches of {config.batch_size}, '
      f'input on {given}, {at_once} steps a dispatch',
      'steps_per_second': rate, 'steps_per_second_of_the_device': ready,
    }  # fmt: skip


def steps_per_second(run, seconds: float) -> tuple[float, float]:
  """Steps per second of a stage, and with a batch that is always the same."""
  at_once, batches = run.config.steps_per_dispatch, run.input.batches(run.config)
  states = [run.runner.put_state(run.state)]
  with contextlib.closing(batches):
    ready = run.runner.put([next(batches) for _ in range(at_once)])

    def on_device():
      states[0], metrics = run.runner.step(states[0], ready)
      return metrics

    (device_ms,) = clock.milliseconds((on_device, clock.jax_wait), rounds=3, seconds=seconds / 3)
    count, start, metrics = 0, time.perf_counter(), None
    while not count or time.perf_counter() - start < seconds:
      before = metrics
      several = run.runner.put([next(batches) for _ in range(at_once)])
      states[0], metrics = run.runner.step(states[0], several)
      jax.block_until_ready(before)  # As training does: one dispatch ahead.
      count += at_once
    jax.block_until_ready(metrics)
    return count / (time.perf_counter() - start), 1000 * at_once / device_ms

"""What devices send each other in a training step, read from the compiled program.

Programs are compiled for CPU devices that are made up, by processes of their own, and not run.
Convolutions are those of GPUs and TPUs: the forms that CPUs are given are left out.

  python -m experiments.benchmarks.collectives '{"devices": 8, "steps": [...]}'
"""

import functools
import json
import math
import os
import re
import subprocess
import sys

_OPERATION = re.compile(
  r'= (?P<shapes>.*?) (?P<kind>all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter)'
  r'(-start)?\('
)
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4, 'f32': 4, 'f64': 8}


def of_program(text: str) -> list[dict]:
  """The collective operations of an optimized program of XLA (its HLO text).

  Returns:
    For each its kind, shapes of its outputs, their bytes on one device, and name: the operation of
    the network that it is part of.
  """
  found = []
  for line in text.splitlines():
    operation = _OPERATION.search(line)
    if not operation:
      continue
    shapes = [
      (kind, [int(side) for side in sides.split(',') if side])
      for kind, sides in re.findall(r'(\w+)\[([\d,]*)\]', operation['shapes'])
    ]
    name = re.search(r'op_name="([^"]*)"', line)
    found.append({
      'kind': operation['kind'], 'shapes': [sides for _, sides in shapes],
      'bytes': sum(_BYTES[kind] * math.prod(sides) for kind, sides in shapes),
      'name': name[1] if name else '',
    })  # fmt: skip
  return found


def of_steps(devices: int, steps: list[dict]) -> list[list[dict]]:
  """The collective operations of training steps on so many devices, by another process.

  Args:
    devices: how many.
    steps: of each the arguments of `compiled_step`, but `devices`.
  """
  flags = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={devices}'
  done = subprocess.run(
    [sys.executable, '-m', __name__, json.dumps({'devices': devices, 'steps': steps})],
    env={**os.environ, 'XLA_FLAGS': flags.strip(), 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE, text=True, check=True,
  )  # fmt: skip
  return json.loads(done.stdout)


def compiled_step(
  devices: int,
  model: str,
  options: dict,
  stage: str,
  size: list[int],
  parallelism: str,
  height: int = 1,
  batch: int | None = None,
) -> str:
  """The optimized program of a training step.

  Args:
    devices: number of devices.
    model: name of the network.
    options: of the network.
    stage: of training.
    size: of the labeled area; of the map of features in the stage context.
    parallelism: 'pmap' or 'mesh'.
    height: bands of the mesh.
    batch: images of all devices; by default one for each device, or each group of bands.
  """
  import jax

  from dilated_jax import models
  from dilated_jax.training import optimizers, parallel, step as train_step
  from dilated_jax.training.config import OptimizerOptions
  from dilated_jax.training.stages import STAGES

  network, stage = models.create(model, 21, **options), STAGES[stage]
  optimizer = optimizers.create(OptimizerOptions(), 1000)
  make = functools.partial(train_step.make_step, network, stage, optimizer, (0.0, 0.0, 0.0))
  margin, count = network.margin, batch or devices // height
  cell = 1 if network.full_size else network.stride
  if stage.name == 'context':
    batch = {
      'features': jax.ShapeDtypeStruct((count, *size, 21), 'float32'),
      'label': jax.ShapeDtypeStruct((count, *(cell * side for side in size)), 'uint8'),
    }
  else:
    fed = (side + 2 * margin for side in size)
    batch = {
      'image': jax.ShapeDtypeStruct((count, *fed, 3), 'uint8'),
      'label': jax.ShapeDtypeStruct((count, *size), 'uint8'),
    }
  image = jax.ShapeDtypeStruct((1, 2 * margin + 64, 2 * margin + 64, 3), 'float32')
  variables = jax.eval_shape(network.init, jax.random.key(0), image)
  state = jax.eval_shape(
    lambda variables: train_step.create_state(variables, stage, optimizer, jax.random.key(0)),
    variables,
  )
  runner = parallel.pmap(make) if parallelism == 'pmap' else parallel.mesh(make, height=height)
  if parallelism == 'pmap':
    placed = {
      name: jax.ShapeDtypeStruct((devices, 1, x.shape[0] // devices, *x.shape[1:]), x.dtype)
      for name, x in batch.items()
    }
  else:
    grid = jax.make_mesh(
      (devices // height, height), ('data', 'height'),
      axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )  # fmt: skip
    axes = (None, 'data', 'height'), ()  # Batches of one step.
    split, whole = (jax.NamedSharding(grid, jax.P(*each)) for each in axes)
    batch = {name: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for name, x in batch.items()}
    placed, state = (
      jax.tree.map(lambda x, s=sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree)
      for tree, sharding in ((batch, split), (state, whole))
    )
  # Of a program that does not run, the code of the processor need not be good.
  quickly = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
  return runner.step.lower(state, placed).compile(compiler_options=quickly).as_text()


def main():
  import jax

  import dilated_jax.nn  # noqa: F401  # Before JAX: sets XLA's flags.

  jax.lax.platform_dependent = lambda *arguments, default, **_: default(*arguments)
  given = json.loads(sys.argv[1])
  found = [of_program(compiled_step(given['devices'], **step)) for step in given['steps']]
  print(json.dumps(found))


if __name__ == '__main__':
  main()

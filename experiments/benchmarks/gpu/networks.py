"""Networks and training steps beside the same in PyTorch, eager and compiled.

float32 is TF32 on both sides, bfloat16 is autocast there; channels last. The share is of the peak
that a large matrix product reaches on the same device.
"""

from collections.abc import Callable, Iterator
import concurrent.futures
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax import models
from dilated_jax.nn import costs
from dilated_jax.training.config import OptimizerOptions
from dilated_jax.training.stages import STAGES

from .. import timing
from ..training_step import training_step
from . import clock

MEAN = (122.7, 116.7, 104.0)


class Case(NamedTuple):
  """What is measured: a network, the part of it that runs, and whether it is trained."""

  name: str
  options: dict[str, Any]
  stage: str  # 'context' runs the context module alone.
  train: bool
  batch: int
  side: int


# In this order, since time may cut the last ones.
VGG = (
  Case('front_end', {}, 'front_end', True, 14, 128),
  Case('dilation8', {}, 'joint', True, 4, 128),
  Case('dilation8', {}, 'context', False, 16, 66),
  Case('dilation8', {}, 'context', True, 16, 66),
  Case('dilation8', {'context': 'large'}, 'context', False, 4, 66),
  Case('dilation8', {'context': 'large'}, 'context', True, 4, 66),
)
# A run that began with these had no row after two minutes.
RESNETS = (
  Case('deeplab_v3', {'backbone': 'resnet50'}, 'front_end', True, 8, 512),
  Case('pspnet', {'backbone': 'resnet50', 'auxiliary': False}, 'front_end', True, 8, 472),
)


def rows(small: bool) -> Iterator[dict]:
  """Cases beside PyTorch: in bfloat16, beside what it compiles too, then in float32; VGG first."""
  peaks = {}
  for dtype in ('bfloat16', 'float32'):
    peaks[dtype] = peak(dtype, 256 if small else 8192)
    yield {'what': f'matrix product, {dtype}', 'tflops': peaks[dtype]}
  import torch  # Only now: the peaks can be told without it.

  groups = (VGG[2:4],) if small else (VGG, RESNETS)
  for cases, dtype in itertools.product(groups, peaks):
    # XLA compiles several at a time, and nothing is timed meanwhile: compiling took most of it.
    with concurrent.futures.ThreadPoolExecutor() as pool:
      ready = list(pool.map(lambda case: of_jax(case, dtype, small), cases))  # noqa: B023
    # What PyTorch compiles takes longest, so all else of these comes first.
    compilers = (False, True) if dtype == 'bfloat16' and torch.cuda.is_available() else (False,)
    for compiled in compilers:
      for case, ours in zip(cases, ready, strict=True):
        yield beside_torch(case, ours, dtype, small, peaks[dtype], compiled)


def beside_torch(case: Case, ours, dtype: str, small: bool, peak: float, compiled: bool) -> dict:
  """A case, from `of_jax`, in turn with PyTorch, eager or compiled."""
  import torch

  what, run, flops = ours
  theirs = of_torch(case, dtype, small, compiled=compiled)
  mine, other = clock.milliseconds((run, clock.jax_wait), (theirs, clock.torch_wait))
  del theirs
  if torch.cuda.is_available():
    torch.cuda.empty_cache()
  tflops = flops / mine / 1e9
  name = 'torch.compile' if compiled else 'PyTorch'
  return timing.row(what, name, mine, other, tflops=tflops, share=tflops / peak)


def peak(dtype: str, size: int) -> float:
  """TFLOP/s of a product of two square matrices."""
  a = jax.random.normal(jax.random.key(0), (size, size), dtype)
  precision = 'tensorfloat32' if dtype == 'float32' else 'bfloat16'
  product = jax.jit(functools.partial(jnp.matmul, precision=precision))
  (found,) = clock.milliseconds((lambda: product(a, a), clock.jax_wait))
  return 2 * size**3 / found / 1e9


def created(case: Case, dtype: str, small: bool):
  """The network, and a batch of its inputs and labels."""
  options = case.options | ({'width': 1 / 16} if small else {})
  model = models.create(case.name, 21, dtype=dtype, **options)
  batch, rng = (1 if small else case.batch), np.random.default_rng(0)
  side = 16 if small and case.stage == 'context' else case.side
  stride = 1 if case.stage == 'context' else model.stride
  labels = rng.integers(0, 21, (batch, side, side)).astype(np.uint8)
  given = {'label': np.kron(labels, np.ones((1, 8, 8), np.uint8)) if stride == 1 else labels}
  if case.stage == 'context':
    given['features'] = rng.normal(size=(batch, side, side, 21)).astype(np.float32)
  else:
    inside = side + 2 * model.margin
    given['image'] = rng.integers(0, 256, (batch, inside, inside, 3)).astype(np.uint8)
  return model, given


def of_jax(case: Case, dtype: str, small: bool) -> tuple[str, Callable, int]:
  """Name, call and FLOPs of a case."""
  model, given = created(case, dtype, small)
  table = model.context_table if case.stage == 'context' else model.table
  batch, height, width, channels = (
    given.get('features') if case.stage == 'context' else given['image']
  ).shape
  kind = 'training step' if case.train else 'forward'
  context = f' {case.options.get("context", "basic")}' if case.stage == 'context' else ''
  what = f'{dtype} {case.name}{context}, {kind}, {batch}x{height}x{width}x{channels}'
  flops = batch * costs.flops(table, height, width, channels) * (3 if case.train else 1)
  precision = 'tensorfloat32' if dtype == 'float32' else 'bfloat16'
  stage = STAGES[case.stage]
  given = jax.device_put(given)
  with jax.default_matmul_precision(precision):
    if case.train:
      optimizer = OptimizerOptions('sgd', 1e-4)
      return what, training_step(model, stage, optimizer, MEAN, given), flops
    images = jnp.zeros((1, 2 * model.margin + 64, 2 * model.margin + 64, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    run = jax.jit(functools.partial(model.apply, method=stage.method))
    compiled = run.lower(variables, given['features']).compile()
  return what, lambda: compiled(variables, given['features']), flops


def of_torch(case: Case, dtype: str, small: bool, compiled: bool = False) -> Callable:
  """The same in PyTorch, in this process: calls are queued, as ours are."""
  from ..peers import layers_of, torch_networks

  model, given = created(case, dtype, small)
  on_features = case.stage == 'context'
  x = given['features'] if on_features else given['image']
  layers = layers_of(model.context_table if on_features else model.table, x.shape[-1])
  if not case.train:
    return torch_networks.forward(layers, x, dtype=dtype, compiled=compiled)
  stride = model.stride
  return torch_networks.training_step(
    layers, x, given['label'][:, ::stride, ::stride], dtype=dtype, compiled=compiled
  )

"""How time and memory grow with image size, classes, batch and dilation, beside PyTorch.

Memory is what a run needs beside its input and the weights: of ours as the compiled program states
it, of PyTorch by how much the process (on a GPU, its allocations) grew at its peak.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dilated_jax import models
from dilated_jax.nn import costs, table as tables
from dilated_jax.nn.stack import Stack
from dilated_jax.nn.table import Table

from . import peers, timing


class Curve(NamedTuple):
  """What grows.

  Attributes:
    name: of what is varied.
    xs: its values.
    make: takes one to a table and the shape of its input.
    gradients: of the mean of the squared outputs to input and weights; or forward alone.
  """

  name: str
  xs: tuple[int, ...]
  make: Callable[[int], tuple[Table, tuple[int, int, int, int]]]
  gradients: bool


def _dilation8(width: float) -> Table:
  return models.create('dilation8', 21, width=width).table


CURVES = (
  Curve(
    'pixels a side of an image, Dilation8 at a quarter of its width', (436, 500, 628, 884),
    lambda side: (_dilation8(1 / 4), (1, side, side, 3)), gradients=False,
  ),
  Curve(
    'classes, basic context module with gradients, 66x66 cells', (2, 11, 21, 32, 64),
    lambda count: (tables.context(count), (1, 66, 66, count)), gradients=True,
  ),
  Curve(
    'images of 436x436, Dilation8 at an eighth of its width with gradients', (1, 2, 4, 8),
    lambda batch: (_dilation8(1 / 8), (batch, 436, 436, 3)), gradients=True,
  ),
  Curve(
    'dilation, 3x3 with gradients, 4x66x66 cells, 64 channels', (1, 2, 4, 8, 16, 32, 64),
    lambda rate: (
      (tables.Layer('conv', dilation=rate, padding=rate, channels=64),), (4, 66, 66, 64)
    ), gradients=True,
  ),
)  # fmt: skip


def run(values) -> Iterator[dict]:
  """A row for each point of each curve."""
  for curve in CURVES:
    for x in curve.xs:
      yield {'curve': curve.name, 'x': x} | point(values, curve, x)


def point(values, curve: Curve, x: int) -> dict:
  """Time and memory of one point."""
  table, shape = curve.make(x)
  stack, keys = Stack(table), jax.random.split(jax.random.key(0))
  given = jax.random.normal(keys[0], shape)
  variables = jax.jit(stack.init)(keys[1], given)

  def loss(variables, given):
    return jnp.square(stack.apply(variables, given)).mean()

  function = jax.grad(loss, (0, 1)) if curve.gradients else stack.apply
  compiled = jax.jit(function).lower(variables, given).compile()
  torch = peers.pytorch(values)
  theirs = torch and torch.job(
    'gradients' if curve.gradients else 'forward', layers=peers.layers_of(table, shape[3]), x=given
  )
  passes = 3 if curve.gradients else 1
  batch, *sides, channels = shape
  row = timing.compare(
    f'{x}', 'PyTorch', compiled, theirs, (variables, given), values.repeats,
    flops=passes * batch * costs.flops(table, *sides, channels),
    bytes=passes * costs.traffic_bytes(table, *sides, channels, batch=batch),
    point=curve.name.partition(', ')[2].partition(' with')[0],
  )  # fmt: skip
  planned = compiled.memory_analysis()
  if planned:
    row['ours_mib'] = (planned.temp_size_in_bytes + planned.output_size_in_bytes) / 2**20
  taken = theirs and theirs.peak_mib()
  return row | ({'theirs_mib': taken} if taken is not None else {})

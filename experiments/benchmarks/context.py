"""The context modules beside PyTorch; on CPUs also beside the same with XLA's YNN fusions."""

from collections.abc import Iterator

import jax

from dilated_jax.nn import costs, table as tables
from dilated_jax.nn.stack import Stack

from . import peers
from .timing import compare

# Kind, classes, images, height and width of the grid of a front end.
CASES = (('basic', 21, 4, 66, 66), ('basic', 11, 1, 66, 91), ('large', 21, 1, 66, 66))
# What jaxlib 0.10.2 to 0.12.0.1 fuse unless told otherwise; see `dilated_jax.xla_flags`.
_FUSIONS = ','.join(
  f'LIBRARY_FUSION_TYPE_{name}' for name in ('REDUCE', 'INDIVIDUAL_DOT', 'INDIVIDUAL_CONVOLUTION')
)


def run(values) -> Iterator[dict]:
  """Basic and large: forward, and with all gradients."""
  again = []
  for kind, classes, batch, height, width in CASES:
    table = tables.context(classes, kind=kind)
    stack = Stack(table)
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (batch, height, width, classes))
    variables = jax.jit(stack.init)(keys[1], x)

    def loss(variables, x, stack=stack):
      return (stack.apply(variables, x) ** 2).mean()

    passes = {
      'forward': (stack.apply, 'forward', 1),
      'and gradients': (jax.value_and_grad(loss, (0, 1)), 'gradients', 3),
    }
    for what, (function, theirs, count) in passes.items():
      torch, ours = peers.pytorch(values), jax.jit(function)
      name = f'context {kind}, {classes} classes, {batch}x{height}x{width}, {what}'
      yield compare(
        name, 'PyTorch', ours,
        torch and torch.job(theirs, layers=peers.layers_of(table, classes), x=x),
        (variables, x), values.repeats,
        flops=count * batch * costs.flops(table, height, width, classes),
        bytes=count * costs.traffic_bytes(table, height, width, classes, batch=batch),
      )  # fmt: skip
      again.append((name, ours, function, variables, x))
  if jax.default_backend() != 'cpu':
    return
  for name, ours, function, variables, x in again:
    theirs = jax.jit(function, compiler_options={'xla_cpu_experimental_ynn_fusion_type': _FUSIONS})
    yield compare(name, 'YNN', ours, theirs, (variables, x), values.repeats)

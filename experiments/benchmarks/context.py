"""The context modules against the same with XLA's YNN fusions, which JAX itself leaves on."""

import jax

from dilated_jax.nn import table as tables
from dilated_jax.nn.stack import Stack

from .timing import compare

# What jaxlib 0.10.2 to 0.12.0.1 fuse unless told otherwise; see `dilated_jax.xla_flags`.
_FUSIONS = ','.join(
  f'LIBRARY_FUSION_TYPE_{name}' for name in ('REDUCE', 'INDIVIDUAL_DOT', 'INDIVIDUAL_CONVOLUTION')
)


def run(values) -> list[dict]:
  """Basic and large, for 21 classes on the grid of a front end: forward, and with all gradients."""
  rows = []
  for kind, batch in (('basic', 4), ('large', 1)):
    stack = Stack(tables.context(21, kind=kind))
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (batch, 66, 66, 21))
    variables = jax.jit(stack.init)(keys[1], x)

    def loss(variables, x, stack=stack):
      return (stack.apply(variables, x) ** 2).mean()

    passes = {'forward': stack.apply, 'and gradients': jax.value_and_grad(loss, (0, 1))}
    for what, function in passes.items():
      ours = jax.jit(function)
      theirs = jax.jit(
        function, compiler_options={'xla_cpu_experimental_ynn_fusion_type': _FUSIONS}
      )
      name = f'{kind}, 21 classes, {batch}x66x66, {what}'
      rows.append(compare(name, 'YNN', ours, theirs, (variables, x), values.repeats))
  return rows

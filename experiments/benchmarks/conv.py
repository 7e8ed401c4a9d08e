"""`ops.dilated_conv` and its gradients against `lax.conv_general_dilated` as it is."""

import jax

from dilated_jax.nn import ops

from .timing import compare


def run(values) -> list[dict]:
  """Layers of the front end and the context module, forward and backward."""

  def plain(x, kernel, dilation):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (1, 1),
      'VALID',
      rhs_dilation=(dilation, dilation),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  def passes(function, dilation):
    def forward(x, kernel):
      return function(x, kernel, dilation)

    def loss(x, kernel):
      return forward(x, kernel).sum()

    return {
      'forward': jax.jit(forward),
      'gradient to x': jax.jit(jax.grad(loss, 0)),
      'gradient to kernel': jax.jit(jax.grad(loss, 1)),
    }

  rows = []
  for batch, side, inputs, outputs, size, dilation in (
    (1, 226, 64, 64, 3, 1),
    (1, 66, 256, 256, 3, 1),
    (1, 68, 512, 512, 3, 2),
    (1, 56, 512, 1024, 7, 4),
    (1, 28, 512, 1024, 7, 4),
    (8, 72, 64, 128, 3, 2),
    (8, 72, 21, 21, 3, 4),
    (8, 64, 128, 128, 1, 1),
  ):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (batch, side, side, inputs))
    kernel = jax.random.normal(keys[1], (size, size, inputs, outputs)) / size
    name = f'{batch}x{side}x{side}x{inputs} -> {outputs}, {size}x{size} dilation {dilation}'
    theirs = passes(plain, dilation)
    for what, ours in passes(ops.dilated_conv, dilation).items():
      rows.append(
        compare(f'{name}, {what}', 'XLA', ours, theirs[what], (x, kernel), values.repeats)
      )
  return rows

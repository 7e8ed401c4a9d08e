"""Every dilation, forward and backward, beside cuDNN through PyTorch."""

from collections.abc import Iterator
import re

import jax
import jax.numpy as jnp

from dilated_jax.nn import ops

from .. import timing
from . import clock

# Channels, dtype and dilations, in this order, since time may cut the last ones.
POWERS, OF_DEEPLAB = (1, 2, 4, 8, 16, 32, 64), (6, 12, 18, 24)
CASES = (
  (256, 'bfloat16', POWERS),
  (64, 'bfloat16', POWERS),
  (512, 'bfloat16', POWERS),
  (256, 'float32', POWERS),
  (256, 'bfloat16', OF_DEEPLAB),
  (64, 'float32', POWERS),
  (512, 'float32', POWERS),
)


def rows(small: bool) -> Iterator[dict]:
  """3x3 kernels on maps of 66x66, padded by the dilation; rates are of the float32 of TF32."""
  import torch

  torch.backends.cudnn.benchmark = True
  torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
  batch, side = (1, 20) if small else (8, 66)
  for channels, dtype, dilations in CASES[:2] if small else CASES:
    for dilation in dilations[:2] if small else dilations:
      yield from passes(batch, side, 16 if small else channels, dtype, dilation)


def passes(batch: int, side: int, channels: int, dtype: str, dilation: int) -> Iterator[dict]:
  """Forward, gradient to x and gradient to the kernel."""
  import torch

  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (batch, side, side, channels), dtype)
  kernel = jax.random.normal(keys[1], (3, 3, channels, channels), dtype)

  def forward(x, kernel):
    return ops.dilated_conv(x, kernel, dilation, dilation)

  def backward(argument):
    def run(x, kernel, gradient):
      return jax.vjp(forward, x, kernel)[1](gradient)[argument]

    return run

  gradient = jnp.ones_like(x)
  ours = {
    'forward': (forward, (x, kernel)),
    'gradient to x': (backward(0), (x, kernel, gradient)),
    'gradient to kernel': (backward(1), (x, kernel, gradient)),
  }
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  kind = getattr(torch, dtype)
  shape = (batch, channels, side, side)
  there = torch.randn(shape, device=device, dtype=kind).to(memory_format=torch.channels_last)
  weight = torch.randn((channels, channels, 3, 3), device=device, dtype=kind)
  weight = weight.to(memory_format=torch.channels_last)
  one = torch.ones_like(there)
  space = [1, 1], [dilation] * 2, [dilation] * 2, False, [0, 0], 1

  def cudnn_backward(mask):
    return lambda: torch.ops.aten.convolution_backward(one, there, weight, None, *space, mask)

  theirs = {
    'forward': lambda: torch.ops.aten.convolution(there, weight, None, *space),
    'gradient to x': cudnn_backward([True, False, False]),
    'gradient to kernel': cudnn_backward([False, True, False]),
  }
  flops = 2 * 9 * batch * (side * channels) ** 2
  for what, (function, arguments) in ours.items():
    with jax.default_matmul_precision('tensorfloat32' if dtype == 'float32' else 'bfloat16'):
      compiled = jax.jit(function).lower(*arguments).compile()
    mine, other = clock.milliseconds(
      (lambda run=compiled, given=arguments: run(*given), clock.jax_wait),
      (theirs[what], clock.torch_wait),
      rounds=3,
      seconds=0.01,
    )
    yield timing.row(
      f'{dtype} {batch}x{side}x{side}x{channels}, dilation {dilation}, {what}',
      'cuDNN',
      mine,
      other,
      tflops=flops / mine / 1e9,
      program=convolution_of(compiled.as_text()),
    )


def convolution_of(program: str) -> str:
  """What an optimized program makes of a convolution: its call, and the window.

  A kernel that is padded out with zeros shows as a window larger than 3x3 without `rhs_dilate`
  (or, of the gradient to a kernel, as one of the size of the map).
  """
  found = [
    line for line in program.splitlines() if 'window={' in line and 'reduce-window' not in line
  ]
  told = []
  for line in found:
    target = re.search(r'custom_call_target="([^"]+)"', line)
    window = re.search(r'window={([^}]*)}', line)
    told.append(f'{target[1] if target else "convolution"} {window[1] if window else ""}')
  return '; '.join(told) or 'no convolution'

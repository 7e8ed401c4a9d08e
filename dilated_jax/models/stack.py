"""From a table of layers to a Flax module."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dilated_jax import initializers, ops
from dilated_jax.layers import Layer, Table

_INITIALIZERS = {
  'he': lambda layer: initializers.he,
  'he_image': lambda layer: initializers.he_image,
  'classifier': lambda layer: initializers.classifier,
  'identity': lambda layer: initializers.identity(layer.groups),
}


class Conv(nn.Module):
  """A dilated convolution with bias; parameters `kernel` (HWIO) and `bias`, float32.

  Attributes:
    layer: its row of the table.
    dtype: of the computation.
  """

  layer: Layer
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    layer = self.layer
    shape = (layer.kernel, layer.kernel, x.shape[-1], layer.channels)
    kernel = self.param('kernel', _INITIALIZERS[layer.init](layer), shape)
    bias = self.param('bias', nn.initializers.zeros, (layer.channels,))
    x = ops.dilated_conv(x, kernel.astype(self.dtype), layer.dilation, layer.padding)
    return x + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class Stack(nn.Module):
  """The layers of a table, one after the other, each under its own name.

  Attributes:
    table: the layers.
    dtype: of the computation; parameters, normalisation statistics and logits stay float32.
    remat: recompute the activations of a block (up to a pooling) in the backward pass, not keep
      them; saves memory, costs about a third more time.
    axis_name: devices over which batch normalisation averages (the axis of `jax.pmap`).
  """

  table: Table
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train: bool = False):
    """Maps (N, H, W, C) to (N, h, w, channels of the last layer), float32."""
    x = x.astype(self.dtype)
    for block in self._blocks():
      # The lifted transform keeps the parameters under this module, whatever the blocks.
      run = nn.remat(_run, static_argnums=(2, 3)) if self.remat else _run
      x = run(self, x, block, train)
    return x.astype(jnp.float32)

  def _blocks(self) -> list[Table]:
    """The table cut after each pooling."""
    blocks = [[]]
    for layer in self.table:
      blocks[-1].append(layer)
      if layer.kind == 'max_pool':
        blocks.append([])
    return [tuple(block) for block in blocks]


def _run(stack: Stack, x, block: Table, train: bool):
  for layer in block:
    if layer.kind == 'max_pool':
      x = ops.max_pool(x, layer.kernel, layer.stride)
    elif layer.kind == 'deconv':
      x = ops.deconvolution(x, layer.stride)
    else:
      x = Conv(layer, stack.dtype, name=layer.name)(x)
      x = _normalise(stack, layer, x, train)
      if layer.activation == 'relu':
        x = jax.nn.relu(x)
      if layer.dropout:
        x = nn.Dropout(layer.dropout, name=f'{layer.name}_dropout')(x, deterministic=not train)
  return x


def _normalise(stack: Stack, layer: Layer, x, train: bool):
  if layer.norm == 'batch':
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=0.95,
      dtype=stack.dtype,
      axis_name=stack.axis_name if train else None,
      name=f'{layer.name}_norm',
    )(x)
  if layer.norm == 'group':
    # At least 8 channels a group: with fewer, a group of one map would lose its mean.
    fitting = (g for g in (2, 4, 8, 16, 32) if x.shape[-1] % g == 0 and x.shape[-1] >= 8 * g)
    groups = max(fitting, default=1)
    return nn.GroupNorm(num_groups=groups, dtype=stack.dtype, name=f'{layer.name}_norm')(x)
  return x

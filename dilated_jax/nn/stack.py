"""From a table of layers to a Flax module."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from dilated_jax.nn import geometry, initializers, ops
from dilated_jax.nn.table import Layer, Table, input_indices

_INITIALIZERS = {
  'he': lambda layer: initializers.he,
  'he_image': lambda layer: initializers.he_image,
  'classifier': lambda layer: initializers.classifier,
  'zeros': lambda layer: nn.initializers.zeros,
  'identity': lambda layer: initializers.identity(layer.groups),
}


class Conv(nn.Module):
  """A dilated convolution; parameters `kernel` (HWIO) and, where it has one, `bias`, float32.

  Attributes:
    layer: its row of the table.
    dtype: of the computation.
  """

  layer: Layer
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x):
    layer = self.layer
    shape = (layer.kernel, layer.kernel, x.shape[-1], layer.channels)
    kernel = self.param('kernel', _INITIALIZERS[layer.init](layer), shape).astype(self.dtype)
    if layer.input_scale != 1:
      x = x * jnp.asarray(layer.input_scale, x.dtype)
    x = ops.dilated_conv(x, kernel, layer.dilation, layer.padding, layer.stride)
    if not layer.bias:
      return x
    bias = self.param('bias', nn.initializers.zeros, (layer.channels,))
    return x + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class Stack(nn.Module):
  """The layers of a table, each under its own name.

  Attributes:
    table: the layers.
    auxiliary: rows that follow those of the table in training, and whose last is a second answer:
      it is sown as 'auxiliary' into the collection of that name.
    dtype: of the computation; parameters, normalization statistics and logits stay float32.
    remat: recompute the activations of a block (up to a pooling or a sum) in the backward pass, not
      keep them; saves memory, costs about a third more time.
    axis_name: devices over which batch normalization averages (the axis of `jax.pmap`).
  """

  table: Table
  auxiliary: Table = ()
  dtype: DTypeLike = jnp.float32
  remat: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train: bool = False):
    """Maps (N, H, W, C) to (N, h, w, channels of the last layer), float32."""
    table = self.table
    if self.auxiliary and (train or self.is_initializing()):
      table += self.auxiliary
    # Outputs by place in the table, -1 for the input, as long as another row reads them.
    alive, place = {-1: x.astype(self.dtype)}, 0
    for block in _blocks(table):
      # The lifted transform keeps the parameters under this module, whatever the blocks.
      run = nn.remat(_run, static_argnums=(2, 3, 4, 5)) if self.remat else _run
      alive = run(self, alive, table, place, place + len(block), train)
      place += len(block)
    if len(table) > len(self.table) and not self.is_initializing():
      self.sow('auxiliary', 'auxiliary', alive[place - 1].astype(jnp.float32))
    return alive[len(self.table) - 1].astype(jnp.float32)


def _blocks(table: Table) -> list[Table]:
  """The table cut after each pooling and each sum."""
  blocks = [[]]
  for layer in table:
    blocks[-1].append(layer)
    if layer.kind in ('max_pool', 'sum'):
      blocks.append([])
  return [tuple(block) for block in blocks]


def _run(stack: Stack, alive: dict, table: Table, first: int, end: int, train: bool) -> dict:
  """Runs the rows from `first` to `end`; adds their outputs and drops what is not read again."""
  reads, last_uses, alive = input_indices(table), geometry.last_uses(table), dict(alive)
  kept = len(stack.table) - 1, len(table) - 1
  for place in range(first, end):
    alive[place] = _layer(stack, table[place], [alive[source] for source in reads[place]], train)
    for source in set(reads[place]) - set(kept):
      if last_uses[source] == place:
        del alive[source]
  return alive


def _layer(stack: Stack, layer: Layer, inputs: list, train: bool):
  """The output of one row."""
  x = inputs[0]
  if layer.kind == 'conv':
    x = Conv(layer, stack.dtype, name=layer.name)(x)
    x = _normalize(stack, layer, x, train)
  elif layer.kind == 'max_pool':
    x = ops.max_pool(x, layer.kernel, layer.stride, layer.padding, layer.round_up)
  elif layer.kind == 'avg_pool':
    x = ops.avg_pool(x, layer.kernel, layer.stride, layer.padding, layer.round_up)
  elif layer.kind == 'adaptive_avg_pool':
    x = ops.adaptive_avg_pool(x, layer.kernel)
  elif layer.kind == 'deconv':
    usual = layer.padding == layer.stride // 2
    x = ops.deconvolution(x, layer.stride, None if usual else layer.padding)
  elif layer.kind == 'resize':
    x = ops.resize(x, inputs[1].shape[1:3], align_corners=True)
  elif layer.kind == 'crop':
    x = x[:, -layer.padding :, -layer.padding :]
  else:
    rows, columns = (min(x.shape[axis] for x in inputs) for axis in (1, 2))
    inputs = [x[:, :rows, :columns] for x in inputs]
    x = jnp.concatenate(inputs, -1) if layer.kind == 'concat' else sum(inputs[1:], inputs[0])
  if layer.activation == 'relu':
    x = jax.nn.relu(x)
  if layer.dropout:
    x = nn.Dropout(layer.dropout, name=f'{layer.name}_dropout')(x, deterministic=not train)
  return x


def _normalize(stack: Stack, layer: Layer, x, train: bool):
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

"""From a table of layers to a Flax module."""

import functools

import flax.linen as nn
import jax
from jax.core import min_dim
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Float32, Int

from dilated_jax.nn import geometry, initializers, ops
from dilated_jax.nn.dropout import Dropout
from dilated_jax.nn.normalization import BatchNorm
from dilated_jax.nn.table import Layer, Table, blocks, input_indices, last_uses
from dilated_jax.typing import AnyArray

_INITIALIZERS = {
  'he': lambda layer: initializers.he,
  'he_image': lambda layer: initializers.he_image,
  'classifier': lambda layer: initializers.classifier,
  'gaussian': lambda layer: nn.initializers.normal(layer.noise),
  'zeros': lambda layer: nn.initializers.zeros,
  'identity': lambda layer: initializers.identity(layer.groups, layer.noise),
}


class Conv(nn.Module):
  """A dilated convolution. Parameters, float32: `kernel` (HWIO) and, if it has one, `bias`.

  Returns its output without the bias, and the bias or None: what normalizes the output may know
  better than to add it.

  Attributes:
    layer: its row of the table.
    dtype: of the computation.
  """

  layer: Layer
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[AnyArray, 'n h w c']
  ) -> tuple[Float[jax.Array, 'n h_out w_out o'], Float32[AnyArray, ' o'] | None]:
    layer = self.layer
    shape = (layer.kernel, layer.kernel, x.shape[-1], layer.channels)
    kernel = self.param('kernel', _INITIALIZERS[layer.init](layer), shape).astype(self.dtype)
    if layer.input_scale != 1:
      x = x * jnp.asarray(layer.input_scale, x.dtype)
    x = ops.dilated_conv(_in_memory(x), kernel, layer.dilation, layer.padding, layer.stride)
    x = _in_memory(x)
    if not layer.bias:
      return x, None
    return x, self.param('bias', nn.initializers.zeros, (layer.channels,))


def _in_memory(x) -> jax.Array:
  """The same, not joined with other operations, and neither is its gradient; on CPUs."""
  # Gradients of kernels read both transposed. XLA's CPU back end would join the transposes with
  # what is made of the neighboring layers, in loops that jump through memory, instead of copying.
  return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=_same)


def _same(x):  # A function of its own: JAX finds again what it has traced of it.
  return x


class Stack(nn.Module):
  """The layers of a table, each under its own name.

  Where the collection 'activations' is mutable, the output of each convolution is sown into it, as
  NAME_output.

  Attributes:
    table: the layers.
    auxiliary: rows of an auxiliary classifier, which continue the table in training. Its scores are
      sown as 'auxiliary' into the collection 'auxiliary'.
    dtype: of the computation; parameters, statistics of normalizations and the output stay float32.
    remat: whether the backward pass recomputes the activations of a block (up to a pooling or a
      sum), instead of keeping them; saves memory and takes about a third more time.
    axis_name: axis of `jax.pmap` over which batch normalization averages.
  """

  table: Table
  auxiliary: Table = ()
  dtype: DTypeLike = jnp.float32
  remat: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[AnyArray, 'n h w c'],
    train: bool = False,
    inside: Bool[AnyArray, 'n h w'] | None = None,
    own: Int[AnyArray, '2'] | None = None,
  ) -> Float32[jax.Array, 'n h_out w_out o']:
    """Runs all layers.

    Args:
      x: the input of the first layer.
      train: whether to drop out, to normalize by the batch and to run the auxiliary classifier.
      inside: which cells there are; None: all. To every layer the others are zeros, as what lies
        beyond the border is, so that maps of several sizes in one array are what each is alone.
      own: rows and columns of `x`, from the top left, that are the map; None: all. The output of
        the last layer has at its top left what the map alone gives. Unlike `inside` this is for all
        layers, those that change the size and those that average over the map too; one program
        does maps of all sizes.

    Returns:
      The output of the last layer.
    """
    table = self.table
    if self.auxiliary and (train or self.is_initializing()):
      table += self.auxiliary
    sizes = None if own is None else _own_sizes(table, x.shape, own)
    # Outputs by row, -1 for the input, as long as another row reads them.
    outputs, row = {-1: jnp.asarray(x, self.dtype)}, 0
    for block in blocks(table):
      # The lifted transform keeps the parameters under this module, whatever the blocks.
      run = nn.remat(_run_rows, static_argnums=(2, 3, 4, 5)) if self.remat else _run_rows
      outputs = run(self, outputs, table, row, row + len(block), train, inside, sizes)
      row += len(block)
    if len(table) > len(self.table) and not self.is_initializing():
      self.sow('auxiliary', 'auxiliary', outputs[row - 1].astype(jnp.float32))
    return outputs[len(self.table) - 1].astype(jnp.float32)


def _own_sizes(table: Table, shape, own) -> dict:
  """Rows and columns of the own part of each output, by row; -1 for the input."""
  found = jnp.asarray(geometry.all_output_sizes(table, max(shape[1:3])))[:, own]
  return {-1: own, **dict(enumerate(found))}


def _run_rows(
  stack: Stack, outputs: dict, table: Table, first: int, end: int, train: bool, inside, sizes
) -> dict:
  """Runs the rows from `first` to `end`: adds their outputs, drops those not read again."""
  reads, last_use, outputs = input_indices(table), last_uses(table), dict(outputs)
  answers = len(stack.table) - 1, len(table) - 1
  for row in range(first, end):
    own = None if sizes is None else [sizes[index] for index in (*reads[row], row)]
    inputs = [
      _without_outside(table[row], outputs[index], inside, own and own[place])
      for place, index in enumerate(reads[row])
    ]
    outputs[row] = _run_layer(stack, table[row], inputs, train, own)
    if table[row].kind == 'conv' and not stack.is_initializing():
      stack.sow('activations', f'{table[row].name}_output', outputs[row])
    for index in set(reads[row]) - set(answers):
      if last_use[index] == row:
        del outputs[index]
  return outputs


def _without_outside(layer: Layer, x, inside, own):
  """The input of a layer with zeros where there are no cells."""
  if own is not None:  # Other kinds of layers are told, see `_run_layer`.
    return ops.only_own(x, own) if layer.kind == 'conv' and layer.padding else x
  # Of a map that was padded before, the zeros are part of the map.
  if inside is None or layer.kernel == 1 or x.shape[1:3] != inside.shape[1:3]:
    return x
  return jnp.where(inside[..., None], x, jnp.zeros((), x.dtype))


def _run_layer(stack: Stack, layer: Layer, inputs: list, train: bool, own):
  """The output of one row; `own` is None, or the sizes of the maps in its inputs and output."""
  x = inputs[0]
  of_input = own and own[0]
  if layer.kind == 'conv':
    x, bias = Conv(layer, stack.dtype, name=layer.name)(x)
    x = _normalize(stack, layer, x, bias, train, own and own[-1])
  elif layer.kind == 'max_pool':
    x = ops.max_pool(x, layer.kernel, layer.stride, layer.padding, layer.round_up, of_input)
  elif layer.kind == 'avg_pool':
    x = ops.avg_pool(x, layer.kernel, layer.stride, layer.padding, layer.round_up, of_input)
  elif layer.kind == 'adaptive_avg_pool':
    x = ops.adaptive_avg_pool(x, layer.kernel, of_input)
  elif layer.kind == 'deconv':
    usual = layer.padding == layer.stride // 2
    x = ops.deconvolution(x, layer.stride, None if usual else layer.padding, of_input)
  elif layer.kind == 'resize':
    size = inputs[1].shape[1:3]
    x = ops.resize(x, size, align_corners=True, own=of_input, own_size=own and own[1])
  elif layer.kind == 'crop':
    x = x[:, -layer.padding :, -layer.padding :]
  else:
    rows, columns = (functools.reduce(min_dim, (x.shape[axis] for x in inputs)) for axis in (1, 2))
    inputs = [x[:, :rows, :columns] for x in inputs]
    x = jnp.concatenate(inputs, -1) if layer.kind == 'concat' else sum(inputs[1:], inputs[0])
  if layer.activation == 'relu':
    x = jax.nn.relu(x)
  if layer.dropout:
    x = Dropout(layer.dropout, name=f'{layer.name}_dropout')(x, train=train)
  return x


def _normalize(stack: Stack, layer: Layer, x, bias, train: bool, own):
  """The output of a convolution and its bias, normalized as the row says."""
  name = f'{layer.name}_norm'
  if layer.norm == 'batch':
    norm = BatchNorm(stack.dtype, stack.axis_name, momentum=0.95, name=name)
    return norm(x, bias, train=train)
  if bias is not None:
    x = ops.add_bias(x, bias)
  if layer.norm == 'group':
    groups = group_count(x.shape[-1])
    mask = None if own is None else jnp.broadcast_to(ops.is_own(x, own), x.shape)
    return nn.GroupNorm(num_groups=groups, dtype=stack.dtype, name=name)(x, mask=mask)
  return x


def group_count(channels: int) -> int:
  """Groups of the normalization 'group'."""
  # At least 8 channels a group: with fewer, a group of one map would lose its mean.
  fitting = (g for g in (2, 4, 8, 16, 32) if channels % g == 0 and channels >= 8 * g)
  return max(fitting, default=1)

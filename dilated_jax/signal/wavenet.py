"""WaveNet: the dilated stack of the paper turned into a causal one, along time.

van den Oord et al., "WaveNet: A Generative Model for Raw Audio" (2016): p(x) is the product of
p(x_t | x_1 ... x_{t-1}), each a softmax over mu-law codes (`signal.audio`). Dilations double, as in
the context module, but kernels have two taps and look back only: each layer is padded with zeros in
front, by the reach of its kernel. Audio is an image of one row, so the convolution is
`ops.dilated_conv`.

The WaveNet paper does not give the numbers of channels; the defaults are ours.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Float, Float32, Int32, Integer, PRNGKeyArray

from dilated_jax.errors import InputError
from dilated_jax.nn import geometry, ops
from dilated_jax.nn.table import Layer, Table
from dilated_jax.typing import AnyArray

# The last inputs of a gated unit, and where the oldest of them is.
Queue: TypeAlias = tuple[Float[jax.Array, 'n 1 _ c'], Int32[jax.Array, '']]


def stack(dilations: Sequence[int], channels: int, skip_channels: int, num_classes: int) -> Table:
  """The layers from a sample to the logits, along time.

  The stack is unpadded: from n samples it computes n - r + 1 outputs, where r is the receptive
  field; a WaveNet pads it in front to compute n. The 1x1 convolutions at the end of each gated
  unit, to the next unit and to the head, read no other samples and are not rows. `geometry` thus
  derives receptive field, windows, holes and sizes. `costs` does not apply: it would count square
  kernels, and not those convolutions.

  Args:
    dilations: of the gated units, from the first to the last.
    channels: between the units.
    skip_channels: into the head, and inside it.
    num_classes: number of codes.

  Returns:
    The table, of one axis.

  >>> from dilated_jax.nn import geometry
  >>> block = [2**i for i in range(10)]
  >>> [geometry.receptive_field(stack(n * block, 32, 64, 256)) for n in (1, 3)]
  [1024, 3070]
  """
  return (
    Layer('input', kernel=1, channels=channels),
    *(
      Layer(f'unit_{i}', kernel=2, dilation=dilation, channels=channels)
      for i, dilation in enumerate(dilations)
    ),
    Layer('head1', kernel=1, channels=skip_channels, activation='relu'),
    Layer('head2', kernel=1, channels=num_classes),
  )


class WaveNet(nn.Module):
  """A causal network that predicts the next code from all codes before it.

  `model.init(key, codes) -> variables`, `model.apply(variables, codes) -> logits`. Parameters:
  `input`, `unit_0/filter_gate`, `unit_0/residual`, `unit_0/skip`, ..., `head1`, `head2`, each with
  `kernel` (1, taps, in, out) and `bias`, float32.

  Attributes:
    num_classes: number of codes.
    table: see `stack`.
    dtype: of the computation (`jnp.float32` or `jnp.bfloat16`); logits are float32.
  """

  num_classes: int
  table: Table
  dtype: DTypeLike = jnp.float32

  def setup(self):
    first, *units, head1, head2 = self.table
    assert head1.channels  # Every row of `stack` states them.
    self.input = Conv(first, self.dtype)
    self.unit = [
      GatedUnit(layer, head1.channels, last=i == len(units) - 1, dtype=self.dtype)
      for i, layer in enumerate(units)
    ]
    self.head1 = Conv(head1, self.dtype)
    self.head2 = Conv(head2, self.dtype)

  def __call__(
    self, codes: Integer[AnyArray, 'n t'], train: bool = False
  ) -> Float32[jax.Array, 'n t {self.num_classes}']:
    """Predicts the next code after each of the codes.

    Args:
      codes: 0 ... num_classes - 1.
      train: makes no difference here; other networks have it.

    Returns:
      Logits; those at t are of code t + 1, given the codes up to t.
    """
    return self.apply_one_hot(jax.nn.one_hot(codes, self.num_classes, dtype=self.dtype))

  def apply_one_hot(
    self, x: Float[AnyArray, 'n t {self.num_classes}']
  ) -> Float32[jax.Array, 'n t {self.num_classes}']:
    """As `__call__`, but for one-hot codes or mixtures of them."""
    hidden, skips = self.input(jnp.asarray(x, self.dtype)[:, None]), []
    for unit in self.unit:
      hidden, skip = unit(hidden)
      skips.append(skip)
    return self._head(sum(skips[1:], skips[0]))[:, 0]

  def step(
    self, queues: Sequence[Queue], codes: Integer[AnyArray, ' n']
  ) -> tuple[list[Queue], Float32[jax.Array, 'n {self.num_classes}']]:
    """Predicts the code after one more sample, as `__call__` does at its last time.

    Each unit keeps its last inputs, as far back as its kernel reaches, so that nothing is computed
    twice (Le Paine et al., "Fast WaveNet Generation Algorithm", 2016).

    Args:
      queues: from the step before, or from `init_queues`.
      codes: the next sample.

    Returns:
      The new queues, and the logits of the code after it.
    """
    x = self.input(jax.nn.one_hot(codes, self.num_classes, dtype=self.dtype)[:, None, None])
    new_queues, skips = [], []
    for unit, (inputs, oldest) in zip(self.unit, queues):
      # A ring buffer: the newest input replaces the oldest, and the next one is then the oldest.
      old = jax.lax.dynamic_slice_in_dim(inputs, oldest, 1, axis=2)
      inputs = jax.lax.dynamic_update_slice_in_dim(inputs, x, oldest, axis=2)
      new_queues.append((inputs, (oldest + 1) % inputs.shape[2]))
      x, skip = unit.step(old, x)
      skips.append(skip)
    return new_queues, self._head(sum(skips[1:], skips[0]))[:, 0, 0]

  def init_queues(self, batch_size: int) -> list[Queue]:
    """The queues before the first sample, which are zero."""
    _, *units, _, _ = self.table
    channels = self.table[0].channels
    return [
      (jnp.zeros((batch_size, 1, layer.effective_kernel - 1, channels), self.dtype), jnp.int32(0))
      for layer in units
    ]

  def _head(self, skips):
    x = jax.nn.relu(self.head1(jax.nn.relu(skips)))
    return self.head2(x).astype(jnp.float32)


class GatedUnit(nn.Module):
  """tanh(filter) * sigmoid(gate), with a residual connection and a skip connection to the head.

  Attributes:
    layer: its row of the table.
    skip_channels: channels of the skip connection.
    last: whether no unit follows, so that there is no residual connection.
    dtype: of the computation.
  """

  layer: Layer
  skip_channels: int
  last: bool = False
  dtype: DTypeLike = jnp.float32

  def setup(self):
    layer = self.layer
    assert layer.channels
    # Filter and gate are one convolution: the first half of its channels, and the second.
    both = Layer(
      'filter_gate', kernel=layer.kernel, dilation=layer.dilation, channels=2 * layer.channels
    )
    self.filter_gate = Conv(both, self.dtype)
    if not self.last:
      self.residual = Conv(Layer('residual', kernel=1, channels=layer.channels), self.dtype)
    self.skip = Conv(Layer('skip', kernel=1, channels=self.skip_channels), self.dtype)

  def __call__(
    self, x: Float[jax.Array, 'n 1 t c']
  ) -> tuple[Float[jax.Array, 'n 1 t c'], Float[jax.Array, 'n 1 t s']]:
    """Computes the input of the next unit, which the last one leaves as it is, and of the head."""
    return self._outputs(self.filter_gate(x), x)

  def step(
    self, old: Float[jax.Array, 'n 1 1 c'], x: Float[jax.Array, 'n 1 1 c']
  ) -> tuple[Float[jax.Array, 'n 1 1 c'], Float[jax.Array, 'n 1 1 s']]:
    """As `__call__` at one time, from the input at the first tap and at the second."""
    return self._outputs(self.filter_gate.step(old, x), x)

  def _outputs(self, filter_gate, x):
    values, gate = jnp.split(filter_gate, 2, axis=-1)
    values = jnp.tanh(values) * jax.nn.sigmoid(gate)
    return x if self.last else x + self.residual(values), self.skip(values)


class Conv(nn.Module):
  """A causal convolution along time with bias; parameters `kernel` (1, taps, in, out) and `bias`.

  Attributes:
    layer: its row of the table.
    dtype: of the computation.
  """

  layer: Layer
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def _parameters(self, inputs: int):
    layer = self.layer
    shape = (1, layer.kernel, inputs, layer.channels)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
    bias = self.param('bias', nn.initializers.zeros, (layer.channels,))
    return kernel.astype(self.dtype), bias

  def __call__(self, x: Float[jax.Array, 'n 1 t c']) -> Float[jax.Array, 'n 1 t o']:
    """Convolves; before the first sample the input counts as zero."""
    kernel, bias = self._parameters(x.shape[-1])
    front = ((0, 0), (self.layer.effective_kernel - 1, 0))
    return ops.add_bias(ops.dilated_conv(x, kernel, (1, self.layer.dilation), front), bias)

  def step(self, *taps: Float[jax.Array, 'n 1 1 c']) -> Float[jax.Array, 'n 1 1 o']:
    """As `__call__` at one time, from the input at each tap."""
    kernel, bias = self._parameters(taps[0].shape[-1])
    # One matrix product; a convolution of two columns would take several times as long.
    x = jnp.concatenate(taps, axis=-1)
    return ops.add_bias(jnp.tensordot(x, kernel.reshape(-1, kernel.shape[-1]), 1), bias)


# Generation.


def generate(
  model: WaveNet,
  variables: Mapping[str, Any],
  prompt: Integer[AnyArray, 'n p'],
  length: int,
  *,
  key: PRNGKeyArray | None = None,
  temperature: Float[ArrayLike, ''] = 1.0,
) -> Int32[jax.Array, 'n {length}+p']:
  """Continues a sequence of codes, one `step` of the network for each.

  A pure function. Under `jax.jit`, the model and `length` are static.

  Args:
    model: the network.
    variables: its parameters.
    prompt: the codes to begin with, at least one.
    length: number of codes to add.
    key: for sampling; None always takes the most likely code.
    temperature: divisor of the logits; below 1, likely codes become likelier.

  Returns:
    The prompt and the added codes.

  Raises:
    InputError: the prompt is empty or the length below 0.
  """
  codes = _with_room(prompt, length)
  step = functools.partial(model.apply, variables, method='step')

  def body(carry, t):
    codes, queues = carry
    queues, logits = step(queues, codes[:, t])
    return (_put(codes, t + 1, _choose(logits, key, temperature, t), prompt), queues), None

  times = jnp.arange(codes.shape[1] - 1)
  (codes, _), _ = jax.lax.scan(body, (codes, model.init_queues(len(codes))), times)
  return codes


def generate_naive(
  model: WaveNet,
  variables: Mapping[str, Any],
  prompt: Integer[AnyArray, 'n p'],
  length: int,
  *,
  key: PRNGKeyArray | None = None,
  temperature: Float[ArrayLike, ''] = 1.0,
) -> Int32[jax.Array, 'n {length}+p']:
  """As `generate`, but runs the network on its receptive field for each code: slow and simple.

  The result is the same, except where two codes are equally likely up to the rounding in which the
  two differ.
  """
  codes = _with_room(prompt, length)
  window = min(codes.shape[1], geometry.receptive_field(model.table))

  def body(codes, t):
    start = jnp.maximum(0, t + 1 - window)
    seen = jax.lax.dynamic_slice_in_dim(codes, start, window, axis=1)
    logits = jnp.asarray(model.apply(variables, seen))[:, t - start]
    return _put(codes, t + 1, _choose(logits, key, temperature, t), prompt), None

  times = jnp.arange(prompt.shape[1] - 1, codes.shape[1] - 1)
  return jax.lax.scan(body, codes, times)[0]


def _with_room(prompt, length: int) -> jax.Array:
  """The prompt, followed by zeros in place of the codes to come."""
  prompt = jnp.asarray(prompt)
  if prompt.ndim != 2 or not prompt.size:
    raise InputError(f'a prompt of shape {prompt.shape}; it must be (N, P), P of 1 or more')
  if length < 0:
    raise InputError(f'{length} samples to generate; it must be 0 or more')
  return jnp.pad(prompt.astype(jnp.int32), ((0, 0), (0, length)))


def _choose(logits, key, temperature, t):
  """Chooses codes (N,) int32. The random numbers depend on the key and the time only."""
  if key is None:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  key = jax.random.fold_in(key, t)
  return jax.random.categorical(key, logits / temperature).astype(jnp.int32)


def _put(codes, t, chosen, prompt):
  """Writes the chosen codes at time t, unless it belongs to the prompt."""
  chosen = jnp.where(t < prompt.shape[1], codes[:, t], chosen)
  return jax.lax.dynamic_update_slice_in_dim(codes, chosen[:, None], t, axis=1)

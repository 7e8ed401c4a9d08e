"""WaveNet: the dilated stack of the paper turned into a causal one, along time.

van den Oord et al., "WaveNet: A Generative Model for Raw Audio" (2016): p(x) is the product of
p(x_t | x_1 ... x_{t-1}), each a softmax over the codes of mu-law (`dilated_jax.audio`). Dilations
double, as in the context module, but filters have two taps and look back only: each layer is padded
with zeros in front, by the reach of its filter. Sound is a picture of one row, so the convolution
is `ops.dilated_conv`.

The paper gives no numbers of channels; the defaults are ours.
"""

from collections.abc import Sequence
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from dilated_jax.errors import InputError
from dilated_jax.nn import geometry, ops
from dilated_jax.nn.table import Layer, Table


def stack(dilations: Sequence[int], channels: int, skip_channels: int, num_classes: int) -> Table:
  """The layers on the way from a sample to the logits, along time.

  The unpadded stack: n samples make n - field + 1 outputs; a WaveNet pads it in front to make n.
  The 1x1 convolutions that end each gated unit, to the next unit and to the head, see no other
  samples and are not rows. So `geometry` tells field, window, holes and sizes; parameters and
  operations it would count for squares, and without those.

  Args:
    dilations: of the gated units, from the first to the last.
    channels: between the units.
    skip_channels: into the head, and inside it.
    num_classes: codes.

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
  """A causal network that tells from the samples so far how likely each code is to come next.

  `model.init(key, codes) -> variables`, `model.apply(variables, codes) -> logits`. Parameters:
  `input`, `unit_0/filter_gate`, `unit_0/residual`, `unit_0/skip`, ..., `head1`, `head2`, each with
  `kernel` (1, taps, in, out) and `bias`.

  Attributes:
    num_classes: codes.
    table: the stack, see `stack`.
    dtype: of the computation (`jnp.float32` or `jnp.bfloat16`); logits are float32.
  """

  num_classes: int
  table: Table
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    first, *units, head1, head2 = self.table
    options = dict(dtype=self.dtype)
    self.input = Conv(first, **options)
    self.unit = [
      GatedUnit(layer, head1.channels, last=i == len(units) - 1, **options)
      for i, layer in enumerate(units)
    ]
    self.head1 = Conv(head1, **options)
    self.head2 = Conv(head2, **options)

  def __call__(self, codes, train: bool = False):
    """Maps the codes of a sound to logits of the codes that come next.

    Args:
      codes: (N, T) integers, 0 ... num_classes - 1.
      train: the same either way; other networks have it.

    Returns:
      (N, T, num_classes) float32: at t the logits of code t + 1, from the codes up to t.
    """
    return self.apply_one_hot(jax.nn.one_hot(codes, self.num_classes, dtype=self.dtype))

  def apply_one_hot(self, x):
    """The same for one-hot codes, or mixtures of them: (N, T, num_classes)."""
    x = self.input(x[:, None].astype(self.dtype))
    skips = []
    for unit in self.unit:
      x, skip = unit(x)
      skips.append(skip)
    return self._head(sum(skips[1:], skips[0]))[:, 0]

  def step(self, queues, codes):
    """One sample further: what `__call__` says of the last of all samples, for the cost of one.

    Each unit keeps its inputs of as long ago as its filter reaches, so that nothing is computed
    twice (Le Paine et al., "Fast WaveNet Generation Algorithm", 2016).

    Args:
      queues: of the samples before, or of `init_queues`.
      codes: (N,) integers, the next sample.

    Returns:
      (queues, (N, num_classes) float32 logits of the sample after it).
    """
    x = self.input(jax.nn.one_hot(codes, self.num_classes, dtype=self.dtype)[:, None, None])
    after, skips = [], []
    for unit, queue in zip(self.unit, queues):
      # The oldest goes, the newest comes in its place; the reading place moves on instead.
      inputs, place = queue
      old = jax.lax.dynamic_slice_in_dim(inputs, place, 1, axis=2)
      inputs = jax.lax.dynamic_update_slice_in_dim(inputs, x, place, axis=2)
      after.append((inputs, (place + 1) % inputs.shape[2]))
      x, skip = unit.step(old, x)
      skips.append(skip)
    return after, self._head(sum(skips[1:], skips[0]))[:, 0, 0]

  def init_queues(self, count: int):
    """What `step` starts from for `count` sounds: before the first sample all is zero."""
    _, *units, _, _ = self.table
    channels = self.table[0].channels
    return [
      (jnp.zeros((count, 1, layer.effective_kernel - 1, channels), self.dtype), jnp.int32(0))
      for layer in units
    ]

  def _head(self, skips):
    x = jax.nn.relu(self.head1(jax.nn.relu(skips)))
    return self.head2(x).astype(jnp.float32)


class GatedUnit(nn.Module):
  """tanh(filter) * sigmoid(gate), and from it what goes on and what goes to the head.

  Attributes:
    layer: its row of the table.
    skip_channels: channels of what goes to the head.
    last: nothing comes after it, so nothing goes on.
    dtype: of the computation.
  """

  layer: Layer
  skip_channels: int
  last: bool = False
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    layer, options = self.layer, dict(dtype=self.dtype)
    # Filter and gate in one convolution: the first half of its channels, and the second.
    self.filter_gate = Conv(
      Layer(
        'filter_gate', kernel=layer.kernel, dilation=layer.dilation, channels=2 * layer.channels
      ),
      **options,
    )
    if not self.last:
      self.residual = Conv(Layer('residual', kernel=1, channels=layer.channels), **options)
    self.skip = Conv(Layer('skip', kernel=1, channels=self.skip_channels), **options)

  def __call__(self, x):
    """Maps (N, 1, T, channels) to two of the same length: what goes on, what goes to the head."""
    return self._outputs(self.filter_gate(x), x)

  def step(self, old, x):
    """The same for one time: (N, 1, 1, channels) of then and of now."""
    return self._outputs(self.filter_gate.step(old, x), x)

  def _outputs(self, taps, x):
    values, gate = jnp.split(taps, 2, axis=-1)
    values = jnp.tanh(values) * jax.nn.sigmoid(gate)
    return None if self.last else x + self.residual(values), self.skip(values)


class Conv(nn.Module):
  """A causal convolution along time with bias; parameters `kernel` (1, taps, in, out) and `bias`.

  Attributes:
    layer: its row of the table.
    dtype: of the computation.
  """

  layer: Layer
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def _parameters(self, inputs: int):
    layer = self.layer
    shape = (1, layer.kernel, inputs, layer.channels)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
    bias = self.param('bias', nn.initializers.zeros, (layer.channels,))
    return kernel.astype(self.dtype), bias.astype(self.dtype).reshape(1, 1, 1, -1)

  def __call__(self, x):
    """Maps (N, 1, T, in) to (N, 1, T, out); what lies before the first sample counts as zero."""
    kernel, bias = self._parameters(x.shape[-1])
    front = ((0, 0), (self.layer.effective_kernel - 1, 0))
    return ops.dilated_conv(x, kernel, (1, self.layer.dilation), front) + bias

  def step(self, *taps):
    """The same for one time, from the input under each tap, each (N, 1, 1, in)."""
    kernel, bias = self._parameters(taps[0].shape[-1])
    # One product instead of a convolution of two columns, which would take several times as long.
    x = jnp.concatenate(taps, axis=-1)
    return jnp.tensordot(x, kernel.reshape(-1, kernel.shape[-1]), 1) + bias


# Generation.


def generate(model: WaveNet, variables, prompt, length: int, *, key=None, temperature=1.0):
  """Lets a sound go on, a sample at a time; each costs one pass through the queues (`step`).

  A pure function; under `jax.jit` the model and `length` are static.

  Args:
    model: the network.
    variables: its parameters.
    prompt: (N, P) integers, the codes to begin with, P of 1 or more.
    length: samples to add.
    key: of the random choice among the codes; None always takes the most likely one.
    temperature: by which logits are divided: below 1 likely codes become likelier.

  Returns:
    (N, P + length) int32: the prompt and what follows.

  Raises:
    InputError: the prompt is empty or the length below 0.
  """
  codes = _room(prompt, length)
  step = functools.partial(model.apply, variables, method='step')

  def body(carry, t):
    codes, queues = carry
    queues, logits = step(queues, codes[:, t])
    return (_put(codes, t + 1, _choose(logits, key, temperature, t), prompt), queues), None

  times = jnp.arange(codes.shape[1] - 1)
  (codes, _), _ = jax.lax.scan(body, (codes, model.init_queues(len(codes))), times)
  return codes


def generate_naive(model: WaveNet, variables, prompt, length: int, *, key=None, temperature=1.0):
  """The same as `generate`, by running the network again for each sample: slow, and simple.

  It is given the samples of its receptive field. Sample for sample equal to `generate`, unless two
  codes are as likely to within the rounding in which the two differ.
  """
  codes = _room(prompt, length)
  window = min(codes.shape[1], geometry.receptive_field(model.table))

  def body(codes, t):
    start = jnp.maximum(0, t + 1 - window)
    seen = jax.lax.dynamic_slice_in_dim(codes, start, window, axis=1)
    logits = model.apply(variables, seen)[:, t - start]
    return _put(codes, t + 1, _choose(logits, key, temperature, t), prompt), None

  times = jnp.arange(jnp.shape(prompt)[1] - 1, codes.shape[1] - 1)
  return jax.lax.scan(body, codes, times)[0]


def _room(prompt, length: int):
  """The prompt with room for what follows."""
  prompt = jnp.asarray(prompt)
  if prompt.ndim != 2 or not prompt.size:
    raise InputError(f'a prompt of shape {prompt.shape}; it must be (N, P), P of 1 or more')
  if length < 0:
    raise InputError(f'{length} samples to generate; it must be 0 or more')
  return jnp.pad(prompt.astype(jnp.int32), ((0, 0), (0, length)))


def _choose(logits, key, temperature: float, t):
  """One code each, (N,) int32. The key of time t is the same however one got there."""
  if key is None:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  key = jax.random.fold_in(key, t)
  return jax.random.categorical(key, logits / temperature).astype(jnp.int32)


def _put(codes, t, chosen, prompt):
  """Writes what was chosen for time t, unless the prompt says what is there."""
  chosen = jnp.where(t < jnp.shape(prompt)[1], codes[:, t], chosen)
  return jax.lax.dynamic_update_slice_in_dim(codes, chosen[:, None], t, axis=1)

"""One training step, a pure function. Who runs it on which devices is `parallel`'s business."""

from collections.abc import Callable
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE
from dilated_jax.models import upsampling
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.training import diagnostics, loops, losses, optimizers
from dilated_jax.training.stages import Stage


@flax.struct.dataclass
class TrainState:
  """All that a run is: with it and the step number k comes batch k, and so everything after.

  Attributes:
    step: int32 scalar, steps done.
    params: weights of the parts that are trained.
    batch_stats: running statistics of batch normalization of these parts; may be empty.
    opt_state: of the optimizer.
    key: PRNG key of the run; every step folds in its number.
    average: moving average of `params` and `batch_stats`, in a dict of both; empty if there is
      none.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  key: jax.Array
  average: Any = flax.struct.field(default_factory=dict)


def create_state(variables, stage: Stage, optimizer, key, *, average: bool = False) -> TrainState:
  """The state before the first step.

  Args:
    variables: of the whole network, from `model.init` or a weights folder. They are copied, since
      a step may reuse the memory of the state that it was given.
    stage: which parts of it are trained.
    optimizer: from `optimizers.create`.
    key: PRNG key.
    average: whether the state holds a moving average of the weights, see `make_step`.

  Returns:
    A state of step 0.
  """
  params, stats = (
    {part: variables.get(kind, {})[part] for part in stage.trains
     if part in variables.get(kind, {})}
    for kind in ('params', 'batch_stats')
  )  # fmt: skip

  @jax.jit  # One program: each array by itself would be one.
  def start(params, stats):
    params, stats = jax.tree.map(jnp.copy, (params, stats))
    mean = jax.tree.map(jnp.copy, {'params': params, 'batch_stats': stats}) if average else {}
    return jnp.int32(0), params, stats, optimizer.init(params), mean

  step, params, stats, opt_state, mean = start(params, stats)
  return TrainState(step, params, stats, opt_state, key, mean)


def merge_variables(variables, state: TrainState):
  """The whole network's variables with the trained parts put in, averaged if the state has that."""
  trained = state.average or {'params': state.params, 'batch_stats': state.batch_stats}
  merged = {**variables, 'params': {**variables['params'], **trained['params']}}
  if trained['batch_stats']:
    merged['batch_stats'] = {**variables.get('batch_stats', {}), **trained['batch_stats']}
  return merged


def make_step(
  model: SegmentationModel,
  stage: Stage,
  optimizer: optax.GradientTransformation,
  mean,
  *,
  loss_resolution: str = 'grid',
  class_weights=None,
  label_smoothing: float = 0.0,
  jaccard_loss: float = 0.0,
  grad_accum_steps: int = 1,
  ema_decay: float = 0.0,
  frozen: Callable[[str], bool] | None = None,
  axis_name: str | None = None,
) -> Callable:
  """Makes the training step.

  Loss and gradient are sums over valid pixels, over devices and over accumulated parts, and are
  divided once, by the number of valid pixels of the whole batch. So one device, eight devices and
  accumulated parts do the same thing to rounding.

  Args:
    model: from `models.create`.
    stage: one of `STAGES`.
    optimizer: from `optimizers.create`.
    mean: RGB mean, 0..255, subtracted from the images.
    loss_resolution: 'grid' compares the logits of cell (i, j) with the label at pixel
      (stride i, stride j), as the authors' training does; 'full' upsamples the logits as prediction
      will, by `upsampling.of_training`, and uses every label. A network that upsamples itself
      always uses every label. An auxiliary answer of the network is compared likewise, and its
      loss counts 0.4 (Zhao et al., PSPNet, section 3.3).
    class_weights: (C,) weights of the classes in the loss, or None.
    label_smoothing: share of each pixel's target that all classes divide evenly, see
      `losses.cross_entropy`.
    jaccard_loss: share of `losses.soft_jaccard` over the whole batch in the loss; the rest is the
      cross entropy.
    grad_accum_steps: parts into which the batch is cut to save memory; divides the batch. Batch
      normalization and the Jaccard loss see each part alone.
    ema_decay: of the state's moving average, a <- d a + (1 - d) w after each step; after step k the
      decay d is (1 + k) / (10 + k) as long as that is less, so that the start is soon forgotten (as
      TensorFlow's ExponentialMovingAverage with `num_updates`). 0 leaves an average as it is.
    frozen: tells of a layer, by its name in `optimizers.layer_names`, whether it is left as it is.
      Its gradient is 0 and costs nothing; nor does what only such layers would need: a pretrained
      start of the network is run forward alone.
    axis_name: axis of `jax.pmap` over which batches are spread, or None.

  Returns:
    step(state, batch) -> (state, metrics). The batch holds 'image' (n, H + 2 margin, W + 2 margin,
    3) uint8 (or 'features' (n, h, w, C) float32 in the context stage, and 'inside' (n, h, w) bool,
    which of them there are, if not all; with 'image' (n, H, W, 3) beside them in the CRF stage) and
    'label' (n, H, W) uint8 with 255 for ignored pixels. Metrics are float32 scalars: loss,
    accuracy, gradient_norm, and lack_room, the number of images for whose lattice in the CRF-RNN
    there was no room, and which were left out; and layer_gradient_norms (L,), in the order of
    `optimizers.layer_names`.

  Raises:
    InputError: `loss_resolution` is neither 'grid' nor 'full'.
  """
  if loss_resolution not in ('grid', 'full'):
    raise InputError(f'loss_resolution is {loss_resolution!r}; choose grid or full')
  loss = functools.partial(
    _loss_sums,
    stage.network(model).with_axis_name(axis_name),
    stage,
    np.asarray(mean, np.float32).reshape(1, 1, 1, 3),
    loss_resolution,
    functools.partial(
      _loss_of_pixels,
      class_weights=class_weights,
      label_smoothing=label_smoothing,
      jaccard_loss=jaccard_loss,
      axis_name=axis_name,
    ),
    frozen or (lambda layer: False),
  )
  gradient = jax.grad(loss, has_aux=True)

  def step(state: TrainState, batch):
    key = jax.random.fold_in(state.key, state.step)
    if axis_name:
      key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
    grads, sums, batch_stats = _accumulated(gradient, state, batch, key, grad_accum_steps)
    if axis_name:
      grads, sums = jax.lax.psum((grads, sums), axis_name)
      batch_stats = jax.lax.pmean(batch_stats, axis_name)  # Equal already; now it is known to be.
    weight = jnp.where(sums['weight'] > 0, sums['weight'], 1.0)
    grads = jax.tree.map(lambda g: g / weight, grads)
    norms = diagnostics.gradient_norms(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = {
      'loss': sums['loss'] / weight,
      'accuracy': sums['hits'] / jnp.maximum(sums['valid'], 1.0),
      'gradient_norm': jnp.sqrt(jnp.sum(jnp.square(norms))),
      'layer_gradient_norms': norms,
      'lack_room': sums['lack_room'],
    }
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if ema_decay:
      done = (state.step + 1).astype(jnp.float32)
      new = 1 - jnp.minimum(ema_decay, (1 + done) / (10 + done))
      weights = {'params': params, 'batch_stats': batch_stats}
      average = optax.incremental_update(weights, average, new)
    return TrainState(state.step + 1, params, batch_stats, opt_state, state.key, average), metrics

  return step


_AUXILIARY_WEIGHT = 0.4
_SUMS = ('loss', 'weight', 'hits', 'valid', 'lack_room')


def _loss_of_pixels(logits, labels, class_weights, label_smoothing, jaccard_loss, axis_name):
  """The sum of losses over valid pixels, and of their weights, on this device."""
  total, weight = losses.cross_entropy(logits, labels, class_weights, label_smoothing)
  if not jaccard_loss:
    return total, weight
  # That of all devices. Each has an even share of it, as their sum is divided by all weights.
  whole = losses.soft_jaccard(logits, labels, axis_name)
  share = weight if axis_name is None else jax.lax.pmean(weight, axis_name)
  return (1 - jaccard_loss) * total + jaccard_loss * share * whole, weight


def _loss_sums(
  model, stage, mean, loss_resolution, loss_of_pixels, frozen, params, batch_stats, batch, key
):
  """The sum of losses over valid pixels; beside it the sums of metrics, and new statistics."""
  params = jax.tree_util.tree_map_with_path(
    lambda path, x: jax.lax.stop_gradient(x) if frozen(optimizers.layer_of(path)) else x, params
  )
  logits, updated = model.apply(
    {'params': params, 'batch_stats': batch_stats},
    *stage.inputs(batch, mean),
    train=True,
    method=stage.method,
    rngs={'dropout': key},
    mutable=['batch_stats', 'auxiliary', 'crf_rnn'],
  )
  labels, lack_room = batch['label'], jnp.float32(0)
  for lacking in jax.tree.leaves(updated.get('crf_rnn', {})):
    # An image whose colors the CRF-RNN has no room for counts as one without labels.
    ignored = jnp.asarray(IGNORE, labels.dtype)
    labels = jnp.where((lacking > 0)[:, None, None], ignored, labels)
    lack_room = lack_room + lacking.sum().astype(jnp.float32)
  logits, target = _same_places(model, logits, labels, loss_resolution)
  total, weight = loss_of_pixels(logits, target)
  hits, valid = losses.count_correct(logits, target)
  sums = dict(zip(_SUMS, (total, weight, hits, valid, lack_room), strict=True))
  for auxiliary in jax.tree.leaves(updated.get('auxiliary', {})):
    found = _same_places(model, auxiliary, labels, loss_resolution)
    total = total + _AUXILIARY_WEIGHT * loss_of_pixels(*found)[0]
  return total, (sums, updated.get('batch_stats', {}))


def _accumulated(gradient, state: TrainState, batch, key, count: int):
  """Gradient and sums over a batch that is cut into `count` parts, and the last statistics."""

  def add_part(carry, part):
    grads, sums, stats, number = carry
    more, (part_sums, stats) = gradient(state.params, stats, part, jax.random.fold_in(key, number))
    return (_add(grads, more), _add(sums, part_sums), stats, number + 1), None

  zeros = jax.tree.map(jnp.zeros_like, state.params)
  carry = zeros, dict.fromkeys(_SUMS, jnp.float32(0)), state.batch_stats, jnp.int32(0)
  if count == 1:
    carry, _ = add_part(carry, batch)
  else:
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
    carry, _ = loops.scan(add_part, carry, parts)
  return carry[:3]


def _same_places(model, logits, labels, loss_resolution: str):
  """Logits and the labels of the same places; cells of logits behind the labels are cut off."""
  if not model.full_size and loss_resolution == 'full':
    method = upsampling.of_training(model, loss_resolution)
    logits = upsampling.upsample(logits, model.stride, method)
  elif not model.full_size:
    labels = labels[:, :: model.stride, :: model.stride]
  return logits[:, : labels.shape[1], : labels.shape[2]], labels


def _add(a, b):
  return jax.tree.map(jnp.add, a, b)

"""Losses over valid pixels."""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Integer
import numpy as np

from dilated_jax.crf.checks import check_scores
from dilated_jax.crf.kernels import is_traced
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE
from dilated_jax.typing import AnyArray


def cross_entropy(
  logits: Float[AnyArray, '*pixels c'],
  labels: Integer[AnyArray, '*pixels'],
  class_weights: Float[AnyArray, ' c'] | Sequence[float] | None = None,
  label_smoothing: float = 0.0,
) -> tuple[Float[jax.Array, ''], Float[jax.Array, '']]:
  """Sum of the softmax cross entropies over valid pixels, and the number of valid pixels.

  The loss of a batch is sum / max(count, 1) (Caffe's VALID normalization), after both have been
  summed over all devices, hosts and accumulated parts: a mean of means would weight pixels
  unequally.

  Args:
    logits: the class scores.
    labels: 0 ... C - 1, or 255 for pixels to ignore.
    class_weights: weights of the classes. With them, the count is the sum of the pixels' weights.
    label_smoothing: the share e of each pixel's target that all C classes divide evenly; its label
      gets 1 - e + e / C (Szegedy et al., Rethinking the Inception Architecture, section 7). The
      pixel weighs what its label does.

  Returns:
    (sum, count), float32, or of the dtype of `logits` if that is wider.

  Raises:
    InputError: `label_smoothing` is not in [0, 1); outside of compiled programs, the logits are
      probabilities, or a label is neither a class nor 255.
  """
  if not 0 <= label_smoothing < 1:
    raise InputError(f'`label_smoothing` is {label_smoothing}; take 0 or more, below 1')
  logits, labels, valid = _checked(logits, labels)
  target = jnp.where(valid, labels, 0).astype(jnp.int32)
  weight = valid.astype(logits.dtype)
  if class_weights is not None:
    weight = weight * jnp.asarray(class_weights, logits.dtype)[target]
  each = _cross_entropies(logits, labels, label_smoothing)
  each = jnp.where(valid, each, jnp.zeros((), logits.dtype))
  return (each * weight).sum(), weight.sum()


def soft_jaccard(
  logits: Float[AnyArray, '*pixels c'],
  labels: Integer[AnyArray, '*pixels'],
  axis_name: str | None = None,
) -> Float[jax.Array, '']:
  """1 - mean IoU over the classes that occur, with probabilities in the place of predictions.

  Intersection and union of each class are sums over all valid pixels together, as those of the mean
  IoU are; of a pixel its softmax counts (Rahman and Wang, Optimizing Intersection-Over-Union in
  Deep Neural Networks for Image Segmentation, ISVC 2016, for one class). A class that is no pixel's
  label is left out.

  Args:
    logits: the class scores.
    labels: 0 ... C - 1, or 255 for pixels to ignore.
    axis_name: axis of `jax.pmap` over which pixels are spread, or None. Each device then gets the
      loss of all pixels.

  Returns:
    The loss, 0 ... 1, float32, or of the dtype of `logits` if that is wider; 0 if no pixel is
    valid.

  Raises:
    InputError: outside of compiled programs, the logits are probabilities, or a label is neither a
      class nor 255.
  """
  logits, labels, valid = _checked(logits, labels)
  valid = valid[..., None]
  classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  own = valid & (classes == labels[..., None].astype(jnp.int32))
  # What a pixel to ignore would give the softmax, infinity perhaps, must not reach the gradient.
  probabilities = jax.nn.softmax(jnp.where(valid, logits, 0), -1)
  maps = jnp.where(own, probabilities, 0), jnp.where(valid, probabilities, 0), own
  sums = [each.sum(tuple(range(labels.ndim)), dtype=logits.dtype) for each in maps]
  if axis_name is not None:
    sums = jax.lax.psum(sums, axis_name)
  intersection, predicted, labeled = sums
  union = predicted + labeled - intersection
  occurs = labeled > 0
  lost = jnp.where(occurs, 1 - intersection / jnp.where(occurs, union, 1), 0)
  return lost.sum() / jnp.maximum(occurs.sum(dtype=logits.dtype), 1)


def count_correct(
  logits: Float[AnyArray, '*pixels c'], labels: Integer[AnyArray, '*pixels']
) -> tuple[Float32[jax.Array, ''], Float32[jax.Array, '']]:
  """Number of valid pixels whose best class is their label, and the number of valid pixels.

  Args:
    logits: the class scores.
    labels: 0 ... C - 1, or 255 for pixels to ignore.

  Returns:
    (hits, count).
  """
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  valid = labels != IGNORE
  hits = (_best(logits) == labels.astype(jnp.int32)) & valid
  return hits.sum(dtype=jnp.float32), valid.sum(dtype=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cross_entropies(logits, labels, smoothing):
  """Of each pixel; NaN where the label is no class. Differentiable in reverse mode, by `logits`."""
  return _forward(logits, labels, smoothing)[0]


def _forward(logits, labels, smoothing):
  largest, total, below = _parts(logits, labels, smoothing)
  return below + jnp.log(total), (logits, labels, largest, total)


def _backward(smoothing, kept, gradient):
  """Probability minus the target, times the gradient."""
  logits, labels, largest, total = kept
  of_label, of_others = _targets(logits, smoothing)

  def one_by_one(logits, labels, largest, total, gradient):
    # Maps lie as `ops` upsamples them, the classes before the columns. A barrier keeps what moves
    # or pads them from computing every exponential where it is read.
    maps = [
      jnp.exp(each - largest) * (gradient / total)
      - jnp.where(labels == label, of_label * gradient, of_others * gradient)
      for label, each in enumerate(_maps(logits))
    ]
    axis = max(labels.ndim - 1, 0)
    return jnp.moveaxis(jax.lax.optimization_barrier(jnp.stack(maps, axis)), axis, -1)

  def reduced(logits, labels, largest, total, gradient):
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    target = jnp.where(classes == labels[..., None], of_label, of_others)
    probabilities = jnp.exp(logits - largest[..., None]) / total[..., None]
    return (probabilities - target) * gradient[..., None]

  given = logits, labels.astype(jnp.int32), largest, total, gradient
  if logits.shape[-1] > _MOST_CLASSES:
    return reduced(*given), None
  return jax.lax.platform_dependent(*given, cpu=one_by_one, default=reduced), None


_cross_entropies.defvjp(_forward, _backward)


# XLA's CPU back end reduces over a last axis of a few classes, and scatters along it, several times
# slower than it takes the classes one by one, as many operations on whole maps, which it joins.
_MOST_CLASSES = 64


def _targets(logits, smoothing):
  """What the label of a pixel and each other class have of its target."""
  even = smoothing / logits.shape[-1]
  return jnp.asarray(1 - smoothing + even, logits.dtype), jnp.asarray(even, logits.dtype)


def _parts(logits, labels, smoothing):
  """The largest logit, the sum of exp(logit - largest), and largest - mean logit of the target.

  Apart, since their sum would lose digits where logits are large. NaN is the logit of no class.
  """

  def one_by_one(logits, labels):
    maps = _maps(logits)
    largest = _finite(functools.reduce(jnp.maximum, maps))
    total = functools.reduce(jnp.add, (jnp.exp(each - largest) for each in maps))
    own = jnp.full_like(largest, jnp.nan)
    for label, each in enumerate(maps):
      own = jnp.where(labels == label, each, own)
    below = largest - own
    if smoothing:
      mean = functools.reduce(jnp.add, (largest - each for each in maps)) / len(maps)
      below = (1 - smoothing) * below + smoothing * mean
    return largest, total, below

  def reduced(logits, labels):
    largest = _finite(logits.max(-1))
    own = jnp.take_along_axis(logits, labels[..., None], -1, mode='fill')[..., 0]
    below = largest - own
    if smoothing:
      mean = (largest[..., None] - logits).mean(-1)
      below = (1 - smoothing) * below + smoothing * mean
    return largest, jnp.exp(logits - largest[..., None]).sum(-1), below

  labels = labels.astype(jnp.int32)
  if logits.shape[-1] > _MOST_CLASSES:
    return reduced(logits, labels)
  return jax.lax.platform_dependent(logits, labels, cpu=one_by_one, default=reduced)


def _finite(largest):
  """As `logsumexp` does: infinity less infinity would be NaN."""
  return jnp.where(jnp.isfinite(largest), largest, jnp.zeros((), largest.dtype))


def _best(logits):
  """The first class of the largest logit, of each pixel."""

  def one_by_one(logits):
    largest, *rest = _maps(logits)
    best = jnp.zeros(largest.shape, jnp.int32)
    for label, each in enumerate(rest, 1):
      # NaN counts as the largest, as to `argmax`.
      better = (each > largest) | (jnp.isnan(each) & ~jnp.isnan(largest))
      best = jnp.where(better, jnp.int32(label), best)
      largest = jnp.where(better, each, largest)
    return best

  def reduced(logits):
    return logits.argmax(-1).astype(jnp.int32)

  if logits.shape[-1] > _MOST_CLASSES:
    return reduced(logits)
  return jax.lax.platform_dependent(logits, cpu=one_by_one, default=reduced)


def _maps(logits):
  """The logits of each class."""
  return [logits[..., label] for label in range(logits.shape[-1])]


def _checked(logits, labels):
  """The logits in float32 at least, the labels, and which of them are valid."""
  if not is_traced(logits, labels):
    check_scores(np.asarray(logits))
    _check_labels(np.asarray(labels), np.shape(logits)[-1])
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  return logits.astype(np.promote_types(logits.dtype, np.float32)), labels, labels != IGNORE


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
  wrong = np.unique(labels[(labels != IGNORE) & ((labels < 0) | (labels >= num_classes))])
  if wrong.size:
    raise InputError(
      f'label {wrong[0]} is neither a class, 0..{num_classes - 1}, nor {IGNORE} (ignore)'
    )

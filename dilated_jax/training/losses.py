"""Softmax loss over valid pixels, as a sum and a count, which the training step divides."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Integer
import numpy as np
import optax

from dilated_jax.crf.checks import check_scores
from dilated_jax.crf.kernels import is_traced
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE
from dilated_jax.typing import AnyArray


def cross_entropy(
  logits: Float[AnyArray, '*pixels c'],
  labels: Integer[AnyArray, '*pixels'],
  class_weights: Float[AnyArray, ' c'] | Sequence[float] | None = None,
) -> tuple[Float[jax.Array, ''], Float[jax.Array, '']]:
  """Sum of the softmax cross entropies over valid pixels, and the number of valid pixels.

  The loss of a batch is sum / max(count, 1) (Caffe's VALID normalization), after both have been
  summed over all devices, hosts and accumulated parts: a mean of means would weight pixels
  unequally.

  Args:
    logits: the class scores.
    labels: 0 ... C - 1, or 255 for pixels to ignore.
    class_weights: weights of the classes. With them, the count is the sum of the pixels' weights.

  Returns:
    (sum, count), of the dtype of `logits`.

  Raises:
    InputError: outside of compiled programs, the logits are probabilities, or a label is neither a
      class nor 255.
  """
  if not is_traced(logits, labels):
    check_scores(np.asarray(logits))
    _check_labels(np.asarray(labels), np.shape(logits)[-1])
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  valid = labels != IGNORE
  target = jnp.where(valid, labels, 0).astype(jnp.int32)
  weight = valid.astype(logits.dtype)
  if class_weights is not None:
    weight = weight * jnp.asarray(class_weights, logits.dtype)[target]
  each = optax.softmax_cross_entropy_with_integer_labels(logits, target)
  return (each * weight).sum(), weight.sum()


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
  hits = (logits.argmax(-1) == labels.astype(jnp.int32)) & valid
  return hits.sum(dtype=jnp.float32), valid.sum(dtype=jnp.float32)


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
  wrong = np.unique(labels[(labels != IGNORE) & ((labels < 0) | (labels >= num_classes))])
  if wrong.size:
    raise InputError(
      f'label {wrong[0]} is neither a class, 0..{num_classes - 1}, nor {IGNORE} (ignore)'
    )

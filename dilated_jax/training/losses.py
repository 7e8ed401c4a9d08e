"""Softmax loss over valid pixels, as a sum and a count: the one who knows all devices divides."""

import jax.numpy as jnp
import optax

from dilated_jax.label_spec import IGNORE


def cross_entropy(logits, labels, class_weights=None):
  """Sum of the softmax cross entropies over valid pixels, and the number of valid pixels.

  The loss of a batch is sum / max(count, 1) (Caffe's VALID normalization), with both summed over
  all devices, hosts and accumulated parts first: a mean of means would weigh pixels unequally.

  Args:
    logits: (..., C) float32.
    labels: (...) integers in [0, C), or 255 for pixels that are ignored.
    class_weights: (C,) weights of the classes, which then replace the ones in the count; None
      weighs all alike.

  Returns:
    (sum, count), float32 scalars.
  """
  valid = labels != IGNORE
  target = jnp.where(valid, labels, 0).astype(jnp.int32)
  weight = valid.astype(logits.dtype)
  if class_weights is not None:
    weight = weight * jnp.asarray(class_weights, logits.dtype)[target]
  each = optax.softmax_cross_entropy_with_integer_labels(logits, target)
  return (each * weight).sum(), weight.sum()


def count_correct(logits, labels):
  """Number of valid pixels whose best class is their label, and the number of valid pixels.

  Args:
    logits: (..., C).
    labels: (...) integers, 255 for pixels that are ignored.

  Returns:
    (hits, count), float32 scalars.
  """
  valid = labels != IGNORE
  hits = (logits.argmax(-1) == labels.astype(jnp.int32)) & valid
  return hits.sum(dtype=jnp.float32), valid.sum(dtype=jnp.float32)

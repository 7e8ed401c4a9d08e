"""losses.py: against NumPy in float64."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics
from dilated_jax.training import losses

C = 4


def drawn(seed, void):
  rng = np.random.default_rng(seed)
  logits = (5 * rng.standard_normal((2, 3, 5, C))).astype(np.float32)
  labels = rng.integers(0, C, (2, 3, 5)).astype(np.uint8)
  labels[rng.random(labels.shape) < void] = 255
  return logits, labels


def targets(labels, smoothing):
  return (1 - smoothing) * (labels[..., None] == np.arange(C)) + smoothing / C


def cross_entropies(logits, labels, smoothing):
  """Of the valid pixels, one by one, and their labels."""
  log_p = scipy.special.log_softmax(logits.astype(np.float64), -1)
  each = -(targets(labels, smoothing) * log_p).sum(-1).ravel()
  return [(each[i], label) for i, label in enumerate(labels.ravel()) if label != 255]


@settings(max_examples=20)
@given(st.integers(0, 999), st.sampled_from([0.0, 0.4, 1.0]), st.sampled_from([0.0, 0.1, 0.7]))
def test_sums_and_counts(seed, void, smoothing):
  logits, labels = drawn(seed, void)
  valid = cross_entropies(logits, labels, smoothing)
  total, count = losses.cross_entropy(logits, labels, label_smoothing=smoothing)
  np.testing.assert_allclose(total, sum(loss for loss, _ in valid), rtol=1e-5)
  assert count == len(valid)

  weights = np.random.default_rng(seed).uniform(0, 3, C).astype(np.float32)
  total, count = losses.cross_entropy(logits, labels, weights, smoothing)
  np.testing.assert_allclose(total, sum(weights[c] * loss for loss, c in valid), rtol=1e-5)
  np.testing.assert_allclose(count, sum(weights[c] for _, c in valid), rtol=1e-5)

  hits, count = losses.count_correct(logits, labels)
  best = logits.argmax(-1)
  assert float(hits) == sum(
    best[p] == labels[p] for p in np.ndindex(labels.shape) if labels[p] != 255
  )
  assert count == len(valid)


@pytest.mark.parametrize('smoothing', [0.0, 0.3])
def test_many_classes_are_reduced_as_few_are(smoothing, monkeypatch):
  rng = np.random.default_rng(3)
  logits = rng.standard_normal((3, 5, 70)).astype(np.float32)
  labels = rng.integers(0, 70, (3, 5)).astype(np.uint8)

  def mean(logits):
    return losses.cross_entropy(logits, labels, label_smoothing=smoothing)[0] / labels.size

  def values():
    loss, gradient = jax.jit(jax.value_and_grad(mean))(logits)
    return loss, gradient, jax.jit(losses.count_correct)(logits, labels)

  many = values()
  monkeypatch.setattr(losses, '_MOST_CLASSES', 70)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), many, values())


def test_of_equal_logits_the_first_is_best():
  labels = np.arange(C, dtype=np.uint8)[None]
  logits = np.float32([[[1, 3, 3, 0], [1, 3, 3, 0], [2, 2, 2, 2], [1, 3, 0, 3]]])
  assert losses.count_correct(logits, labels)[0] == 1


def test_labels_of_no_class_are_told_in_compiled_programs():
  logits, labels = drawn(0, 0.3)
  labels[0, 0, 0] = C
  assert np.isnan(jax.jit(losses.cross_entropy)(logits, labels)[0])


def test_void_alone_is_zero_with_a_zero_gradient():
  logits, labels = drawn(0, 1.0)

  def mean(logits):
    total, count = losses.cross_entropy(logits, labels)
    return total / jnp.maximum(count, 1)

  value, grad = jax.value_and_grad(mean)(logits)
  assert value == 0 and not np.asarray(grad).any()


@pytest.mark.parametrize('smoothing', [0.0, 0.3])
def test_gradient_is_probability_minus_target(smoothing):
  logits, labels = drawn(1, 0.3)
  grad = jax.grad(lambda x: losses.cross_entropy(x, labels, label_smoothing=smoothing)[0])(logits)
  expected = scipy.special.softmax(logits.astype(np.float64), -1) - targets(labels, smoothing)
  np.testing.assert_allclose(grad, expected * (labels != 255)[..., None], atol=1e-6)


def test_void_pixels_never_count_however_wild():
  logits, labels = drawn(2, 0.5)
  wild = np.where((labels == 255)[..., None], 1e30, logits).astype(np.float32)
  assert losses.cross_entropy(wild, labels)[0] == losses.cross_entropy(logits, labels)[0]
  # A label 0 in the void's place must not be taken for a hit.
  assert losses.count_correct(np.zeros_like(logits), np.full_like(labels, 255)) == (0, 0)


def jaccard(logits, labels):
  """The loss in float64, and its gradient by the quotient rule."""
  logits = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
  labels = labels.ravel()
  valid = (labels != 255)[:, None]
  p = scipy.special.softmax(np.where(valid, logits, 0), -1)
  own = labels[:, None] == np.arange(logits.shape[-1])
  intersection = (p * own).sum(0)
  union = (p * valid).sum(0) + own.sum(0) - intersection
  occurs = own.any(0)
  union[~occurs] = 1
  loss = (1 - intersection / union)[occurs].mean() if occurs.any() else 0.0
  by_p = np.where(own, -1 / union, valid * intersection / union**2) * occurs / max(occurs.sum(), 1)
  return loss, p * (by_p - (p * by_p).sum(-1, keepdims=True))


@settings(max_examples=20)
@given(st.integers(0, 999), st.sampled_from([0.0, 0.4, 0.9, 1.0]))
def test_soft_jaccard_and_its_gradient(seed, void):
  logits, labels = drawn(seed, void)
  labels[labels == seed % C] = 255  # A class that does not occur.
  expected, by_logits = jaccard(logits, labels)
  found, gradient = jax.value_and_grad(losses.soft_jaccard)(logits, labels)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(gradient, by_logits.reshape(logits.shape), rtol=1e-4, atol=1e-7)


def test_soft_jaccard_of_certain_predictions_is_that_of_the_score():
  logits, labels = drawn(4, 0.2)
  best = logits.argmax(-1)
  confusion = metrics.confusion_matrix(labels, best, C)
  found = losses.soft_jaccard(1e4 * np.eye(C, dtype=np.float32)[best], labels)
  assert found == pytest.approx(1 - metrics.scores(confusion, 'abcd')['mean_iou'])
  assert losses.soft_jaccard(1e4 * np.eye(C), np.arange(C)) == 0


def test_soft_jaccard_sees_no_void_however_wild():
  logits, labels = drawn(2, 0.5)
  wild = np.where((labels == 255)[..., None], np.inf, logits).astype(np.float32)
  wanted, found = (jax.value_and_grad(losses.soft_jaccard)(x, labels) for x in (logits, wild))
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_probabilities_and_labels_outside_the_classes_are_refused():
  probabilities = np.full((2, 3, 4), 0.25, np.float32)
  for loss in (losses.cross_entropy, losses.soft_jaccard):
    with pytest.raises(InputError, match='before the softmax'):
      loss(probabilities, np.zeros((2, 3), np.uint8))
    with pytest.raises(InputError, match=r'label 4 is neither a class, 0\.\.3, nor 255'):
      loss(probabilities * 8, np.full((2, 3), 4))
  for wrong in (-0.1, 1.0, float('nan')):
    with pytest.raises(InputError, match=f'`label_smoothing` is {wrong}; take 0 or more, below 1'):
      losses.cross_entropy(8 * probabilities, np.zeros((2, 3), np.uint8), label_smoothing=wrong)
  for wrong in (4, -1, 254):
    with pytest.raises(InputError, match=f'label {wrong} is neither a class, 0..3, nor 255'):
      losses.cross_entropy(probabilities * 8, np.full((2, 3), wrong))


@pytest.mark.parametrize('classes', [3, 70])
@pytest.mark.parametrize('offset', [0.0, 16000.0, 3e38])
@pytest.mark.parametrize('smoothing', [0.0, 0.3])
def test_large_logits_keep_their_digits(classes, offset, smoothing):
  logits = np.float32(offset) + np.arange(classes, dtype=np.float32)[None]
  exact = logits.astype(np.float64)
  exact -= exact.max()
  target = (1 - smoothing) * np.eye(classes)[:1] + smoothing / classes
  found, gradient = jax.value_and_grad(
    lambda x: losses.cross_entropy(x, np.array([0]), label_smoothing=smoothing)[0]
  )(logits)
  expected = scipy.special.logsumexp(exact) - (target * exact).sum()
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  expected = np.exp(exact) / np.exp(exact).sum() - target
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_a_logit_that_is_no_number_is_the_best_as_to_argmax():
  logits = np.array([[1, np.nan, 5], [np.nan, 7, np.nan], [1, 2, 3]], np.float32)
  hits, count = losses.count_correct(logits, logits.argmax(-1))
  assert (hits, count) == (3, 3)

import json

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics

CLASSES = 4


def maps(values):
  return hnp.arrays(np.uint8, (5, 6), elements=st.sampled_from(values))


@hypothesis.given(maps([0, 1, 2, 3, 255]), maps([0, 1, 2, 3]))
def test_confusion_is_the_naive_count(labels, predictions):
  expected = [[0] * CLASSES for _ in range(CLASSES)]
  for truth, said in zip(labels.ravel(), predictions.ravel()):
    if truth != 255:
      expected[truth][said] += 1
  result = metrics.confusion_matrix(labels, predictions, CLASSES)
  assert result.dtype == np.int64
  np.testing.assert_array_equal(result, expected)


@hypothesis.given(maps([0, 1, 2, 255]), maps([0, 1, 2, 3]))
def test_scores_are_the_devkits_sets_of_pixels(labels, predictions):
  """Intersection and union counted as sets of pixels, without a confusion matrix."""
  names = ['a', 'b', 'c', 'd']
  result = metrics.scores(metrics.confusion_matrix(labels, predictions, CLASSES), names)
  valid = labels != 255
  ious, recalls, weighted = [], [], 0.0
  for index, name in enumerate(names):
    truth, said = (labels == index) & valid, (predictions == index) & valid
    union = np.sum(truth | said)
    iou = np.sum(truth & said) / union if union else None
    assert result['per_class_iou'][name] == (None if iou is None else pytest.approx(iou))
    if union:
      ious.append(iou)
    if truth.any():
      recalls.append(np.mean(said[truth]))
      weighted += truth.sum() * iou
  if valid.any():
    assert result['mean_iou'] == pytest.approx(np.mean(ious))
    assert result['mean_accuracy'] == pytest.approx(np.mean(recalls))
    assert result['pixel_accuracy'] == pytest.approx(np.mean((labels == predictions)[valid]))
    assert result['frequency_weighted_iou'] == pytest.approx(weighted / valid.sum())
  else:
    means = ('mean_iou', 'mean_accuracy', 'pixel_accuracy', 'frequency_weighted_iou')
    assert all(result[key] is None for key in means)
  json.dumps(result, allow_nan=False)


def test_keys_and_a_matrix_worked_by_hand():
  result = metrics.scores(np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]]), ['a', 'b', 'c'])
  assert result == {
    'mean_iou': pytest.approx((3 / 6 + 4 / 7) / 2),
    'per_class_iou': {'a': pytest.approx(3 / 6), 'b': pytest.approx(4 / 7), 'c': None},
    'pixel_accuracy': pytest.approx(7 / 10),
    'mean_accuracy': pytest.approx((3 / 4 + 4 / 6) / 2),
    'frequency_weighted_iou': pytest.approx((4 * 3 / 6 + 6 * 4 / 7) / 10),
    'confusion': [[3, 1, 0], [2, 4, 0], [0, 0, 0]],
  }


def test_a_class_only_predicted_counts_as_zero():
  result = metrics.scores(np.array([[1, 1], [0, 0]]), ['a', 'b'])
  assert result['per_class_iou'] == {'a': 0.5, 'b': 0.0}
  assert result['mean_iou'] == 0.25


def test_further_columns_are_wrong_answers():
  square = metrics.scores(np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]]), ['a', 'b', 'c'])
  wide = metrics.scores(np.array([[3, 1, 5], [2, 4, 0]]), ['a', 'b'])
  assert wide['per_class_iou'] == {'a': 3 / 11, 'b': square['per_class_iou']['b']}
  assert wide['pixel_accuracy'] == 7 / 15
  assert wide['mean_accuracy'] == pytest.approx((3 / 9 + 4 / 6) / 2)
  for shape in ((2, 1), (3, 3)):
    with pytest.raises(InputError, match='does not fit 2 class names'):
      metrics.scores(np.zeros(shape, int), ['a', 'b'])
  with pytest.raises(InputError, match='repeat'):
    metrics.scores(np.zeros((2, 2), int), ['a', 'a'])


def test_counts_beyond_32_bits():
  one = np.full((2, 2), 2**40)
  assert metrics.scores(one + one, ['a', 'b'])['confusion'] == [[2**41] * 2] * 2


def test_sums_are_the_whole():
  rng = np.random.default_rng(0)
  labels, said = rng.integers(0, CLASSES, (2, 3, 8, 8))
  parts = sum(metrics.confusion_matrix(a, b, CLASSES) for a, b in zip(labels, said))
  np.testing.assert_array_equal(parts, metrics.confusion_matrix(labels, said, CLASSES))


@pytest.mark.parametrize(
  'labels, said, words',
  [
    ([0, 1], [0, 4], 'predicted values 4 '),
    ([0, 7], [0, 0], 'label values 7 '),
    ([0, -1], [0, 0], 'label values -1 '),
    ([0, 1], [0, 255], 'predicted values 255'),
    ([0, 1], [0], 'shape'),
  ],
)
def test_wrong_values_are_named(labels, said, words, without_type_checks):
  with pytest.raises(InputError, match=words):
    metrics.confusion_matrix(np.array(labels), np.array(said), CLASSES)


def test_anything_goes_where_the_truth_is_ignored():
  assert metrics.confusion_matrix(np.array([255, 1]), np.array([255, 1]), 2).tolist() == [
    [0, 0],
    [0, 1],
  ]


def test_table_is_aligned():
  result = metrics.scores(np.array([[3, 1], [0, 0]]), ['a long class name', 'b'])
  lines = metrics.format_table(result).splitlines()
  head = [line for line in lines if line.startswith(('class', 'a long', 'b '))]
  assert len({len(line) for line in head}) == 1
  assert '75.00' in lines[2] and lines[3].split()[2] == '-'
  assert lines[-4].split() == ['mean', 'IoU', '37.50']

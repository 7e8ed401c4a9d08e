"""protocols.py against the official Cityscapes tool and restatements of the other two."""

import json

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.data.label_specs import CAMVID, CITYSCAPES, CITYSCAPES_LABELS, VOC
from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics, protocols
from dilated_jax.label_spec import LabelSpec
from tests import cityscapes_tool

TOYS = LabelSpec('toys', ('a', 'b', 'c'), ((1, 0, 0), (2, 0, 0), (3, 0, 0)), (1.0, 1.0, 1.0))


def maps(values):
  return hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from(values))


def scored(name, pairs, classes=TOYS):
  protocol = protocols.create(name, classes)
  for labels, predictions in pairs:
    protocol.add(labels, predictions)
  scores = protocol.scores()
  json.dumps(scores, allow_nan=False)
  metrics.format_table(scores)
  return scores


def test_default_is_the_confusion_matrix_of_all_pictures():
  rng = np.random.default_rng(0)
  labels, predictions = rng.choice([0, 1, 2, 255], (2, 6, 7)), rng.integers(0, 3, (2, 6, 7))
  expected = metrics.scores(metrics.confusion_matrix(labels, predictions, 3), TOYS.names)
  assert scored('default', zip(labels, predictions)) == expected
  with pytest.raises(InputError, match='1 pixels that count are predicted as none'):
    scored('default', [(np.array([[0, 255, 2]]), np.array([[0, 255, 255]]))])


def test_a_protocol_that_does_not_fit():
  for name in ('voc', 'camvid', 'scenes'):
    with pytest.raises(InputError, match=f'Cityscapes, not {name}'):
      protocols.create('cityscapes', data.classes(name))


# VOC devkit.


def devkit(pairs, num):
  """VOCevalseg line by line: a histogram of joint values, then 0 / 0 = NaN as in MATLAB."""
  counts = np.zeros(num * num)
  for truth, result in pairs:
    truth, result = truth.astype(float), result.astype(float)
    assert result.max() < num
    joint = 1 + truth + result * num
    for cell in joint[truth < 255]:
      counts[int(cell) - 1] += 1
  counts = counts.reshape(num, num).T  # MATLAB fills columns first.
  accuracies = []
  for j in range(num):
    union = counts[j].sum() + counts[:, j].sum() - counts[j, j]
    accuracies.append(counts[j, j] / union if union else float('nan'))
  return accuracies, float(np.mean(accuracies))


@hypothesis.given(maps([0, 1, 2, 255]), maps([0, 1, 2]), maps([0, 1, 255]), maps([0, 1]))
def test_voc_is_the_devkit(truth1, said1, truth2, said2):
  pairs = [(truth1, said1), (truth2, said2)]
  scores = scored('voc', pairs)
  accuracies, mean = devkit(pairs, 3)
  ours = [np.nan if iou is None else iou for iou in scores['per_class_iou'].values()]
  np.testing.assert_allclose(ours, accuracies, rtol=1e-12)
  if np.isnan(mean):
    absent = [name for name, value in zip('abc', accuracies) if np.isnan(value)]
    assert scores['mean_iou'] is None and ', '.join(absent) in scores['notes'][0]
  else:
    assert scores['mean_iou'] == pytest.approx(mean, rel=1e-12) and 'notes' not in scores


def test_voc_refuses_wrong_values_under_void_too():
  truth, said = np.array([[255, 1]]), np.array([[255, 1]])
  assert scored('default', [(truth, said)])['mean_iou'] == 1
  with pytest.raises(InputError, match='predicted value 255 is above 20'):
    scored('voc', [(truth, said)], VOC)


# SegNet.


def compute_test_results(pairs, num):
  """The script's rules, over boolean maps as it does, with its own counters."""
  cf, right, total = np.zeros((num, num)), 0, 0
  for annot, pred in pairs:
    annot, pred = annot.astype(int) + 1, pred.astype(int) + 1
    annot = np.where(annot == num + 1, 0, annot)
    pred = np.where(annot == 0, 0, pred)
    total += (annot > 0).sum()
    for j in range(1, num + 1):
      for k in range(1, num + 1):
        cf[j - 1, k - 1] += ((annot == j) & (pred == k)).sum()
      right += ((annot == j) & (pred == j)).sum()
  recalls, ious = np.zeros(num), np.zeros(num)
  for i in range(num):
    if cf[i].sum() > 0:
      recalls[i] = cf[i, i] / cf[i].sum()
      ious[i] = cf[i, i] / (cf[i].sum() + cf[:, i].sum() - cf[i, i])
  return right / total if total else None, recalls.sum() / num, ious.sum() / num, ious


@hypothesis.given(maps([0, 1, 2, 11]), maps([0, 1, 5, 11]), maps([1, 2, 11]), maps([0, 1, 11]))
def test_segnet_is_its_script(truth1, said1, truth2, said2):
  pairs = [(truth1, said1), (truth2, said2)]
  ids = [tuple(CAMVID.to_train_ids(each, 'a.png') for each in pair) for pair in pairs]
  scores = scored('segnet', ids, CAMVID)
  accuracy, mean_accuracy, mean_iou, ious = compute_test_results(pairs, 11)
  assert scores['pixel_accuracy'] == (None if accuracy is None else pytest.approx(accuracy))
  assert scores['mean_accuracy'] == pytest.approx(mean_accuracy)
  assert scores['mean_iou'] == pytest.approx(mean_iou)
  np.testing.assert_allclose(list(scores['per_class_iou'].values()), ious, rtol=1e-12)


def test_where_the_three_differ():
  """Class c is absent; one valid pixel of a is predicted as nothing."""
  truth, said = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])
  assert scored('default', [(truth, said)])['mean_iou'] == pytest.approx((2 / 3 + 1 / 2) / 2)
  assert scored('voc', [(truth, said)])['mean_iou'] is None
  assert scored('segnet', [(truth, said)])['mean_iou'] == pytest.approx((2 / 3 + 1 / 2) / 3)
  said = np.array([[0, 255, 0, 1]])
  segnet = scored('segnet', [(truth, said)])
  assert segnet['per_class_iou']['a'] == 1 / 2 and segnet['pixel_accuracy'] == 2 / 4


# Cityscapes.


@pytest.mark.parametrize('seed', range(12))
def test_cityscapes_is_the_official_tool(tmp_path, monkeypatch, seed):
  rng = np.random.default_rng(seed)
  ids = range(34) if seed % 3 else rng.choice(34, 6, replace=False)  # Some classes are absent.
  triples = [cityscapes_tool.street(rng, ids) for _ in range(3)]
  protocol = protocols.create('cityscapes', CITYSCAPES)
  for triple in triples:
    protocol.add_ids(*triple)
  ours = protocol.scores()
  theirs = cityscapes_tool.scores(*cityscapes_tool.write(tmp_path, triples), monkeypatch)
  cityscapes_tool.check(ours, theirs)
  assert set(ours['per_class_iou']) == set(CITYSCAPES.names)
  assert len(ours['category_iou']) == 7 and len(ours['iiou']) == 8
  assert set(ours['category_iiou']) == {'human', 'vehicle'}
  json.dumps(ours, allow_nan=False)
  assert 'vehicle' in metrics.format_table(ours)


def test_cityscapes_by_hand():
  """Two cars, of 1 and 3 pixels; the small one is found, and a third of the large one."""
  labels = np.array([[26, 26, 26, 26, 7, 0]], np.uint8)
  instances = np.array([[26001, 26002, 26002, 26002, 7, 0]])
  said = np.array([[26, 26, 30, 7, 26, 26]], np.uint8)  # 30: trailer, a vehicle not evaluated.
  protocol = protocols.create('cityscapes', CITYSCAPES)
  protocol.add_ids(labels, said, instances)
  scores = protocol.scores()
  size = next(label.instance_size for label in CITYSCAPES_LABELS if label.name == 'car')
  assert scores['per_class_iou']['car'] == 2 / 5  # The trailer and the road are misses, one is FP.
  assert scores['iiou']['car'] == pytest.approx((size + size / 3) / (2 * size + 1))
  assert scores['category_iou']['vehicle'] == 2 / 5
  assert scores['category_iiou']['vehicle'] == pytest.approx((size + 2 * size / 3) / (2 * size + 1))
  assert scores['per_class_iou']['road'] == 0 and scores['per_class_iou']['sky'] is None
  assert scores['iiou']['bus'] is None and scores['mean_category_iiou'] is not None
  assert scores['pixel_accuracy'] == 2 / 5
  assert np.sum(scores['confusion']) == 6
  assert scores['confusion_names'][26] == 'car' and len(scores['confusion_names']) == 34


def test_class_ids_are_official_ids_with_one_void():
  rng = np.random.default_rng(3)
  labels, said, _ = cityscapes_tool.street(rng, range(34))
  by_ids, by_classes = (protocols.create('cityscapes', CITYSCAPES) for _ in range(2))
  by_ids.add_ids(labels, said)
  by_classes.add(*(CITYSCAPES.to_train_ids(each, 'a.png') for each in (labels, said)))
  ours, theirs = by_classes.scores(), by_ids.scores()
  for key in ('per_class_iou', 'mean_iou', 'category_iou', 'mean_category_iou', 'pixel_accuracy'):
    assert ours[key] == theirs[key]
  assert 'iiou' not in ours and 'for 0 of 1 images' in ours['notes'][0]
  with pytest.raises(InputError, match='outside the classes'):
    by_classes.add(np.array([[19]], np.uint8), np.array([[0]], np.uint8))


def test_instances_for_some_pictures_only():
  labels, said, instances = cityscapes_tool.street(np.random.default_rng(4), range(34))
  protocol = protocols.create('cityscapes', CITYSCAPES)
  protocol.add_ids(labels, said, instances)
  protocol.add_ids(labels, said)
  scores = protocol.scores()
  assert 'iiou' not in scores and 'for 1 of 2 images' in scores['notes'][0]


@pytest.mark.parametrize(
  'labels, instances, words',
  [
    ([[26, 7]], [[24001, 7]], '24001 at row 0, column 0, and that does not fit the label 26'),
    ([[26, 7]], [[26001, 8]], '8 at row 0, column 1, .* the label 7'),
    ([[26, 7]], [[26, 7001]], '7001 at row 0, column 1'),
    ([[26, 7]], [[26001, 65535]], '65535'),
    ([[26, 7]], [[26001]], 'instance map has shape'),
  ],
)
def test_instances_of_other_labels(labels, instances, words, without_type_checks):
  protocol = protocols.create('cityscapes', CITYSCAPES)
  labels = np.array(labels, np.uint8)
  with pytest.raises(InputError, match=words):
    protocol.add_ids(labels, labels, np.array(instances))


def test_pixels_without_official_id_are_ignored():
  """255, as licence plates had in old label files."""
  labels = np.array([[26, 255, 255]], np.uint8)
  protocol = protocols.create('cityscapes', CITYSCAPES)
  protocol.add_ids(labels, np.array([[26, 7, 99]], np.uint8), np.array([[26001, 26001, 99999]]))
  scores = protocol.scores()
  assert np.sum(scores['confusion']) == 1 and scores['iiou']['car'] == pytest.approx(1)

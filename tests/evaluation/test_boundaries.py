"""boundaries.py against loops over pixels, SciPy's morphology and OpenCV's erosion."""

import json

import cv2
import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest
from scipy import ndimage

from dilated_jax.data.label_specs import CITYSCAPES
from dilated_jax.errors import InputError
from dilated_jax.evaluation import boundaries, metrics
from dilated_jax.label_spec import LabelSpec

TOYS = LabelSpec('toys', ('a', 'b', 'c'), ((1, 0, 0), (2, 0, 0), (3, 0, 0)), (1.0, 1.0, 1.0))


def maps(values, size=(7, 9)):
  return hnp.arrays(np.uint8, size, elements=st.sampled_from(values))


def blobs(seed, size=(60, 80), values=(0, 1, 2, 255)):
  """Smooth regions, as label maps have them."""
  rng = np.random.default_rng(seed)
  fields = [ndimage.gaussian_filter(rng.standard_normal(size), 5) for _ in values]
  return np.array(values, np.uint8)[np.argmax(fields, axis=0)]


def pair(seed, size=(60, 80)):
  labels = blobs(seed, size)
  predictions = np.roll(np.where(labels == 255, 1, labels), seed % 3 + 1, axis=seed % 2)
  noise = np.random.default_rng(seed).random(size) < 0.01
  return labels, np.where(noise, 2, predictions).astype(np.uint8)


def scored(pairs, classes=TOYS, **options):
  counts = boundaries.BoundaryMetrics(classes, **options)
  for labels, predictions in pairs:
    counts.add(labels, predictions)
  scores = counts.scores()
  json.dumps(scores, allow_nan=False)
  assert list(scores) == ['boundary']
  return scores['boundary']


def mean(values):
  values = [value for value in values if value is not None]
  return sum(values) / len(values) if values else None


def equal(ours, theirs):
  assert ours == (None if theirs is None else pytest.approx(theirs, rel=1e-12))


# Distance.


@hypothesis.given(maps([0, 1, 255]))
def test_distance_by_loops(ids):
  for row, column in np.ndindex(ids.shape):
    others = np.argwhere(ids != ids[row, column])
    far = np.abs(others - (row, column)).max(axis=1).min() if len(others) else 2**31 - 1
    assert boundaries.distance_to_boundary(ids)[row, column] == far


# Trimaps.


@hypothesis.given(maps([0, 1, 2, 255]), maps([0, 1, 2, 255]))
def test_trimaps_by_loops(labels, predictions):
  """Also with predictions of no class, which are wrong."""
  ours = scored([(labels, predictions)])['trimap']
  assert list(ours) == ['1', '2', '4', '8', '16', '32']
  for width in (1, 2, 4, 32):
    counts = np.zeros((3, 4))
    for row, column in np.ndindex(labels.shape):
      rows, columns = (slice(max(0, i - width), i + width + 1) for i in (row, column))
      near = labels[rows, columns]
      if labels[row, column] != 255 and (near != labels[row, column]).any():
        counts[labels[row, column], min(predictions[row, column], 3)] += 1
    unions = [counts[i].sum() + counts[:, i].sum() - counts[i, i] for i in range(3)]
    equal(ours[str(width)], mean([counts[i, i] / u for i, u in enumerate(unions) if u]))


def test_widest_trimap_of_a_small_picture_is_all_of_it():
  labels, predictions = pair(0, (30, 30))
  whole = metrics.scores(metrics.confusion_matrix(labels, predictions, 3), TOYS.names)
  assert scored([(labels, predictions)])['trimap']['32'] == pytest.approx(whole['mean_iou'])


# Boundary IoU.


@pytest.mark.parametrize('ratio', [0.005, 0.02, 0.06])
@pytest.mark.parametrize('tool', ['scipy', 'opencv'])
def test_boundary_iou_by_erosion(tool, ratio):
  """A mask minus its erosion by a 3 x 3 square, d times, in a picture framed by zeros."""
  both, either = np.zeros(3), np.zeros(3)
  pairs = [pair(seed, (60 + 7 * seed, 80)) for seed in range(4)]
  for labels, predictions in pairs:
    steps = max(1, round(ratio * np.sqrt(labels.shape[0] ** 2 + labels.shape[1] ** 2)))
    predictions = np.where(labels == 255, 255, predictions)
    for index in range(3):
      bands = []
      for mask in (labels == index, predictions == index):
        if tool == 'scipy':
          inner = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), steps)[1:-1, 1:-1]
        else:
          framed = np.pad(mask, 1).astype(np.uint8)
          inner = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=steps)[1:-1, 1:-1] > 0
        bands.append(mask & ~inner)
      both[index] += (bands[0] & bands[1]).sum()
      either[index] += (bands[0] | bands[1]).sum()
  ours = scored(pairs, ratio=ratio)
  assert ours['boundary_iou'] == pytest.approx(dict(zip('abc', both / either)), rel=1e-12)
  equal(ours['mean_boundary_iou'], (both / either).mean())


def test_ratio_of_cityscapes():
  labels, predictions = pair(1)
  assert scored([(labels, predictions)])['boundary_iou_ratio'] == 0.02
  ours = scored([(labels, predictions)], CITYSCAPES)
  assert ours['boundary_iou_ratio'] == 0.005
  narrow = scored([(labels, predictions)], ratio=0.005)['boundary_iou']
  assert [ours['boundary_iou'][name] for name in CITYSCAPES.names[:3]] == list(narrow.values())


# Boundary F1.


def contour(mask):
  return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)


def picture_f1(labels, predictions):
  """Distances by a transform for each class; the code looks for neighbors among points."""
  tolerance = 0.75 / 100 * np.hypot(*labels.shape)
  predictions = np.where(labels == 255, 255, predictions)
  values = []
  for index in range(3):
    truth, said = contour(labels == index), contour(predictions == index)
    if not truth.any():
      continue
    if not said.any():
      values.append(0.0)
      continue
    precision = (ndimage.distance_transform_edt(~truth)[said] <= tolerance).mean()
    recall = (ndimage.distance_transform_edt(~said)[truth] <= tolerance).mean()
    total = precision + recall
    values.append(2 * precision * recall / total if total else 0.0)
  return mean(values)


@pytest.mark.parametrize(
  'size', [(60, 80), (240, 320)]
)  # The diagonal 400 has tolerance 3 exactly.
def test_boundary_f1_by_distance_transforms(size):
  pairs = [pair(seed, size) for seed in range(4)]
  expected = [picture_f1(*each) for each in pairs]
  assert len(set(expected)) == 4
  equal(scored(pairs)['boundary_f1'], np.mean(expected))


@hypothesis.given(maps([0, 1, 2, 255], (20, 170)), maps([0, 1, 255], (20, 170)))
def test_boundary_f1_of_noise(labels, predictions):
  equal(scored([(labels, predictions)])['boundary_f1'], picture_f1(labels, predictions))


def test_pictures_without_contour_are_left_out():
  plain = np.zeros((60, 80), np.uint8)
  assert scored([(plain, plain)])['boundary_f1'] is None
  labels, predictions = pair(2)
  alone = scored([(labels, predictions)])['boundary_f1']
  assert scored([(labels, predictions), (plain, predictions)])['boundary_f1'] == alone


# All of them.


@hypothesis.given(maps([0, 1, 2, 255]), maps([0, 1, 2, 255]))
def test_perfect_is_perfect(labels, under_void):
  perfect = np.where(labels == 255, under_void, labels)
  scores = scored([(labels, perfect)])
  values = [*scores['boundary_iou'].values(), scores['boundary_f1'], *scores['trimap'].values()]
  assert set(values) <= {1.0, None}
  if (labels != 255).any():
    assert 1.0 in values


def test_sizes_that_differ(without_type_checks):
  with pytest.raises(InputError, match='shape'):
    scored([(np.zeros((3, 4), np.uint8), np.zeros((3, 5), np.uint8))])


def test_table_has_lines_for_boundaries():
  labels, predictions = pair(3)
  scores = metrics.scores(metrics.confusion_matrix(labels, predictions, 3), TOYS.names)
  text = metrics.format_table(scores | {'boundary': scored([(labels, predictions)])})
  lines = text.splitlines()
  assert lines[0].split()[-3:] == ['boundary', 'IoU', '%']
  assert {len(line) for line in lines[:6]} == {len(lines[0])}
  for title in ('mean boundary IoU', 'boundary F1', 'mean IoU within 32 px'):
    assert sum(line.startswith(title) for line in lines) == 1

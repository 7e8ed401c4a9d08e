"""extremes.py: the best and worst images of a split."""

import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.evaluation import extremes, metrics
from dilated_jax.evaluation.extremes import Extremes


def examples(count, size=(6, 8), classes=3, seed=0):
  rng = np.random.default_rng(seed)
  for index in range(count):
    label = rng.integers(0, classes, size).astype(np.uint8)
    label[rng.random(size) < 0.1] = 255
    said = np.where(rng.random(size) < index / count, label, rng.integers(0, classes, size))
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    said = np.where(label == 255, 0, said).astype(np.uint8)
    yield {'name': f'p{index}', 'image': image, 'label': label}, said


def all_scores(items):
  """By the confusion matrix of each image alone."""
  found = {}
  for example, said in items:
    confusion = metrics.confusion_matrix(example['label'], said, 3)
    scores = metrics.scores(confusion, ['a', 'b', 'c'])
    found[example['name']] = scores['mean_iou'], scores['pixel_accuracy']
  return found


def test_best_and_worst_of_many():
  items = list(examples(40))
  expected = all_scores(items)
  by_iou = sorted(expected, key=lambda name: expected[name][0])
  kept = Extremes(3, count=4)
  for item in items:
    kept.add(*item)
  assert [one.name for one in kept.best] == by_iou[::-1][:4]
  assert [one.name for one in kept.worst] == by_iou[:4]
  given = {example['name']: (example, said) for example, said in items}
  for one in (*kept.best, *kept.worst):
    assert (one.mean_iou, one.pixel_accuracy) == pytest.approx(expected[one.name])
    example, said = given[one.name]
    for array, whole in ((one.image, example['image']), (one.labels, example['label']),
                         (one.predictions, said)):  # fmt: skip
      np.testing.assert_array_equal(array, whole)


def test_no_more_than_asked_for_are_kept():
  kept = Extremes(3, count=2)
  for item in examples(30):
    kept.add(*item)
    assert len(kept._best) <= 2 and len(kept._worst) <= 2


def test_few_images_are_divided():
  kept = Extremes(3, count=4)
  assert kept.best == kept.worst == []
  for item in examples(5):
    kept.add(*item)
  assert (len(kept.best), len(kept.worst)) == (3, 2)
  assert not {one.name for one in kept.best} & {one.name for one in kept.worst}


def test_of_equals_the_first_and_the_last_stay():
  kept = Extremes(3, count=2)
  (example, said), *_ = examples(1)
  for index in range(9):
    kept.add(example | {'name': str(index)}, said)
  assert [one.name for one in kept.best] == ['0', '1']
  assert [one.name for one in kept.worst] == ['8', '7']


def test_void_images_and_predictions_of_no_class():
  kept = Extremes(3)
  (example, said), *_ = examples(1)
  kept.add({'name': 'void', 'label': np.full((6, 8), 255, np.uint8)}, said)
  assert not kept.best
  kept.add({'name': 'none', 'label': example['label']}, np.full((6, 8), 255, np.uint8))
  (one,) = kept.best
  assert (one.mean_iou, one.pixel_accuracy, one.image) == (0, 0, None)


def test_large_images_are_scaled_down():
  kept = Extremes(3, side=10)
  (example, said), *_ = examples(1, size=(20, 40))
  kept.add(example, said)
  (one,) = kept.best
  assert one.image.shape == (5, 10, 3)
  np.testing.assert_array_equal(one.labels, example['label'][2::4, 2::4])
  np.testing.assert_array_equal(one.predictions, said[2::4, 2::4])
  blocks = example['image'].reshape(5, 4, 10, 4, 3).mean((1, 3))
  assert np.abs(one.image - blocks).max() <= 0.5


def test_saved_and_read_again(tmp_path):
  kept = Extremes(3, count=2)
  for index, (example, said) in enumerate(examples(6)):
    kept.add(example if index else {k: v for k, v in example.items() if k != 'image'}, said)
  kept.save(tmp_path / 'new/kept.npz')
  for found, expected in zip(
    extremes.load(tmp_path / 'new/kept.npz'), (kept.best, kept.worst), strict=True
  ):
    for one, other in zip(found, expected, strict=True):
      for field, (a, b) in zip(one._fields, zip(one, other, strict=True), strict=True):
        assert (a is None) == (b is None), field
        np.testing.assert_array_equal(a, b)
  for content in (b'', b'nonsense', (tmp_path / 'new/kept.npz').read_bytes()[:90]):
    (tmp_path / 'bad.npz').write_bytes(content)
    with pytest.raises(InputError, match=r'bad\.npz: holds no images of an evaluation'):
      extremes.load(tmp_path / 'bad.npz')

"""The search for a dense CRF: it counts what dense_crf would, and goes on where it stopped."""

import json

import numpy as np
import pytest

from dilated_jax.crf import DenseCrf
from dilated_jax.errors import InputError
from dilated_jax.evaluation import crf_search, metrics
from dilated_jax.label_spec import LabelSpec

CLASSES = LabelSpec('toys', ('a', 'b', 'c'), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), (90.0, 90.0, 90.0))
TRIALS = crf_search.grid([2], [1, 2], [10], [20, 40], [3], [3, 1])


def pictures(count=3):
  rng = np.random.default_rng(0)
  return [
    {
      'image': rng.integers(0, 256, (8, 9, 3), np.uint8),
      'label': rng.integers(0, 3, (8, 9)).astype(np.uint8),
      'name': str(i),
    }
    for i in range(count)
  ]


def probabilities_of(image):
  raised = np.exp(image.astype(np.float32) / 100)
  return raised / raised.sum(-1, keepdims=True)


def test_grid_is_all_combinations():
  assert len(TRIALS) == 8 and len(set(TRIALS)) == 8
  assert {trial.iterations for trial in TRIALS} == {1, 3}
  assert {trial.gaussian for trial in TRIALS} == {(2, 1), (2, 2)}
  assert {trial.bilateral for trial in TRIALS} == {(10, 20, 3), (10, 40, 3)}


WITHOUT = crf_search.grid([2, 4], [0, 2], [10], [20, 40], [0, 3], [1])


def test_weights_of_0_leave_kernels_out():
  alone = {DenseCrf((near, 2), None, 1) for near in (2, 4)}
  appearance = {DenseCrf(None, (10, color, 3), 1) for color in (20, 40)}
  both = {DenseCrf((near, 2), (10, color, 3), 1) for near in (2, 4) for color in (20, 40)}
  assert len(WITHOUT) == 8 and set(WITHOUT) == alone | appearance | both
  assert crf_search.grid([2, 4], [0], [10], [20], [0], [1, 3]) == []


@pytest.mark.parametrize('trials', [TRIALS, WITHOUT], ids=['both kernels', 'some left out'])
def test_counts_are_those_of_each_trial_by_itself(tmp_path, trials):
  ranked = crf_search.rank(probabilities_of, pictures(), CLASSES, trials, tmp_path / 'a.json')
  assert {trial for trial, _ in ranked} == {None, *trials}
  ious = [scores['mean_iou'] for _, scores in ranked]
  assert ious == sorted(ious, reverse=True)
  for trial, scores in ranked:
    total = np.zeros((3, 3), int)
    for example in pictures():
      marginals = probabilities_of(example['image'])
      if trial:
        marginals = trial(marginals, example['image'])
      total += metrics.confusion_matrix(example['label'], marginals.argmax(-1), 3)
    np.testing.assert_array_equal(scores['confusion'], total)


def test_goes_on_where_it_stopped(tmp_path):
  whole = crf_search.rank(probabilities_of, pictures(), CLASSES, TRIALS, tmp_path / 'whole.json')
  calls = []

  def interrupted(image):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return probabilities_of(image)

  path = tmp_path / 'part.json'
  with pytest.raises(KeyboardInterrupt):
    crf_search.rank(interrupted, pictures(), CLASSES, TRIALS, path)
  assert json.loads(path.read_text())['done'] == 1
  assert crf_search.rank(interrupted, pictures(), CLASSES, TRIALS, path) == whole
  assert len(calls) == 4


def test_another_search_or_a_damaged_file_is_refused(tmp_path):
  path = tmp_path / 'a.json'
  crf_search.rank(probabilities_of, pictures(1), CLASSES, TRIALS[:1], path)
  with pytest.raises(InputError, match='of another network or of other images, passes or trials'):
    crf_search.rank(probabilities_of, pictures(1), CLASSES, TRIALS[:2], path)
  with pytest.raises(InputError, match='of another network'):
    crf_search.rank(probabilities_of, pictures(1), CLASSES, TRIALS[:1], path, network='b')
  path.write_text('{')
  with pytest.raises(InputError, match='is damaged'):
    crf_search.rank(probabilities_of, pictures(1), CLASSES, TRIALS[:1], path)

"""Scenes like those of Cityscapes, and what the official tool says of them."""

import contextlib
import io
import types

from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as tool
import numpy as np
from PIL import Image
import pytest

HAVE_INSTANCES = range(24, 34)


def street(rng, ids, size=(40, 60)):
  """Rectangles of random ids over each other, with their instances; some are groups.

  Args:
    rng: NumPy generator.
    ids: official ids to choose from.
    size: (height, width).

  Returns:
    labels and predictions, uint8, and instances, int32; all (height, width).
  """
  labels = np.full(size, rng.choice(ids), np.uint8)
  instances = labels.astype(np.int32)
  if labels[0, 0] in HAVE_INSTANCES:
    instances = instances * 1000
  for number in range(rng.integers(5, 40)):
    top, left = rng.integers(0, size[0] - 3), rng.integers(0, size[1] - 3)
    place = np.s_[top : top + rng.integers(2, 20), left : left + rng.integers(2, 20)]
    label = rng.choice(ids)
    labels[place] = label
    single = label in HAVE_INSTANCES and rng.random() < 0.8
    instances[place] = label * 1000 + number + 1 if single else label
  noise = rng.random(size) < rng.choice([0, 0.1, 0.6])
  predictions = np.where(noise, rng.integers(0, 34, size), np.roll(labels, 1, axis=1))
  return labels, predictions.astype(np.uint8), instances


def write(folder, triples):
  """Writes (labels, predictions, instances) under official names.

  Returns:
    files of predictions and of labels.
  """
  predictions, truths = [], []
  for index, (labels, said, instances) in enumerate(triples):
    truths.append(folder / f'gtFine/city/city_{index:06}_000019_gtFine_labelIds.png')
    predictions.append(folder / f'said/city_{index:06}_000019_leftImg8bit.png')
    for path in (truths[-1], predictions[-1]):
      path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(truths[-1])
    Image.fromarray(said).save(predictions[-1])
    instance_path = str(truths[-1]).replace('labelIds', 'instanceIds')
    Image.fromarray(instances.astype(np.uint16)).save(instance_path)
  return predictions, truths


def scores(predictions, truths, monkeypatch) -> dict:
  """What cityscapesScripts makes of these files."""

  def in1d(a, b, invert=False):  # The tool calls it, and NumPy 2.4 has removed it.
    return np.isin(np.ravel(a), b, invert=invert)

  monkeypatch.setattr(np, 'in1d', in1d, raising=False)
  settings = types.SimpleNamespace(**{**vars(tool.args), 'quiet': True, 'JSONOutput': False})
  with contextlib.redirect_stdout(io.StringIO()):
    return tool.evaluateImgLists(list(map(str, predictions)), list(map(str, truths)), settings)


MEANS = {
  'mean_iou': 'averageScoreClasses',
  'mean_iiou': 'averageScoreInstClasses',
  'mean_category_iou': 'averageScoreCategories',
  'mean_category_iiou': 'averageScoreInstCategories',
}
BY_NAME = {
  'per_class_iou': 'classScores',
  'iiou': 'classInstScores',
  'category_iou': 'categoryScores',
  'category_iiou': 'categoryInstScores',
}


def check(ours: dict, theirs: dict):
  """Asserts that every score of ours is the official one, to 1e-9."""

  def same(a, b):
    assert (a is None) == bool(np.isnan(b))
    assert a is None or a == pytest.approx(b, rel=1e-9, abs=1e-9)

  assert ours['confusion'] == theirs['confMatrix']
  for key, official in MEANS.items():
    same(ours[key], theirs[official])
  for key, official in BY_NAME.items():
    for name, value in theirs[official].items():
      same(ours[key].get(name), value)

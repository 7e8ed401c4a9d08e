"""The measures of borders, compared with slow code and on damaged labels."""

import numpy as np
from PIL import Image
import pytest

from dilated_jax.data.audit import borders
from dilated_jax.data.builders import scenes
from tests.data.audit.planted import jpeg


def slow_roughness(codes):
  """By the definition, pixel by pixel."""
  framed = np.pad(codes.astype(int), 2, mode='edge')
  height, width = codes.shape

  def loose(y, x):
    window = framed[y + 1 : y + 4, x + 1 : x + 4]
    return (window == framed[y + 2, x + 2]).sum() <= 2

  shaky = np.zeros(framed.shape, bool)
  shaky[2:-2, 2:-2] = [[loose(y, x) for x in range(width)] for y in range(height)]
  count = 0
  for y, x in np.argwhere(shaky[2:-2, 2:-2]):
    near = framed[y : y + 5, x : x + 5] == framed[y + 2, x + 2]
    count += not (near & ~shaky[y : y + 5, x : x + 5]).any()
  edges = (codes[1:, :-1] != codes[:-1, :-1]) | (codes[:-1, 1:] != codes[:-1, :-1])
  return count / max(edges.sum(), 1)


@pytest.mark.parametrize('seed', range(3))
def test_roughness(seed):
  rng = np.random.default_rng(seed)
  ids = np.repeat(np.repeat(rng.integers(0, 4, (6, 8)), 5, 0), 5, 1).astype(np.uint8)
  ids[rng.random(ids.shape) < 0.1] = 9
  ids[0, 0], ids[-1, -1] = 11, 12
  assert borders.roughness(ids) == pytest.approx(slow_roughness(ids))
  assert borders.roughness(np.zeros((40, 50), np.uint8)) == 0
  assert borders.roughness(np.zeros((2, 50), np.uint8)) == 0


def test_roughness_of_clean_and_damaged_labels():
  for seed in range(4):
    ids = scenes.draw(seed)[1]
    assert borders.roughness(ids) < 0.01
    damaged = np.asarray(jpeg(Image.fromarray(ids * 20), 90))
    assert borders.roughness(damaged) > 0.2


def test_agreement_tells_the_right_side_up():
  for seed in range(6):
    image, ids = scenes.draw(seed)
    gray = np.asarray(Image.fromarray(image).convert('L'))
    assert borders.edge_alignment(gray, ids) > 2 * borders.edge_alignment(gray[::-1, ::-1], ids)
  assert borders.edge_alignment(gray, np.zeros_like(ids)) == 0

"""What is no image and no label map is told so, wherever arrays come in."""

import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.evaluation.boundaries import BoundaryMetrics
from dilated_jax.evaluation.metrics import confusion_matrix
from dilated_jax.images import checks, preprocessing, visualization
from dilated_jax.label_spec import LabelSpec

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
IDS = np.arange(20).reshape(4, 5) % 2
PALETTE = [(0, 0, 0), (255, 0, 0)]


def test_images():
  assert checks.as_images(IMAGE) is IMAGE
  np.testing.assert_array_equal(checks.as_images(IMAGE[None], ndim=4), IMAGE[None])


@pytest.mark.parametrize(
  'image, words',
  [
    (IMAGE / 255, r'not float64 of values from 0 to 0\.\d+: give \(255\.0 \* image\)\.round'),
    (IMAGE.astype(np.float32), r'not float32 of values from 0 to 59: give image\.round'),
    (IMAGE.astype(np.int64), r'not int64'),
    (IMAGE > 9, r'not bool of values from 0 to 1: give \(255\.0 \* image\)'),
    (IMAGE / 15 - 2, r'not float64 of values from -2 to 1\.9\d*: undo what was subtracted'),
    (IMAGE.astype(np.int16) - 9, 'from -9 to 50: undo what was subtracted'),
    (np.uint16(257) * IMAGE, r'from 0 to 15163: give \(image // 257\)\.astype'),
    (IMAGE[:0], r'not \(0, 5, 3\), without a pixel'),
    (np.moveaxis(IMAGE, -1, 0), r'\(3, 4, 5\): move the axis of colors to the end'),
    (IMAGE[..., 0], r"convert it with Pillow's image\.convert"),
    (IMAGE[..., :1], r"convert it with Pillow's image\.convert"),
    (np.concatenate([IMAGE, IMAGE[..., :1]], -1), r'convert it with Pillow'),
    (np.full((4, 5, 3), np.nan), 'not float64'),
    (np.full((4, 5, 3), 'x'), 'an image is uint8'),
  ],
)
def test_what_is_no_image(image, words):
  with pytest.raises(InputError, match=words):
    checks.as_images(image)
  with pytest.raises(InputError, match=words):
    visualization.overlay(image, IDS, PALETTE)
  with pytest.raises(InputError, match=words):
    visualization.with_legend(image, IDS, ['a', 'b'], PALETTE)
  with pytest.raises(InputError, match=words):
    preprocessing.downscale_image(image, 0.5)


def test_images_of_several_sizes():
  with pytest.raises(InputError, match='give images of several sizes one by one'):
    checks.as_images([IMAGE, IMAGE[:2]], 'a batch', ndim=4)


def test_what_is_no_label_map(without_type_checks):
  scores = np.random.default_rng(0).random((4, 5))
  classes = LabelSpec('two', ('a', 'b'), tuple(PALETTE), (0.0, 0.0, 0.0))
  for call in (
    lambda: visualization.colorize(scores, PALETTE),
    lambda: visualization.with_legend(IMAGE, scores, ['a', 'b'], PALETTE),
    lambda: confusion_matrix(IDS, scores, 2),
    lambda: confusion_matrix(scores, IDS, 2),
    lambda: BoundaryMetrics(classes).add(IDS, scores),
  ):
    with pytest.raises(InputError, match=r'class ids, whole numbers, not float64: .*argmax'):
      call()
  confusion = confusion_matrix(IDS.astype(bool), IDS, 2)  # A mask of two classes is whole numbers.
  np.testing.assert_array_equal(confusion, np.diag([10, 10]))

"""Colors, overlays, legends and grids, pixel by pixel."""

import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.images import visualization

RNG = np.random.default_rng(0)

COLOR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)

PALETTE = ((10, 20, 30), (200, 100, 0), (0, 0, 255))


def test_colorize():
  ids = np.array([[0, 1], [2, 255]], np.uint8)
  expected = [[PALETTE[0], PALETTE[1]], [PALETTE[2], (0, 0, 0)]]
  np.testing.assert_array_equal(visualization.colorize(ids, PALETTE), expected)
  with pytest.raises(InputError, match='class id 3'):
    visualization.colorize(ids + 1, PALETTE)


def test_overlay_leaves_ignored_pixels():
  image = np.full((1, 2, 3), 100, np.uint8)
  mixed = visualization.overlay(image, np.array([[1, 255]], np.uint8), PALETTE, alpha=0.25)
  assert mixed.tolist() == [[[125, 100, 75], [100, 100, 100]]]
  with pytest.raises(InputError, match='needs equal sizes'):
    visualization.overlay(image, np.zeros((3, 3), np.uint8), PALETTE)


def test_difference_is_red_where_the_prediction_is_wrong():
  labels = np.array([[0, 1, 2, 255]], np.uint8)
  predictions = np.array([[0, 2, 2, 1]], np.uint8)
  image = np.array([[[0, 0, 0], [9, 9, 9], [255, 255, 255], [0, 255, 0]]], np.uint8)
  found = visualization.difference(labels, predictions, image)
  assert found.tolist() == [[[130] * 3, [213, 43, 30], [255] * 3, [90] * 3]]
  assert visualization.difference(labels, predictions)[0, 0].tolist() == [235] * 3
  with pytest.raises(InputError, match='a difference needs equal sizes'):
    visualization.difference(labels, predictions[:, :2])


def test_what_is_no_palette_no_weight_and_no_image():
  ids = np.zeros((5, 7), np.uint8)
  for wrong in (np.array(PALETTE) / 255, np.ravel(PALETTE), [(0, 0), (1, 1)], [(0, 0, 256)]):
    with pytest.raises(InputError, match='a color of three whole numbers'):
      visualization.colorize(ids, wrong)
  for alpha in (-0.5, 50):
    with pytest.raises(InputError, match=f'alpha is {alpha}; it is 0 to 1'):
      visualization.overlay(COLOR, ids, PALETTE, alpha)
  with pytest.raises(InputError, match=r'not float64 of values .*: give \(255.0 \* image\)'):
    visualization.image_grid([[COLOR, COLOR / 255]])


def colors_in(picture):
  return {tuple(color) for color in picture.reshape(-1, 3).tolist()}


def test_legend_has_swatches_and_grows_in_rows():
  wide = visualization.legend(['one', 'two', 'three'], PALETTE, width=400)
  narrow = visualization.legend(['one', 'two', 'three'], PALETTE, width=70)
  assert wide.shape[1] == 400 and narrow.shape[1] == 70
  assert narrow.shape[0] > wide.shape[0]
  assert set(PALETTE) <= colors_in(wide) & colors_in(narrow)
  assert visualization.legend(['a name too long for it'], PALETTE[:1], width=10).shape[1] > 50
  assert visualization.legend([], [], width=10).shape[1] == 10


def test_with_legend_names_only_what_occurs():
  ids = np.full((30, 40), 2, np.uint8)
  ids[0] = 255
  image = np.zeros((30, 40, 3), np.uint8)
  result = visualization.with_legend(image, ids, ['a', 'b', 'c'], PALETTE)
  np.testing.assert_array_equal(result[:30, :40], image)
  assert PALETTE[2] in colors_in(result[30:])
  assert not {PALETTE[0], PALETTE[1]} & colors_in(result[30:])
  assert visualization.with_legend(image, ids * 0 + 255, ['a', 'b', 'c'], PALETTE).shape[0] > 30


def test_sheet_keeps_pixels_square():
  small, large = COLOR, np.full((300, 100, 3), 7, np.uint8)
  page = visualization.image_grid([[small, large], [small]], ['picture', 'other'], side=35, gap=4)
  five = np.repeat(np.repeat(small, 5, axis=0), 5, axis=1)
  top = 32
  np.testing.assert_array_equal(page[top : top + 25, 4 : 4 + 35], five)
  assert page.shape[0] == top + 300 + 4 + 25 + 4
  assert (page[: top - 4] != 255).any()
  assert visualization.image_grid([[small]]).dtype == np.uint8

"""demo: the pieces of its evidence; `make demo` itself is the test of the whole."""

import numpy as np

from dilated_jax import data
from dilated_jax.data.builders import scenes
from dilated_jax.nn import geometry, table as tables
from experiments import demo

NAMES = data.classes('scenes').names


def test_distance_counts_pixels_along_the_farther_axis():
  label = np.zeros((9, 12), np.uint8)
  label[2, 3] = NAMES.index('cabin')
  rows, columns = np.mgrid[:9, :12]
  expected = np.maximum(abs(rows - 2), abs(columns - 3))
  np.testing.assert_array_equal(demo.distance(label), expected)


def test_exchanged_differs_in_the_landmark_alone():
  index = 3
  image, label = scenes.draw(scenes.FIRST_SEED['test'] + index)
  other = demo.exchanged(index, label)
  x0, y0, x1, y1 = scenes.plan(scenes.FIRST_SEED['test'] + index).box
  different = (image != other).any(-1)
  assert different[y0:y1, x0:x1].any()
  different[y0:y1, x0:x1] = False
  assert not different.any()


def test_rings_begin_where_the_front_end_stops_seeing():

  table = tables.front_end(7, blocks=(1, 1, 1), stride=8, fc_kernel=3, fc_channels=64, width=0.25)
  assert demo.RINGS[1] == geometry.receptive_field(table) // 2 + geometry.stride(table)
  control = table + tables.context(7, dilations=(1,) * 7)
  assert demo.RINGS[2] == geometry.receptive_field(control) // 2 + geometry.stride(table)

"""classes.py: the tables are consistent, and raw labels become train ids or a clear error."""

from hypothesis import given, strategies as st
from hypothesis.extra import numpy as npst
import numpy as np
import pytest

from dilated_jax import datasets
from dilated_jax.datasets.classes import CAMVID
from dilated_jax.errors import InputError


@pytest.mark.parametrize('name', datasets.NAMES)
def test_table_is_consistent(name):
  table = datasets.classes(name)
  assert table.name == name
  assert table.num_classes == len(table.names) == len(set(table.names))
  assert len(table.palette) == len(set(table.palette)) == table.num_classes
  assert all(0 <= value <= 255 for colour in table.palette for value in colour)
  assert all(0 < value < 255 for value in table.mean)


def test_unknown_name_lists_the_known_ones():
  with pytest.raises(InputError, match=r"'camvit'.*scenes, camvid"):
    datasets.classes('camvit')


@given(npst.arrays(np.uint8, (5, 7), elements=st.sampled_from([*range(12), 255])))
def test_void_becomes_255_and_the_rest_stays(mask):
  ids = CAMVID.to_train_ids(mask, 'a.png')
  assert ids.dtype == np.uint8
  expected = [[255 if value in (11, 255) else value for value in row] for row in mask.tolist()]
  assert ids.tolist() == expected


@given(st.integers(12, 254))
def test_illegal_value_is_named(value):
  mask = np.zeros((4, 4), np.uint8)
  mask[1, 2] = value
  with pytest.raises(InputError, match=rf'^a\.png: illegal label values {value};.* 0\.\.10.* 11 '):
    CAMVID.to_train_ids(mask, 'a.png')


def test_colours_and_floats_are_no_labels():
  with pytest.raises(InputError, match=r'^a\.png: .*\(4, 4, 3\)'):
    CAMVID.to_train_ids(np.zeros((4, 4, 3), np.uint8), 'a.png')
  with pytest.raises(InputError, match='float32'):
    CAMVID.to_train_ids(np.zeros((4, 4), np.float32), 'a.png')

"""geometry.py: against the sizes, fields and counts of the paper and of the published networks."""

from fractions import Fraction
import itertools

import hypothesis
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.nn import geometry, ops, table as tables

FRONT_END = tables.front_end(21)
RELEASED = {
  'pascal_voc': ('dilation8', 21, {'context': 'large'}),
  'camvid': ('dilation8', 11, {}),
  'kitti': ('dilation7', 11, {}),
  'cityscapes': ('dilation10', 19, {}),
}


@pytest.mark.parametrize(
  'size, cells',
  [
    (380, 1), (500, 16), (628, 32), (852, 60), (884, 64), (900, 66), (1100, 91), (1396, 128),
    (1640, 159),  # KITTI's width: 158 if poolings rounded down.
  ],
)  # fmt: skip
def test_front_end_sizes(size, cells):
  assert geometry.output_size(FRONT_END, size) == cells
  assert size % 8 != 4 or cells == (size - 372) // 8


def test_kitti_has_an_odd_map_before_the_third_pooling():
  names = [layer.name for layer in FRONT_END]
  sizes = dict(zip(names, geometry.output_sizes(FRONT_END, 1640)))
  assert (sizes['conv3_3'], sizes['pool3']) == (401, 201)


def test_front_end_fields():
  """Receptive field, jump and center after each layer (VGG-16 with the paper's dilations)."""
  expected = """
    conv1_1 3 1 1      conv1_2 5 1 2       pool1 6 2 2.5
    conv2_1 10 2 4.5   conv2_2 14 2 6.5    pool2 16 4 7.5
    conv3_1 24 4 11.5  conv3_2 32 4 15.5   conv3_3 40 4 19.5   pool3 44 8 21.5
    conv4_1 60 8 29.5  conv4_2 76 8 37.5   conv4_3 92 8 45.5
    conv5_1 124 8 61.5 conv5_2 156 8 77.5  conv5_3 188 8 93.5
    fc6 380 8 189.5    fc7 380 8 189.5     final 380 8 189.5
  """
  words = expected.split()
  rows = {words[i]: tuple(map(Fraction, words[i + 1 : i + 4])) for i in range(0, len(words), 4)}
  found = {f.layer.name: (f.size, f.jump, f.center) for f in geometry.receptive_fields(FRONT_END)}
  assert found == rows
  assert geometry.margin(FRONT_END) == 186 and geometry.stride(FRONT_END) == 8


def test_context_fields():
  sizes = [field.size for field in geometry.receptive_fields(tables.context(21))]
  assert sizes == [3, 5, 9, 17, 33, 65, 67, 67]
  for kind in ('basic', 'large'):
    found = [geometry.receptive_field(tables.context(21, layers=n, kind=kind)) for n in (7, 8, 10)]
    assert found == [35, 67, 259]


@pytest.mark.parametrize('padding', ['same', 'buffer'])
@pytest.mark.parametrize('count', [7, 8, 10])
def test_context_keeps_size_and_place(count, padding):
  table = tables.context(5, layers=count, padding=padding)
  assert geometry.output_size(table, 66) == 66
  assert geometry.margin(table) == 0 and geometry.stride(table) == 1
  assert list(geometry.receptive_fields(table))[-1].center == 0


def test_voc_context_shrinks_back():
  table = tables.context(21, kind='large')
  assert table[0].padding * 2 + 66 == 132
  assert geometry.output_sizes(table, 66) == [130, 128, 124, 116, 100, 68, 66, 66]


@pytest.mark.parametrize(
  'data, field, height, width, rows, columns',
  [
    ('pascal_voc', 908, 900, 900, 66, 66),
    ('camvid', 908, 900, 1100, 66, 91),
    ('kitti', 652, 852, 1640, 60, 159),
    ('cityscapes', 2444, 1396, 1396, 1024, 1024),
  ],
)
def test_released_networks(data, field, height, width, rows, columns):
  name, classes, options = RELEASED[data]
  model = models.create(name, classes, **options)
  assert geometry.receptive_field(model.table) == geometry.receptive_field(model.table) == field
  assert geometry.output_size(model.table, height) == rows
  assert geometry.output_size(model.table, width) == columns
  assert (model.margin, model.stride) == (186, 8)


def test_deconvolution_ends_at_the_label_pixels():
  model = models.create('dilation10', 19)
  before, after = list(geometry.receptive_fields(model.table))[-2:]
  # Cell 0 is centered 3.5 pixels into the label area, and output pixel 0 on its first pixel.
  assert (before.center, before.jump) == (Fraction(379, 2), 8)
  assert (after.center, after.jump, after.size) == (model.margin, 1, before.size + 8)


@pytest.mark.parametrize('stride', [1, 2, 4, 8, 16])
def test_upsampling_multiplies_the_size(stride):
  assert geometry.output_size(tables.upsample(stride), 7) == 7 * stride


def test_too_small_an_input_names_the_least():
  with pytest.raises(InputError, match=r'vanishes in .*; give 380 or more'):
    geometry.output_sizes(FRONT_END, 372)
  # Poolings round up, so a few pixels less than the receptive field still give one cell.
  assert geometry.output_size(FRONT_END, 373) == 1


convolutions = st.builds(
  tables.Layer,
  name=st.just('conv'),
  kernel=st.sampled_from([1, 3, 5]),
  dilation=st.integers(1, 4),
  channels=st.just(1),
)
poolings = st.just(tables.Layer('pool', 'max_pool', kernel=2, stride=2))


@given(st.lists(convolutions | poolings, min_size=1, max_size=7), st.integers(1, 4))
def test_margin_field_and_center_agree(table, cells):
  """An input of cells * stride pixels and two margins gives the cells and just their fields."""
  table = tuple(table)
  stride, margin = geometry.stride(table), geometry.margin(table)
  size = cells * stride + 2 * margin
  assert geometry.output_size(table, size) == cells
  assert geometry.valid_size(table, size) == size
  field = list(geometry.receptive_fields(table))[-1]
  # Field of cell 0 begins with the first pixel, and that of the last ends with the last.
  assert geometry.window(table, 0) == (0, field.size - 1)
  assert geometry.window(table, cells - 1) == (size - field.size, size - 1)
  assert field.center == geometry.offset(table) == Fraction(field.size - 1, 2)
  assert field.jump == stride
  # Without the margin, cell 0 is in the middle of the first pixels of the picture.
  assert field.center - margin == Fraction(stride - 1, 2)


any_convolutions = st.builds(
  tables.Layer,
  name=st.just('conv'),
  kernel=st.integers(1, 4),
  stride=st.integers(1, 2),
  dilation=st.integers(1, 3),
  padding=st.integers(0, 5),
  channels=st.just(1),
)
any_poolings = st.builds(
  tables.Layer,
  name=st.just('pool'),
  kind=st.just('max_pool'),
  kernel=st.integers(2, 3),
  stride=st.integers(1, 2),
)


@settings(max_examples=50)
@given(st.lists(any_convolutions | any_poolings, min_size=1, max_size=4), st.integers(1, 99))
def test_valid_sizes_lose_nothing(table, least):
  def fits(size):
    for layer in table:
      steps, rest = divmod(size + 2 * layer.padding - layer.effective_kernel, layer.stride)
      size = steps + 1
      if rest or size < 1:
        return False
    return True

  table = tuple(table)
  expected = next(size for size in range(least, 9999) if fits(size))
  assert geometry.valid_size(table, least) == expected
  assert geometry.valid_size((*table, *tables.upsample(4)), least) == expected


@settings(max_examples=50)
@given(st.lists(any_convolutions | any_poolings, min_size=1, max_size=4), st.integers(1, 5))
def test_the_margin_is_enough_for_any_table(table, cells):
  """Whatever the windows: every cell that the picture needs, and none of them beyond its end."""
  table = tuple(table)
  stride, margin = geometry.stride(table), geometry.margin(table)
  size = cells * stride + 2 * margin
  hypothesis.assume(size >= geometry.valid_size(table))  # Else padding alone is seen.
  assert geometry.output_size(table, size) >= cells
  assert geometry.offset(table) + (cells - 1) * stride <= margin + cells * stride


def test_branches_that_never_agree():
  """Odd sizes suit one, even ones the other: the smallest at which nothing vanishes."""
  table = (
    tables.Layer('odd', kernel=1, stride=2),
    tables.Layer('even', kernel=2, stride=2, inputs=('input',)),
    tables.merge('both', 'concat', 'odd', 'even'),
  )
  assert geometry.valid_size(table) == 2 and geometry.valid_size(table, 7) == 7


def test_valid_sizes_of_the_front_end():
  assert geometry.valid_size(FRONT_END) == 380
  assert [geometry.valid_size(FRONT_END, n) for n in (380, 381, 388, 512)] == [380, 388, 388, 516]
  assert geometry.offset(FRONT_END) == Fraction(379, 2)


@pytest.mark.parametrize('stride', [1, 2, 4, 8])
def test_upsampled_cells_are_where_they_are_said_to_be(stride):
  """Interpolation of the cells' own places gives places."""
  places = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1)
  found = np.asarray(ops.deconvolution(places, stride))[0, :, 0, 0]
  found = found / np.asarray(ops.deconvolution(np.ones_like(places), stride))[0, :, 0, 0]
  (field,) = geometry.receptive_fields(tables.upsample(stride))
  expected = float(field.center) + float(field.jump) * np.arange(5 * stride)
  inside = slice(stride // 2, -(stride // 2) or None)
  np.testing.assert_allclose(found[inside], expected[inside], atol=1e-6)


@pytest.mark.parametrize(
  'dilations, dense',
  [((2, 2, 2), False), ((1, 2, 4), True), ((1, 3, 9), True), ((1, 2, 8), False), ((4, 1), False)],
)
def test_holes(dilations, dense):
  """Section 2: doubling leaves none; the paths are the sums of one tap of every layer."""
  table = tuple(tables.Layer('conv', dilation=d, padding=d, channels=1) for d in dilations)
  reached = [sum(taps) for taps in itertools.product(*((-d, 0, d) for d in dilations))]
  first, ways = geometry.path_counts(table)
  assert ways.tolist() == [reached.count(first + i) for i in range(len(ways))]
  assert all(ways) == dense


@given(st.integers(2, 9))
def test_doubling_dilations_square_the_field(count):
  """Equation 3: the field of F_{i+1} is 2^{i+2} - 1 wide."""
  table = tuple(tables.Layer(f'{i}', dilation=2**i, channels=1) for i in range(count))
  found = [field.size for field in geometry.receptive_fields(table)]
  assert found == [2 ** (i + 2) - 1 for i in range(count)]


# Branches.


def test_the_rule_for_dilation_on_strided_convolutions():
  """ResNet: a stride that is taken out dilates what follows, and a shortcut beside it nothing."""
  table = (
    tables.Layer('a', stride=2, padding=1, channels=1),
    tables.Layer('b', stride=2, padding=1, channels=1),
    tables.Layer('c', padding=1, channels=1),
    tables.Layer('d', kernel=1, stride=2, channels=1, inputs=('a',)),
    tables.merge('e', 'sum', 'c', 'd'),
    tables.Layer('f', dilation=2, padding=2, channels=1),
  )
  dense = tables.dilate(table, 2)
  assert [layer.stride for layer in dense] == [2, 1, 1, 1, 1, 1]
  assert [layer.dilation for layer in dense] == [1, 1, 2, 1, 1, 4]
  assert [layer.padding for layer in dense] == [1, 1, 2, 0, 0, 4]
  assert tables.dilate(table, 4) == table
  # Every second cell of the dense network is one of the strided one: the same taps.
  assert geometry.window(dense, 6) == geometry.window(table, 3)
  with pytest.raises(InputError, match='up to 4'):
    tables.dilate(table, 8)

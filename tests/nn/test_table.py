"""layers.py: the tables are those of the paper."""

import pytest

from dilated_jax.errors import InputError
from dilated_jax.nn import table as tables


def column(table, name, kind='conv'):
  return [getattr(layer, name) for layer in table if layer.kind == kind]


def test_front_end_is_vgg_16_without_its_last_two_poolings():
  table = tables.front_end(21)
  assert column(table, 'name') == [
    'conv1_1', 'conv1_2', 'conv2_1', 'conv2_2', 'conv3_1', 'conv3_2', 'conv3_3', 'conv4_1',
    'conv4_2', 'conv4_3', 'conv5_1', 'conv5_2', 'conv5_3', 'fc6', 'fc7', 'final',
  ]  # fmt: skip
  assert column(table, 'name', 'max_pool') == ['pool1', 'pool2', 'pool3']
  assert column(table, 'dilation') == [1] * 10 + [2] * 3 + [4, 1, 1]
  assert column(table, 'kernel') == [3] * 13 + [7, 1, 1]
  assert column(table, 'channels') == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6 + [4096] * 2 + [
    21
  ]
  assert column(table, 'dropout') == [0] * 13 + [0.5, 0.5, 0]
  assert column(table, 'activation') == ['relu'] * 15 + [None]
  assert set(column(table, 'padding')) == {0} and set(column(table, 'stride')) == {1}
  assert column(table, 'init') == ['he_image'] + ['he'] * 14 + ['classifier']


@pytest.mark.parametrize(
  'stride, poolings, conv5, fc6',
  [(32, 5, 1, 1), (16, 4, 1, 2), (8, 3, 2, 4), (4, 2, 4, 8), (1, 0, 16, 32)],
)
def test_each_removed_pooling_doubles_what_follows(stride, poolings, conv5, fc6):
  table = tables.dilate(tables.vgg(5), stride)
  dilations = {layer.name: layer.dilation for layer in table}
  assert (dilations['conv5_1'], dilations['fc6'], dilations['fc7']) == (conv5, fc6, 1)
  assert len(column(table, 'name', 'max_pool')) == poolings


@pytest.mark.parametrize('stride', [0, 3, 12, 64])
def test_a_stride_that_can_not_be_is_refused(stride):
  with pytest.raises(InputError, match=f'stride is {stride}; .* up to 32'):
    tables.front_end(5, stride=stride)


def test_front_end_options():
  table = tables.front_end(5, blocks=(1, 2), width=0.125, stride=2, fc_kernel=3, dropout=0.25)
  assert column(table, 'channels') == [8, 16, 16, 512, 512, 5]
  assert column(table, 'dilation') == [1, 1, 1, 2, 1, 1]
  assert column(table, 'dropout')[-3:] == [0.25, 0.25, 0]
  assert column(tables.front_end(5, fc_channels=9), 'channels')[-3:] == [9, 9, 5]
  assert column(tables.front_end(5, dropout=0), 'dropout') == [0] * 16
  assert set(column(tables.front_end(5, norm='group'), 'norm')[:-1]) == {'group'}
  assert tables.front_end(5, norm='group')[-1].norm == 'none'
  # As VGG: no block has more than 512 channels at full width.
  assert column(tables.vgg(5, blocks=(1,) * 7), 'channels')[:7] == [
    64,
    128,
    256,
    512,
    512,
    512,
    512,
  ]


@pytest.mark.parametrize(
  'count, dilations',
  [
    (7, [1, 1, 2, 4, 8, 1, 1]),
    (8, [1, 1, 2, 4, 8, 16, 1, 1]),
    (10, [1, 1, 2, 4, 8, 16, 32, 64, 1, 1]),
  ],
)
def test_basic_context(count, dilations):
  table = tables.context(19, layers=count)
  assert column(table, 'dilation') == dilations
  assert column(table, 'padding') == [*dilations[:-1], 0]  # The same size at every layer.
  assert column(table, 'kernel') == [3] * (count - 1) + [1]
  assert column(table, 'channels') == [19] * count
  assert column(table, 'activation') == ['relu'] * (count - 1) + [None]
  assert column(table, 'init') == ['identity'] * count


def test_large_context_is_the_published_one():
  c = 21
  table = tables.context(c, kind='large')
  assert column(table, 'channels') == [2 * c, 2 * c, 4 * c, 8 * c, 16 * c, 32 * c, 32 * c, c]
  assert column(table, 'padding') == [33, 0, 0, 0, 0, 0, 0, 0]
  assert column(table, 'groups') == [c] * 8
  assert column(table, 'name') == [
    'ctx_conv1_1', 'ctx_conv1_2', 'ctx_conv2_1', 'ctx_conv3_1', 'ctx_conv4_1', 'ctx_conv5_1',
    'ctx_fc1', 'ctx_final',
  ]  # fmt: skip


def test_either_padding_with_either_width():
  same = tables.context(3, kind='large', padding='same')
  assert column(same, 'padding') == [1, 1, 2, 4, 8, 16, 1, 0]
  for count, buffer in ((7, 17), (8, 33), (10, 129)):
    table = tables.context(3, layers=count, padding='buffer')
    assert column(table, 'padding') == [buffer] + [0] * (count - 1)
  names = column(tables.context(3, layers=10), 'name')
  assert names[-4:] == ['ctx_conv6_1', 'ctx_conv7_1', 'ctx_fc1', 'ctx_final']
  own = tables.context(3, dilations=(1, 3, 9, 1))
  assert column(own, 'dilation') == [1, 3, 9, 1, 1]
  assert column(own, 'name') == [
    'ctx_conv1_1',
    'ctx_conv1_2',
    'ctx_conv2_1',
    'ctx_fc1',
    'ctx_final',
  ]


@pytest.mark.parametrize(
  'options, words',
  [
    ({'layers': 3}, '3 layers'),
    ({'kind': 'huge'}, "'huge'; choose basic or large"),
    ({'padding': 'valid'}, "'valid'; choose same or buffer"),
    ({'dilations': (1,)}, 'at least 3'),
  ],
)
def test_wrong_options_of_the_context(options, words):
  with pytest.raises(InputError, match=words):
    tables.context(3, **options)


def test_effective_kernel():
  assert [tables.Layer('a', dilation=d).effective_kernel for d in (1, 2, 4, 8, 16, 32, 64)] == [
    3, 5, 9, 17, 33, 65, 129,
  ]  # fmt: skip
  assert tables.Layer('a', kernel=7, dilation=4).effective_kernel == 25

"""The page's geometry is that of dilated_jax.nn.geometry, for every network.

That one is compared with gradients of the real networks in tests/nn/test_receptive_fields.py.
"""

import dataclasses
import json

import pytest

from dilated_jax import models
from dilated_jax.models.registry import create
from dilated_jax.nn import costs, geometry, table as tables
from dilated_jax.nn.table import Layer, merge

NEVER_VALID = 'strides in branches, a deconvolution in between, even kernels'
# Inputs at which sizes are compared.
SIZES = (500, 628, 763, 900, 1396, 1640)
MORE = {
  'dilation8, large': create('dilation8', 21, context='large').table,
  'dilation8, rates 2, 2, 2': create('dilation8', 21, dilations=(2, 2, 2)).table,
  'deeplab_v2, resnet101': create('deeplab_v2', 21, backbone='resnet101').table,
  'context alone': tables.context(21),
  NEVER_VALID: (
    Layer('a', kernel=2, channels=4),
    Layer('b', kernel=4, stride=3, padding=1),
    Layer('up', 'deconv', kernel=4, stride=2, padding=1),
    Layer('c', kernel=3, dilation=5, padding=2),
    Layer('p', 'max_pool', kernel=3, stride=2, round_up=False),
    Layer('q', 'avg_pool', kernel=3, stride=2, padding=1),
    Layer('d', kernel=1, bias=False, norm='batch', inputs=('p',)),
    merge('e', 'concat', 'p', 'd'),
    merge('f', 'crop', 'e', padding=-2),
  ),
}
TABLES = {name: create(name, 21).table for name in models.NAMES} | MORE


def rows(table) -> list:
  return json.loads(json.dumps([dataclasses.asdict(layer) for layer in table]))


def in_page(tab, function: str, *arguments):
  return tab.evaluate(f'(given) => geometry.{function}(...given)', list(arguments))


@pytest.mark.parametrize('name', TABLES)
def test_receptive_fields(shared_tab, name):
  table = TABLES[name]
  found = in_page(shared_tab, 'receptiveFields', rows(table))
  expected = list(geometry.receptive_fields(table))
  assert [field['size'] for field in found] == [field.size for field in expected]
  for field, other in zip(found, expected, strict=True):
    assert (field['jump'], field['center']) == pytest.approx((other.jump, other.center))
  grid = geometry.without_upsampling(table)
  assert len(in_page(shared_tab, 'withoutUpsampling', rows(table))) == len(grid)
  assert in_page(shared_tab, 'stride', rows(table)) == geometry.stride(table)
  assert in_page(shared_tab, 'margin', rows(table)) == geometry.margin(table)


@pytest.mark.parametrize('name', TABLES)
def test_path_counts(shared_tab, name):
  table = TABLES[name]
  for cell in (0, 3):
    first, counts = geometry.path_counts(table, cell)
    found = shared_tab.evaluate(
      '([table, cell]) => { const {first, counts} = geometry.pathCounts(table, cell);'
      ' return {first, counts: [...counts]}; }',
      [rows(table), cell],
    )
    assert found['first'] == first
    assert found['counts'] == pytest.approx([float(count) for count in counts], rel=1e-12)
    assert (first, first + len(counts) - 1) == geometry.window(table, cell)


@pytest.mark.parametrize('name', TABLES)
def test_sizes_and_costs(shared_tab, name):
  table = TABLES[name]
  if name == NEVER_VALID:
    least = 100
    assert in_page(shared_tab, 'validSize', rows(table)) is None
  else:
    least = geometry.valid_size(table)
    assert in_page(shared_tab, 'validSize', rows(table)) == least
    following = geometry.valid_size(table, least + 1)
    assert in_page(shared_tab, 'validSize', rows(table), least + 1) == following
  for size in (least, *(size for size in SIZES if size > least)):
    found = in_page(shared_tab, 'sizes', rows(table), size)
    assert [layer['cells'] for layer in found] == geometry.output_sizes(table, size)
  found = in_page(shared_tab, 'costs', rows(table), 900, 1100)
  assert in_page(shared_tab, 'channelCounts', rows(table)) == costs.channel_counts(table)
  assert sum(layer['parameters'] for layer in found) == costs.num_parameters(table)
  assert sum(layer['flops'] for layer in found) == costs.flops(table, 900, 1100)


def test_caffe_rounds_poolings_up(shared_tab):
  table = TABLES['dilation7']
  found = in_page(shared_tab, 'sizes', rows(table), 1640)
  rounded = [layer.name for layer, size in zip(table, found) if size['rounded']]
  assert (found[-1]['cells'], rounded) == (159, ['pool3'])


@pytest.mark.parametrize(
  'text, words',
  [
    ('[{', 'This is not JSON'),
    ('3', 'Give a list of layers'),
    ('[3]', 'Layer 1 is no object'),
    ('[{"kind": "conv3d"}]', 'kind is "conv3d"; choose conv, max_pool'),
    ('[{"kernel": 0}]', 'kernel is 0; give a whole number of 1 or more'),
    ('[{"dilation": 1.5}]', 'dilation is 1.5'),
    ('[{"padding": -1}]', 'only a crop has less than 0'),
    ('[{"name": "a"}, {"name": "a"}]', 'Layer 2 (a): this name is there twice'),
    ('[{"inputs": ["b"]}]', 'there is no layer "b" before it'),
    ('[{"kernel": 9999, "dilation": 9999}]', 'A receptive field of 99970003 pixels'),
    ('[{"channels": 1e300}]', 'channels is 1e+300; give a whole number of 1 to 1000000'),
    ('[{"norm": "layer"}]', 'norm is "layer"; choose none, batch, group'),
    ('[{"bias": 1}]', 'bias is 1; give true or false'),
    (
      '[{"name": "a", "channels": 4}, {"kind": "sum", "inputs": ["a", "input"]}]',
      'Layer 2 (layer 2): a sum of 4 and 3 channels; they must be equal',
    ),
    (json.dumps([{'name': 'a' * 61}]), 'its name is no text of up to 60 letters'),
    ('[{"kind": "deconv", "stride": 8}]', 'There is nothing before the deconv'),
    (json.dumps([{'kernel': 1, 'stride': 10_000}] * 200), 'Cells that lie Infinity pixels apart'),
    (json.dumps([{'kind': 'deconv', 'stride': 999}] * 2), 'Deconvs make 998001 cells of a pixel'),
    (json.dumps([{}] * 1000), 'More paths lead from the input to a cell than a number can hold'),
    (json.dumps([{'kernel': 100}] * 1000), 'kernels of 100000 taps together are too many'),
  ],
)
def test_wrong_tables_are_one_line(shared_tab, text, words):
  error = in_page(shared_tab, 'parse', text)['error']
  assert words in error and '\n' not in error


@pytest.mark.parametrize('name', ['pspnet', 'deeplab_msc', 'fcn8s'])
def test_tables_can_be_pasted(shared_tab, name):
  table = TABLES[name]
  found = in_page(shared_tab, 'parse', json.dumps(rows(table)))['table']
  fields = ('kind', 'kernel', 'stride', 'dilation', 'padding', 'channels', 'inputs', 'round_up')
  assert [[row[field] for field in fields] for row in found] == [
    [row[field] for field in fields] for row in rows(table)
  ]

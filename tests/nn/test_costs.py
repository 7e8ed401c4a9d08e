"""costs.py: against the counts of the paper, of the parameters and of the compiler."""

import jax
import pytest

from dilated_jax import models
from dilated_jax.nn import costs, geometry, table as tables
from experiments.benchmarks import memory

FRONT_END = tables.front_end(21)


def test_parameters_of_the_paper():
  conv = sum(
    costs.num_parameters((layer,), before)
    for layer, before in zip(
      (layer for layer in FRONT_END if layer.name.startswith('conv')),
      [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512],
    )
  )
  assert conv == 14_714_688
  table = {layer.name: layer for layer in FRONT_END}
  assert costs.num_parameters((table['fc6'],), 512) == 102_764_544
  assert costs.num_parameters((table['fc7'],), 4096) == 16_781_312
  totals = [costs.num_parameters(tables.front_end(c)) for c in (21, 11, 19)]
  assert totals == [134_346_581, 134_305_611, 134_338_387]
  for c in (2, 11, 21):
    assert costs.num_parameters(tables.context(c), c) == 64 * c * c + 8 * c
    assert costs.num_parameters(tables.context(c, layers=7), c) == 55 * c * c + 7 * c
    assert costs.num_parameters(tables.context(c, layers=10), c) == 82 * c * c + 10 * c
    assert costs.num_parameters(tables.context(c, kind='large'), c) == 15_422 * c * c + 97 * c
  assert costs.num_parameters(tables.context(21, kind='large'), 21) == 6_803_139
  whole = models.create('dilation8', 21, context='large')
  assert costs.num_parameters(whole.table) == 141_149_720


@pytest.mark.parametrize('norm', ['group', 'batch'])
def test_parameters_of_normalizations(norm):
  model = models.create('front_end', 3, norm=norm, blocks=(1, 2), width=1 / 8, stride=4)
  images = jax.ShapeDtypeStruct((1, 100, 100, 3), 'float32')
  params = jax.eval_shape(model.init, jax.random.key(0), images)['params']
  assert costs.num_parameters(model.table) == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_flops_count_every_tap_twice():
  table = tables.front_end(4, blocks=(1,), width=1 / 16, stride=2, fc_kernel=1, fc_channels=5)
  height, width = 12, 16
  expected = 2 * (height - 2) * (width - 2) * 9 * 3 * 4  # conv1_1: 4 channels
  cells = (height - 2) // 2 * ((width - 2) // 2)
  expected += 2 * cells * (4 * 5 + 5 * 5 + 5 * 4)
  assert costs.flops(table, height, width) == expected


def test_traffic_is_what_layers_read_and_write():
  table = (
    tables.Layer('a', channels=4),
    tables.Layer('b', kernel=1, channels=5, bias=False),
    tables.merge('c', 'concat', 'a', 'b'),
  )
  maps = {'input': 12 * 16 * 3, 'a': 10 * 14 * 4, 'b': 10 * 14 * 5, 'c': 10 * 14 * 9}
  moved = maps['input'] + 3 * maps['a'] + 2 * maps['b'] + maps['c']
  weights = 9 * 3 * 4 + 4 + 4 * 5
  assert costs.traffic_bytes(table, 12, 16) == 4 * (moved + weights)
  assert costs.traffic_bytes(table, 12, 16, itemsize=2, batch=3) == 2 * (3 * moved + weights)


def test_memory_of_the_paper():
  """conv1_2 has the largest input and output: 898 and 896 pixels square with 64 channels."""
  expected = 4 * 64 * (898**2 + 896**2)
  assert costs.inference_bytes(FRONT_END, 900, 900) == expected
  assert costs.inference_bytes(FRONT_END, 900, 900, itemsize=2) == expected // 2
  # A row of the large context module, on the front end's grid of 66 x 59 cells.
  row = (tables.Layer('ctx_conv5_1', dilation=16, padding=16, channels=672),)
  assert costs.inference_bytes(row, 66, 59, channels=336) == 4 * 66 * 59 * (336 + 672)


@pytest.mark.parametrize('name, side', [('front_end', 404), ('dilation10', 628)])
def test_memory_that_the_compiler_asks_for(name, side):
  """What XLA sets aside for intermediate results of the compiled network, against the estimate."""
  model = models.create(name, 5, width=1 / 8)
  images = jax.ShapeDtypeStruct((1, side, side, 3), 'float32')
  variables = jax.eval_shape(model.init, jax.random.key(0), images)
  compiled = jax.jit(model.apply).lower(variables, images).compile()
  found = compiled.memory_analysis().temp_size_in_bytes
  assert found == pytest.approx(costs.inference_bytes(model.table, side, side), rel=0.5)


def test_memory_of_a_training_step():
  """Of two layers, layer by layer on the way back."""
  table = (
    tables.Layer('a', kernel=3, padding=1, channels=4),
    tables.Layer('b', kernel=1, channels=2),
  )
  x, a, b = (4 * 5 * 80 * 60 * channels for channels in (3, 4, 2))
  kernel_a, kernel_b = 4 * 9 * 3 * 4, 4 * 4 * 2
  found = costs.training_memory(table, 80, 60, batch_size=5, optimizer_slots=2)
  weights = 4 * costs.num_parameters(table)
  assert found[:3] == (weights, 2 * weights, weights)
  # At b all is there, its kernel's gradient twice, and the gradients of a and b; at a the rest.
  at_b = (x + a) + (a + b) + (a + b) + 2 * kernel_b
  at_a = (x + a) + (x + a) + 2 * kernel_a + kernel_b
  assert found.activations == max(at_a, at_b) - weights
  assert found.total == 4 * weights + found.activations
  parts = costs.training_memory(table, 80, 60, batch_size=10, grad_accum_steps=2)
  assert (parts.gradients, parts.activations) == (2 * weights, found.activations)
  labels = costs.training_memory(table, 80, 60, label_size=(800, 600))
  assert labels.activations == (x + 2 * a + b) // 5 + 3 * 4 * 800 * 600 * 2 - weights
  half = costs.training_memory(table, 80, 60, itemsize=2)
  assert half.activations == (x + 3 * a + 2 * b) // 10 + 2 * kernel_b - weights


@pytest.mark.parametrize('remat', [False, True])
def test_memory_of_training_that_the_compiler_asks_for(compile_fully, remat):
  narrow = dict(blocks=(1, 2, 1), width=1 / 8, stride=4)
  found = memory.row(
    '', False, name='front_end', classes=5, crop=64, batch=2, remat=remat, **narrow
  )
  assert found['predicted_gib'] == pytest.approx(found['planned_gib'], rel=0.35)


def test_costs_of_branches():
  table = (
    tables.Layer('a', channels=4, padding=1),
    tables.Layer('b', kernel=1, channels=6, bias=False, inputs=('input',)),
    tables.merge('c', 'concat', 'a', 'b'),
    tables.Layer('d', kernel=1, channels=2, norm='batch'),
    tables.Layer('e', 'adaptive_avg_pool', kernel=1),
    tables.merge('f', 'resize', 'e', 'd'),
    tables.merge('g', 'sum', 'd', 'f'),
  )
  assert costs.channel_counts(table) == [3, 4, 6, 10, 2, 2, 2, 2]
  assert geometry.output_sizes(table, 5) == [5, 5, 5, 5, 1, 5, 5]
  assert costs.num_parameters(table) == (27 + 1) * 4 + 3 * 6 + (10 + 1) * 2 + 2 * 2
  assert costs.flops(table, 5, 4) == 2 * 20 * (27 * 4 + 3 * 6 + 10 * 2)
  # While b is computed the input and a are there; while c is, a and b.
  assert costs.inference_bytes(table, 5, 4, itemsize=1) == 20 * (4 + 6 + 10)
  sizes = [field.size for field in geometry.receptive_fields(table)]
  assert sizes == [3, 1, 3, 3, None, None, 3]  # Beside the mean of all, d alone has a field.
  assert geometry.depends_on_border(table) and not geometry.depends_on_border(FRONT_END)

"""collectives: what a compiled step sends is read from its text."""

import jax
import pytest

from dilated_jax import models
from dilated_jax.nn import costs
from experiments.benchmarks import collectives

PROGRAM = """
  %a = (f32[21]{0}, f32[], /*index=2*/f32[3,3,2,5]{3,2,1,0}) all-reduce(%b, %c, %d), to_apply=%e
  %f = bf16[1,2,50,3]{3,2,1,0} collective-permute(%g), metadata={op_name="jit(step)/conv1_1/conv"}
  %h = u8[4,8]{1,0} all-gather(%i), dimensions={0}
  %j = (f32[2]{0}, f32[4]{0}) all-reduce-start(%k), to_apply=%e
  %l = f32[8]{0} add(%m, %all-gather.3)
"""


def test_operations_of_a_program():
  found = collectives.of_program(PROGRAM)
  assert [(each['kind'], each['bytes']) for each in found] == [
    ('all-reduce', 4 * (21 + 1 + 90)), ('collective-permute', 2 * 300), ('all-gather', 32),
    ('all-reduce', 24),
  ]  # fmt: skip
  assert found[0]['shapes'] == [[21], [], [3, 3, 2, 5]]
  assert found[1]['name'] == 'jit(step)/conv1_1/conv' and found[2]['name'] == ''


def test_another_process_has_more_devices():
  """pmap reduces each gradient once, and a few sums; the mesh of 16 devices in bands the same."""
  options = {'width': 1 / 16, 'blocks': [1], 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
  step = {'model': 'front_end', 'options': options, 'stage': 'front_end', 'size': [42, 8]}
  ways = {'parallelism': 'pmap'}, {'parallelism': 'mesh', 'height': 2}
  assert jax.device_count() < 16
  one, bands = collectives.of_steps(16, [step | way for way in ways])
  weights = 4 * costs.num_parameters(models.create('front_end', 21, **options).table)
  assert {each['kind'] for each in one} == {'all-reduce'}
  assert weights <= sum(each['bytes'] for each in one) < weights + 100
  assert {'all-reduce', 'collective-permute'} <= {each['kind'] for each in bands}


def test_stages_are_lowered_by_name():
  with pytest.raises(KeyError, match='context9'):
    collectives.compiled_step(8, 'dilation8', {}, 'context9', [8, 8], 'pmap')

"""gpu: parts are cut in time, errors are those of the precision, programs are read."""

import functools
import types

import jax
import numpy as np

from dilated_jax.nn import ops
from experiments import benchmark, flag_files
from experiments.benchmarks import gpu
from experiments.benchmarks.gpu import agreement, clock, convolutions, presets


def test_a_part_that_fails_or_takes_long_does_not_end_the_others(monkeypatch):
  def fails(small):
    yield {'what': 'one'}
    raise ValueError('no memory')

  def goes_on(small):
    assert small  # On a CPU.
    while True:
      yield {'what': 'more'}

  parts = {'first': (fails, 0.1), 'second': (goes_on, 0.2), 'third': (lambda small: iter(()), 1)}
  monkeypatch.setattr(gpu, 'PARTS', parts)
  rows = list(gpu.run(types.SimpleNamespace(gpu_parts=['first', 'second', 'third'])))
  assert rows[0] == {'part': 'first', 'what': 'one'}
  assert rows[1] == {'part': 'first', 'what': 'first: ValueError: no memory'}
  assert rows[-1]['what'].startswith('second: cut after')
  assert list(gpu.run(types.SimpleNamespace(gpu_parts=['first']))) == rows[:2]


def test_the_parts_are_those_of_the_flag():
  assert tuple(gpu.PARTS) == benchmark.GPU_PARTS


def test_errors_are_those_of_the_precision():
  rng = np.random.default_rng(0)
  x, kernel = rng.normal(size=(1, 8, 9, 4)), rng.normal(size=(3, 3, 4, 5))
  function = functools.partial(ops.dilated_conv, dilation=2)
  found = agreement.errors(lambda dtype: function, (x, kernel))
  assert 1e-9 < found['float32'] < 1e-6 and found['float32 gradient'] < 1e-6
  assert 1e-4 < found['bfloat16'] < 2e-2 and found['bfloat16 gradient'] < 2e-2


def test_the_operations_are_those_of_the_package():
  names = ' '.join(name for name, *_ in agreement.operations(np.random.default_rng(0)))
  public = [name for name, thing in vars(ops).items() if callable(thing) and name[0].islower()]
  ours = [name for name in public if getattr(vars(ops)[name], '__module__', '') == ops.__name__]
  assert ours and not [name for name in ours if name not in names and not name.endswith('_own')]


def test_the_program_of_a_convolution():
  x, kernel = np.zeros((1, 20, 20, 8), np.float32), np.zeros((3, 3, 8, 8), np.float32)
  run = jax.jit(lambda x, kernel: ops.dilated_conv(x, kernel, 4, 4))
  program = convolutions.convolution_of(run.lower(x, kernel).compile().as_text())
  assert 'size=3x3 pad=4_4x4_4 rhs_dilate=4x4' in program
  called = '%c = f32[1]{0} custom-call(%a), window={size=9x9}, custom_call_target="__cudnn$conv"'
  assert convolutions.convolution_of(called) == '__cudnn$conv size=9x9'
  assert convolutions.convolution_of('%a = f32[] add(%b, %c)') == 'no convolution'


def test_times():
  calls, waits = [], []
  found = clock.milliseconds(
    (lambda: calls.append('a'), waits.append),
    (lambda: calls.append('b'), waits.append),
    rounds=2,
    seconds=1e-9,
  )
  assert calls == ['a'] * 3 + ['b'] * 3 + ['a', 'b'] * 2
  assert len(found) == 2 and len(waits) == len(calls) and min(found) >= 0


def test_steps_of_a_preset(monkeypatch, tmp_path):
  small = '--dataset=scenes --blocks=1 --stride=2 --width=0.0625 --fc_channels=4 --fc_kernel=3'
  (tmp_path / 'small.flags').write_text('\n'.join([*small.split(), '--batch_size=2']))
  monkeypatch.setattr(flag_files, 'PRESETS', tmp_path)
  ways = ('host', 1), ('device', 2)
  rows = list(presets.speeds('small', (32, 40), seconds=0.01, ways=ways))
  assert [row['what'].split(', ')[-3:] for row in rows] == [
    ['batches of 2', 'input on host', '1 steps a dispatch'],
    ['batches of 2', 'input on device', '2 steps a dispatch'],
  ]
  assert all(row['steps_per_second'] > 0 for row in rows)


def test_the_presets_that_are_measured_are_there():
  for name in presets.SIZES:
    assert flag_files.locate('flagfile', f'preset:{name}').is_file()

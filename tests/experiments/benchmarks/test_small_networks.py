"""context, train and curves: their rows at small size, without PyTorch."""

import pytest

from dilated_jax import models
from dilated_jax.nn import costs, table as tables
from experiments import benchmark
from experiments.benchmarks import context, curves, peers, train
from tests import calling


@pytest.fixture
def values(monkeypatch):
  monkeypatch.setattr(peers, 'pytorch', lambda values: None)
  return calling.parsed(benchmark, '--repeats=1')


def test_context(monkeypatch, values):
  monkeypatch.setattr(context, 'CASES', [('basic', 3, 2, 9, 8)])
  rows = list(context.run(values))
  assert [row['theirs'] for row in rows] == ['PyTorch', 'PyTorch', 'YNN', 'YNN']
  flops = 2 * costs.flops(tables.context(3), 9, 8, 3)
  assert [row['flops'] for row in rows[:2]] == [flops, 3 * flops]
  assert rows[0]['gflops'] == pytest.approx(flops / rows[0]['ours_ms'] / 1e6)


def test_train(values):
  small = {'width': 1 / 32, 'blocks': (1,), 'stride': 2, 'fc_kernel': 3}
  (row,) = train.run(values, [('dilation8', 'joint', 24)], **small)
  assert row['what'] == 'dilation8, training step, 24x24'
  assert row['flops'] == 3 * costs.flops(models.create('dilation8', 21, **small).table, 24, 24)


def test_curves(monkeypatch, values):
  curve = curves.CURVES[1]
  monkeypatch.setattr(curves, 'CURVES', [curve._replace(xs=(2, 3))])
  rows = list(curves.run(values))
  assert [(row['curve'], row['x']) for row in rows] == [(curve.name, 2), (curve.name, 3)]
  assert 0 < rows[0]['ours_mib'] < rows[1]['ours_mib'] and 'theirs_mib' not in rows[0]
  for other in curves.CURVES:  # All can be made.
    table, shape = other.make(other.xs[0])
    assert table and len(shape) == 4

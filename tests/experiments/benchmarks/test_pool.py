"""pool: a row for each pass."""

from experiments import benchmark
from experiments.benchmarks import pool
from tests import calling


def test_pool_suite_has_a_row_for_each_pass(monkeypatch):
  monkeypatch.setattr(pool, 'compare', lambda what, *rest: what)
  rows = pool.run(calling.parsed(benchmark, '--repeats=1'))
  assert [row.rsplit(', ')[-1] for row in rows] == ['forward', 'gradient'] * 2

"""benchmark: that it measures what it says; never how fast anything is."""

import jax.numpy as jnp
import numpy as np

from experiments import benchmark


def test_compare_runs_both_in_turn():
  calls = []

  def ours(x):
    calls.append('A')
    return jnp.asarray(x)

  def theirs(x):
    calls.append('B')
    return jnp.asarray(x)

  row = benchmark.compare('it', 'them', ours, theirs, (1.0,), 3)
  assert calls == ['A', 'B'] * 4  # One of each to warm up.
  assert (row['what'], row['theirs']) == ('it', 'them')
  np.testing.assert_allclose(row['ratio'], row['theirs_ms'] / row['ours_ms'])


def test_pool_suite_has_a_row_for_each_pass(monkeypatch):
  monkeypatch.setattr(benchmark, 'compare', lambda what, *rest: what)
  rows = benchmark.pool(1)
  assert [row.rsplit(', ')[-1] for row in rows] == ['forward', 'gradient'] * 2

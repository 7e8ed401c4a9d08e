"""timing: that both functions are run in turn; never how fast anything is."""

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing


def test_compare_runs_both_in_turn():
  calls = []

  def ours(x):
    calls.append('A')
    return jnp.asarray(x)

  def theirs(x):
    calls.append('B')
    return jnp.asarray(x)

  row = timing.compare('it', 'them', ours, theirs, (1.0,), 3)
  assert calls == ['A', 'B'] * 4  # One of each to warm up.
  assert (row['what'], row['theirs']) == ('it', 'them')
  np.testing.assert_allclose(row['ratio'], row['theirs_ms'] / row['ours_ms'])

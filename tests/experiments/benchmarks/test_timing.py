"""timing: that both functions are run in turn; never how fast anything is."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import timing
from experiments.benchmarks.peers import Job


def test_compare_runs_both_in_turn():
  calls = []

  def ours(x):
    calls.append('A')
    return jnp.asarray(x)

  def theirs(x):
    calls.append('B')
    return jnp.asarray(x)

  row = timing.compare('it', 'them', ours, theirs, (1.0,), 3, flops=6e6)
  assert calls == ['A', 'B'] * 4  # One of each to warm up.
  assert (row['what'], row['theirs']) == ('it', 'them')
  np.testing.assert_allclose(row['ratio'], row['theirs_ms'] / row['ours_ms'])
  np.testing.assert_allclose(row['gflops'], 6 / row['ours_ms'])
  low, high = row['ours_quartiles_ms']
  assert row['ours_min_ms'] <= low <= row['ours_ms'] <= high


def test_a_job_of_another_process_times_itself():
  times = iter([9.0, 1.0, 5.0, 2.0, 4.0, 3.0])

  class Fake(Job):
    def __init__(self):
      pass

    def milliseconds(self):
      return next(times)

  row = timing.compare('it', 'them', lambda: None, Fake(), (), 5)
  assert (row['theirs_ms'], row['theirs_min_ms']) == (3, 1)  # The first is not counted.
  assert row['theirs_quartiles_ms'] == [2, 4]


def test_ours_alone():
  row = timing.compare('it', 'them', lambda: None, None, (), 1)
  assert row['theirs'] == 'them' and 'theirs_ms' not in row and 'ratio' not in row
  assert row['ours_ms'] == pytest.approx(row['ours_min_ms'])

"""timing: that both functions are run in turn; never how fast anything is."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import timing
from experiments.benchmarks.peers import Job


def test_compare_runs_both_in_turn(monkeypatch):
  monkeypatch.setattr(timing, '_TURN_MS', 0)
  calls = []

  def ours(x):
    calls.append('A')
    return jnp.asarray(x)

  def theirs(x):
    calls.append('B')
    return jnp.asarray(x)

  row = timing.compare('it', 'them', ours, theirs, (1.0,), 3, flops=6e6)
  assert calls == ['A', 'B', 'A', 'B'] + ['A', 'B'] * 3  # Two of each to warm up.
  assert (row['what'], row['theirs']) == ('it', 'them')
  np.testing.assert_allclose(row['ratio'], row['theirs_ms'] / row['ours_ms'])
  np.testing.assert_allclose(row['gflops'], 6 / row['ours_ms'])
  low, high = row['ours_quartiles_ms']
  assert row['ours_min_ms'] <= low <= row['ours_ms'] <= high


class Fake(Job):
  """A job of another process, which times itself."""

  def __init__(self, times):
    self.times, self.counts = iter(times), []

  def milliseconds(self, count=1):
    self.counts.append(count)
    return next(self.times)


def test_a_job_of_another_process_times_itself():
  job = Fake([9000.0, 1000.0, 1.0, 5.0, 2.0, 4.0, 3.0])
  row = timing.compare('it', 'them', lambda: None, job, (), 5)
  assert (row['theirs_ms'], row['theirs_min_ms']) == (3, 1)  # The first two are not counted.
  assert row['theirs_quartiles_ms'] == [2, 4] and job.counts == [1] * 7


def test_a_turn_of_a_short_function_is_several_runs_after_one_that_is_not_counted():
  job = Fake([9000.0, 20.0, 99.0, 1.0, 99.0, 3.0])
  row = timing.compare('it', 'them', lambda: None, job, (), 2)
  assert job.counts == [1, 1, 1, 5, 1, 5] and row['theirs_ms'] == 2


def test_ours_alone():
  row = timing.compare('it', 'them', lambda: None, None, (), 1)
  assert row['theirs'] == 'them' and 'theirs_ms' not in row and 'ratio' not in row
  assert row['ours_ms'] == pytest.approx(row['ours_min_ms'])

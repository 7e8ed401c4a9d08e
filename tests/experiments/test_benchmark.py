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


def test_crf_suites_have_their_rows(monkeypatch):
  monkeypatch.setattr(benchmark, '_CRF_SIZES', {'9x8': (8, 9, 3)})
  monkeypatch.setattr(benchmark, 'memories', lambda size: {'what': size})
  monkeypatch.setattr(benchmark.importlib.util, 'find_spec', lambda name: True)
  # The library is not among what the tests need: ours stands in for it.
  monkeypatch.setattr(benchmark, 'pydensecrf2', benchmark.crf.dense_crf)
  rows = benchmark.dense_crfs(1)
  assert [row['what'].split(', ')[-1] for row in rows] == ['5 it.', '10 it.'] * 2 + ['9x8']
  assert all(row['difference'] == 0 for row in rows[:4])
  assert [row['theirs'] for row in benchmark.crf_rnns(1)] == ['in the graph']


def test_the_drawn_picture_is_one():
  image, unary = benchmark.segmented(60, 90, 4)
  assert (image.dtype, image.shape, unary.dtype, unary.shape) == (
    np.uint8, (60, 90, 3), np.float32, (60, 90, 4),
  )  # fmt: skip
  np.testing.assert_allclose(np.exp(-unary).sum(-1), 1, rtol=1e-5)

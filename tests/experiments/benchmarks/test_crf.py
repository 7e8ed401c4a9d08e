"""crf and crf_rnn: their rows, and the picture that they are measured on."""

import numpy as np

from experiments import benchmark
from experiments.benchmarks import crf, crf_rnn
from tests import calling


def test_crf_suites_have_their_rows(monkeypatch):
  monkeypatch.setattr(crf, 'SIZES', {'9x8': (8, 9, 3)})
  monkeypatch.setattr(crf_rnn, 'SIZES', crf.SIZES)
  monkeypatch.setattr(crf, 'memories', lambda size: {'what': size})
  monkeypatch.setattr(crf.importlib.util, 'find_spec', lambda name: True)
  # The library is not among what the tests need: ours stands in for it.
  monkeypatch.setattr(crf, 'pydensecrf2', crf.crf.dense_crf)
  values = calling.parsed(benchmark, '--repeats=1')
  rows = crf.run(values)
  assert [row['what'].split(', ')[-1] for row in rows] == ['5 it.', '10 it.'] * 2 + ['9x8']
  assert all(row['difference'] == 0 for row in rows[:4])
  assert [row['theirs'] for row in crf_rnn.run(values)] == ['in the graph']


def test_the_drawn_picture_is_one():
  image, unary = crf.segmented(60, 90, 4)
  assert (image.dtype, image.shape, unary.dtype, unary.shape) == (
    np.uint8, (60, 90, 3), np.float32, (60, 90, 4),
  )  # fmt: skip
  np.testing.assert_allclose(np.exp(-unary).sum(-1), 1, rtol=1e-5)

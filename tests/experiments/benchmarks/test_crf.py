"""crf and crf_rnn: their rows, and the picture that they are measured on."""

import numpy as np
import pytest

from experiments import benchmark
from experiments.benchmarks import crf, crf_rnn
from tests import calling


class Library:
  """Ours stands in for the library, which is not among what the tests need."""

  def job(self, function, unary, image, **options):
    assert function == 'dense_crf'
    self.result = lambda: crf.crf.dense_crf(unary, image, **options)
    return self

  def __call__(self):
    return self.result()


@pytest.mark.parametrize('library', [None, Library()])
def test_crf_suites_have_their_rows(monkeypatch, library):
  monkeypatch.setattr(crf, 'SIZES', {'9x8': (8, 9, 3)})
  monkeypatch.setattr(crf_rnn, 'SIZES', crf.SIZES)
  monkeypatch.setattr(crf, 'memories', lambda size, library: {'what': size})
  monkeypatch.setattr(crf.peers, 'pydensecrf', lambda values: library)
  values = calling.parsed(benchmark, '--repeats=1')
  rows = list(crf.run(values))
  assert [row['what'].split(', ')[-1] for row in rows] == ['0 it.', '5 it.', '10 it.'] * 2 + ['9x8']
  for row in rows[:6]:
    assert ('theirs_ms' in row) == bool(library) and row.get('difference', 0) == 0
  if library:
    assert [row['theirs'] for row in crf_rnn.run(values)] == ['in the program', 'made beforehand']


def test_the_drawn_picture_is_one():
  image, unary = crf.segmented(60, 90, 4)
  assert (image.dtype, image.shape, unary.dtype, unary.shape) == (
    np.uint8, (60, 90, 3), np.float32, (60, 90, 4),
  )  # fmt: skip
  np.testing.assert_allclose(np.exp(-unary).sum(-1), 1, rtol=1e-5)

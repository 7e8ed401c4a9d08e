"""input: what it measures is put back, and its figures belong together."""

import os

import numpy as np
import pytest

from experiments.benchmarks import input as input_suite


@pytest.mark.filterwarnings('ignore:os.fork', 'ignore:This process')  # DataLoader forks.
def test_input_suite_reads_with_one_core_and_with_all():
  rng = np.random.default_rng(0)
  source = [
    {
      'image': rng.integers(0, 256, (40, 50, 3), dtype=np.uint8),
      'label': rng.integers(0, 5, (40, 50), dtype=np.uint8),
      'name': str(index),
    }
    for index in range(6)
  ]
  before = os.sched_getaffinity(0)
  rows = input_suite.pictures(1, source, batch_size=2, batches=1)
  assert os.sched_getaffinity(0) == before
  assert rows[0]['what'] == '2 pictures, 1 cores'
  for row in rows:
    np.testing.assert_allclose(row['pictures_per_second'], 2000 / row['ours_ms'])

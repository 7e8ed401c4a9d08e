"""Splits of any size are written in order, to a limited number of files."""

import numpy as np
import pytest
from tensorflow_datasets.core import shuffle

from dilated_jax import data
from dilated_jax.data import records
from tests import raw_files


def test_splits_larger_than_a_file_and_than_memory(tmp_path, monkeypatch):
  """In their order; TFDS needs TensorFlow to shuffle more than this many bytes."""
  monkeypatch.setattr(shuffle, 'MAX_MEM_BUFFER_SIZE', 100)
  monkeypatch.setattr(records, '_MIN_SHARD_SIZE', 2)
  names = {'train': list('abcde'), 'val': ['f'], 'test': ['g', 'h']}
  files = raw_files.camvid(np.random.default_rng(0), names)
  raw_files.unpack(tmp_path / 'raw', files)
  folder = data.prepare('camvid', tmp_path / 'data', tmp_path / 'raw')
  assert len(list(folder.glob('*train*'))) == 3
  for split, stems in names.items():
    source = data.load('camvid', split, tmp_path / 'data')
    assert [example['name'] for example in source] == stems
    for example in source:
      stored = raw_files.decoded(files[f'CamVid/{split}/{example["name"]}.png'])
      np.testing.assert_array_equal(example['image'], stored)


@pytest.mark.parametrize('count', [0, 1, 100, 101, 10_582, 117_266])
def test_not_more_files_than_a_process_may_open(count):
  """COCO with VOC has three splits of them, and 1024 files may be open."""
  examples = range(count)
  parts = [shard.args[0] for shard in records.shards(examples, list)]
  assert [example for part in parts for example in part] == list(examples)
  assert len(parts) <= 100 and all(parts)

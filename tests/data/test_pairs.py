"""pairs.py: what is stored in label files of every kind, damage, and splits of any size."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from tensorflow_datasets.core import shuffle

from dilated_jax import data
from dilated_jax.data import archives, pairs, records
from dilated_jax.errors import InputError
from tests import raw_files


def tree_of(root, files):
  raw_files.unpack(root / 'kit', files)
  return archives.find(root, folders=('kit',), archives=(), name='Kit', where='kits.org')


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_gray_of_any_depth_is_read_as_it_is_stored(tmp_path, bits):
  ids = np.random.default_rng(0).integers(0, 2**bits, (5, 7), np.uint8)
  tree = tree_of(tmp_path, {'a.png': gray_png(ids, bits)})
  np.testing.assert_array_equal(pairs.read_ids(tree, 'kit/a.png'), ids)


def gray_png(ids, bits) -> bytes:
  """A gray PNG of so many bits a pixel, as tools that shrink PNG files make it."""

  def chunk(kind, content):
    check = struct.pack('>I', zlib.crc32(kind + content))
    return struct.pack('>I', len(content)) + kind + content + check

  planes = np.unpackbits(ids[..., None], axis=-1)[..., -bits:]
  rows = np.packbits(planes.reshape(len(ids), -1), axis=1)
  rows = np.pad(rows, ((0, 0), (1, 0)))  # Filter 0.
  head = struct.pack('>IIBBBBB', ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
  body = chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows.tobytes())) + chunk(b'IEND', b'')
  return b'\x89PNG\r\n\x1a\n' + body


def test_palettes_and_16_bits_are_read_as_they_are_stored(tmp_path):
  ids = np.random.default_rng(0).integers(0, 3, (5, 7), np.uint8)
  many = 1000 * ids.astype(np.uint16) + 26000
  palette = raw_files.palette_png(ids, [(9, 9, 9), (0, 0, 0), (200, 0, 0)])
  tree = tree_of(tmp_path, {'a.png': palette, 'b.png': raw_files.png(many)})
  np.testing.assert_array_equal(pairs.read_ids(tree, 'kit/a.png'), ids)
  np.testing.assert_array_equal(pairs.read_ids(tree, 'kit/b.png'), many)
  assert pairs.read_colors(tree, 'kit/a.png')[ids == 2].tolist()[0] == [200, 0, 0]
  with pytest.raises(InputError, match=r'kit/b\.png: the labels of this data set are colors'):
    pairs.read_colors(tree, 'kit/b.png')


def jpeg(array) -> bytes:
  content = io.BytesIO()
  PIL.Image.fromarray(array).save(content, 'JPEG')
  return content.getvalue()


@pytest.mark.parametrize('kind', ['png', 'jpeg'])
def test_a_picture_that_breaks_off(tmp_path, kind):
  image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
  content = jpeg(image) if kind == 'jpeg' else raw_files.png(image)
  label = raw_files.png(np.zeros((40, 60), np.uint8))
  files = {'a.x': content, 'a.y': label, 'b.x': content[: int(0.9 * len(content))], 'b.y': label}
  tree = tree_of(tmp_path, files)

  def check(name):
    splits = {'train': [pairs.Pair(name, f'kit/{name}.x', f'kit/{name}.y')]}
    return pairs.check(
      tree, splits, lambda tree, pair, size: (pairs.read_ids(tree, pair.label), None), {'train': 1}
    )

  (example,) = check('a')['train']
  np.testing.assert_array_equal(raw_files.decoded(example.label), np.zeros((40, 60)))
  with pytest.raises(InputError, match=r'kit/b\.x: not a whole picture .*; unpack Kit again'):
    check('b')


def camvid(rng, names):
  files = {}
  for split, stems in names.items():
    for stem in stems:
      files[f'CamVid/{split}/{stem}.png'] = raw_files.picture(rng, (4, 6))
      files[f'CamVid/{split}annot/{stem}.png'] = raw_files.png(
        rng.integers(0, 11, (4, 6), np.uint8)
      )
  return files


def test_splits_larger_than_a_file_and_than_memory(tmp_path, monkeypatch):
  """In their order; TFDS needs TensorFlow to shuffle more than this many bytes."""
  monkeypatch.setattr(shuffle, 'MAX_MEM_BUFFER_SIZE', 100)
  monkeypatch.setattr(records, '_SHARD', 2)
  names = {'train': list('abcde'), 'val': ['f'], 'test': ['g', 'h']}
  files = camvid(np.random.default_rng(0), names)
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


def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
  files = camvid(np.random.default_rng(0), {'train': 'ab', 'val': 'c', 'test': 'd'})
  raw_files.unpack(tmp_path / 'raw', files)

  def interrupted(*args):
    yield next(generate(*args))
    raise KeyboardInterrupt

  generate = pairs.generate
  monkeypatch.setattr(pairs, 'generate', interrupted)
  with pytest.raises(KeyboardInterrupt):
    data.prepare('camvid', tmp_path / 'data', tmp_path / 'raw')
  assert not [path for path in (tmp_path / 'data').rglob('*') if path.is_file()]
  monkeypatch.undo()
  assert len(data.load('camvid', 'train', tmp_path / 'data', tmp_path / 'raw')) == 2

"""Label files of every kind, damaged images, and interrupted builds."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from dilated_jax import data
from dilated_jax.data import archives
from dilated_jax.data.builders import base, raw_images
from dilated_jax.errors import InputError
from tests import raw_files


def tree_of(root, files):
  raw_files.unpack(root / 'kit', files)
  return archives.open_tree(root, folders=('kit',), archives=(), name='Kit', source='kits.org')


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_gray_of_any_depth_is_read_as_it_is_stored(tmp_path, bits):
  ids = np.random.default_rng(0).integers(0, 2**bits, (5, 7), np.uint8)
  tree = tree_of(tmp_path, {'a.png': gray_png(ids, bits)})
  np.testing.assert_array_equal(raw_images.read_ids(tree, 'kit/a.png'), ids)


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
  np.testing.assert_array_equal(raw_images.read_ids(tree, 'kit/a.png'), ids)
  np.testing.assert_array_equal(raw_images.read_ids(tree, 'kit/b.png'), many)
  assert raw_images.read_colors(tree, 'kit/a.png')[ids == 2].tolist()[0] == [200, 0, 0]
  with pytest.raises(
    InputError,
    match=r'kit/b\.png: is an image of mode .* labels here are color masks; unpack Kit again',
  ):
    raw_images.read_colors(tree, 'kit/b.png')


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
    splits = {'train': [base.FilePair(name, f'kit/{name}.x', f'kit/{name}.y')]}
    return base.check_splits(
      tree,
      splits,
      lambda tree, pair, size: (raw_images.read_ids(tree, pair.label), None),
      {'train': 1},
    )

  (example,) = check('a')['train']
  np.testing.assert_array_equal(raw_files.decoded(example.label), np.zeros((40, 60)))
  with pytest.raises(InputError, match=r'kit/b\.x: is not a complete image .*; unpack Kit again'):
    check('b')


def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
  files = raw_files.camvid(np.random.default_rng(0), {'train': 'ab', 'val': 'c', 'test': 'd'})
  raw_files.unpack(tmp_path / 'raw', files)

  def interrupted(*args):
    yield next(generate(*args))
    raise KeyboardInterrupt

  generate = base.generate_features
  monkeypatch.setattr(base, 'generate_features', interrupted)
  with pytest.raises(KeyboardInterrupt):
    data.prepare('camvid', tmp_path / 'data', tmp_path / 'raw')
  assert not [path for path in (tmp_path / 'data').rglob('*') if path.is_file()]
  monkeypatch.undo()
  assert len(data.load('camvid', 'train', tmp_path / 'data', tmp_path / 'raw')) == 2

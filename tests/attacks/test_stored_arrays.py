"""Folders of arrays from strangers: what they announce takes no memory, and nothing else is read.

Each is a weights folder or a checkpoint with one lie in it, and without checksums: a stranger
writes them to match.
"""

import json
import os
import pathlib
import re
import shutil
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.training import checkpoints

OPTIONS = {'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
NAME = 'params.front_end.final.bias'


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  spec = models.ModelSpec('front_end', OPTIONS, ('a', 'b'), ((0, 0, 0), (255, 0, 0)), (1.0,) * 3)
  shapes = weights_folder.abstract_variables(spec.create())
  folder = tmp_path_factory.mktemp('weights') / 'weights'
  weights_folder.save_weights(folder, spec, jax.tree.map(lambda x: np.ones(x.shape), shapes))
  (folder / 'checksums.json').unlink()
  return folder


@pytest.fixture
def folder(written, tmp_path):
  return shutil.copytree(written, tmp_path / 'weights')


def database(checkpoint):
  base = {'driver': 'file', 'path': f'{checkpoint}/'}
  return ts.KvStore.open({'driver': 'ocdbt', 'base': base}).result()


def announced(checkpoint, name=NAME, **changes):
  """Writes other metadata for an array."""
  store = database(checkpoint)
  about = json.loads(store.read(f'{name}/.zarray').result().value)
  store.write(f'{name}/.zarray', json.dumps(about | changes).encode()).result()


def zeros(blocks):
  """Zeros packed by zstd: 128 KiB in four bytes."""
  frame = b'\x28\xb5\x2f\xfd\x00' + bytes([7 << 3])
  for index in range(blocks):
    frame += struct.pack('<I', 131072 << 3 | 1 << 1 | (index == blocks - 1))[:3] + b'\0'
  return frame


def pipe(path):
  path.unlink(missing_ok=True)
  os.mkfifo(path)


def without_end(path):
  path.unlink()
  path.symlink_to('/dev/zero')


def sparse(path):
  os.truncate(path, 1 << 40)


def named_outside(folder):
  content = json.dumps({'../secret': '00000000'}, indent=2)
  (folder / 'checksums.json').write_text(content + '\n')


@pytest.mark.parametrize(
  'harm, words',
  [
    (lambda f: announced(f / 'checkpoint', chunks=[1 << 33], compressor=None), 'larger than it'),
    (lambda f: announced(f / 'checkpoint', chunks=[1 << 25]), 'pieces that are larger than itself'),
    (lambda f: announced(f / 'checkpoint', shape=[1 << 40], chunks=[1 << 40]), 'has the shape'),
    (lambda f: announced(f / 'checkpoint', compressor={'id': 'blosc'}), 'not by zstd'),
    (lambda f: announced(f / 'checkpoint', shape=['x']), 'has no shape'),
    (lambda f: announced(f / 'checkpoint', shape=None), 'has no shape'),
    (lambda f: database(f / 'checkpoint').write(f'{NAME}/0', zeros(20_000)).result(), 'end|End'),
    (
      lambda f: database(f / 'checkpoint').write(f'{NAME}/.zarray', b'[' * 100_000).result(),
      'nested too deeply',
    ),
    (
      lambda f: (
        database(f / 'checkpoint').write('../../x/.zarray', b'{"shape": [], "chunks": []}').result()
      ),
      'as well',
    ),
    (lambda f: pipe(f / 'checkpoint/manifest.ocdbt'), 'neither a file nor a folder'),
    (lambda f: pipe(f / 'checksums.json'), 'neither a file nor a folder'),
    (lambda f: pipe(f / 'model.json'), 'has no model.json'),
    (lambda f: without_end(f / 'checkpoint/manifest.ocdbt'), 'neither a file nor a folder'),
    (lambda f: sparse(f / 'checkpoint/manifest.ocdbt'), 'do not belong together'),
    (named_outside, r'checksums\.json: names a file outside of its folder'),
  ],
)
def test_weights(folder, harm, words):
  harm(folder)
  with pytest.raises(InputError, match=words) as error:
    weights_folder.load_weights(folder)
  assert str(folder) in str(error.value)


@pytest.mark.parametrize(
  'harm, words',
  [
    (lambda f: announced(f / 'default', 'a', chunks=[1 << 33], compressor=None), 'larger than it'),
    (lambda f: announced(f / 'default', 'a', shape=[1 << 40], chunks=[1 << 40]), 'has the shape'),
    (lambda f: pipe(f / 'default/manifest.ocdbt'), 'neither a file nor a folder'),
    (lambda f: sparse(f / 'default/manifest.ocdbt'), 'do not belong together'),
    (lambda f: (f / 'default/_METADATA').write_text('[' * 100_000), 'damaged or of another'),
  ],
)
def test_checkpoints(tmp_path, harm, words):
  state = {'a': jnp.arange(1000.0)}
  with checkpoints.manager(tmp_path) as manager:
    checkpoints.save(manager, 4, state, 0.5)
    manager.wait_until_finished()
    (tmp_path / '4/checksums.json').unlink()
    harm(tmp_path / '4')
    with pytest.raises(InputError, match=words) as error:
      checkpoints.restore(manager, 4, state)
  assert str(tmp_path / '4') in str(error.value)


def test_a_checkpoint_that_was_being_written_is_none(tmp_path):
  """As a kill or a full disk leaves it: with nothing yet in the file of its times."""
  unfinished = tmp_path / '2.orbax-checkpoint-tmp'
  unfinished.mkdir()
  (unfinished / '_CHECKPOINT_METADATA').touch()
  with checkpoints.manager(tmp_path) as manager:
    assert manager.latest_step() is None


@pytest.mark.parametrize(
  'name, content',
  [
    ('metrics/metrics', '[' * 100_000),
    ('metrics/metrics', '{}'),
    ('metrics/metrics', '[1]'),
    ('metrics/metrics', '{"mean_iou": [1]}'),
    ('_CHECKPOINT_METADATA', '[' * 100_000),
    ('_CHECKPOINT_METADATA', None),
  ],
)
def test_what_is_read_of_all_checkpoints(tmp_path, name, content):
  path = tmp_path / '4' / name
  path.parent.mkdir(parents=True)
  os.mkfifo(path) if content is None else path.write_text(content)
  with pytest.raises(InputError, match=re.escape(f'{path}: is')) as error:
    checkpoints.manager(tmp_path)
  assert '\n' not in str(error.value)


def test_no_way_leads_out_of_the_folder(tmp_path):
  """TensorStore itself refuses names of files with .. in them; here this is not left to chance."""
  made = tmp_path / 'made'
  base = {'driver': 'file', 'path': f'{made}/'}
  plain = {'compression': None, 'max_inline_value_bytes': 0}
  store = ts.KvStore.open({'driver': 'ocdbt', 'base': base, 'config': plain}).result()
  store.write('a', b'x' * 40).result()
  (file,) = (made / 'd').iterdir()
  content = file.read_bytes()
  name = f'd/{file.name}'.encode()
  outside = b'../' + b's' * (len(name) - 3)
  pathlib.Path(tmp_path, outside[3:].decode()).write_bytes(b'secret' * 40)
  node = content[40:-4].replace(name, outside)
  assert outside in node
  file.write_bytes(content[:40] + node + struct.pack('<I', crc32c(node)))
  with pytest.raises(ValueError, match=re.escape('Invalid key')):
    database(made).read('a').result()


def crc32c(content: bytes) -> int:
  """CRC-32C, bit by bit, as nodes of the database end with."""
  value = 0xFFFFFFFF
  for byte in content:
    value ^= byte
    for _ in range(8):
      value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
  return value ^ 0xFFFFFFFF

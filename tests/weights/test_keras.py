import sys
import time
import tracemalloc

import h5py
import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.weights import keras as reader
from dilated_jax.weights.mapped import MappedFile
from tests.mutations import mutations

ANSWER = reader._answer
pytestmark = pytest.mark.usefixtures('hdf5_server')


@pytest.fixture
def write(tmp_path):
  """Writes with the real HDF5: hands out a new file, and what `fill` put there as a Mapped."""

  def writer(fill, **options):
    path = tmp_path / 'weights.h5'
    path.unlink(missing_ok=True)
    with h5py.File(path, 'w', **options) as file:
      fill(file)
    return MappedFile(path)

  return writer


def mapped(tmp_path, data):
  path = tmp_path / 'weights.h5'
  path.unlink(missing_ok=True)
  path.write_bytes(data)
  return MappedFile(path)


def content(file):
  """All data sets, as h5py reads them."""
  arrays = {}
  with h5py.File(file.path) as opened:
    opened.visititems(
      lambda name, item: arrays.update({name: item[()]} if isinstance(item, h5py.Dataset) else {})
    )
  return arrays


def assert_read(file, views=True):
  assert reader.matches(file)
  result, expected = reader.read(file), content(file)
  assert sorted(result) == sorted(expected)
  for name, array in expected.items():
    assert result[name].dtype == array.dtype
    np.testing.assert_array_equal(result[name], array)
    assert not result[name].flags.writeable
    assert np.may_share_memory(result[name], file.data) or not views
  return result


def vgg(file):
  """The groups of tf.keras.applications' file: attributes, data sets, layers without any."""
  rng = np.random.default_rng(0)
  file.attrs['layer_names'] = [b'input_1', b'block1_conv1', b'block1_pool', b'fc1']
  file.create_group('input_1')
  for name, shape in {'block1_conv1': (3, 3, 3, 8), 'fc1': (32, 16)}.items():
    group = file.create_group(name)
    group.attrs['weight_names'] = [f'{name}_W_1:0'.encode(), f'{name}_b_1:0'.encode()]
    group[f'{name}_W_1:0'] = rng.random(shape).astype('f4')
    group[f'{name}_b_1:0'] = rng.random(shape[-1:]).astype('f4')
  file.create_group('block1_pool')


def nested(file):
  """As Keras saves a whole model."""
  file.attrs['model_config'] = 'x' * 60_000
  vgg(file.create_group('model_weights'))
  file['model_weights/conv/conv/kernel:0'] = np.ones((3, 3), 'f4')
  file['optimizer_weights/iteration'] = np.int64(7)


def variables(file):
  """Keras 3's .weights.h5."""
  for index, shape in enumerate([(3, 3, 3, 4), (4,), (4, 5)]):
    file[f'layers/conv2d_{index}/vars/0'] = np.full(shape, index, 'f4')
    file[f'layers/conv2d_{index}/vars/1'] = np.arange(shape[-1], dtype='f4')


@pytest.mark.parametrize('fill', [vgg, nested, variables])
@pytest.mark.parametrize('libver', [None, 'earliest', 'v108', 'v110', 'latest'])
def test_keras_files(write, fill, libver):
  assert_read(write(fill, libver=libver))


def test_a_file_without_data_sets(write):
  assert reader.read(write(lambda file: file.create_group('a'))) == {}


@pytest.mark.parametrize('groups', [1, 8, 9, 40, 120, 700])
def test_groups_of_all_sizes(write, groups):
  """With 8 entries a symbol node splits, with about 300 the B-tree gets a second level."""

  def fill(file):
    for index in np.random.default_rng(0).permutation(groups):
      file[f'layer{index}/kernel:0'] = np.full((2, index % 3 + 1), index, 'f4')
      file[f'layer{index}'].attrs['name'] = 'x' * int(index)

  assert_read(write(fill))


@pytest.mark.parametrize('options', [{'libver': 'latest'}, {'track_order': True}])
@pytest.mark.parametrize('groups', [7, 9, 120])
def test_newer_groups(write, options, groups):
  def fill(file):
    for index in range(groups):
      file[f'layer{index}/kernel:0'] = np.full((2, 2), index, 'f4')

  assert_read(write(fill, **options))


TYPES = ['f2', 'f4', 'f8', 'i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8']


@pytest.mark.parametrize('libver', ['earliest', 'latest'])
def test_types_and_byte_orders(write, libver):
  rng = np.random.default_rng(0)

  def fill(file):
    for order in '<>':
      group = file.create_group('little' if order == '<' else 'big')
      for type in TYPES[:5] if libver == 'latest' else TYPES:
        values = (rng.random((5, 2, 3)) * 100).astype(order + type)
        group[type] = values

  assert_read(write(fill, libver=libver))


def test_sizes_and_ranks(write):
  rng = np.random.default_rng(0)

  def fill(file):
    for rank in range(9):
      file[f'rank{rank}'] = rng.random((1, 2, 3, 1, 2, 1, 2, 3)[:rank]).astype('f4')

  assert_read(write(fill))


def compact(file, name, values):
  """A data set within its object header; h5py itself never writes one."""
  plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
  plan.set_layout(h5py.h5d.COMPACT)
  space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
  made = h5py.h5d.create(file.id, name.encode(), kind, space, plan)
  made.write(h5py.h5s.ALL, h5py.h5s.ALL, values)


@pytest.mark.parametrize('libver', ['earliest', 'latest'])
def test_compact_data_sets(write, libver):
  values = np.arange(12.0).reshape(3, 4)
  assert_read(write(lambda file: compact(file, 'a', values), libver=libver), views=False)


PACKED = [
  {},
  {'compression': 'gzip'},
  {'compression': 'gzip', 'compression_opts': 0},
  {'shuffle': True},
  {'compression': 'gzip', 'shuffle': True},
]


@pytest.mark.parametrize('options', PACKED)
def test_chunks(write, options):
  rng = np.random.default_rng(0)

  def fill(file):
    file.create_dataset('line', data=rng.random(1000), chunks=(7,), **options)
    file.create_dataset('edge', data=rng.random((20, 30)).astype('>f4'), chunks=(7, 30), **options)
    file.create_dataset(
      'kernel', data=rng.random((3, 3, 8, 16)).astype('f2'), chunks=True, **options
    )
    file.create_dataset('grows', data=rng.random((3, 5)), maxshape=(None, 5), **options)
    file.create_dataset('bytes', data=np.arange(100, dtype='u1'), chunks=(10,), **options)
    file.create_dataset('many', data=rng.random((70, 70)).astype('f4'), chunks=(3, 3), **options)

  assert_read(write(fill), views=False)


def test_chunks_that_a_filter_left_out(write):
  def fill(file):
    made = file.create_dataset('a', (4, 4), 'f4', chunks=(2, 4), compression='gzip', shuffle=True)
    made[...] = 1
    made.id.write_direct_chunk((2, 0), np.arange(8, dtype='f4').tobytes(), filter_mask=3)

  np.testing.assert_array_equal(assert_read(write(fill), views=False)['a'][2:].ravel(), range(8))


def linked(file):
  file['a/x'] = np.ones(3)
  file['b'] = h5py.SoftLink('/a/x')


def far(file):
  file['a'] = h5py.ExternalLink('other.h5', '/a')


def twice(file):
  file['a/x'] = np.ones(3)
  file['b'] = file['a']


def circle(file):
  file['a/x'] = np.ones(3)
  file['a/b/c'] = file['a']


def holes(file):
  file.create_dataset('a', (10,), 'f4', chunks=(2,))[4:] = 1


def external(file):
  file.create_dataset('a', (3,), 'f4', external=[('other', 0, 12)])


def virtual(file):
  layout = h5py.VirtualLayout((3,), 'f4')
  layout[:] = h5py.VirtualSource('other.h5', 'a', (3,))
  file.create_virtual_dataset('a', layout)


def reference(file):
  file.create_dataset('a', data=np.array([file.ref], h5py.ref_dtype))


def odd_bits(file):
  kind = h5py.h5t.NATIVE_UINT16.copy()
  kind.set_precision(12)
  h5py.h5d.create(file.id, b'a', kind, h5py.h5s.create_simple((3,))).write(
    h5py.h5s.ALL, h5py.h5s.ALL, np.ones(3, 'u2')
  )


def committed(file):
  file['type'] = np.dtype('f4')
  file.create_dataset('a', (3,), file['type'])[...] = 1


LEFT_OUT = {
  'soft link': (linked, "links b'b' to elsewhere"),
  'external link': (far, "links b'a' to elsewhere"),
  'two names': (twice, 'a group with two names'),
  'circle': (circle, 'inside itself'),
  'holes': (holes, "'a' has 3 chunks out of 5"),
  'external': (external, "'a' lies in other files"),
  'virtual': (virtual, "'a' lies in other files"),
  'reference': (reference, "'a' holds neither"),
  'odd bits': (odd_bits, "'a' holds neither"),
  'committed type': (committed, "'type' is neither a group nor a data set"),
  'text': (lambda file: file.create_dataset('a', data='text'), "'a' holds neither"),
  'structures': (
    lambda file: file.create_dataset('a', data=np.zeros(3, 'f4,i4')),
    "'a' holds neither",
  ),
  'truth': (lambda file: file.create_dataset('a', data=np.ones(3, bool)), "'a' holds neither"),
  'complex': (lambda file: file.create_dataset('a', data=np.ones(3, 'c8')), "'a' holds neither"),
  'empty': (lambda file: file.create_dataset('a', data=h5py.Empty('f4')), "'a' is empty"),
  'no rows': (lambda file: file.create_dataset('a', data=np.ones((0, 3))), "'a' is empty"),
  'never written': (lambda file: file.create_dataset('a', (3,), 'f4'), "'a' was never written"),
  'lzf': (lambda file: file.create_dataset('a', data=np.ones(9), compression='lzf'), '32000'),
  'fletcher32': (lambda file: file.create_dataset('a', data=np.ones(9), fletcher32=True), '3'),
  'scale': (lambda file: file.create_dataset('a', data=np.ones(9, int), scaleoffset=4), 'filter 6'),
}


@pytest.mark.parametrize('fill, message', LEFT_OUT.values(), ids=LEFT_OUT)
@pytest.mark.parametrize('libver', ['earliest', 'latest'])
def test_what_is_not_read_is_named(write, fill, message, libver):
  file = write(fill, libver=libver)
  with pytest.raises(InputError) as error:
    reader.read(file)
  if libver == 'earliest':
    assert message in str(error.value)
  assert '\n' not in str(error.value)


def test_a_user_block(write):
  file = write(vgg, userblock_size=512)
  assert not reader.matches(file)


def test_matches_by_content(tmp_path):
  for data in (b'\x89HDF', b'PK\3\4', bytes(100), b'\x89PNG\r\n\x1a\n'):
    assert not reader.matches(mapped(tmp_path, data))
    with pytest.raises(InputError):
      reader.read(mapped(tmp_path, data))


def nasty(write):
  """(name, file) of small files that ask for much."""
  data = write(vgg).path.read_bytes()

  def changed(*places, data=data):
    result = bytearray(data)
    for at, value in places:
      result[at : at + len(value)] = value
    return bytes(result)

  absurd = [value.to_bytes(8, 'little') for value in (0, 1, 2**32, 2**62, 2**63, 2**64 - 1)]
  # Of groups that are not empty.
  trees = [
    at
    for at in range(len(data))
    if data.startswith(b'TREE', at) and data[at + 6 : at + 8] != b'\0\0'
  ]
  heaps = [at for at in range(len(data)) if data.startswith(b'HEAP', at)]
  nodes = [at for at in range(len(data)) if data.startswith(b'SNOD', at)]
  yield 'tree within itself', changed((trees[0] + 32, trees[0].to_bytes(8, 'little')))
  both = (trees[0] + 32, trees[1].to_bytes(8, 'little'))
  yield 'trees in a circle', changed(both, (trees[1] + 32, trees[0].to_bytes(8, 'little')))
  root = int.from_bytes(data[64:72], 'little')
  for heap in heaps:
    # The list of free places begins at the same place as it goes on: version 2.0 of HDF5 follows
    # it until all memory is taken.
    start, place = (int.from_bytes(data[heap + at : heap + at + 8], 'little') for at in (16, 24))
    if start > 1:
      yield 'free places in a circle', changed((place + start, start.to_bytes(8, 'little')))
      break
  yield 'root in itself', changed((nodes[0] + 16, root.to_bytes(8, 'little')))
  yield 'tree of many', changed((trees[0] + 6, b'\xff\xff'))
  yield 'node of many', changed((nodes[0] + 6, b'\xff\xff'))
  yield 'cut short', data[:-100]
  for value in absurd:
    yield 'heap of any size', changed((heaps[0] + 8, value))
    yield 'heap anywhere', changed((heaps[0] + 24, value))
    yield 'tree anywhere', changed((trees[0] + 32, value))
    yield 'name anywhere', changed((nodes[0] + 8, value))
    yield 'object anywhere', changed((nodes[0] + 16, value))
    yield 'root anywhere', changed((64, value))
  # Sides 3, 3, 3, 8 of the first kernel.
  sides = b''.join(side.to_bytes(8, 'little') for side in (3, 3, 3, 8))
  for at in range(0, 32, 8):
    for value in absurd[:-1]:
      yield 'sides', changed((data.index(sides) + at, value))
  yield 'empty sides', changed((data.index(sides), absurd[3] + absurd[0]))
  # A message that continues in itself.
  header = int.from_bytes(data[nodes[0] + 16 : nodes[0] + 24], 'little')
  again = b'\x10\0\x10\0' + bytes(4) + (header + 16).to_bytes(8, 'little') + absurd[2]
  yield 'header within itself', changed((header + 16, again))
  yield 'empty messages', changed((header + 8, b'\xff' * 4), data=data + bytes(10**6))

  def zeros(file):
    file.create_dataset('a', data=np.zeros((3000, 3000)), compression='gzip', chunks=(300, 3000))

  yield 'zip bomb', write(zeros).path.read_bytes()

  def sparse(file):
    file.create_dataset('a', (10**9, 10**9), 'f4', chunks=(10, 10))[0, 0] = 1

  yield 'sparse', write(sparse).path.read_bytes()

  def kernels(file):
    file.create_dataset('a', data=np.ones((8, 3)), chunks=(2, 3), compression='gzip')

  data = write(kernels).path.read_bytes()
  tree = data.rindex(b'TREE')
  for size in (b'\0\0\0\0', b'\1\0\0\0', b'\xff\xff\xff\xff'):
    yield 'packed chunk', changed((tree + 24, size), data=data)
  for value in absurd[1:]:
    yield 'chunk anywhere', changed((tree + 32, value), data=data)
    yield 'chunk elsewhere', changed((tree + 56, value), data=data)
  yield 'chunk twice', changed((tree + 72, bytes(8)), data=data)
  yield 'tree of chunks', changed((tree + 5, b'\1'), data=data)
  layout = data.index(b'\3\2\3' + tree.to_bytes(8, 'little'))
  for side in (0, 1, 3, 2**31, 2**32 - 1):
    yield 'chunks', changed((layout + 11, side.to_bytes(4, 'little')), data=data)
    yield 'size', changed((layout + 19, side.to_bytes(4, 'little')), data=data)


def test_nasty_files(write, tmp_path):
  for name, data in nasty(write):
    file = mapped(tmp_path, data)
    tracemalloc.start()
    start = time.perf_counter()
    try:
      with pytest.raises(InputError) as error:
        reader.read(file)
    finally:
      peak = tracemalloc.get_traced_memory()[1]
      tracemalloc.stop()
    assert time.perf_counter() - start < 20, name
    assert peak < 10 * len(data) + 2**20, name
    assert str(error.value).isprintable(), name


def test_a_crash_is_an_answer(write, tmp_path, monkeypatch, capfd):
  file = write(vgg)
  monkeypatch.setattr(reader, '_answer', ANSWER)
  assert_read(file)
  (tmp_path / 'program.py').write_text('import os\nos.abort()')
  monkeypatch.setattr(reader, '_PROGRAM', tmp_path / 'program.py')
  with pytest.raises(InputError, match='can not be read by HDF5'):
    reader.read(file)
  assert capfd.readouterr() == ('', '')


def test_without_h5py(write, monkeypatch):
  file = write(vgg)
  monkeypatch.setitem(sys.modules, 'h5py', None)
  with pytest.raises(InputError, match=r"weights\.h5: .* pip install 'dilated_jax\[hdf5\]'"):
    reader.read(file)


def test_pages_of_what_was_unpacked_are_let_go(write):
  file = write(lambda file: file.create_dataset('a', data=np.ones(9), chunks=(2,)))
  array = reader.read(file)['a']
  file.release()
  assert array.tolist() == [1] * 9


def test_a_data_set_is_not_lost_with_its_header(write, tmp_path):
  data = bytearray(write(vgg).path.read_bytes())
  # The message with the layout, turned into one of a kind that nobody knows.
  data[data.index(b'\x08\0\x18\0')] = 128
  with pytest.raises(InputError, match='neither a group nor a data set'):
    reader.read(mapped(tmp_path, bytes(data)))


def test_deep_groups(write):
  assert_read(write(lambda file: file.create_dataset('/'.join('abcde' * 40), data=np.ones(3))))
  with pytest.raises(InputError, match='too long'):
    reader.read(write(lambda file: file.create_dataset('/'.join('a' * 300), data=np.ones(3))))


def test_many_links_to_one_data_set(write):
  def fill(file):
    made = file.create_dataset('a', data=np.ones(3, 'f4'))
    for index in range(100):
      file[f'b{index}'] = made

  result = reader.read(write(fill))
  assert len(result) == 101
  assert all(array.tolist() == [1, 1, 1] for array in result.values())


def small(file):
  file.create_group('a')['kernel:0'] = np.arange(6, dtype='f4').reshape(2, 3)
  file['a']['b'] = np.ones(2, 'f2')


def chunked(file):
  values = np.arange(60, dtype='f4').reshape(6, 10)
  file.create_dataset('a', data=values, chunks=(2, 10), compression='gzip', shuffle=True)


@pytest.mark.parametrize(
  'fill, libver', [(small, 'earliest'), (small, 'latest'), (chunked, 'earliest')]
)
def test_damaged_files(write, tmp_path, fill, libver):
  original = write(fill, libver=libver).path.read_bytes()
  read = 0
  for data in mutations(original, 400, seed=1):
    start = time.perf_counter()
    try:
      result = reader.read(mapped(tmp_path, data))
    except InputError as error:
      assert '\n' not in str(error)
    else:
      read += 1
      assert sum(array.nbytes for array in result.values()) < 10 * len(data)
      for array in result.values():
        array.tobytes()
    assert time.perf_counter() - start < 20
  assert 0 < read < 300

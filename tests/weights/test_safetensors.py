import json
import time
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from dilated_jax.errors import InputError
from dilated_jax.weights import safetensors as reader
from dilated_jax.weights.mapped import MappedFile
from tests.mutations import mutations


def mapped(tmp_path, data):
  path = tmp_path / 'weights'
  path.unlink(missing_ok=True)
  path.write_bytes(data)
  return MappedFile(path)


def written(header, data=b''):
  """A file with a header of the test's own making."""
  header = header if isinstance(header, bytes) else json.dumps(header).encode()
  return len(header).to_bytes(8, 'little') + header + data


def entry(shape, start, end, dtype='F32'):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': [start, end]}


DTYPES = [
  *('float64', 'float32', 'float16', ml_dtypes.bfloat16, 'bool'),
  *('int64', 'int32', 'int16', 'int8', 'uint64', 'uint32', 'uint16', 'uint8'),
]


@pytest.mark.parametrize('metadata', [None, {'format': 'pt'}])
def test_what_safetensors_writes(tmp_path, metadata):
  rng = np.random.default_rng(0)
  arrays = {str(dtype): (rng.random((2, 3, 5)) * 50).astype(dtype) for dtype in DTYPES}
  arrays |= {'scalar': np.array(1.5, 'f4'), 'features.0.weight': rng.random(7).astype('f4')}
  file = mapped(tmp_path, safetensors.numpy.save(arrays, metadata))
  assert reader.matches(file)
  result = reader.read(file)
  assert set(result) == set(arrays)
  for name, array in arrays.items():
    assert result[name].dtype == array.dtype
    assert np.may_share_memory(result[name], file.data)
    assert not result[name].flags.writeable
    np.testing.assert_array_equal(result[name], array)


def test_matches_by_content(tmp_path):
  for data in (b'{}', bytes(100), b'\x89HDF\r\n\x1a\n', b'PK\3\4' + b'{' * 20, b'{' * 9):
    assert not reader.matches(mapped(tmp_path, data))
  assert reader.matches(mapped(tmp_path, written({'a': entry([3], 0, 12)})[:-20]))


NUMBERS = np.arange(6, dtype='f4')
TWO = {'a': entry([2], 0, 8), 'b': entry([2, 2], 8, 24)}


def test_own_files_are_read(tmp_path):
  """So that the refusals below are not for another reason."""
  for header in (TWO, dict(reversed(TWO.items())), {'__metadata__': {'a': 'b'}, **TWO}):
    result = reader.read(mapped(tmp_path, written(header, NUMBERS.tobytes())))
    assert list(result) == ['a', 'b']
    np.testing.assert_array_equal(result['a'], [0, 1])
    np.testing.assert_array_equal(result['b'], [[2, 3], [4, 5]])


WRONG = {
  'overlap': {'a': entry([2], 0, 8), 'b': entry([5], 4, 24)},
  'the same place': {'a': entry([6], 0, 24), 'b': entry([6], 0, 24)},
  'gap': {'a': entry([2], 0, 8), 'b': entry([3], 12, 24)},
  'gap in front': {'a': entry([5], 4, 24)},
  'beyond the end': {'a': entry([7], 0, 28)},
  'bytes left over': {'a': entry([5], 0, 20)},
  'other size': {'a': entry([5], 0, 24)},
  'backwards': {'a': entry([6], 24, 0)},
  'negative side': {'a': entry([-2, -3], 0, 24)},
  'negative start': {'a': entry([6], -24, 0)},
  'absurd shape': {'a': entry([2**62, 2**62], 0, 24)},
  'absurd and empty': {'a': entry([2**62, 0], 0, 0), 'b': entry([6], 0, 24)},
  'beyond 64 bits': {'a': entry([10**4000], 0, 4 * 10**4000)},
  'wraps around': {'a': entry([2**62, 4], 0, 0)},
  'of high rank': {'a': entry([1] * 100 + [6], 0, 24)},
  'truth': {'a': entry([True, 6], 0, 24)},
  'a fraction': {'a': entry([6.0], 0, 24)},
  'no shape': {'a': entry(None, 0, 24)},
  'text': {'a': entry(['6'], 0, 24)},
  'no dtype': {'a': entry([6], 0, 24, None)},
  'other dtype': {'a': entry([24], 0, 24, 'F8_E4M3')},
  'list for a dtype': {'a': entry([6], 0, 24, ['F32'])},
  'three offsets': {'a': {**entry([6], 0, 24), 'data_offsets': [0, 24, 24]}},
  'no offsets': {'a': {'dtype': 'F32', 'shape': [6]}},
  'no entry': {'a': 3},
  'lines in a name': {'a\nb\r': entry([7], 0, 24)},
  'a list': [],
  'a number': 3,
  'nothing': {},
}


@pytest.mark.parametrize('header', WRONG.values(), ids=WRONG)
def test_wrong_headers(tmp_path, header):
  with pytest.raises(InputError) as error:
    reader.read(mapped(tmp_path, written(header, NUMBERS.tobytes())))
  assert '\n' not in str(error.value)


NASTY = {
  'long': (2**63).to_bytes(8, 'little') + b'{}',
  'long and there': written(b'{' + b' ' * 5_000_000 + b'}'),
  'no header': bytes(8),
  'too short': b'\1\0\0',
  'not UTF-8': written(b'{"\xff":1}'),
  'not JSON': written(b'{"a":'),
  'deep': written(b'[' * 100_000),
  'deep objects': written(b'{"a":' * 100_000 + b'1' + b'}' * 100_000),
  'deep entry': written(b'{"a":' + b'[' * 100_000 + b']' * 100_000 + b'}'),
  'many digits': written(b'{"a":' + b'9' * 100_000 + b'}'),
  'many lists': written(b'[' + b'[],' * 100_000 + b'[]]'),
  'infinite': written(b'{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[NaN,1e999]}}'),
  'surrogates': written(b'{"\\ud800":{"dtype":"F32","shape":[7],"data_offsets":[0,24]}}'),
}


@pytest.mark.parametrize('data', NASTY.values(), ids=NASTY)
def test_nasty_files(tmp_path, data):
  file = mapped(tmp_path, data)
  tracemalloc.start()
  start = time.perf_counter()
  try:
    with pytest.raises(InputError) as error:
      reader.read(file)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert time.perf_counter() - start < 20
  assert peak < 30 * len(data) + 100_000
  assert str(error.value).isprintable()


def test_damaged_files(tmp_path):
  rng = np.random.default_rng(0)
  arrays = {'a.weight': rng.random((2, 3, 3)).astype('f4'), 'a.bias': np.ones(4, 'f2')}
  read = 0
  for data in mutations(safetensors.numpy.save(arrays, {'format': 'pt'}), 1500, seed=1):
    start = time.perf_counter()
    try:
      result = reader.read(mapped(tmp_path, data))
    except InputError as error:
      assert '\n' not in str(error)
    else:
      read += 1
      assert sum(array.nbytes for array in result.values()) < len(data)
      assert all(array.tobytes() in data for array in result.values())
    assert time.perf_counter() - start < 20
  assert 0 < read < 1000

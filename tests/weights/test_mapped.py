"""weights/mapped.py: views of a file, and clear words where it ends."""

import tracemalloc

from hypothesis import given, strategies as st
import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.weights.mapped import MappedFile

CONTENT = bytes(range(256)) * 4


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  path = tmp_path_factory.mktemp('mapped') / 'weights.bin'
  path.write_bytes(CONTENT)
  return path


def test_the_whole_file(path):
  file = MappedFile(str(path))
  assert (file.path, file.size) == (path, len(CONTENT))
  assert file.data.dtype == np.uint8 and file.data.tobytes() == CONTENT


def test_no_file_at_all(tmp_path):
  (tmp_path / 'empty').touch()
  for name, words in [('', 'is a folder'), ('missing', 'no such file'), ('empty', 'is empty')]:
    with pytest.raises(InputError, match=f'{tmp_path / name}: {words}'):
      MappedFile(tmp_path / name)


@given(
  offset=st.integers(0, 1100),
  shape=st.lists(st.integers(0, 20), max_size=4),
  dtype=st.sampled_from(['u1', '<f4', '>f4', '<f8', '<i8', '<f2']),
)
def test_arrays_are_what_frombuffer_makes(path, offset, shape, dtype):
  """At any offset, aligned or not; inside the file or an error."""
  file = MappedFile(path)
  count = int(np.prod(shape))
  end = offset + count * np.dtype(dtype).itemsize
  if count and end <= len(CONTENT):
    array = file.array(offset, shape, dtype, 'the piece')
    expected = np.frombuffer(CONTENT, dtype, count, offset).reshape(shape)
    np.testing.assert_array_equal(array, expected, strict=True)
    assert np.shares_memory(array, file.data)
  else:
    with pytest.raises(InputError, match=r'weights\.bin: the piece'):
      file.array(offset, shape, dtype, 'the piece')


@pytest.mark.parametrize(
  'offset, shape, dtype',
  [
    *((-1, (1,), 'u1'), (-(2**63), (1,), 'u1'), (0, (-1,), 'u1'), (0, (-2, -3), 'u1')),
    # Products and sums that overflow 32 or 64 bits to something small.
    *((0, (2**32,), '<f4'), (0, (2**31, 2**31, 4), '<f4'), (2**64 - 4, (1,), '<f4')),
    *((0, (2**64,), 'u1'), (2**70, (1,), 'u1'), (0, (2**62, 0), '<f4'), (0, (0,), 'u1')),
    *((1024, (1,), 'u1'), (1021, (1,), '<f4'), (2**70, (0,), 'u1')),
  ],
)
def test_absurd_pieces(path, offset, shape, dtype):
  with pytest.raises(InputError, match=r'weights\.bin: the piece') as error:
    MappedFile(path).array(offset, shape, dtype, 'the piece')
  assert '\n' not in str(error.value)


def test_a_short_piece_is_copied_out(path):
  assert MappedFile(path).bytes(250, 10, 'the head') == CONTENT[250:260]
  with pytest.raises(InputError, match='the head should have 10 bytes from byte 1020'):
    MappedFile(path).bytes(1020, 10, 'the head')


def test_nothing_can_be_written(path):
  with pytest.raises(ValueError, match='read-only'):
    MappedFile(path).array(0, (4,), '<f4', 'the piece')[0] = 1


def test_arrays_outlive_the_file_and_its_pages(tmp_path):
  path = tmp_path / 'file'
  path.write_bytes(CONTENT)
  file = MappedFile(path)
  array = file.array(0, (1024,), 'u1', 'all')
  file.release()
  path.unlink()
  del file
  assert array.tobytes() == CONTENT


def test_a_large_file_costs_nothing(tmp_path):
  path = tmp_path / 'large'
  with path.open('wb') as file:
    file.truncate(2**32)  # Sparse.
  tracemalloc.start()
  array = MappedFile(path).array(2**32 - 4, (1,), '<f4', 'the end')
  assert MappedFile(path).array(0, (2**15, 2**15), '<f4', 'all').shape == (2**15, 2**15)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert array[0] == 0 and peak < 100_000

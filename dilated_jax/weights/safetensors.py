"""Reads .safetensors files: a JSON header, then all arrays.

Source: the format's description in the README of huggingface/safetensors.
"""

import json
import math

import ml_dtypes
import numpy as np

from dilated_jax.weights.mapped import MappedFile

# A tensor takes about 100 bytes of header. JSON of this length makes 100 MB of objects at worst.
_HEADER = 4_000_000
_RANK = 8

_DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype('<i8'),
  'I32': np.dtype('<i4'),
  'I16': np.dtype('<i2'),
  'I8': np.dtype('i1'),
  'U64': np.dtype('<u8'),
  'U32': np.dtype('<u4'),
  'U16': np.dtype('<u2'),
  'U8': np.dtype('u1'),
  'BOOL': np.dtype('?'),
}


def matches(file: MappedFile) -> bool:
  """Whether a file looks like safetensors: a length, then JSON.

  Args:
    file: any file.

  Returns:
    True if so.
  """
  start = file.data[:9].tobytes()
  return start[8:] == b'{' and int.from_bytes(start[:8], 'little') < 2**32


def read(file: MappedFile) -> dict[str, np.ndarray]:
  """Reads all arrays.

  Args:
    file: a .safetensors file.

  Returns:
    names and arrays, in the order in which they lie in the file. The arrays are read-only views of
    it and have its dtypes; bfloat16 is that of ml_dtypes.

  Raises:
    InputError: the file is damaged, or has a dtype that NumPy lacks.
  """
  length = int.from_bytes(file.bytes(0, 8, 'the length of the header'), 'little')
  if length > _HEADER:
    raise file.fail(f'has a header of {length} bytes, and {_HEADER} is the most: is it damaged?')
  try:
    header = json.loads(file.bytes(8, length, 'the header').decode('utf-8'))
  except (ValueError, RecursionError):
    raise file.fail('has a header that is not JSON: it is damaged; fetch it again') from None
  if not isinstance(header, dict):
    raise file.fail('has a header that is not a JSON object: it is damaged; fetch it again')
  header.pop('__metadata__', None)
  places = [(*_entry(file, name, entry), name) for name, entry in header.items()]
  arrays, at = {}, 0
  for start, end, shape, dtype, name in sorted(places, key=lambda place: place[:2]):
    what = f'tensor {name[:100]!r}'
    if end - start != dtype.itemsize * math.prod(shape):
      raise file.fail(
        f'{what} of shape {shape} and {dtype} takes {end - start} bytes; fetch it again'
      )
    if start != at:
      raise file.fail(f'{what} starts at byte {start} of the data, not at {at}; fetch it again')
    arrays[name] = file.array(8 + length + start, shape, dtype, what)
    at = end
  if 8 + length + at != file.size:
    raise file.fail(f'should have {8 + length + at} bytes, and has {file.size}; fetch it again')
  return arrays


def _entry(file, name, entry):
  """First byte, byte after the last, shape and dtype of an array."""
  entry = entry if isinstance(entry, dict) else {}
  dtype, shape, offsets = (entry.get(key) for key in ('dtype', 'shape', 'data_offsets'))
  if not isinstance(dtype, str) or not _naturals(shape) or not _naturals(offsets):
    raise file.fail(f'says nothing of use about tensor {name[:100]!r}: damaged; fetch it again')
  if dtype not in _DTYPES or len(shape) > _RANK or len(offsets) != 2:
    raise file.fail(f'tensor {name[:100]!r}: dtype {dtype[:20]!r} or rank {len(shape)} is not read')
  return *offsets, tuple(shape), _DTYPES[dtype]


def _naturals(values) -> bool:
  return isinstance(values, list) and all(
    type(value) is int and 0 <= value < 2**63 for value in values
  )

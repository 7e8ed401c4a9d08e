"""Reads PyTorch's files of weights (.pth, .pt) without PyTorch, and runs nothing of what they say.

Source: torch/serialization.py (the two containers); PKWARE's APPNOTE 4.3 and 4.5.3 (zip archives).
"""

import io
import math
import struct
import zipfile

import ml_dtypes
import numpy as np

from dilated_jax.weights.mapped import MappedFile
from dilated_jax.weights.pickles import ADVICE, Pickles, Tensor

_ZIP = b'PK\3\4'
# The number that opens files of torch < 1.6, and how a pickle writes it.
_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = b'\x8a\x0a' + _MAGIC.to_bytes(10, 'little')
# Bytes of an archive's directory; a tensor takes about 80, and `zipfile` ten times as much memory.
_DIRECTORY = 4 << 20


def matches(file: MappedFile) -> bool:
  """Whether a file looks like one of PyTorch's.

  Args:
    file: any file.

  Returns:
    True for a zip archive, and for what torch.save wrote before version 1.6.
  """
  start = file.data[:64].tobytes()
  return start.startswith(_ZIP) or (start.startswith(b'\x80') and _LEGACY in start)


def read(file: MappedFile) -> dict[str, np.ndarray]:
  """Reads a state dict.

  A checkpoint that holds it under 'state_dict', 'model_state_dict' or 'model' will do; what else
  the checkpoint holds is left out.

  Args:
    file: what torch.save wrote: a zip archive, or the format before version 1.6.

  Returns:
    names and arrays, in the order of the file. The arrays are read-only views of the file and have
    its dtypes: float64, float32, float16, bfloat16 (of ml_dtypes), integers or bool.

  Raises:
    InputError: the file is damaged, or is something else than weights.
  """
  if file.data[:4].tobytes() == _ZIP:
    tree, places, order = _read_zip(file)
  else:
    tree, places, order = _read_legacy(file)
  tensors = _tensors(tree)
  for key in ('state_dict', 'model_state_dict', 'model'):
    if isinstance(tree, dict) and _tensors(tree.get(key)):
      tensors = _tensors(tree[key])
      break
  if not tensors:
    raise file.fail(f'holds no dict of tensors; {ADVICE}')
  return {
    name: _view(file, tensor, places, order, f'tensor {name[:100]!r}')
    for name, tensor in tensors.items()
  }


def _tensors(tree) -> dict[str, Tensor]:
  entries = tree.items() if isinstance(tree, dict) else ()
  return {name: value for name, value in entries if isinstance(value, Tensor)}


def _view(file, tensor, places, order, what) -> np.ndarray:
  """A tensor as a view of the file.

  Args:
    file: the file.
    tensor: what the pickle says of it.
    places: first byte of each storage.
    order: byte order, '<' or '>'.
    what: its name in messages.
  """
  storage, sides, size = tensor.storage, tensor.shape, tensor.storage.dtype.itemsize
  if storage.key not in places:
    raise file.fail(f'{what} lacks its storage {storage.key[:100]!r}; fetch it again')
  if 0 in sides:
    raise file.fail(f'{what} is empty, of shape {sides}; leave it out')
  if order == '>' and storage.dtype == ml_dtypes.bfloat16:
    raise file.fail(f'{what} is big-endian bfloat16; save it as float32')
  span = 1 + sum((side - 1) * stride for side, stride in zip(sides, tensor.strides))
  # With a stride of zero a short storage makes an array of any size; weights have none.
  if math.prod(sides) > span or tensor.offset + span > storage.count:
    raise file.fail(f'{what} of shape {sides} has more values than its storage; fetch it again')
  begin = places[storage.key] + (storage.start + tensor.offset) * size
  data = file.array(begin, (span * size,), np.uint8, what)
  # The stride of a side of 1 is never walked and may be anything.
  strides = [stride * size if side > 1 else size for side, stride in zip(sides, tensor.strides)]
  return np.ndarray(sides, storage.dtype.newbyteorder(order), data.data, 0, strides)


def _read_legacy(file):
  """Reads the format before torch 1.6: five pickles one after the other, then the storages.

  Returns:
    what was saved; the first byte of each storage; the byte order.
  """
  pickles = Pickles(file, 0, file.size)
  magic = pickles.load()
  if not isinstance(magic, int) or magic != _MAGIC:
    raise file.fail(f'is not what torch.save writes; {ADVICE}')
  _version, _system, tree, keys = (pickles.load() for _ in range(4))
  places, at = {}, pickles.at
  for key in keys if isinstance(keys, list) else ():
    if not isinstance(key, str) or key not in pickles.storages:
      raise file.fail('lists a storage that no tensor uses: it is damaged; fetch it again')
    dtype, count = pickles.storages[key]
    # Little-endian on all machines, whatever the pickle says of the one that wrote.
    if file.bytes(at, 8, 'a length') != struct.pack('<Q', count):
      raise file.fail(f'storage {key[:100]!r} is not of length {count}: damaged; fetch it again')
    places[key] = at + 8
    at += 8 + count * dtype.itemsize
  return tree, places, '<'


def _read_zip(file):
  """Reads the format of torch 1.6 and later: a zip archive of a pickle and the storages.

  Returns:
    what was saved; the first byte of each storage; the byte order.
  """
  members = _members(file)
  root = next((name[:-8] for name in members if name.endswith('/data.pkl')), None)
  if root is None:
    hint = '; unzip it and give its model.weights.h5' if 'model.weights.h5' in members else ''
    raise file.fail(f'is a zip archive without data.pkl, not what torch.save writes{hint}')
  if f'{root}constants.pkl' in members:
    raise file.fail(f'is a TorchScript program; open it with torch.jit.load and {ADVICE}')
  order = '<'
  if f'{root}byteorder' in members:
    start, length = _contents(file, members, f'{root}byteorder')
    text = file.bytes(start, min(length, 6), 'byteorder')
    if text not in (b'little', b'big'):
      raise file.fail(f'has byte order {text!r}, which should be little or big')
    order = '<' if text == b'little' else '>'
  start, length = _contents(file, members, f'{root}data.pkl')
  pickles = Pickles(file, start, start + length)
  tree = pickles.load()
  places = {}
  for key, (dtype, count) in pickles.storages.items():
    if f'{root}data/{key}' in members:
      places[key], length = _contents(file, members, f'{root}data/{key}')
      if length != count * dtype.itemsize:
        raise file.fail(f'storage {key[:100]!r} is not of length {count}: damaged; fetch it again')
  return tree, places, order


def _members(file) -> dict[str, zipfile.ZipInfo]:
  """The directory of a zip archive, by name."""
  try:
    with _Archive(file.path) as opened, zipfile.ZipFile(opened) as archive:
      return {member.filename: member for member in archive.infolist()}
  except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error):
    raise file.fail('is a damaged zip archive, or cut short; fetch it again') from None


class _Archive(io.FileIO):
  """A file as `zipfile` reads it, which takes the whole directory into memory."""

  def read(self, size=-1):
    if size > _DIRECTORY:
      raise zipfile.BadZipFile
    return super().read(size)


def _contents(file, members, name) -> tuple[int, int]:
  """First byte and length of what a member holds, as it lies in the file."""
  member = members[name]
  if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:  # 1: encrypted.
    raise file.fail(f'holds {name[:100]!r} compressed or encrypted; {ADVICE}')
  header = file.bytes(member.header_offset, 30, 'the header of a member')
  sign, name_length, extra_length = struct.unpack('<4s22xHH', header)
  if sign != _ZIP:
    raise file.fail('is a zip archive with a damaged directory; fetch it again')
  return member.header_offset + 30 + name_length + extra_length, member.file_size

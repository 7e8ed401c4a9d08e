"""Reads PyTorch's files of weights (.pth, .pt) without PyTorch, and runs nothing of what they say.

Source: torch/serialization.py (the two containers); PKWARE's APPNOTE 4.3 and 4.5.3 (zip archives).
"""

import math
import struct

import ml_dtypes
import numpy as np

from dilated_jax.weights.mapped import MappedFile
from dilated_jax.weights.pickles import ADVICE, Machine, Tensor

_ZIP = b'PK\3\4'
# The number that opens files of torch < 1.6, and how a pickle writes it.
_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = b'\x8a\x0a' + _MAGIC.to_bytes(10, 'little')
# In a zip archive; a tensor takes one.
_MEMBERS = 50_000


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
  the checkpoint holds is left out. The prefix 'module.' that DataParallel puts before all names is
  taken off.

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
  prefix = 'module.' if all(name.startswith('module.') for name in tensors) else ''
  return {
    name.removeprefix(prefix): _view(file, tensor, places, order, f'tensor {name[:100]!r}')
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
  machine = Machine(file, 0, file.size)
  magic = machine.load()
  if not isinstance(magic, int) or magic != _MAGIC:
    raise file.fail(f'is not what torch.save writes; {ADVICE}')
  _version, _system, tree, keys = (machine.load() for _ in range(4))
  places, at = {}, machine.at
  for key in keys if isinstance(keys, list) else ():
    if not isinstance(key, str) or key not in machine.storages:
      raise file.fail('lists a storage that no tensor uses: it is damaged; fetch it again')
    dtype, count = machine.storages[key]
    # Little-endian on all machines, whatever the pickle says of the one that wrote.
    if _unpack(file, '<Q', at) != (count,):
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
  machine = Machine(file, start, min(start + length, file.size))
  tree = machine.load()
  places = {}
  for key, (dtype, count) in machine.storages.items():
    if f'{root}data/{key}' in members:
      places[key], length = _contents(file, members, f'{root}data/{key}')
      if length != count * dtype.itemsize:
        raise file.fail(f'storage {key[:100]!r} is not of length {count}: damaged; fetch it again')
  return tree, places, order


def _members(file) -> dict[str, tuple[int, int, bool]]:
  """The directory of a zip archive: place, length and whether it is stored as it is, by name."""
  tail = max(0, file.size - 22 - 65535)
  found = file.data[tail:].tobytes().rfind(b'PK\5\6')
  if found < 0:
    raise file.fail('is a zip archive without a directory: it is cut short; fetch it again')
  end = tail + found
  count, at = _unpack(file, '<H4xI', end + 10)
  if end >= 20 and file.bytes(end - 20, 4, 'the directory') == b'PK\6\7':
    (record,) = _unpack(file, '<Q', end - 12)
    count, at = _unpack(file, '<Q8xQ', record + 32)
  if count > _MEMBERS:
    raise file.fail(f'is a zip archive of {count} members, too many for weights')
  members = {}
  for _ in range(count):
    entry = _unpack(file, '<4s4xHH8xIIHHH8xI', at)
    sign, flags, method, _, length, name_length, extra_length, comment_length, place = entry
    if sign != b'PK\1\2' or not name_length:
      raise file.fail('is a zip archive with a damaged directory; fetch it again')
    name = file.bytes(at + 46, name_length, 'a name').decode('utf-8', 'replace')
    at += 46 + name_length
    length, place = _widen(file, at, at + extra_length, length, place)
    at += extra_length + comment_length
    # Bit 0: encrypted; method 0: not compressed.
    members[name] = place, length, not flags & 1 and method == 0
  return members


def _widen(file, at, end, length, place):
  """Length and place of a member, from the extra field (zip64) where the entry has no room."""
  while at + 4 <= end:
    kind, size = _unpack(file, '<HH', at)
    if kind == 1 and size >= 8:
      numbers = _unpack(file, f'<{min(size // 8, 3)}Q', at + 4)
      # Length, packed length, place, each only if needed.
      if length == 2**32 - 1:
        length = numbers[0]
      if place == 2**32 - 1:
        place = numbers[-1]
    at += 4 + size
  return length, place


def _contents(file, members, name) -> tuple[int, int]:
  """First byte and length of what a member holds."""
  place, length, plain = members[name]
  if not plain:
    raise file.fail(f'holds {name[:100]!r} compressed or encrypted; {ADVICE}')
  sign, name_length, extra_length = _unpack(file, '<4s22xHH', place)
  if sign != _ZIP:
    raise file.fail('is a zip archive with a damaged directory; fetch it again')
  return place + 30 + name_length + extra_length, length


def _unpack(file, layout, offset):
  return struct.unpack(layout, file.bytes(offset, struct.calcsize(layout), 'its directory'))

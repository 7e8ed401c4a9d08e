"""Reads the pickle of a PyTorch state dict without running it.

A pickle is a program, and Python's unpickler runs it. The stack machine here builds dicts, lists,
tuples, numbers, text and descriptions of tensors, and knows no other way to make anything: a name
outside the few that a state dict needs is refused, not looked up.

Source: pickletools (meaning of the opcodes); torch/serialization.py (persistent ids);
torch/_utils.py (arguments of the `_rebuild_*` functions).
"""

import dataclasses
import struct

import ml_dtypes
import numpy as np

from dilated_jax.weights.mapped import MappedFile

ADVICE = 'save the weights alone: torch.save(model.state_dict(), FILE)'

# Opcodes in a file, and pairs handed to an OrderedDict: a tensor takes about 30, and none makes
# more than 100 bytes of objects beside the text it carries.
_MOST = 400_000
_RANK = 8

_DTYPES = {
  'DoubleStorage': np.dtype(np.float64),
  'FloatStorage': np.dtype(np.float32),
  'HalfStorage': np.dtype(np.float16),
  'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'LongStorage': np.dtype(np.int64),
  'IntStorage': np.dtype(np.int32),
  'ShortStorage': np.dtype(np.int16),
  'CharStorage': np.dtype(np.int8),
  'ByteStorage': np.dtype(np.uint8),
  'BoolStorage': np.dtype(np.bool_),
}

# Opcodes by the struct layout of the number, or of the length of the text, that follows them.
_NUMBERS = {b'K': '<B', b'M': '<H', b'J': '<i', b'G': '>d'}
_TEXTS = {b'X': '<I', b'\x8c': '<B', b'\x8d': '<Q', b'U': '<B', b'T': '<I'}
_PUTS = {b'q': '<B', b'r': '<I'}
_GETS = {b'h': '<B', b'j': '<I'}
_CONSTANTS = {b'N': None, b'\x88': True, b'\x89': False, b')': ()}
_TUPLES = {b'\x85': 1, b'\x86': 2, b'\x87': 3}
_LONG1 = b'\x8a'


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
  """A stretch of numbers, or a part of one; counted in numbers, not bytes."""

  key: str
  dtype: np.dtype
  start: int
  count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
  """A view of a storage: offset and strides count numbers, not bytes."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class Machine:
  """Pickle's stack machine, as far as weights need it.

  Attributes:
    at: offset of the next byte in the file.
    storages: (dtype, number of numbers) of the storages met so far, by key.
  """

  def __init__(self, file: MappedFile, start: int, end: int):
    """Sets the machine to the first byte of a pickle, or of several that follow each other.

    Args:
      file: the file.
      start: offset of the first byte.
      end: offset after the last byte that may be read.
    """
    self.file, self.data = file, file.data.data
    self.at, self.end = start, end
    self.storages = {}
    self.left = _MOST
    # What a name in the file may stand for, beside the types of storages.
    self.calls = {
      'collections.OrderedDict': self._dict,
      'torch.Size': self._first,
      'torch._utils._rebuild_tensor': self._tensor,
      'torch._utils._rebuild_tensor_v2': self._tensor,
      'torch._utils._rebuild_parameter': self._first,
      'torch._utils._rebuild_parameter_with_state': self._first,
      'torch.nn.parameter.Parameter': self._first,
    }

  def load(self):
    """Follows one pickle to its end.

    Returns:
      a dict (entries whose key isn't text are left out), list, tuple, text, number, None, Storage
      or Tensor; lists and dicts may hold themselves.

    Raises:
      InputError: the pickle is damaged, too long, or asks for more than weights need.
    """
    self.stack, self.below, memo = [], [], {}
    while True:
      self._spend(1)
      op = self._take(1)
      if op in _NUMBERS:
        self.stack.append(self._number(_NUMBERS[op]))
      elif op == _LONG1:
        self.stack.append(int.from_bytes(self._take(self._number('<B')), 'little', signed=True))
      elif op in _TEXTS:
        self.stack.append(self._text(self._take(self._number(_TEXTS[op]))))
      elif op in _CONSTANTS:
        self.stack.append(_CONSTANTS[op])
      elif op == b'}':  # EMPTY_DICT
        self.stack.append({})
      elif op == b']':  # EMPTY_LIST
        self.stack.append([])
      elif op in _PUTS:
        memo[self._number(_PUTS[op])] = self._top(object)
      elif op == b'\x94':  # MEMOIZE
        memo[len(memo)] = self._top(object)
      elif op in _GETS:
        index = self._number(_GETS[op])
        self._check(index in memo)
        self.stack.append(memo[index])
      elif op == b'(':  # MARK
        self.below.append(self.stack)
        self.stack = []
      elif op in _TUPLES:
        self.stack.append(tuple([self._pop() for _ in range(_TUPLES[op])][::-1]))
      elif op == b't':  # TUPLE
        items = self._items()
        self.stack.append(tuple(items))
      elif op == b'a':  # APPEND
        value = self._pop()
        self._top(list).append(value)
      elif op == b'e':  # APPENDS
        items = self._items()
        self._top(list).extend(items)
      elif op == b's':  # SETITEM
        value, key = self._pop(), self._pop()
        self._set([(key, value)])
      elif op == b'u':  # SETITEMS
        items = self._items()
        self._set(zip(items[::2], items[1::2]))
      elif op == b'c':  # GLOBAL
        module, name = self._line(), self._line()
        self.stack.append(self._global(module, name))
      elif op == b'\x93':  # STACK_GLOBAL
        name, module = self._pop(), self._pop()
        self.stack.append(self._global(module, name))
      elif op == b'R':  # REDUCE
        arguments, call = self._pop(), self._pop()
        self._check(callable(call) and isinstance(arguments, tuple))
        self.stack.append(call(arguments))
      elif op == b'b':  # BUILD: attributes of an OrderedDict, such as _metadata
        self._pop()
        self._top(dict)
      elif op == b'Q':  # BINPERSID
        self.stack.append(self._storage(self._pop()))
      elif op == b'\x80':  # PROTO
        self._take(1)
      elif op == b'\x95':  # FRAME
        self._take(8)
      elif op == b'.':  # STOP
        return self._pop()
      else:
        raise self.file.fail(f'its pickle has opcode {op!r}: not a file of weights alone; {ADVICE}')

  def _check(self, right):
    if not right:
      raise self.file.fail(f'its pickle is damaged near byte {self.at}; fetch it again')

  def _spend(self, number):
    self.left -= number
    if self.left < 0:
      raise self.file.fail(f'its pickle has over {_MOST} parts, too many for weights; {ADVICE}')

  def _take(self, length) -> bytes:
    if self.at + length > self.end:
      raise self.file.fail('its pickle is cut short; fetch it again')
    self.at += length
    return bytes(self.data[self.at - length : self.at])

  def _number(self, layout):
    return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

  def _text(self, data) -> str:
    try:
      return data.decode('utf-8')
    except UnicodeDecodeError:
      self._check(False)

  def _line(self) -> str:
    # No module or class that is of use has a name of more than 200 letters.
    line = bytes(self.data[self.at : min(self.at + 200, self.end)])
    self._check(b'\n' in line)
    return self._text(self._take(line.index(b'\n') + 1)[:-1])

  def _pop(self):
    self._check(self.stack)
    return self.stack.pop()

  def _top(self, kind):
    self._check(self.stack and isinstance(self.stack[-1], kind))
    return self.stack[-1]

  def _items(self) -> list:
    """What came after the last mark."""
    self._check(self.below)
    items, self.stack = self.stack, self.below.pop()
    return items

  def _set(self, pairs):
    # Tensors are named by text; to hash anything else could take forever.
    self._top(dict).update((key, value) for key, value in pairs if isinstance(key, str))

  def _global(self, module, name):
    self._check(isinstance(module, str) and isinstance(name, str))
    if module in ('torch', 'torch.cuda') and name in _DTYPES:
      return _DTYPES[name]
    full = f'{module}.{name}'
    if full not in self.calls:
      shown = full if full.isprintable() else ascii(full)
      raise self.file.fail(f'refers to {shown[:200]}: not a file of weights alone; {ADVICE}')
    return self.calls[full]

  def _storage(self, identity) -> Storage:
    """A storage, from ('storage', type, key, device, count[, (name, start, count) of a part])."""
    self._check(isinstance(identity, tuple) and len(identity) in (5, 6))
    _, dtype, key, _, count, part = (*identity, None)[:6]
    self._check(isinstance(dtype, np.dtype) and isinstance(key, str))
    self._check(part is None or (isinstance(part, tuple) and len(part) == 3))
    _, start, length = part or (None, 0, count)
    self._check(_naturals([count, start, length]) and start + length <= count)
    self._check(self.storages.setdefault(key, (dtype, count)) == (dtype, count))
    return Storage(key, dtype, start, length)

  def _dict(self, arguments) -> dict:
    """An OrderedDict. Python 2 hands over the pairs; Python 3 sets them afterwards."""
    self._check(len(arguments) <= 1)
    pairs = arguments[0] if arguments else []
    self._check(isinstance(pairs, list))
    # One list may be handed over again and again.
    self._spend(len(pairs))
    self._check(all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs))
    return {key: value for key, value in pairs if isinstance(key, str)}

  def _first(self, arguments):
    self._check(arguments)
    return arguments[0]

  def _tensor(self, arguments) -> Tensor:
    """A tensor, from (storage, offset, shape, strides[, requires_grad, hooks[, marks]])."""
    self._check(4 <= len(arguments) <= 7)
    storage, offset, shape, strides = arguments[:4]
    self._check(isinstance(storage, Storage))
    self._check(isinstance(shape, tuple) and isinstance(strides, tuple))
    self._check(len(shape) == len(strides) <= _RANK and _naturals([offset, *shape, *strides]))
    if len(arguments) == 7 and arguments[6]:
      raise self.file.fail(f'holds a tensor marked as negated or conjugated; {ADVICE}')
    return Tensor(storage, offset, shape, strides)


def _naturals(values) -> bool:
  return all(type(value) is int and 0 <= value < 2**63 for value in values)

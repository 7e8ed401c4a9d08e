"""Reads the pickle of a PyTorch state dict and runs nothing of what it says.

A pickle is a program for Python's unpickler. The unpickler asks `find_class` for everything that
has a name and `persistent_load` for everything that lies outside the pickle; those here know the
few names that a state dict needs, and make descriptions of tensors. What an unpickler does without
asking (numbers, text, lists, dicts, its memo) is looked through before it starts.

Source: pickletools (meaning of the opcodes); torch/serialization.py (persistent ids);
torch/_utils.py (arguments of the `_rebuild_*` functions).
"""

import io
import pickle
import pickletools
from typing import NamedTuple

import ml_dtypes
import numpy as np

from dilated_jax.weights.mapped import MappedFile

ADVICE = 'save the weights alone: torch.save(model.state_dict(), FILE)'

# A tensor takes about 30 opcodes and 300 bytes. No opcode makes more than 100 bytes of objects
# beside the text it carries, so both numbers bound memory as well as time.
_OPCODES = 400_000
_BYTES = 32 << 20
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

# The opcodes that torch.save writes for a state dict. Of the others, those of classes (INST, OBJ,
# NEWOBJ) and of sets and bytes are of no use, and two kinds would be harmful: EXT1 to EXT4 may skip
# find_class, and DICT and those of sets hash whatever the file wants.
_ALLOWED = {
  opcode.code.encode('latin-1'): opcode
  for opcode in pickletools.opcodes
  if opcode.name
  in {
    *('PROTO', 'FRAME', 'STOP', 'MARK', 'GLOBAL', 'STACK_GLOBAL', 'REDUCE', 'BUILD', 'BINPERSID'),
    *('NONE', 'NEWTRUE', 'NEWFALSE', 'BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT'),
    *('BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINSTRING', 'SHORT_BINSTRING'),
    *('EMPTY_TUPLE', 'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3', 'EMPTY_LIST', 'APPEND', 'APPENDS'),
    *('EMPTY_DICT', 'SETITEM', 'SETITEMS'),
    *('BINPUT', 'LONG_BINPUT', 'MEMOIZE', 'BINGET', 'LONG_BINGET'),
  }
}
_DAMAGED = 'its pickle is damaged; fetch it again'
# GLOBAL of a name that stands for `_Dict`, called without arguments.
_MAKE_DICT = b'cd\nd\n)R'


class Storage(NamedTuple):
  """A stretch of numbers, or a part of one; counted in numbers, not bytes."""

  key: str
  dtype: np.dtype
  start: int
  count: int


class Tensor(NamedTuple):
  """A view of a storage: offset and strides count numbers, not bytes."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class Pickles:
  """Pickles that follow each other in a file.

  Attributes:
    storages: (dtype, number of numbers) of the storages met so far, by key.
  """

  def __init__(self, file: MappedFile, start: int, end: int):
    """Begins with the first pickle.

    Args:
      file: the file.
      start: offset of the first byte.
      end: offset after the last byte that may be read.
    """
    self.storages = {}
    self._file, self._start = file, start
    self._data = file.data[start : min(end, start + _BYTES)].tobytes()
    self._stream = io.BytesIO(self._data)

  @property
  def at(self) -> int:
    """Offset of the next byte in the file."""
    return self._start + self._stream.tell()

  def load(self):
    """Reads one pickle.

    Returns:
      a dict (entries whose key isn't text are left out), list, tuple, text, number, None, Storage
      or Tensor; lists and dicts may hold themselves.

    Raises:
      InputError: the pickle is damaged, too long, or asks for more than weights need.
    """
    copied, trouble = io.BytesIO(), _DAMAGED
    try:
      self._copy(copied)
    except _Refused as error:
      trouble = str(error)
    copied.seek(0)
    try:
      # What comes before the trouble is read all the same: a name there says better what is wrong.
      return _Unpickler(copied, self.storages).load()
    except _Refused as error:
      trouble = str(error)
    except Exception:  # The documentation of `pickle` lists some and says that there are others.
      pass
    raise self._file.fail(trouble)

  def _copy(self, copied: io.BytesIO) -> None:
    """Copies the next pickle, as far as it is what `torch.save` writes for a state dict."""
    for number in range(_OPCODES):
      start = self._stream.tell()
      code = self._stream.read(1)
      if code and code not in _ALLOWED:
        raise _Refused(f'its pickle has opcode {code!r}: not a file of weights alone; {ADVICE}')
      try:
        opcode, argument = _ALLOWED[code], None
        if opcode.name == 'GLOBAL':  # pickletools would warn of backslashes in it.
          self._stream.readline(), self._stream.readline()
        elif opcode.arg:
          argument = opcode.arg.reader(self._stream)
        if isinstance(argument, str):
          argument.encode()  # The unpickler lets half characters (surrogates) pass.
      except (KeyError, ValueError):
        raise _Refused('its pickle is damaged, too long or cut short; fetch it again') from None
      if opcode.name in ('BINPUT', 'LONG_BINPUT') and argument > number:
        # The memo is an array: one large index would take gigabytes.
        raise _Refused(_DAMAGED)
      if opcode.name == 'EMPTY_DICT':
        # A dict of the unpickler hashes any key, and a tuple of tuples takes forever or overflows
        # the stack.
        copied.write(_MAKE_DICT)
      elif opcode.name != 'FRAME':  # It says how long a part is, which is no longer so.
        copied.write(self._data[start : self._stream.tell()])
      if opcode.name == 'STOP':
        return
    raise _Refused(f'its pickle has over {_OPCODES} parts, too many for weights; {ADVICE}')


class _Refused(Exception):
  """What a pickle wants that weights don't need."""


class _Unpickler(pickle.Unpickler):
  """Makes descriptions of tensors, and nothing else beyond plain data."""

  def __init__(self, stream, storages):
    super().__init__(stream, encoding='utf-8')
    self._storages = storages

  def find_class(self, module, name):
    """What a name stands for: never anything that the file could change, or call for harm."""
    if module in ('torch', 'torch.cuda') and name in _DTYPES:
      return name
    full = f'{module}.{name}'
    if full not in _MAKERS:
      shown = full if full.isprintable() else ascii(full)
      raise _Refused(f'refers to {shown[:200]}: not a file of weights alone; {ADVICE}')
    return _MAKERS[full]

  def persistent_load(self, identity) -> Storage:
    """A storage, from ('storage', type, key, device, count[, (name, start, count) of a part])."""
    _check(isinstance(identity, tuple) and len(identity) in (5, 6))
    _, kind, key, _, count, part = (*identity, None)[:6]
    _check(isinstance(kind, str) and kind in _DTYPES and isinstance(key, str))
    _check(part is None or (isinstance(part, tuple) and len(part) == 3))
    _, start, length = part or (None, 0, count)
    _check(_naturals([count, start, length]) and start + length <= count)
    dtype = _DTYPES[kind]
    _check(self._storages.setdefault(key, (dtype, count)) == (dtype, count))
    return Storage(key, dtype, start, length)


class _Maker:
  """Something to be called; a plain function has attributes that a file could set by BUILD."""

  __slots__ = ('_make',)

  def __init__(self, make):
    self._make = make

  def __call__(self, *arguments):
    return self._make(*arguments)

  def __setstate__(self, state):
    raise ValueError


class _Dict(dict):
  """A dict with text as keys. Tensors are named by text; others are not hashed and left out."""

  __slots__ = ()

  def __setitem__(self, key, value):
    if isinstance(key, str):
      super().__setitem__(key, value)

  def __setstate__(self, state):
    """Leaves out the attributes of an OrderedDict, such as _metadata."""


def _ordered_dict(pairs=None):
  """An OrderedDict. Python 2 hands over the pairs; Python 3 sets them afterwards."""
  result = _Dict()
  _check(pairs is None or isinstance(pairs, list))
  for pair in pairs or ():
    _check(isinstance(pair, list | tuple) and len(pair) == 2)
    result[pair[0]] = pair[1]
  if pairs:
    pairs.clear()  # A file could hand over one list again and again.
  return result


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, marks=None) -> Tensor:
  _check(isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple))
  _check(len(shape) == len(strides) <= _RANK and _naturals([offset, *shape, *strides]))
  if marks:
    raise _Refused(f'holds a tensor marked as negated or conjugated; {ADVICE}')
  return Tensor(storage, offset, shape, strides)


def _first(value, *_others):
  return value


# What a name may stand for, beside the types of storages.
_MAKERS = {
  'd.d': _Maker(_Dict),
  'collections.OrderedDict': _Maker(_ordered_dict),
  'torch.Size': _Maker(_first),
  'torch._utils._rebuild_tensor': _Maker(_tensor),
  'torch._utils._rebuild_tensor_v2': _Maker(_tensor),
  'torch._utils._rebuild_parameter': _Maker(_first),
  'torch._utils._rebuild_parameter_with_state': _Maker(_first),
  'torch.nn.parameter.Parameter': _Maker(_first),
}


def _naturals(values) -> bool:
  return all(type(value) is int and 0 <= value < 2**63 for value in values)


def _check(right):
  if not right:
    raise ValueError  # Told of as damage, see `Pickles.load`.

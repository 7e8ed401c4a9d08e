"""Reads Keras' files of weights (.h5, .weights.h5) without HDF5.

What h5py writes unless told otherwise is read: groups as symbol tables, numbers in one piece or in
chunks, gzip and shuffle. Of what it writes for `libver='latest'` or `track_order`, groups of up to
seven links and data sets in one piece are.

Source: HDF5 File Format Specification, version 3.0; its section numbers are given below.
"""

import math
import struct
import zlib

import numpy as np

from dilated_jax.weights.mapped import MappedFile

_SIGNATURE = b'\x89HDF\r\n\x1a\n'
_UNDEFINED = 2**64 - 1

# Kinds of messages in an object header, IV.A.2.
_SPACE, _LINK_INFO, _TYPE, _LINK = 1, 2, 3, 6
_LAYOUT, _FILTERS, _CONTINUATION, _TABLE = 8, 11, 16, 17
_USED = {_SPACE, _LINK_INFO, _TYPE, _LINK, _LAYOUT, _FILTERS, _TABLE}

# Filters, IV.A.2.l.
_GZIP, _SHUFFLE = 1, 2

# Bit offset, precision, exponent location and size, mantissa location and size, exponent bias.
_FLOATS = {
  2: (0, 16, 10, 5, 0, 10, 15),
  4: (0, 32, 23, 8, 0, 23, 127),
  8: (0, 64, 52, 11, 0, 52, 1023),
}

# Pieces of format to look at; a data set takes about 25.
_LOOKS = 300_000
# Letters in a path.
_PATH = 500
# Memory to take, in sizes of the file; weights hardly shrink when packed.
_GROWTH = 8

_ADVICE = 'copy it with h5py into a new file: no compression, libver or track_order'


def matches(file: MappedFile) -> bool:
  """Whether a file is HDF5.

  Args:
    file: any file.

  Returns:
    True if so.
  """
  return file.data[:8].tobytes() == _SIGNATURE


def read(file: MappedFile) -> dict[str, np.ndarray]:
  """Reads all data sets.

  Args:
    file: an HDF5 file.

  Returns:
    path ('group/.../name', no leading slash) and array of each data set, sorted by name in each
    group. The arrays are read-only and have the file's dtypes: integers or float16, float32,
    float64 of either byte order. They are views of the file where it keeps them in one piece.

  Raises:
    InputError: the file is damaged, or keeps something in a form that is not read here.
  """
  return _Reader(file).read()


class _Reader:
  """A walk through one file.

  What it looks at and what memory it takes is counted: no file can say anything that makes it go
  on for ever.
  """

  def __init__(self, file):
    self.file, self.fail = file, file.fail
    self.looks = _LOOKS
    self.room = _GROWTH * file.size + 2**20

  def read(self):
    arrays, groups = {}, set()
    pending = [('', self.root())]
    while pending:
      path, address = pending.pop()
      what = repr(path) if path else 'the root group'
      messages = self.messages(address, what)
      if _LAYOUT in messages:
        if path in arrays:
          raise self.fail(f'{what} is there twice: damaged; fetch it again')
        arrays[path] = self.data_set(messages, what)
        continue
      if address in groups:
        raise self.fail(f'{what} is a group with two names, or inside itself; {_ADVICE}')
      groups.add(address)
      for name, target in sorted(self.links(messages, what), reverse=True):
        pending.append((self.join(path, name), target))
    return arrays

  def root(self):
    """Address of the root group's object header (II.A)."""
    (version,) = self.look('<8xB', 0)
    if version > 3:
      raise self.fail(f'is HDF5 with superblock {version}, and 0 to 3 are known; {_ADVICE}')
    sizes = self.look('<13xBB' if version < 2 else '<9xBB', 0)
    if sizes != (8, 8):
      raise self.fail(f'is HDF5 with addresses of {sizes[0]} bytes, not 8; {_ADVICE}')
    if version < 2:
      base, _, end, _, _, root = self.look('<6Q', 24 if version == 0 else 28)
    else:
      base, _, end, root = self.look('<4Q', 12)
    if base:
      raise self.fail(f'is HDF5 behind {base} bytes of something else; {_ADVICE}')
    if end > self.file.size:
      raise self.fail(f'should have {end} bytes, and has {self.file.size}: fetch it again')
    return root

  def messages(self, address, what):
    """Places and lengths of an object header's messages, by kind (IV.A.1)."""
    signature, version, flags = self.look('<4sBB', address)
    if (signature, version) == (b'OHDR', 2):
      head, edges = '<BHB2x' if flags & 4 else '<BHB', (4, 4)
      at = address + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
      width = 1 << (flags & 3)
      length = int.from_bytes(self.look(f'{width}s', at)[0], 'little')
      blocks = [(at + width, length)]
    elif signature[:2] == b'\1\0':
      head, edges = '<HHB3x', (0, 0)
      blocks = [(address + 16, *self.look('<8xI', address))]
    else:
      raise self.fail(f'{what} has no object header: damaged; fetch it again')
    found = {}
    while blocks:
      at, length = blocks.pop()
      end = at + length
      while at + struct.calcsize(head) <= end:
        kind, size, flags = self.look(head, at)
        at += struct.calcsize(head)
        if kind == _CONTINUATION:
          # Signature and checksum around the messages, in the newer form.
          start, length = self.look('<QQ', at)
          blocks.append((start + edges[0], length - sum(edges)))
        elif kind in _USED:
          if flags & 2:
            raise self.fail(f'{what} shares its description with others; {_ADVICE}')
          found.setdefault(kind, []).append((at, size))
        at += size
        if at > end:
          raise self.fail(f'{what} has a header that is damaged; fetch it again')
    return found

  def links(self, messages, what):
    """(name, address of the object header) of all links of a group."""
    if not {_LINK_INFO, _TABLE} & messages.keys():
      raise self.fail(f'{what} is neither a group nor a data set; leave it out, or fetch it again')
    for info in messages.get(_LINK_INFO, ()):
      (flags,) = self.part('<xB', info)
      (heap,) = self.part('<Q', info, 10 if flags & 1 else 2)
      if heap != _UNDEFINED:
        raise self.fail(f'{what} has its links in a heap, which is not read; {_ADVICE}')
    links = [self.link(message, what) for message in messages.get(_LINK, ())]
    for table in messages.get(_TABLE, ()):
      links += self.table(*self.part('<QQ', table), what)
    return links

  def link(self, message, what):
    """A link message (IV.A.2.g)."""
    (flags,) = self.part('<xB', message)
    at, kind, width = 2, 0, 1 << (flags & 3)
    if flags & 8:
      (kind,), at = self.part('<B', message, at), at + 1
    at += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    length = int.from_bytes(self.part(f'{width}s', message, at)[0], 'little')
    at += width
    (name,) = self.part(f'{min(length, _PATH)}s', message, at)
    if kind:
      raise self.fail(f'{what} links {name!r} to elsewhere; {_ADVICE}')
    return name, *self.part('<Q', message, at + length)

  def table(self, tree, heap, what):
    """Links of a group in the older form: B-tree, symbol nodes, local heap (III.A, B and D)."""
    signature, length, names = self.look('<4s4xQ8xQ', heap)
    if signature != b'HEAP' or names + length > self.file.size:
      raise self.fail(f'{what} lacks the heap of its names: damaged; fetch it again')
    links, nodes, seen = [], [tree], set()
    while nodes:
      node = nodes.pop()
      signature, count = self.look('<4s2xH', node)
      if node in seen:
        raise self.fail(f'the index of {what} runs in a circle: damaged; fetch it again')
      seen.add(node)
      if signature == b'TREE':
        pairs = self.numbers(node + 24, count, 2)
        nodes += [child for _key, child in reversed(pairs)]
      elif signature == b'SNOD':
        for offset, target, kind, _, _ in self.numbers(node + 8, count, 5):
          start = names + offset
          name = self.file.data[start : min(start + _PATH, names + length)].tobytes()
          name = name.split(b'\0', 1)[0]
          if kind & 0xFFFFFFFF > 1:
            raise self.fail(f'{what} links {name!r} to elsewhere; {_ADVICE}')
          links.append((name, target))
          self.take(len(name) + 100)
      else:
        raise self.fail(f'the index of {what} is damaged; fetch it again')
    return links

  def join(self, path, name):
    try:
      name = name.decode('utf-8')
    except UnicodeDecodeError:
      name = ''
    path = f'{path}/{name}' if path else name
    if not name or len(path) > _PATH:
      raise self.fail(f'{path[:100]!r} has a name that is empty, too long or not UTF-8; {_ADVICE}')
    self.take(len(path) + 100)
    return path

  def data_set(self, messages, what):
    if _SPACE not in messages or _TYPE not in messages:
      raise self.fail(f'{what} has no shape or no type: damaged; fetch it again')
    shape = self.shape(messages[_SPACE][0], what)
    dtype = self.dtype(messages[_TYPE][0], what)
    layout = messages[_LAYOUT][0]
    version, kind = self.part('<BB', layout)
    length = dtype.itemsize * math.prod(shape)
    if not length:
      raise self.fail(f'{what} is empty, of shape {shape}; leave it out')
    if version == 3 and kind == 2:
      filters = self.filters(messages[_FILTERS][0], what) if _FILTERS in messages else []
      return self.chunks(layout, shape, dtype, filters, what)
    if version in (3, 4) and kind == 0:
      (stored,), place = self.part('<2xH', layout), layout[0] + 4
    elif version in (3, 4) and kind == 1:
      place, stored = self.part('<2xQQ', layout)
    else:
      raise self.fail(
        f'{what} is kept in a form (layout {version}.{kind}) that is not read; {_ADVICE}'
      )
    if place == _UNDEFINED:
      raise self.fail(f'{what} was never written; leave it out')
    if stored != length:
      raise self.fail(f'{what} has {stored} bytes and needs {length}: damaged; fetch it again')
    return self.file.array(place, shape, dtype, what)

  def shape(self, message, what):
    """Sides of a data set (IV.A.2.b)."""
    version, rank, kind = self.part('<BBxB', message)
    if version not in (1, 2) or rank > 32 or (version == 2 and kind == 2):
      raise self.fail(f'{what} is empty or damaged; leave it out, or fetch it again')
    return self.part(f'<{rank}Q', message, 8 if version == 1 else 4) if rank else ()

  def dtype(self, message, what):
    """NumPy's name for a type of numbers (IV.A.2.d)."""
    kind, order, sign, size = self.part('<BBBxI', message)
    code = None
    if kind & 15 == 0 and size in (1, 2, 4, 8) and self.part('<HH', message, 8) == (0, 8 * size):
      code = 'i' if order & 8 else 'u'
    elif kind & 15 == 1 and size in _FLOATS and sign == 8 * size - 1 and not order & 64:
      code = 'f' if self.part('<HHBBBBI', message, 8) == _FLOATS[size] else None
    if code is None:
      raise self.fail(f'{what} holds neither whole integers nor IEEE floats; leave it out')
    return np.dtype(f'{">" if order & 1 else "<"}{code}{size}')

  def filters(self, message, what):
    """Numbers of the filters, in the order in which they were applied (IV.A.2.l)."""
    version, count = self.part('<BB', message)
    at, kinds = 8 if version == 1 else 2, []
    for _ in range(count):
      (kind,) = self.part('<H', message, at)
      if kind not in (_GZIP, _SHUFFLE):
        raise self.fail(f'{what} is packed by HDF5 filter {kind}, which is not read; {_ADVICE}')
      kinds.append(kind)
      if version == 1:
        name, values = self.part('<2xH2xH', message, at)
        at += 8 + name + 4 * (values + values % 2)
      else:
        (values,) = self.part('<4xH', message, at)
        at += 6 + 4 * values
    return kinds

  def chunks(self, layout, shape, dtype, filters, what):
    """A data set in chunks, put together (IV.A.2.i, III.A.1)."""
    rank = len(shape)
    dimensions, tree = self.part('<2xBQ', layout)
    sides = self.part(f'<{dimensions}I', layout, 11) if dimensions == rank + 1 else (0,)
    chunk, length = sides[:-1], math.prod(sides)
    if not length or sides[-1] != dtype.itemsize:
      raise self.fail(f'{what} has impossible chunks: damaged; fetch it again')
    number = math.prod(-(-side // step) for side, step in zip(shape, chunk))
    self.take(number * (length + 100))
    result, seen = np.empty(shape, dtype), set()
    for size, skipped, place, start in self.leaves(tree, rank, what):
      inside = all(at < side and at % step == 0 for at, side, step in zip(start, shape, chunk))
      if not inside or start in seen:
        raise self.fail(f'{what} has a chunk at {start}: damaged; fetch it again')
      seen.add(start)
      self.take(size)
      data = self.file.array(place, (size,), np.uint8, what)
      used = [kind for index, kind in enumerate(filters) if not skipped >> index & 1]
      data = self.unpack(data, used, length, dtype.itemsize, what)
      target = result[tuple(slice(at, at + step) for at, step in zip(start, chunk))]
      block = np.ndarray(chunk, dtype, data)
      target[...] = block[tuple(slice(side) for side in target.shape)]
    if len(seen) != number:
      raise self.fail(f'{what} has {len(seen)} chunks out of {number}; {_ADVICE}')
    result.flags.writeable = False
    return result

  def leaves(self, tree, rank, what):
    """Yields length, mask of filters left out, place and indices of the first number of chunks."""
    nodes, seen, key = [tree], set(), f'<II{rank}Q8xQ'
    while nodes:
      node = nodes.pop()
      signature, kind, level, count = self.look('<4sBBH', node)
      if (signature, kind) != (b'TREE', 1) or node in seen:
        raise self.fail(f'the index of {what} is damaged; fetch it again')
      seen.add(node)
      for index in range(count):
        size, skipped, *start, child = self.look(key, node + 24 + index * struct.calcsize(key))
        if level:
          nodes.append(child)
        else:
          yield size, skipped, child, tuple(start)

  def unpack(self, data, filters, length, itemsize, what):
    """Undoes the filters of a chunk, the last one first."""
    for kind in reversed(filters):
      if kind == _GZIP:
        stream = zlib.decompressobj()
        try:
          # Room for one byte too many: the checksum is looked at where the stream ends.
          data = stream.decompress(data, length + 1)
        except zlib.error:
          data = b''
        data = data if stream.eof else b''
      elif len(data) == length:
        # Shuffled: the first bytes of all numbers, then the second bytes, and so on.
        data = np.frombuffer(data, np.uint8).reshape(itemsize, -1).T.tobytes()
    if len(data) != length:
      raise self.fail(f'{what} has a chunk that is damaged; fetch it again')
    return data

  def look(self, layout, offset):
    """Unpacks a piece of format anywhere in the file."""
    self.spend(1)
    data = self.file.bytes(offset, struct.calcsize(layout), 'a piece of its format')
    return struct.unpack(layout, data)

  def part(self, layout, message, at=0):
    """Unpacks a piece of a message, given as (place, length)."""
    if at + struct.calcsize(layout) > message[1]:
      raise self.fail('has a message cut short: damaged; fetch it again')
    return self.look(layout, message[0] + at)

  def numbers(self, offset, rows, columns):
    """A table of addresses or lengths."""
    self.spend(rows)
    if not rows:
      return []
    return self.file.array(offset, (rows, columns), '<u8', 'a piece of its format').tolist()

  def spend(self, looks):
    self.looks -= looks
    if self.looks < 0:
      raise self.fail(f'has over {_LOOKS} pieces of format: damaged, or more than weights')

  def take(self, length):
    self.room -= length
    if self.room < 0:
      raise self.fail(f'would unpack to more than {_GROWTH} times its size; {_ADVICE}')

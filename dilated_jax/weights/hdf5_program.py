"""Says where the arrays of an HDF5 file lie; a program of its own, which `keras` runs.

  python hdf5_program.py FILE UNPACKED

It prints JSON, {"data_sets": [[path, dtype, shape, whether it is in UNPACKED, offset], ...]} or
{"refused": why}, and writes the data sets that FILE keeps in chunks to UNPACKED.

libhdf5 does not bear every damaged file: of some that were 3 kB long and had a few wrong bytes,
version 2.0 took more than 8 GB of memory, or did not come to an end. In a process of its own it has
limits, and a crash is an answer.
"""

import itertools
import json
import math
import os
import resource
import sys

import h5py
from h5py import h5d, h5g, h5l, h5o, h5s, h5t, h5z
import numpy as np

# A data set takes one, and two or three groups around it.
_LINKS = 50_000
# Letters in a path.
_PATH = 500
# Bytes to unpack, in sizes of the file; weights hardly shrink when packed.
_GROWTH = 8
# Bytes of memory. The largest data set of VGG has 411 MB, and is packed in pieces if it is packed.
_MEMORY = 1 << 30

_FILTERS = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE)
_ADVICE = 'copy it with h5py into a new file: gzip or no compression, no links, one file'


class Refused(Exception):
  """Why a file is not read, in words that follow its name."""


def main(path: str, unpacked: str) -> None:
  """Prints the answer."""
  size = os.path.getsize(path)
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
  seconds = 10 + (size >> 23)  # 8 MB a second; gzip is ten times as fast.
  resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
  with open(unpacked, 'wb') as output, h5py.File(path, 'r', locking=False) as file:
    # From here on nothing can be opened: no file that this one names.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    try:
      answer = {'data_sets': _data_sets(file.id, size, output)}
    except Refused as error:
      answer = {'refused': str(error)}
    print(json.dumps(answer), flush=True)


def _data_sets(root, size, output) -> list:
  """All data sets below a group, sorted by name in each group."""
  result, groups, links, room = [], set(), 0, _GROWTH * size + 2**20
  pending = [('', root)]
  while pending:
    path, item = pending.pop()
    what = repr(path) if path else 'the root group'
    if isinstance(item, h5d.DatasetID):
      shape, dtype, offset = _described(item, what)
      unpacked = offset is None
      if unpacked:
        needed = _bytes_to_unpack(item, shape, dtype, what)
        if needed > _MEMORY // 2:
          raise Refused(f'{what} takes {needed} bytes to unpack, too many at once; {_ADVICE}')
        room -= needed
        if room < 0:
          raise Refused(f'would unpack to more than {_GROWTH} times its size; {_ADVICE}')
        offset = output.tell()
        output.write(_unpacked(item, shape, dtype, what))
      result.append((path, dtype.str, shape, unpacked, offset))
      continue
    if not isinstance(item, h5g.GroupID):
      raise Refused(f'{what} is neither a group nor a data set; leave it out')
    address = h5o.get_info(item).addr
    if address in groups:
      raise Refused(f'{what} is a group with two names, or inside itself; {_ADVICE}')
    groups.add(address)
    names = _links(item, what)
    links += len(names)
    if links > _LINKS:
      raise Refused(f'has over {_LINKS} links, too many for weights: is it damaged?')
    for name in sorted(names, reverse=True):
      inner = _join(path, name)
      try:
        pending.append((inner, h5o.open(item, name)))
      except Exception:  # h5py makes many kinds of errors of those of HDF5.
        raise Refused(
          f'{inner!r} is neither a group nor a data set that HDF5 can read; leave it out, or fetch '
          'the file again'
        ) from None
  return result


def _links(group, what) -> set[bytes]:
  """Names of all that is in a group."""
  found = []
  group.links.iterate(lambda name, info: found.append((name, info.type)), info=True)
  for name, kind in found:
    if kind != h5l.TYPE_HARD:
      raise Refused(f'{what} links {name!r} to elsewhere; {_ADVICE}')
  names = {name for name, _ in found}
  if len(names) < len(found):
    raise Refused(f'{what} has a name twice: damaged; fetch it again')
  return names


def _join(path, name) -> str:
  try:
    name = name.decode('utf-8')
  except UnicodeDecodeError:
    name = ''
  path = f'{path}/{name}' if path else name
  if not name or '/' in name or len(path) > _PATH:
    raise Refused(f'{path[:100]!r} has a name that is empty, too long or not UTF-8; {_ADVICE}')
  return path


def _described(data_set, what) -> tuple[tuple[int, ...], np.dtype, int | None]:
  """Shape, dtype and, of a data set in one piece, its offset in the file."""
  plan = data_set.get_create_plist()
  layout = plan.get_layout()
  if layout == h5d.VIRTUAL or plan.get_external_count():
    raise Refused(f'{what} lies in other files; {_ADVICE}')
  kind = data_set.get_type()
  dtype = kind.dtype if isinstance(kind, h5t.TypeIntegerID | h5t.TypeFloatID) else None
  # HDF5 has numbers with any layout of bits; NumPy's are the usual ones.
  if dtype is None or dtype.itemsize > 8 or not kind.equal(h5t.py_create(dtype)):
    raise Refused(f'{what} holds neither whole integers nor IEEE floats; leave it out')
  space = data_set.get_space()
  shape = space.get_simple_extent_dims() if space.get_simple_extent_type() != h5s.NULL else (0,)
  length, stored = dtype.itemsize * math.prod(shape), data_set.get_storage_size()
  if not length:
    raise Refused(f'{what} is empty, of shape {shape}; leave it out')
  offset = data_set.get_offset() if layout == h5d.CONTIGUOUS else None
  if layout == h5d.CONTIGUOUS and offset is None:
    raise Refused(f'{what} was never written; leave it out')
  if layout != h5d.CHUNKED and stored != length:
    raise Refused(f'{what} has {stored} bytes and needs {length}: damaged; fetch it again')
  return shape, dtype, offset


def _bytes_to_unpack(data_set, shape, dtype, what) -> int:
  """What a data set takes when it is put together."""
  plan = data_set.get_create_plist()
  for index in range(plan.get_nfilters()):
    kind = plan.get_filter(index)[0]
    if kind not in _FILTERS:
      raise Refused(f'{what} is packed by HDF5 filter {kind}, which is not read; {_ADVICE}')
  if plan.get_layout() == h5d.COMPACT:
    return dtype.itemsize * math.prod(shape)
  number = math.prod(map(len, _starts(plan, shape)))
  return number * (dtype.itemsize * math.prod(plan.get_chunk()) + 100)


def _starts(plan, shape) -> list[range]:
  """Where the chunks of a data set start, along each axis."""
  return [range(0, side, step) for side, step in zip(shape, plan.get_chunk())]


def _unpacked(data_set, shape, dtype, what) -> np.ndarray:
  """A data set, put together by HDF5, which would put in zeros for chunks that are missing."""
  plan = data_set.get_create_plist()
  if plan.get_layout() == h5d.CHUNKED:
    chunks = list(map(data_set.get_chunk_info_by_coord, itertools.product(*_starts(plan, shape))))
    found = sum(chunk.byte_offset is not None for chunk in chunks)
    if found < len(chunks):
      raise Refused(f'{what} has {found} chunks out of {len(chunks)}; {_ADVICE}')
  values = np.empty(shape, dtype)
  data_set.read(h5s.ALL, h5s.ALL, values)
  return values


if __name__ == '__main__':
  main(*sys.argv[1:])

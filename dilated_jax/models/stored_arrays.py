"""Arrays in a folder as Orbax stores them: a Zarr array each, by its path, in an OCDBT database.

Reading and writing go by TensorStore, which Orbax is built on. Orbax would hold all arrays in
memory while it writes; where it meets damage while it reads, it leaves threads and tasks behind
that fail later; and neither of them asks how much memory a stranger's file may take.
"""

from collections.abc import Callable
import json
import math
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from dilated_jax.errors import InputError
from dilated_jax.files import decode_json

_PIECE = 8 << 20  # Bytes.


def write(folder, variables, release: Callable[[], None] = lambda: None) -> None:
  """Writes arrays piece by piece, so that views of mapped files are never in memory as a whole.

  Orbax writes zeros, which take no memory and no room on disk, and all else that a checkpoint has;
  then the values are filled in.

  Args:
    folder: that is made.
    variables: nested dicts of NumPy arrays.
    release: called after each piece.
  """
  zeros = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), variables)
  pieces = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=_PIECE), variables)
  with _writer() as writer:
    writer.save(folder, ocp.args.PyTreeSave(zeros, save_args=pieces))
  context, writes, size = ts.Context(), [], 0
  for name, value in _named(variables):
    store = ts.open(_array(folder, name), open=True, context=context).result()
    for piece in _slices(store):
      part = np.asarray(value[piece], order='C')
      writes.append(store[piece].write(part))
      size += part.nbytes
      if size >= _PIECE:  # Small arrays together, for fewer files.
        _finish(writes)
        writes, size = [], 0
        release()
  _finish(writes)


def read(folder, like):
  """Reads arrays; call `check_files` before.

  Args:
    folder: from `write`, or by Orbax.
    like: nested dicts of `jax.ShapeDtypeStruct`, with the sharding that the arrays are to have.

  Returns:
    Arrays in the same structure.

  Raises:
    ValueError: the folder is damaged, or holds other arrays.
  """
  folder = pathlib.Path(folder)
  expected = dict(_named(like))
  found = _metadata(folder)
  if missing := sorted(expected.keys() - found.keys()):
    raise ValueError(f'{missing[0]} is not there')
  if beyond := sorted(found.keys() - expected.keys()):
    raise ValueError(f'there is {beyond[0]} as well')
  for name, x in expected.items():
    shape = tuple(found[name]['shape'])
    if shape != x.shape:
      raise ValueError(f'{name} has the shape {shape}, not {x.shape}')
    _check_chunks(name, found[name], math.prod(shape))
  context = ts.Context()
  opened = [ts.open(_array(folder, name), open=True, context=context) for name in expected]
  reads = [store.result().read() for store in opened]
  arrays = [
    jax.device_put(np.asarray(value.result(), x.dtype), x.sharding)
    for value, x in zip(reads, expected.values(), strict=True)
  ]
  return jax.tree.unflatten(jax.tree.structure(like), arrays)


# Weights hardly shrink when they are packed, and are at most written twice.
_GROWTH, _COPIES, _ROOM = 64, 4, 1 << 30


def check_files(folder, like) -> None:
  """Refuses, before anything is read, files that can't be those of the arrays.

  Args:
    folder: existing folder.
    like: arrays, or what has their `shape` and `dtype`, in any structure.

  Raises:
    InputError: a file is a pipe or a device, or files and arrays differ in size beyond reason.
  """
  there = size_of_files(folder)
  needed = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(like))
  # TensorStore would fill with zeros what is not there, and read whole what is.
  if needed > _ROOM + _GROWTH * there or there > _ROOM + _COPIES * needed:
    raise InputError(
      f'{folder}: the network that is described takes {needed / 1e6:.1f} MB, and the files here '
      f'{there / 1e6:.1f} MB: they do not belong together'
    )


def size_of_files(folder) -> int:
  """Bytes of all files of a folder.

  Raises:
    InputError: one is a pipe or a device, of which a read may never end, or a link to a folder.
  """
  total = 0
  for path, folders, names in os.walk(folder):
    for inner in (pathlib.Path(path, name) for name in (*folders, *names)):
      if inner.is_file():
        total += inner.stat().st_size
      elif inner.is_symlink() or (inner.exists() and not inner.is_dir()):
        raise InputError(f'{inner}: is neither a file nor a folder; nothing is read from it')
  return total


def check_arrays(folder, like) -> None:
  """Refuses arrays and pieces that are larger than any that is expected, by what they announce.

  Args:
    folder: written by Orbax.
    like: arrays, or what has their `shape` and `dtype`, in any structure.

  Raises:
    ValueError: there is one, or the database is damaged.
  """
  most = max(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(like))
  for name, about in _metadata(pathlib.Path(folder)).items():
    size = math.prod(about['shape'])
    if size * _item_size(about) > max(most, _PIECE):
      raise ValueError(f'{name} has the shape {tuple(about["shape"])}')
    _check_chunks(name, about, size)


def _metadata(folder: pathlib.Path) -> dict[str, dict]:
  """What the arrays say of themselves, by their names."""
  database = ts.KvStore.open(_database(folder)).result()
  keys = [key.decode() for key in database.list().result()]
  keys = [key for key in keys if key.endswith('/.zarray')]
  reads = [database.read(key) for key in keys]
  found = {}
  for key, value in zip(keys, reads, strict=True):
    name, about = key.removesuffix('/.zarray'), decode_json(value.result().value)
    if not (isinstance(about, dict) and _sizes(about.get('shape')) and _sizes(about.get('chunks'))):
      raise ValueError(f'{name} has no shape')
    found[name] = about
  return found


def _sizes(value) -> bool:
  return isinstance(value, list) and all(isinstance(x, int) and x >= 0 for x in value)


def _item_size(about: dict) -> int:
  kind = str(about.get('dtype'))
  try:
    return jnp.dtype(kind).itemsize
  except TypeError:
    raise ValueError(f'{kind!r} is no type of numbers') from None


def _check_chunks(name: str, about: dict, size: int) -> None:
  """TensorStore takes the memory of a whole piece, whatever part of it is asked for."""
  if math.prod(about['chunks']) > max(size, 1):
    raise ValueError(f'{name} has pieces that are larger than itself, {about["chunks"]}')
  packed = about.get('compressor')
  if packed is not None and not (isinstance(packed, dict) and packed.get('id') == 'zstd'):
    raise ValueError(f'{name} is packed by {json.dumps(packed)[:40]}, not by zstd')


def _named(tree) -> list[tuple]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [(jax.tree_util.keystr(path, simple=True, separator='.'), leaf) for path, leaf in leaves]


def _database(folder) -> dict:
  return {'driver': 'ocdbt', 'base': {'driver': 'file', 'path': f'{folder}/'}}


def _array(folder, name: str) -> dict:
  return {
    'driver': 'zarr',
    'kvstore': _database(folder) | {'path': f'{name}/'},
    'fill_missing_data_reads': False,
  }


def _slices(store) -> list:
  """Pieces along the output channels, the first axis in most files: each is read in one go."""
  if not store.ndim:
    return [...]
  length, step = store.shape[-1], store.chunk_layout.write_chunk.shape[-1]
  return [(..., slice(start, min(start + step, length))) for start in range(0, length, step)]


def _finish(writes) -> None:
  for write in writes:
    write.result()


def _writer() -> ocp.Checkpointer:
  # For this process alone: Orbax would wait for all processes to join in.
  alone = ocp.options.MultiprocessingOptions(
    primary_host=jax.process_index(),
    active_processes={jax.process_index()},
    barrier_sync_key_prefix=f'weights_{jax.process_index()}',
  )
  handler = ocp.PyTreeCheckpointHandler(
    type_handler_registry=ocp.type_handlers.create_type_handler_registry(
      # Orbax would copy all arrays first.
      (np.ndarray, ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)),
      (jax.Array, ocp.type_handlers.ArrayHandler()),  # Orbax warns without one.
    ),
    multiprocessing_options=alone,
  )
  return ocp.Checkpointer(handler, multiprocessing_options=alone)

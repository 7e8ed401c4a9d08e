"""Weights folders: an Orbax checkpoint, `model.json`, and the checksums of both."""

import functools
import hashlib
import json
import math
import pathlib

from absl import logging
import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from dilated_jax import checksums
from dilated_jax.errors import InputError, first_line
from dilated_jax.files import defer_signals, replace_folder, system_errors, write_atomic
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec, load_spec
from dilated_jax.temporary import temporary_folder


def save_weights(folder, spec: ModelSpec, variables, release=lambda: None) -> None:
  """Writes a weights folder: an Orbax checkpoint, `model.json`, and `checksums.json` of both.

  A folder that was there is replaced after all is written. Arrays are written piece by piece, so
  that views of a mapped file, transposed or not, are never held in memory as a whole.

  Args:
    folder: where to.
    spec: what the weights are.
    variables: of the whole network.
    release: called after each piece.
  """
  check_weights_folder(folder)
  folder = pathlib.Path(folder).resolve()  # A link stays a link.
  with temporary_folder(folder) as temporary:
    with defer_signals(), system_errors(folder):
      _write(temporary / 'checkpoint', jax.tree.map(np.asarray, variables), release)
    content = json.dumps(spec.to_json(), indent=2)
    write_atomic(temporary / 'model.json', content.encode() + b'\n')
    checksums.write_checksums(temporary)
    replace_folder(temporary, folder)


def check_weights_folder(folder) -> None:
  """Makes sure that a folder may be written or replaced.

  Raises:
    InputError: it is a file, or has something else in it than weights.
  """
  folder = pathlib.Path(folder)
  if folder.exists() and not folder.is_dir():
    raise InputError(f'{folder}: is a file; name a folder for the weights')
  found = {path.name for path in folder.iterdir()} if folder.exists() else set()
  others = sorted(found - {'model.json', 'checkpoint', checksums.FILE})
  if others:
    raise InputError(
      f'{folder}: holds other files than weights ({others[0]}) and would be replaced; '
      'choose another folder'
    )


def load_weights(folder, *, to_use: bool = True) -> Segmenter:
  """Reads a weights folder.

  Args:
    folder: written by `save_weights`.
    to_use: whether for predictions, so that layers that were never trained are told in the log;
      else to start from.

  Returns:
    The network, its variables and its spec.

  Raises:
    InputError: the folder is none, is damaged, or does not fit its own description.
  """
  folder = pathlib.Path(folder).absolute()
  spec = load_spec(folder)
  if to_use and spec.untrained:
    logging.warning(
      '%s: %s is untrained, so that predictions are noise; these weights are for training to start '
      'from', folder, ', '.join(spec.untrained),
    )  # fmt: skip
  model = spec.create()
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  with checksums.checked_meanwhile(folder):
    like = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), abstract_variables(model)
    )
    _check_size(folder, like)
    try:
      with _reader() as reader:
        variables = reader.restore(folder / 'checkpoint', like)
    except Exception as error:  # Orbax and TensorStore have many ways to say it.
      raise InputError(
        f'{folder}/checkpoint: these weights are damaged or not those of a {spec.model} '
        f'({first_line(error)})'
      ) from error
  if name := not_finite(variables):
    raise InputError(
      f'{folder}/checkpoint: {name} holds NaN or infinity, and every prediction would be noise: '
      'these weights are of a training that diverged, or damaged'
    )
  return Segmenter(model, variables, spec)


# Weights hardly shrink when they are packed. What a stranger's description asks for beyond that is
# not there, and TensorStore would fill it with zeros.
_GROWTH, _ROOM = 64, 1 << 30


def _check_size(folder: pathlib.Path, like) -> None:
  """Refuses, before memory is taken, a network that the files of its weights can't fill."""
  needed = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(like))
  files = (folder / 'checkpoint').rglob('*')
  there = sum(path.stat().st_size for path in files if path.is_file())
  if needed > _ROOM + _GROWTH * there:
    raise InputError(
      f'{folder}: model.json describes a network of {needed / 1e9:.1f} GB, and the checkpoint has '
      f'{there / 1e6:.1f} MB: they do not belong together'
    )


def not_finite(variables) -> str | None:
  """The name of the first array that holds NaN or infinity, or None."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    values = np.asarray(leaf)
    with np.errstate(over='ignore', invalid='ignore'):
      # The sum is fast and needs no memory; it may also overflow where all values are finite.
      if values.dtype.kind != 'f' or np.isfinite(values.sum()) or np.isfinite(values).all():
        continue
    return jax.tree_util.keystr(path, simple=True, separator='/')
  return None


def abstract_variables(model: SegmentationModel):
  """The shapes and dtypes of a network's variables; nothing is computed."""
  return jax.tree.map(lambda leaf: leaf, _abstract_variables(model))  # The caller's own.


@functools.lru_cache(maxsize=16)  # Tracing a deep network takes a second.
def _abstract_variables(model: SegmentationModel):
  side = 2 * model.margin + model.stride
  image = jax.ShapeDtypeStruct((1, side, side, 3), 'float32')
  return jax.eval_shape(model.init, jax.random.key(0), image)


_PIECE = 8 << 20  # Bytes.


def _write(folder, variables, release) -> None:
  """Writes a checkpoint piece by piece; Orbax alone would hold all arrays in memory at a time.

  Orbax writes zeros, which take no memory and no room on disk, and all else that a checkpoint has.
  TensorStore, which it is built on, then fills in the values: its format is one Zarr array each,
  by the name of its path, in an OCDBT database.
  """
  zeros = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), variables)
  pieces = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=_PIECE), variables)
  with _writer() as writer:
    writer.save(folder, ocp.args.PyTreeSave(zeros, save_args=pieces))
  database = {'driver': 'ocdbt', 'base': {'driver': 'file', 'path': f'{folder}/'}}
  context, writes, size = ts.Context(), [], 0
  for path, value in jax.tree_util.tree_leaves_with_path(variables):
    name = jax.tree_util.keystr(path, simple=True, separator='.')
    spec = {'driver': 'zarr', 'kvstore': database | {'path': f'{name}/'}}
    store = ts.open(spec, open=True, context=context).result()
    for piece in _slices(store):
      part = np.asarray(value[piece], order='C')
      writes.append(store[piece].write(part))
      size += part.nbytes
      if size >= _PIECE:  # Small arrays together, for fewer files.
        _finish(writes)
        writes, size = [], 0
        release()
  _finish(writes)


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
  handler = ocp.PyTreeCheckpointHandler(
    type_handler_registry=ocp.type_handlers.create_type_handler_registry(
      # Orbax would copy all arrays first.
      (np.ndarray, ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)),
      (jax.Array, ocp.type_handlers.ArrayHandler()),  # Orbax warns without one.
    ),
    multiprocessing_options=_alone(),
  )
  return ocp.Checkpointer(handler, multiprocessing_options=_alone())


def _reader() -> ocp.StandardCheckpointer:
  return ocp.StandardCheckpointer(multiprocessing_options=_alone())


def _alone() -> ocp.options.MultiprocessingOptions:
  """For this process alone: Orbax would wait for all processes to join in."""
  return ocp.options.MultiprocessingOptions(
    primary_host=jax.process_index(),
    active_processes={jax.process_index()},
    barrier_sync_key_prefix=f'weights_{jax.process_index()}',
  )


def fingerprint(variables, about: str = ''):
  """A SHA-256 of variables and their names, and what else tells them apart; to be continued."""
  digest = hashlib.sha256(about.encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
  return digest

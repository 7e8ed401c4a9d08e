"""Weights folders: an Orbax checkpoint, `model.json`, and the checksums of both."""

import functools
import hashlib
import json
import pathlib

from absl import logging
import jax
import numpy as np

from dilated_jax import checksums
from dilated_jax.errors import InputError, first_line
from dilated_jax.files import defer_signals, replace_folder, system_errors, write_atomic
from dilated_jax.models import stored_arrays
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
      stored_arrays.write(temporary / 'checkpoint', jax.tree.map(np.asarray, variables), release)
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
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), abstract_variables(model)
  )
  stored_arrays.check_files(folder, like)
  with checksums.checked_meanwhile(folder):
    try:
      variables = stored_arrays.read(folder / 'checkpoint', like)
    except ValueError as error:
      raise InputError(
        f'{folder}/checkpoint: these weights are damaged or not those of a {spec.model} '
        f'({first_line(error)})'
      ) from error
    name = not_finite(variables)
  if name:
    raise InputError(
      f'{folder}/checkpoint: {name} holds NaN or infinity, and every prediction would be noise: '
      'these weights are of a training that diverged, or damaged'
    )
  return Segmenter(model, variables, spec)


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


def fingerprint(variables, about: str = ''):
  """A SHA-256 of variables and their names, and what else tells them apart; to be continued."""
  digest = hashlib.sha256(about.encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
  return digest

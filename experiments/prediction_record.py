"""predictions.json: what the ids of label maps mean, and which inputs were labeled and how."""

import contextlib
import hashlib
import json
import pathlib
import threading
import time

import numpy as np

from dilated_jax import __version__, files

_EVERY = 10.0  # Seconds after which it is written again.


class Record:
  """The file predictions.json beside results.

  What it says of an input counts for the same weights, flags and version of this program only, and
  as long as the input has the same size and times.
  """

  def __init__(self, path, segmenter, weights: str, values: dict):
    """Takes over what the file says of inputs that were labeled in the same way.

    Args:
      path: the file; it may not exist.
      segmenter: the network.
      weights: where it comes from; for people.
      values: of the flags on which results depend, by name.
    """
    self._path, spec = pathlib.Path(path), segmenter.spec
    self._about = dict(
      weights=weights, dataset=spec.dataset, classes=spec.classes, palette=spec.palette,
      flags=values, version=__version__, weights_digest=digest(segmenter),
    )  # fmt: skip
    self._inputs, self._written, self._lock = {}, time.monotonic(), threading.Lock()
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
      found = json.loads(self._path.read_text())
      ours = json.loads(json.dumps(self._about))
      if all(found.get(key) == ours[key] for key in ('flags', 'version', 'weights_digest')):
        told = dict(found['inputs']).items()
        self._inputs = {name: [*state, [*kinds]] for name, (*state, kinds) in told}

  def has(self, path, outputs: dict) -> bool:
    """Whether these outputs (by kind) of an input are there and up to date."""
    *state, kinds = self._inputs.get(_name(path), (None, ()))
    return (
      tuple(state) == state_of(path)
      and set(outputs) <= set(kinds)
      and all(file.exists() for file in outputs.values())
    )

  def add(self, path, state: tuple[int, ...] | None, kinds) -> None:
    """Notes that these kinds of outputs of an input have been written; threads may call it.

    Args:
      path: the input.
      state: from `state_of`, before it was read.
      kinds: of its outputs.
    """
    if state is None:
      return
    with self._lock:
      *known, before = self._inputs.get(_name(path), (None, ()))
      kinds = {*kinds, *(before if tuple(known) == state else ())}
      self._inputs[_name(path)] = [*state, sorted(kinds)]
      if time.monotonic() - self._written > _EVERY:
        self._write()

  def write(self) -> None:
    """Writes the file."""
    with self._lock:
      self._write()

  def _write(self) -> None:
    files.write_atomic(self._path, files.format_json(self._about | {'inputs': self._inputs}))
    self._written = time.monotonic()


def state_of(path) -> tuple[int, ...] | None:
  """Size and times of a file; None if it is not there."""
  with contextlib.suppress(OSError):
    found = pathlib.Path(path).stat()
    # The time of the last change of state can't be set back, as that of the content can.
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
  return None


def digest(segmenter) -> str:
  """A number for the network, its weights and all that `model.json` says."""
  import jax  # Here, because --help needs none of it.

  found = hashlib.blake2b(json.dumps(segmenter.spec.to_json()).encode(), digest_size=16)
  for leaf in jax.tree.leaves(segmenter.variables):
    found.update(np.ascontiguousarray(leaf))
  return found.hexdigest()


def _name(path) -> str:
  return str(pathlib.Path(path).absolute())

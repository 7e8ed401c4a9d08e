"""What ours is compared with, each in a process whose Python may be another, without JAX.

`process.py` is the program that runs there. The functions that it is asked for lie in files beside
it that import nothing of ours: `torch_networks.py`, `dense_crf.py`. They make a call of no
arguments from plain data; the process runs and times it.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import importlib.util
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.nn import costs
from dilated_jax.nn.stack import group_count
from dilated_jax.nn.table import Table, input_indices, last_uses

# How to get what is missing, by the name under which rows call it.
HOW_TO_GET = {
  'PyTorch': 'pip install torch, or name a Python that has it by --torch_python',
  'DataLoader': 'pip install torch in this Python: both sides make the same pictures ready',
  'pydensecrf2': (
    'pip install pydensecrf2 (needs a C++ compiler), or name a Python that has it by '
    '--pydensecrf_python'
  ),
}

versions: list[str] = []  # Of the packages of all processes that were started.


def pytorch(values) -> Peer | None:
  """A process with PyTorch; None where neither this Python nor --torch_python has it."""
  return _peer('torch', values.torch_python, 'torch_networks', 'torch_python')


def pydensecrf(values) -> Peer | None:
  """A process with pydensecrf2; None where neither this Python nor --pydensecrf_python has it."""
  return _peer('pydensecrf', values.pydensecrf_python, 'dense_crf', 'pydensecrf_python')


@functools.cache
def _peer(needed: str, python: str | None, file: str, flag: str) -> Peer | None:
  if not python and not importlib.util.find_spec(needed):
    return None
  try:
    peer = Peer(python or sys.executable, file)
  except InputError as error:
    if not python:
      raise
    raise InputError(f'--{flag}={python}: {str(error).removeprefix(f"{python}: ")}') from None
  versions.append(peer.version)
  atexit.register(peer.close)
  return peer


def layers_of(table: Table, channels: int = 3) -> list[dict[str, Any]]:
  """The layers of a table as `torch_networks` takes them: plain data, with all that is derived.

  Args:
    table: the layers.
    channels: of the input.
  """
  counts, last_use = costs.channel_counts(table, channels), last_uses(table)
  layers = []
  for row, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
    outputs = counts[row + 1]
    layers.append({
      **dataclasses.asdict(layer), 'in_channels': counts[reads[0] + 1], 'out_channels': outputs,
      'norm_groups': group_count(outputs), 'reads': list(reads),
      'last_reads': [index for index in set(reads) if last_use[index] == row],
    })  # fmt: skip
  return layers


class Peer:
  """A process that runs jobs, one at a time.

  Attributes:
    version: of the package that it has, as text.
  """

  def __init__(self, python: str, file: str):
    """Starts it.

    Args:
      python: path of the interpreter.
      file: name of a file beside this one, without .py.

    Raises:
      InputError: it does not start, or lacks the package.
    """
    self.python, self._current = python, None
    program = os.path.join(os.path.dirname(__file__), 'process.py')
    try:
      self._process = subprocess.Popen(
        [python, program, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
      )
    except OSError as error:
      raise InputError(f'{python}: {error.strerror}; name a Python interpreter') from error
    try:
      self.version = self._answer()
    except InputError:
      self.close()
      raise

  def job(self, function: str, **given: Any) -> Job:
    """Work for the process, which is told of it when it is first asked for.

    Args:
      function: its name in the file.
      **given: its arguments: arrays, numbers, texts, and lists and dicts of them.
    """
    return Job(self, function, given)

  def ask(self, job: Job, what: str, *more: Any) -> Any:
    """Asks for the time, the result or the memory of a job."""
    if self._current is not job:
      self._send(('prepare', job.function, _plain(job.given)))
      self._answer()
      self._current = job
    self._send((what, *more))
    return self._answer()

  def close(self) -> None:
    """Ends the process."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()

  def _send(self, request) -> None:
    try:
      # What every Python from 3.8 on reads, and no class of any package is in it.
      pickle.dump(request, self._process.stdin, protocol=4)
      self._process.stdin.flush()
    except BrokenPipeError:
      pass  # It has ended: the answer will tell.

  def _answer(self):
    try:
      kind, content = pickle.load(self._process.stdout)
    except (EOFError, pickle.UnpicklingError):
      self.close()
      status = self._process.returncode
      raise InputError(f'{self.python}: ended with status {status} while it measured') from None
    if kind == 'error':
      raise InputError(f'{self.python}: {content}')
    return content


class Job:
  """Work for a process: a function of its file, and what it is given."""

  def __init__(self, peer: Peer, function: str, given: dict[str, Any]):
    self.peer, self.function, self.given = peer, function, given

  def milliseconds(self, count: int = 1) -> float:
    """Runs it so many times; what the process itself measured for one."""
    return self.peer.ask(self, 'time', count)

  def result(self) -> Any:
    """Runs it once more; numbers as they are, arrays as NumPy arrays."""
    return _arrays(self.peer.ask(self, 'result'))

  def peak_mib(self) -> float | None:
    """Runs it once more; by how much memory rose at its peak: of the GPU, or of the process.

    None where the system does not tell (it does on Linux).
    """
    return self.peer.ask(self, 'memory')


def _plain(data):
  """Arrays as dtype, shape and bytes, since another NumPy might not read ours."""
  if isinstance(data, dict):
    return {name: _plain(value) for name, value in data.items()}
  if isinstance(data, (list, tuple)):
    return [_plain(value) for value in data]
  if hasattr(data, '__array__'):
    array = np.ascontiguousarray(data)
    return ('array', array.dtype.name, array.shape, array.tobytes())
  return data


def _arrays(data):
  if isinstance(data, list):
    return [_arrays(each) for each in data]
  if isinstance(data, tuple) and data[:1] == ('array',):
    return np.frombuffer(data[3], data[1]).reshape(data[2])
  return data

"""A trial on several hosts: process 0 asks and watches, and tells the others what to run.

Every host runs the same `sweep --distributed`. Messages go by JAX's coordination service, which
needs no device: devices belong to the trials. It says number and settings of a trial, of which each
host makes the command by itself, so that a message can ask for nothing that is not in the space.
Trials talk at ports of their own, one above that of the sweep and on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import json
import os
import pathlib
import subprocess
from typing import Any

from absl import flags, logging

from .. import commands, hosts
from . import folders, launchers, points
from .command import Command
from .space import Space
from .study import Trial

_PORTS = 16  # Of trials, one after the other: the last one may not have closed its own yet.
_WAIT = 5_000  # Milliseconds between looks at what runs here, while nothing is told.


@contextlib.contextmanager
def joined(values: flags.FlagValues) -> Iterator[Hosts | None]:
  """Within, the processes of a sweep know each other; None without `--distributed`."""
  if not values.distributed:
    with hosts.joined(values):
      yield None
    return
  import jax

  # A trial needs all devices: the sweep has none but the CPU.
  jax.config.update('jax_platforms', 'cpu')
  # SIGTERM is for the sweep, which passes it on; trials agree on their last step by themselves.
  jax.config.update('jax_enable_preemption_service', False)
  with hosts.joined(values):
    found = Hosts(values)
    try:
      yield found
    finally:
      if found.index == 0:
        found.tell({'end': True})


class Hosts:
  """The processes of a sweep, one on each host.

  Attributes:
    index: number of this process.
  """

  def __init__(self, values: flags.FlagValues):
    """Takes the coordination service of processes that have joined, see `joined`.

    Args:
      values: flags of the sweep, with those of several hosts.
    """
    from jax._src import distributed  # JAX tells of its service nowhere else.

    state = distributed.global_state
    self.index, self._count = state.process_id, state.num_processes
    self._client, self._address = state.client, state.coordinator_address
    self._bare = values.coordinator is not None
    self._told = 0

  def tell(self, message: Mapping[str, Any]) -> None:
    """Tells all others; they hear messages in order."""
    self._client.key_value_set(f'sweep/{self._told}', json.dumps(message))
    self._told += 1

  def hear(self) -> dict | None:
    """The next message; None where there is none yet."""
    try:
      text = self._client.blocking_key_value_get(f'sweep/{self._told}', _WAIT)
    except Exception as error:  # XlaRuntimeError, of which JAX has renamed the class.
      if 'DEADLINE_EXCEEDED' in str(error):
        return None
      raise
    self._told += 1
    return json.loads(text)

  def of_trial(self, attempt: int) -> tuple[list[str], dict[str, str]]:
    """Flags and environment by which the processes of a trial find each other.

    Args:
      attempt: counts the trials that were started.
    """
    host, _, port = self._address.rpartition(':')
    port = int(port) + 1 + attempt % _PORTS
    if not self._bare:
      return ['--distributed'], {'JAX_COORDINATOR_PORT': f'{port}'}
    where = [f'--coordinator={host}:{port}', f'--processes={self._count}']
    return ['--distributed', *where, f'--process={self.index}'], {}


class Leader:
  """The launcher of process 0: the trial runs here, and on all others."""

  parallel = 1

  def __init__(self, processes: Hosts, local: launchers.Local):
    """Wraps the launcher of this host."""
    self._processes, self._local, self._attempt = processes, local, 0

  def adopt(self, number: int, folder: pathlib.Path) -> launchers.Job | None:
    """See `launchers.Launcher`."""
    return self._local.adopt(number, folder)

  def start(
    self, trial: Trial, folder: pathlib.Path, name: str, line: Sequence[str]
  ) -> launchers.Job | None:
    """See `launchers.Launcher`."""
    more, environment = self._processes.of_trial(self._attempt)
    job = self._local.start(trial, folder, name, [*line, *more], environment)
    if job is not None:
      told = {'trial': trial.number, 'params': trial.params, 'attempt': self._attempt}
      self._processes.tell(told)
      self._attempt += 1
    return job

  def close(self) -> None:
    """See `launchers.Launcher`."""
    self._local.close()


def follow(processes: Hosts, workdir: pathlib.Path, command: Command, space: Space) -> None:
  """Runs what process 0 tells, until it tells the end.

  Args:
    processes: of the sweep.
    workdir: of the sweep.
    command: that each trial runs.
    space: of the sweep; what is told must be a point of it.
  """
  process: subprocess.Popen | None = None
  try:
    while (message := _next(processes)).get('trial') is not None:
      _end(process)
      point = points.again(space, message['params'])
      folder = folders.of_trial(workdir, int(message['trial']))
      folder.mkdir(parents=True, exist_ok=True)
      more, environment = processes.of_trial(int(message['attempt']))
      log_file = folder / f'log_{processes.index}.txt'
      logging.info('trial %04d starts here too: %s', message['trial'], log_file)
      with open(log_file, 'ab') as log:
        process = subprocess.Popen(
          commands.program(command.name, [*command.line(folder, point.flags), *more]),
          stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | environment,
        )  # fmt: skip
    _end(process)
  except BaseException:  # Nobody tells any more what is to become of the trial.
    if process is not None:
      process.terminate()
      _end(process)
    raise


def _next(processes: Hosts) -> dict[str, Any]:
  while (message := processes.hear()) is None:
    pass
  return message


def _end(process: subprocess.Popen | None) -> None:
  """Waits for a trial: all of its processes agree on when it ends, if not at the same moment."""
  if process is None:
    return
  try:
    process.wait(launchers.PATIENCE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()

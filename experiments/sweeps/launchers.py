"""Starting trials: what every launcher does, and the one that starts them on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
from types import MappingProxyType
from typing import Protocol

from absl import logging

from dilated_jax.locks import Lock

from .. import commands
from . import devices, folders
from .study import Trial

# How a command ends that was asked to (cli.py), besides by a signal.
ASKED_TO_END = (130, 143)
LOST = -1  # The status of a process that nobody has waited for.
PATIENCE = 120  # Seconds that a trial has for its checkpoint after SIGTERM.


class Job(Protocol):
  """A trial that was started."""

  def poll(self) -> int | None:
    """Its exit status; None while it runs; below 0 where it was killed, or nobody knows."""
    ...

  def stop(self) -> None:
    """Asks it to end (SIGTERM), which saves a checkpoint; asked again it is killed. Never waits."""
    ...

  def release(self) -> None:
    """Called when the journal knows what came out: others may have its folder."""
    ...


class Launcher(Protocol):
  """A way to start trials.

  Attributes:
    parallel: how many may run at once.
  """

  parallel: int

  def adopt(self, number: int, folder: pathlib.Path) -> Job | None:
    """A trial that an earlier sweep has started and that still runs; else None."""
    ...

  def start(self, trial: Trial, folder: pathlib.Path, name: str, line: Sequence[str]) -> Job | None:
    """Starts a command in a folder; None where another process works in that folder.

    Args:
      trial: whose command it is.
      folder: of the trial; exists.
      name: of the command.
      line: its arguments.
    """
    ...

  def close(self) -> None:
    """Asks all that run to end, and waits until they have."""
    ...


class Local:
  """Starts trials on this machine, each with its share of the devices."""

  def __init__(self, parallel: int, asked: str = 'auto', *, shared: bool = False):
    """Deals the devices out.

    Args:
      parallel: how many trials run at once.
      asked: the devices, see `devices.deal`.
      shared: whether other sweeps run trials in this workdir too.
    """
    self.parallel = parallel
    self._free = list(reversed(devices.deal(parallel, asked)))
    self._shared = shared
    self._running: list[_Process] = []

  def adopt(self, number: int, folder: pathlib.Path) -> Job | None:
    """See `Launcher`; with several sweeps what runs is another's, and left to it."""
    lock = Lock(folder / 'lock')
    if self._shared or not folder.exists() or lock.take():
      lock.release()
      return None
    return _Orphan(lock)

  def start(
    self, trial: Trial, folder: pathlib.Path, name: str, line: Sequence[str],
    environment: Mapping[str, str] = MappingProxyType({}),
  ) -> Job | None:  # fmt: skip
    """See `Launcher`; `environment` has variables besides those of the devices."""
    lock = Lock(folder / 'lock')
    if not lock.take():
      return None
    share = self._free.pop()
    logging.info('trial %04d starts on %s: %s', trial.number, share.text, folder / folders.LOG)
    with open(folder / folders.LOG, 'ab') as log:
      process = subprocess.Popen(
        commands.program(name, line), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        env={**os.environ, **share.environment, **environment},
        # The process holds the lock too: where the sweep is killed, the next one sees it running.
        pass_fds=(lock.handle,),
        # Ctrl-C is for the sweep, which passes it on as SIGTERM.
        start_new_session=True,
      )  # fmt: skip
    if share.cores:
      with contextlib.suppress(OSError):  # It has ended already.
        os.sched_setaffinity(process.pid, share.cores)
    lock.note(f'{socket.gethostname()} {process.pid}')
    job = _Process(self, process, lock, share)
    self._running.append(job)
    return job

  def ended(self, job: _Process, share: devices.Share) -> None:
    """Called by a job when its folder and its devices are free again."""
    if job in self._running:
      self._running.remove(job)
      self._free.append(share)

  def close(self) -> None:
    """See `Launcher`."""
    running = list(self._running)
    if running:
      logging.info('%d trials are asked to end, and save what they have', len(running))
    for job in running:
      job.stop()
    for job in running:
      job.wait(PATIENCE)


class _Process:
  """A process of this sweep."""

  def __init__(self, launcher: Local, process: subprocess.Popen, lock: Lock, share):
    self._launcher, self._process = launcher, process
    self._lock, self._share = lock, share
    self._asked = False

  def poll(self) -> int | None:
    status = self._process.poll()
    return LOST if status in ASKED_TO_END else status

  def stop(self) -> None:
    self._process.send_signal(signal.SIGKILL if self._asked else signal.SIGTERM)
    self._asked = True

  def wait(self, seconds: float) -> None:
    try:
      self._process.wait(seconds)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()

  def release(self) -> None:
    self._lock.release()
    self._launcher.ended(self, self._share)


class _Orphan:
  """A process that was started by a sweep that was killed; its lock tells that it runs."""

  def __init__(self, lock: Lock):
    self._lock = lock
    self._asked = False

  def poll(self) -> int | None:
    return LOST if self._lock.take() else None

  def stop(self) -> None:
    pid = trial_process(self._lock)
    if pid:
      send(pid, signal.SIGKILL if self._asked else signal.SIGTERM)
    self._asked = True

  def release(self) -> None:
    self._lock.release()


def send(pid: int, number: int) -> None:
  """Sends a signal to a process, unless it has ended."""
  with contextlib.suppress(OSError):
    os.kill(pid, number)


def trial_process(lock: Lock) -> int | None:
  """The process that holds the lock of a trial, if it is one of this machine that runs the trial.

  The file of the lock says its number; /proc must say that it has the folder among its arguments,
  since files may be old, or anybody's.
  """
  host, _, pid = lock.noted().partition(' ')
  if host != socket.gethostname() or not pid.isdecimal():
    return None
  with contextlib.suppress(OSError):
    words = pathlib.Path(f'/proc/{int(pid)}/cmdline').read_bytes().split(b'\0')
    if any(os.fsencode(lock.path.parent) in word for word in words):
      return int(pid)
  return None

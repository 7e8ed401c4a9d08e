"""Trials as jobs of Slurm, by submitit, which can also run them here.

A job runs one command in the folder of its trial, holds the lock of that folder, and leaves its
status in job.json there. When Slurm takes the machine away, the command is asked to end, saves what
it has, and the job is queued again. What submitit pickles is written by a sweep and read by the job
that it has just submitted; no result is read from a pickle, since a folder may be anybody's.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import json
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time
import uuid

from absl import logging
import submitit
from submitit.helpers import DelayedSubmission

from dilated_jax.errors import InputError, one_line
from dilated_jax.files import format_json, write_atomic
from dilated_jax.locks import Lock

from .. import commands
from . import folders, launchers
from .study import Trial

_JOB, _STATUS = 'job.json', 'status.json'
_SLOW_FILES = 15.0  # Seconds after which a node's files are seen here, at the latest.


class Slurm:
  """Submits trials."""

  def __init__(self, workdir: pathlib.Path, parallel: int, options: Sequence[str] = ()):
    """Finds the cluster.

    Args:
      workdir: of the sweep, on a file system that the nodes see.
      parallel: jobs that are queued or run at once.
      options: NAME=VALUE each: parameters of submitit, as timeout_min=600 or slurm_partition=gpu,
        and cluster=local or debug, which run jobs on this machine.

    Raises:
      InputError: there is no such cluster here, or it refuses an option.
    """
    self.parallel = parallel
    given: dict[str, str | int] = {'timeout_min': 24 * 60}
    for option in options:
      name, equals, value = option.partition('=')
      if not equals or not name.isidentifier():
        raise InputError(f'--slurm={option}: write NAME=VALUE, as in timeout_min=600')
      given[name] = int(value) if value.isdecimal() else value
    cluster = str(given.pop('cluster', 'slurm'))
    folder = workdir / 'jobs'
    folder.mkdir(parents=True, exist_ok=True)
    try:
      # A folder of its own: nothing that lies there already is taken for a job of this sweep. It
      # stays: jobs read it after this process has ended, and leave their logs there.
      own = tempfile.mkdtemp(dir=folder, prefix='sweep_')
      self._executor = submitit.AutoExecutor(folder=own, cluster=cluster)
      self._executor.update_parameters(name='sweep', **given)
    except (RuntimeError, ValueError, TypeError, NameError) as error:
      raise InputError(f'--launcher=slurm, cluster {cluster}: {one_line(error)}') from error
    self._kind = type(self._executor._executor).job_class
    self._folder = pathlib.Path(own)

  def adopt(self, number: int, folder: pathlib.Path) -> launchers.Job | None:
    """See `launchers.Launcher`: a job that is queued or runs, whoever submitted it."""
    noted = _read(folder / _JOB)
    token, job = noted.get('token'), str(noted.get('job'))
    submitted = None
    if re.fullmatch(r'[0-9]+(_[0-9]+)?', job) and self._kind is submitit.SlurmJob:
      submitted = submitit.SlurmJob(self._folder, job)
    found = _Job(folder, token, submitted)
    return found if token and found.poll() is None else None

  def start(self, trial: Trial, folder: pathlib.Path, name: str, line: Sequence[str]) -> _Job:
    """See `launchers.Launcher`."""
    token = uuid.uuid4().hex
    write_atomic(folder / _JOB, format_json({'token': token}))
    job = self._executor.submit(Command(folder, token, commands.program(name, line)))
    write_atomic(folder / _JOB, format_json({'token': token, 'job': job.job_id}))
    logging.info('trial %04d is job %s: %s', trial.number, job.job_id, folder / folders.LOG)
    return _Job(folder, token, job)

  def close(self) -> None:
    """See `launchers.Launcher`: jobs stay in the queue, and the next sweep waits for them."""


class Command:
  """What a job runs: a command in the folder of a trial."""

  def __init__(self, folder: pathlib.Path, token: str, words: Sequence[str]):
    """Puts it together.

    Args:
      folder: of the trial.
      token: of this job, so that its status is not taken for another's.
      words: of the command, the program first.
    """
    self._folder, self._token, self._words = folder, token, list(words)
    self._process: subprocess.Popen | None = None

  def __call__(self) -> None:
    """Runs the command and leaves its status."""
    with Lock(self._folder / 'lock') as lock:
      while not lock.take():  # Of a job that has not ended yet.
        time.sleep(1)
      with open(self._folder / folders.LOG, 'ab') as log:
        self._process = subprocess.Popen(
          self._words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock.handle,)
        )
      lock.note(f'{socket.gethostname()} {self._process.pid}')
      try:
        status = self._process.wait()
      finally:
        self._end()
      content = {'token': self._token, 'status': status}
      write_atomic(self._folder / _STATUS, format_json(content))

  def checkpoint(self) -> DelayedSubmission:
    """Called by submitit when the machine is taken away: this is queued again."""
    self._end()
    return DelayedSubmission(Command(self._folder, self._token, self._words))

  def _end(self) -> None:
    if self._process and self._process.poll() is None:
      self._process.terminate()
      self._process.wait()


class _Job:
  """A job, submitted by this sweep or by an earlier one."""

  def __init__(self, folder: pathlib.Path, token, job: submitit.Job | None):
    self._folder, self._token, self._job = folder, token, job
    self._gone: float | None = None

  def poll(self) -> int | None:
    status = self._status()
    if status is not None and (self._job is None or self._job.done() or self._late()):
      return status
    with Lock(self._folder / 'lock') as lock:
      if not lock.take():
        self._gone = None
        return None
    if self._job is not None and not self._job.done():
      return None  # It is queued, or about to start; the debug executor has run it now.
    if (status := self._status()) is not None:
      return status
    return launchers.LOST if self._job is None or self._late() else None

  def _late(self) -> bool:
    """Whether what is missing would be seen by now."""
    self._gone = self._gone or time.monotonic()
    return time.monotonic() - self._gone > _SLOW_FILES

  def stop(self) -> None:
    if isinstance(self._job, submitit.SlurmJob):
      self._job.cancel(check=False)
    elif pid := launchers.trial_process(Lock(self._folder / 'lock')):
      launchers.send(pid, signal.SIGTERM)

  def release(self) -> None:
    pass

  def _status(self) -> int | None:
    noted = _read(self._folder / _STATUS)
    status = noted.get('status')
    if noted.get('token') != self._token or type(status) is not int:
      return None
    return launchers.LOST if status in launchers.ASKED_TO_END else status


def _read(path: pathlib.Path) -> dict:
  """A file of a job; empty where there is none that can be read."""
  with contextlib.suppress(OSError, ValueError):
    found = json.loads(path.read_text())
    return found if isinstance(found, dict) else {}
  return {}

"""A sweep from its first trial to its last: ask, start, watch, tell."""

from __future__ import annotations

import dataclasses
import pathlib
import time

from absl import logging

from dilated_jax.errors import InputError
from dilated_jax.progress import Meter

from .. import hosts
from . import folders, launchers
from .command import Command
from .study import Study, Trial

# A trial that is killed is started again at once, but not for ever: memory may be too small for it.
_STARTS = 3
POLL = 0.2  # Seconds between looks at what runs.


@dataclasses.dataclass
class _Running:
  """A trial that runs.

  Attributes:
    trial: which.
    job: of the launcher.
    stages: of its training.
    seen: size and time of its reports when they were looked at.
    judged: how many there were.
    pruned: step at which it is stopped early, or None.
    asked: when it was asked to end.
  """

  trial: Trial
  job: launchers.Job
  stages: list[str]
  seen: tuple = ()
  judged: int = 0
  pruned: int | None = None
  asked: float = 0.0


class Sweep:
  """The trials of a study, run by a launcher."""

  def __init__(
    self, workdir: pathlib.Path, command: Command, study: Study, launcher: launchers.Launcher,
    metric: str,
  ):  # fmt: skip
    """Puts a sweep together.

    Args:
      workdir: of the sweep, an absolute path.
      command: that each trial runs.
      study: which trials there are.
      launcher: starts them.
      metric: what is measured, a name in what the command leaves.
    """
    self.workdir, self.command, self.study = workdir, command, study
    self.launcher, self.metric = launcher, metric
    self._running: dict[int, _Running] = {}
    self._starts: dict[int, int] = {}
    self._meter = Meter(study.size)

  def run(self) -> None:
    """Runs trials until there is none left to run, or to ask for.

    However it ends, trials that run are asked to end before it returns.
    """
    try:
      self._tell_progress()
      while True:
        before = len(self._running)
        for running in list(self._running.values()):
          self._look_at(running)
        while len(self._running) < self.launcher.parallel and self._start_one():
          pass
        if not self._running:
          return
        if len(self._running) == before:
          time.sleep(POLL)
    finally:
      self.launcher.close()

  def _start_one(self) -> bool:
    """Starts a trial that was interrupted, or else a new one; False where there is none."""
    for trial in self.study.trials():
      if trial.state == 'running' and trial.number not in self._running and self._start(trial):
        return True
    while (trial := self.study.ask()) is not None:
      if self._start(trial):
        return True
    return False

  def _start(self, trial: Trial) -> bool:
    """Starts a trial, or goes on with one; False where nothing runs then."""
    folder = folders.of_trial(self.workdir, trial.number)
    try:
      stages = self.command.stages(trial.flags)
    except InputError as error:  # A space may choose flags that do not go together.
      self._failed(trial, str(error))
      return False
    job = self.launcher.adopt(trial.number, folder)
    running = _Running(trial, job, stages) if job else None
    if running is None:
      reports = folders.reports(folder, self.command, self.metric)
      if self.study.report(trial.number, reports) is not None:
        self._pruned(trial)  # It was to be stopped when the sweep itself was.
        return False
      folder.mkdir(parents=True, exist_ok=True)
      line = self.command.line(folder, trial.flags)
      job = self.launcher.start(trial, folder, self.command.name, line)
      if job is None:
        return False
      running = _Running(trial, job, stages)
    else:
      logging.info('trial %04d still runs, started by an earlier sweep', trial.number)
    if self._state(trial.number) != 'running':  # Another sweep was quicker.
      job.stop()
      job.release()
      return False
    self._running[trial.number] = running
    return True

  def _state(self, number: int) -> str:
    return self.study.trials()[number].state

  def _look_at(self, running: _Running) -> None:
    """Reads what a trial has reported, and tells what came out of it when it has ended."""
    number = running.trial.number
    folder = folders.of_trial(self.workdir, number)
    status = running.job.poll()  # Before its files are read, so that none is missed.
    if running.pruned is None:
      if (state := folders.state(folder, self.command)) != running.seen:
        reports = folders.reports(folder, self.command, self.metric)
        if len(reports) > running.judged:
          running.pruned = self.study.report(number, reports, running.judged)
        running.seen, running.judged = state, len(reports)
      if running.pruned is not None and status is None:
        running.job.stop()
        running.asked = time.monotonic()
    elif status is None and time.monotonic() - running.asked > launchers.PATIENCE:
      running.job.stop()
      running.asked = time.monotonic()
    if status is not None:
      del self._running[number]
      try:
        self._ended(running, status, folder)
      finally:
        running.job.release()

  def _ended(self, running: _Running, status: int, folder: pathlib.Path) -> None:
    """Tells the study how a trial has ended."""
    trial = running.trial
    if running.pruned is not None:
      self._pruned(trial)
    elif status > 0 and hosts.LOST in folders.last_line(folder):
      self._interrupted(trial, folder)
    elif status > 0:
      reason = folders.last_line(folder) or f'{self.command.name} ended with status {status}'
      self._failed(trial, reason)
    elif status == 0 and folders.finished(folder, self.command, running.stages):
      value = folders.result(
        folder, self.command, self.metric, self.study.direction, running.stages
      )
      if value is None:
        self._failed(trial, f'{self.command.name} has left no {self.metric} that is a number')
      else:
        self.study.complete(trial.number, value)
        logging.info('trial %04d: %s %.6g', trial.number, self.metric, value)
        self._tell_progress(1)
    else:
      self._interrupted(trial, folder)

  def _interrupted(self, trial: Trial, folder: pathlib.Path) -> None:
    """A trial was cut off: it stays open and is started again, where it stopped."""
    starts = self._starts[trial.number] = self._starts.get(trial.number, 0) + 1
    if starts < _STARTS:
      logging.info('trial %04d was interrupted, and goes on', trial.number)
      return
    last = folders.last_line(folder)
    self._failed(trial, f'was killed {starts} times (too little memory?){last and f": {last}"}')

  def _pruned(self, trial: Trial) -> None:
    self.study.prune(trial.number)
    logging.info('trial %04d is stopped early: others were better by then', trial.number)
    self._tell_progress(1)

  def _failed(self, trial: Trial, reason: str) -> None:
    self.study.fail(trial.number, reason)
    logging.error('trial %04d failed: %s', trial.number, reason)
    self._tell_progress(1)

  def _tell_progress(self, count: int = 0) -> None:
    """How many trials are done, the best so far, and the time left."""
    trials = self.study.trials()
    done = sum(each.state != 'running' for each in trials)
    if count:
      self._meter.update(done - self._meter.done)
    else:
      self._meter.done = done
    best = self.best(trials)
    text = f', best {self.metric} {best.value:.6g} by {best.number:04}' if best else ''
    logging.info(
      '%d of %d trials done%s, %s left', done, self.study.size, text, self._meter.left
    )  # fmt: skip

  def best(self, trials: list[Trial]) -> Trial | None:
    """The complete trial with the best value; of equals the first."""
    found = [each for each in trials if each.state == 'complete' and each.value is not None]
    sign = 1 if self.study.direction == 'maximize' else -1
    return max(found, key=lambda each: (sign * each.value, -each.number), default=None)

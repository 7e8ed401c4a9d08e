"""Which trials there are, what came out and which comes next: optuna, over a journal.

The journal lies in the workdir, a text file of JSON lines that any program of optuna opens. What a
trial is told depends on nothing but the seed, its number and the trials that are finished when it
is asked for, so that a sweep that was interrupted goes on as if it had not been.

A trial that has failed stays open in the journal, with the attribute 'failed': optuna can't take up
a finished one again, and `--retry` does.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from dilated_jax.errors import InputError, one_line
from dilated_jax.locks import Lock

from . import points
from .space import Space

SEARCHES = ('grid', 'random', 'tpe')
PRUNERS = ('none', 'median', 'asha')
_NAME = 'sweep'
_PATIENCE = 60  # Seconds to wait for a sweep that asks at the same time.


class Trial(NamedTuple):
  """One run of the command.

  Attributes:
    number: from 0 on; its folder has the same.
    state: 'running' (also where it was interrupted), 'complete', 'pruned' or 'failed'.
    value: what came out, or None; of a pruned trial the last report.
    params: its settings.
    flags: that it gets, by name.
    reports: values that were reported, by step.
    reason: why it failed; else ''.
  """

  number: int
  state: str
  value: float | None
  params: dict[str, Any]
  flags: dict[str, str]
  reports: dict[int, float]
  reason: str


class Study:
  """The trials of a sweep."""

  def __init__(
    self, workdir, space: Space, *, search: str, trials: int | None, seed: int, direction: str,
    prune: str = 'none', prune_after: int = 4,
  ):  # fmt: skip
    """Opens the journal of a workdir, or begins it.

    Args:
      workdir: folder of the sweep.
      space: the settings that there are.
      search: one of `SEARCHES`.
      trials: how many there shall be; None: all points, of a grid.
      seed: of the search.
      direction: 'maximize' or 'minimize'.
      prune: one of `PRUNERS`.
      prune_after: finished trials before which none is pruned by the median; the steps after which
        ASHA compares for the first time.

    Raises:
      InputError: the journal can't be read, or the search can't go through the space.
    """
    self.path = pathlib.Path(workdir).absolute() / 'journal.log'
    self.space, self.seed, self.direction = space, seed, direction
    self._search = search
    self._pruner = _pruner(prune, prune_after)
    self._points = points.grid(space) if search == 'grid' else None
    self.size = trials or 0
    if self._points is not None:
      self.size = min(trials or len(self._points), len(self._points))
    self._points_again: dict[int, points.Point] = {}
    # The link that optuna locks with is left behind by a process that is killed while it writes.
    lock = optuna.storages.journal.JournalFileSymlinkLock(str(self.path), grace_period=5)
    with self._readable():
      _drop_half_a_line(self.path, lock)
      backend = optuna.storages.journal.JournalFileBackend(str(self.path), lock)
      self._storage = optuna.storages.JournalStorage(backend)
      known = dict(storage=self._storage, study_name=_NAME)
      if any(each.study_name == _NAME for each in self._storage.get_all_studies()):
        self.optuna = optuna.load_study(**known)
      else:
        self.optuna = optuna.create_study(**known, direction=direction, load_if_exists=True)
    self.trials()  # Refuses, before anything starts, what is not of this space.

  def trials(self) -> list[Trial]:
    """All trials, in the order of their numbers.

    Raises:
      InputError: the journal holds something else than trials of this space.
    """
    return [self._told(each) for each in self._frozen()]

  def ask(self) -> Trial | None:
    """The next trial; None when there are as many as there shall be."""
    with self._asking():
      frozen = self._frozen()
      number = len(frozen)
      if number >= self.size:
        return None
      if self._points is not None:
        point = self._points[number]
      else:
        point = points.ask(self.space, self._copy(frozen, self._sampler(number)))
      # In one line of the journal: a trial is there with all of its settings, or not at all.
      self.optuna.add_trial(
        optuna.create_trial(
          state=TrialState.RUNNING, params=point.params, distributions=point.distributions
        )
      )
    return self.trials()[number]

  def report(self, number: int, reports: list[tuple[int, float]], since: int = 0) -> int | None:
    """Keeps what a trial has reported, up to where it is to be pruned.

    Args:
      number: of the trial.
      reports: (step, value), all of them from its first one on.
      since: how many of them were judged before.

    Returns:
      The step at which it is to be pruned; None where it shall go on.
    """
    frozen = self._frozen()
    known, identity = frozen[number].intermediate_values, self._identity(number)
    judge = _Judge(self._copy(frozen, without=number), number) if self._pruner else None
    last = None
    for index, (step, value) in enumerate(reports):
      if step not in known:
        self._storage.set_trial_intermediate_value(identity, step, value)
      if judge and judge(step, value) and index >= since:
        last = step
        break
    if judge:
      before = self._storage.get_trial(identity).system_attrs
      for name, value in judge.attributes().items():
        if before.get(name) != value:  # For trials that are compared with this one.
          self._storage.set_trial_system_attr(identity, name, value)
    return last

  def complete(self, number: int, value: float) -> None:
    """Tells what came out of a trial."""
    self.optuna.tell(number, value)

  def prune(self, number: int) -> None:
    """Tells that a trial was stopped early; its value is that of its last report."""
    self.optuna.tell(number, state=TrialState.PRUNED)

  def fail(self, number: int, reason: str) -> None:
    """Tells why a trial came to nothing."""
    self._storage.set_trial_user_attr(self._identity(number), 'failed', reason[:500])

  def retry(self) -> list[int]:
    """Has failed trials go on; returns their numbers."""
    failed = [each.number for each in self.trials() if each.state == 'failed']
    for number in failed:
      self._storage.set_trial_user_attr(self._identity(number), 'failed', '')
    return failed

  def importance(self) -> dict[str, float]:
    """How much each setting matters for being among the best, the most first; sums to 1.

    By PED-ANOVA (Watanabe, Bansal and Hutter, 2023), which needs no scikit-learn. Empty where there
    are too few finished trials, or settings that some of them do not have.
    """
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    finished = [each for each in self.trials() if each.state == 'complete']
    if len(finished) < 4 or len({each.value for each in finished}) < 2:
      return {}
    try:
      return optuna.importance.get_param_importances(self.optuna, evaluator=evaluator)
    except (ValueError, RuntimeError):  # Of a space whose settings depend on each other.
      return {}

  def _frozen(self) -> list[FrozenTrial]:
    with self._readable():
      return self.optuna.get_trials(deepcopy=False)

  def _told(self, frozen: FrozenTrial) -> Trial:
    if frozen.number not in self._points_again:
      try:
        point = points.again(self.space, frozen.params, frozen.distributions)
      except InputError as error:
        raise InputError(f'{self.path}: trial {frozen.number}: {error}') from error
      self._points_again[frozen.number] = point
    point = self._points_again[frozen.number]
    reason = str(frozen.user_attrs.get('failed') or '')
    state = frozen.state.name.lower()
    if state in ('waiting', 'fail'):
      raise InputError(f'{self.path}: trial {frozen.number} was not written by sweep')
    if state == 'running' and reason:
      state = 'failed'
    value = frozen.value if frozen.state.is_finished() else None
    reports = dict(sorted(frozen.intermediate_values.items()))
    return Trial(frozen.number, state, value, point.params, point.flags, reports, reason)

  def _identity(self, number: int) -> int:
    study = self._storage.get_study_id_from_name(_NAME)
    return self._storage.get_trial_id_from_study_id_trial_number(study, number)

  def _sampler(self, number: int):
    """A sampler for one trial alone: what it draws follows from seed and number."""
    digest = hashlib.sha256(f'{self.seed} {number}'.encode()).digest()
    seed = int.from_bytes(digest[:4], 'big')
    if self._search == 'random':
      return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)

  def _copy(self, frozen: list[FrozenTrial], sampler=None, without=None) -> optuna.Study:
    """The study in memory: what is tried there leaves nothing in the journal.

    Args:
      frozen: its trials.
      sampler: for the next one.
      without: number of a trial that has reported nothing there yet.
    """
    copy = optuna.create_study(
      direction=self.direction, sampler=sampler, pruner=self._pruner, study_name=_NAME
    )
    for each in frozen:
      failed = each.state == TrialState.RUNNING and each.user_attrs.get('failed')
      copy.add_trial(
        optuna.create_trial(
          state=TrialState.FAIL if failed else each.state,
          value=each.value if each.state.is_finished() else None,
          params=each.params,
          distributions=each.distributions,
          system_attrs={} if each.number == without else each.system_attrs,
          intermediate_values={} if each.number == without else each.intermediate_values,
        )
      )
    return copy

  @contextlib.contextmanager
  def _asking(self):
    """Keeps other sweeps from asking for a trial during the block."""
    with Lock(self.path.with_name('.asking')) as lock:
      if not lock.take(patience=_PATIENCE):
        raise InputError(f'{lock.path}: another process has held this lock for a minute')
      yield

  @contextlib.contextmanager
  def _readable(self):
    """Says in one line that the journal can't be read."""
    try:
      yield
    except (InputError, OSError):
      raise
    except Exception as error:  # Whatever optuna may raise about lines that it has not written.
      raise InputError(
        f'{self.path}: this is no journal of a sweep ({type(error).__name__}: {one_line(error)}); '
        'take another --workdir'
      ) from error


class _Judge:
  """Decides by the pruner of a study in memory, report by report."""

  def __init__(self, copy: optuna.Study, number: int):
    self._copy, self._number = copy, number
    self._storage = copy._storage
    self._identity = self._trial()._trial_id

  def __call__(self, step: int, value: float) -> bool:
    self._storage.set_trial_intermediate_value(self._identity, step, value)
    return self._copy.pruner.prune(self._copy, self._trial())

  def attributes(self) -> dict[str, Any]:
    return dict(self._trial().system_attrs)

  def _trial(self) -> FrozenTrial:
    return self._copy.get_trials(deepcopy=False)[self._number]


def _pruner(name: str, after: int):
  if name == 'median':
    return optuna.pruners.MedianPruner(n_startup_trials=after)
  if name == 'asha':
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=after, reduction_factor=3)
  return None


def _drop_half_a_line(path: pathlib.Path, lock) -> None:
  """Cuts off what a process that was killed while it wrote has left of a line."""
  if not path.exists():
    return
  lock.acquire()
  try:
    with open(path, 'rb+') as file:
      content = file.read()
      file.truncate(content.rfind(b'\n') + 1)
  finally:
    lock.release()

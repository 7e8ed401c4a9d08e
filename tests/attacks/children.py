"""Commands in processes that are quick to start and are struck at a chosen change of a file."""

import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMPORTED = (
  'tensorflow_datasets', 'orbax.checkpoint', 'tensorboardX', 'dilated_jax.training.loop',
  'dilated_jax.weights.convert', 'dilated_jax.evaluation.run', 'dilated_jax.data.folder.builder',
  'experiments.about', 'experiments.networks', 'experiments.prediction_flags',
  'experiments.option_flags', 'experiments.starting_weights', 'experiments.reports.single',
)  # fmt: skip


class Ended(NamedTuple):
  """How a command ended.

  Attributes:
    status: its exit status, or minus the signal that killed it.
    changes: of files, until it was killed or to the end.
    seconds: how long it took.
    said: what it printed.
  """

  status: int
  changes: int
  seconds: float
  said: str


class Children:
  """Runs commands as `fork_server` does."""

  def __init__(self, folder: pathlib.Path):
    self._log = folder / 'log.txt'
    environment = {
      **os.environ,
      'PYTHONPATH': str(ROOT),
      'JAX_PLATFORMS': 'cpu',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    }
    self._server = subprocess.Popen(
      [sys.executable, ROOT / 'tests/attacks/fork_server.py', *IMPORTED],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env=environment,
      text=True,
    )
    assert self._server.stdin and self._server.stdout
    self._tasks, self._answers = self._server.stdin, self._server.stdout
    assert self._answers.readline() == 'ready\n'

  def run(
    self,
    command: str,
    *arguments: str,
    folder: pathlib.Path,
    strike_at: int = 0,
    after: float = 0,
    number: int = signal.SIGKILL,
    whom: str = 'itself',
    shell: str = '',
    timeout: float = 300,
  ) -> Ended:
    """Runs a command.

    Args:
      command: its name.
      *arguments: its flags.
      folder: changes of files in it are counted.
      strike_at: before which of these the command is struck; 0 for never.
      after: seconds after which it is struck, instead.
      number: the signal that it is struck with.
      whom: 'itself', the process that makes the change; 'first', the one that has started it; or
        'all'.
      shell: a line of shell to run in place of the signal.
      timeout: seconds after which it is killed.
    """
    self._log.write_text('')
    task = dict(
      module=f'experiments.{command}', arguments=arguments, folder=str(folder),
      strike_at=strike_at, after=after, signal=int(number), whom=whom, shell=shell,
      timeout=timeout, log=str(self._log),
    )  # fmt: skip
    self._tasks.write(json.dumps(task) + '\n')
    self._tasks.flush()
    return Ended(**json.loads(self._answers.readline()), said=self._log.read_text())

  def close(self) -> None:
    self._tasks.close()
    self._server.wait()
    self._answers.close()

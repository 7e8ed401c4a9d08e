"""The commands: which there are, how one is called, and running one from another."""

from collections.abc import Iterable
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from typing import NamedTuple

from dilated_jax.errors import InputError

_FOLDER = pathlib.Path(__file__).parent
# What this package is called tells how it was started: from a clone, or as it is installed.
_INSTALLED = __package__ != 'experiments'


def names() -> list[str]:
  """The modules of this package that can be run."""
  files = sorted(_FOLDER.glob('[!_]*.py'))
  return [file.stem for file in files if "\nif __name__ == '__main__':\n" in file.read_text()]


def typed(name: str = '') -> str:
  """A command as it is typed: `dilated-jax train`, or `python -m experiments.train` in a clone."""
  if _INSTALLED:
    return f'dilated-jax {name}'.rstrip()
  return f'python -m {__package__}.{name}'.rstrip('.')


def as_typed(text: str) -> str:
  """Turns each `dilated-jax NAME` in a text into what is typed here."""
  return re.sub(r'dilated-jax\b(?: (\w+))?', lambda found: typed(found[1] or ''), text)


_STARTED_BY = 'DILATED_JAX_STARTED_BY'


def end_with_starter() -> None:
  """Lets this command end soon after the one that started it, even if that one was killed.

  It would go on by itself, and write where that command, started again, writes too.
  """
  starter = int(os.environ.pop(_STARTED_BY, 0))

  def watch():
    while os.getppid() == starter:
      time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)

  if starter:
    threading.Thread(target=watch, daemon=True).start()


class Done(NamedTuple):
  """What a command took.

  Attributes:
    memory: the peak of its process in bytes; on Linux at least that of the process that started it.
  """

  memory: int


def program(name: str, options: Iterable[str]) -> list[str]:
  """The words that run a command of the project in a process of its own."""
  # As the program `dilated-jax` does, leave modules of the current folder alone.
  safe_path = ['-P'] if _INSTALLED else []
  return [sys.executable, *safe_path, '-m', f'{__package__}.{name}', *options]


def run(name: str, *options: str) -> Done:
  """Prints a command of the project and runs it.

  Raises:
    InputError: it failed; what it said stands above.
  """
  print(f'\n$ {typed(name)} {shlex.join(options)}'.rstrip(), flush=True)
  process = subprocess.Popen(
    program(name, options), env={**os.environ, _STARTED_BY: str(os.getpid())}
  )
  try:
    _, status, usage = os.wait4(process.pid, 0)
  except BaseException:
    process.terminate()
    process.wait()
    raise
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise InputError(f'{name} ended with status {process.returncode}')
  return Done(usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024))

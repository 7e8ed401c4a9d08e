"""What the commands that run other commands share: running one, and tables in Markdown."""

import os
import shlex
import subprocess
import sys
from typing import NamedTuple

from dilated_jax.errors import InputError


class Done(NamedTuple):
  """What a command took.

  Attributes:
    memory: the peak of its process in bytes; on Linux at least that of the process that started it.
  """

  memory: int


def run(command: str, *options: str) -> Done:
  """Prints a command of the project and runs it.

  Raises:
    InputError: it failed; what it said stands above.
  """
  line = ['-m', f'{__package__}.{command}', *options]
  print('\n$', shlex.join(['python', *line]), flush=True)
  process = subprocess.Popen([sys.executable, *line])
  try:
    _, status, usage = os.wait4(process.pid, 0)
  except BaseException:
    process.terminate()
    process.wait()
    raise
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise InputError(f'{__package__}.{command} ended with status {process.returncode}')
  return Done(usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024))


def markdown(head, rows) -> list[str]:
  """A table in Markdown, its columns aligned for reading as it is."""
  cells = [list(head), *([name, *values] for name, values in rows)]
  widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
  lines = [
    '| ' + ' | '.join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ) + ' |'
    for row in cells
  ]  # fmt: skip
  rule = '|' + '|'.join('-' * (w + 1) + (':' if i else '-') for i, w in enumerate(widths)) + '|'
  return [lines[0], rule, *lines[1:]]


def percent(value: float | None) -> str:
  return '-' if value is None else f'{100 * value:.1f}'

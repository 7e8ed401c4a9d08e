"""Runs commands in copies of one process that has imported everything, and kills them in time.

A program: it reads a line of JSON for each command from stdin and answers with one on stdout. An
audit hook counts what the command does to files in a folder (making, writing, renaming, removing),
and before the n-th of these sends the process a signal or runs a line of shell, which may fill the
disk: every state that a killed command can leave has a number. Nothing of JAX has been started
before the fork, only imported.
"""

import atexit
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import time

CHANGES = {
  'os.mkdir', 'os.remove', 'os.rename', 'os.rmdir', 'os.truncate', 'os.link', 'os.symlink',
}  # fmt: skip


class Counter:
  """Counts changes of files below a folder, and does something before the n-th."""

  def __init__(self, folder: str, strike_at: int, strike):
    self.folder, self.strike_at, self.strike, self.count = folder, strike_at, strike, 0

  def __call__(self, event: str, arguments: tuple) -> None:
    if event == 'open':
      path, mode, how = arguments
      writes = any(letter in (mode or '') for letter in 'wax+')
      if not (writes or (mode is None and how & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))):
        return
    elif event in CHANGES:
      path = arguments[0]
    else:
      return
    if not isinstance(path, (str, bytes)) or not os.fsdecode(path).startswith(self.folder):
      return
    self.count += 1
    if self.count == self.strike_at:
      self.strike()


def _run(task: dict, told: int) -> None:
  """The command in a process of its own; never returns."""
  log = os.open(task['log'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  os.dup2(log, 1)
  os.dup2(log, 2)

  def strike():
    if task['shell']:
      os.system(task['shell'])
    else:
      os.kill(os.getpid(), task['signal'])

  counter = Counter(task['folder'], task['strike_at'], strike)
  if task['after']:  # Seconds.
    _signal_later(task['after'], task['signal'])
  signal.signal(signal.SIGINT, signal.default_int_handler)  # Shells ignore it in the background.
  sys.addaudithook(counter)
  sys.argv = [task['module'], *task['arguments']]
  status = 1
  try:
    runpy.run_module(task['module'], run_name='__main__', alter_sys=True)
    status = 0
  except SystemExit as done:
    status = done.code if isinstance(done.code, int) else int(done.code is not None)
  except BaseException:
    import traceback

    traceback.print_exc()
  finally:
    counter.strike_at = 0
    os.write(told, str(counter.count).encode())
    threading._shutdown()  # As at the end of a program: waits for threads.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _signal_later(seconds: float, number: int) -> None:
  """A process that sends this one a signal; a thread would wait for Python's lock."""
  target = os.getpid()
  if os.fork() == 0:
    time.sleep(seconds)
    if os.getppid() == target:
      os.kill(target, number)
    os._exit(0)


def main() -> None:
  for name in sys.argv[1:]:
    importlib.import_module(name)
  print('ready', flush=True)
  for line in sys.stdin:
    task = json.loads(line)
    told, telling = os.pipe()
    start, process = time.monotonic(), os.fork()
    if process == 0:
      _run(task, telling)
    os.close(telling)
    deadline = start + task['timeout']
    while not (found := os.waitpid(process, os.WNOHANG))[0]:
      if time.monotonic() > deadline:
        os.kill(process, signal.SIGKILL)
        found = os.waitpid(process, 0)
        break
      time.sleep(0.01)
    status = os.waitstatus_to_exitcode(found[1])
    with os.fdopen(told) as pipe:
      count = int(pipe.read() or -1)
    seconds = time.monotonic() - start
    print(json.dumps({'status': status, 'changes': count, 'seconds': seconds}), flush=True)


if __name__ == '__main__':
  main()

"""Runs commands in copies of one process that has imported everything, and kills them in time.

A program: it reads a line of JSON for each command from stdin and answers with one on stdout. An
audit hook counts what the command does to files in a folder (making, writing, renaming, removing),
and before the n-th of these sends the process a signal or runs a line of shell, which may fill the
disk: every state that a killed command can leave has a number. Commands that these start in turn
are copies too, and their changes count. Nothing of JAX has been started before a fork, only
imported.
"""

import atexit
import importlib
import json
import mmap
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback

from dilated_jax.errors import InputError
from experiments import commands

CHANGES = {
  'os.mkdir', 'os.remove', 'os.rename', 'os.rmdir', 'os.truncate', 'os.link', 'os.symlink',
}  # fmt: skip


class Counter:
  """Counts changes of files below a folder, and does something before the n-th.

  Processes that are forked from that of the counter count together.
  """

  def __init__(self, folder: str, strike_at: int, strike):
    self.folder, self.strike_at, self.strike = folder, strike_at, strike
    self._shared = memoryview(mmap.mmap(-1, 8)).cast('q')

  @property
  def count(self) -> int:
    """Changes so far."""
    return self._shared[0]

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
    self._shared[0] += 1
    if self._shared[0] == self.strike_at:
      self.strike()


def _run(task: dict, counter: Counter) -> None:
  """The command in a process of its own; never returns."""
  root = os.getpid()
  os.setpgid(0, 0)
  log = os.open(task['log'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  os.dup2(log, 1)
  os.dup2(log, 2)

  def strike():
    if task['shell']:
      os.system(task['shell'])
    elif task['whom'] == 'all':
      os.killpg(root, task['signal'])
    else:
      os.kill(root if task['whom'] == 'first' else os.getpid(), task['signal'])

  counter.strike = strike
  if task['after']:  # Seconds.
    _signal_later(task['after'], task['signal'])
  signal.signal(signal.SIGINT, signal.default_int_handler)  # Shells ignore it in the background.
  sys.addaudithook(counter)
  commands.run = Starter()
  _run_module(task['module'], task['arguments'])


def _run_module(module: str, arguments: list[str]) -> None:
  """A command in this process, and the end of it."""
  sys.argv = [module, *arguments]
  status = 1
  try:
    runpy.run_module(module, run_name='__main__', alter_sys=True)
    status = 0
  except SystemExit as done:
    status = done.code if isinstance(done.code, int) else int(done.code is not None)
  except BaseException:
    traceback.print_exc()
  finally:
    threading._shutdown()  # As at the end of a program: waits for threads.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Starter:
  """Stands in for `commands.run`: commands are copies of this process as it is when this is made.

  The copies are those of another process, which ends with this one, as they then do.
  """

  def __init__(self):
    mine, other = socket.socketpair(type=socket.SOCK_SEQPACKET)
    if os.fork() == 0:
      mine.close()
      self._serve(other)
    other.close()
    self._socket = mine

  def __call__(self, name: str, *options: str) -> commands.Done:
    """See `commands.run`."""
    self._socket.send(json.dumps([f'experiments.{name}', options]).encode())
    process = int(self._socket.recv(100))
    try:
      status = int(self._socket.recv(100))
    except BaseException:
      os.kill(process, signal.SIGTERM)
      self._socket.recv(100)
      raise
    if status:
      raise InputError(f'{name} ended with status {status}')
    return commands.Done(1)

  def _serve(self, told: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal interrupts the commands.
    while asked := told.recv(1 << 16):
      process = os.fork()
      if process == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ[commands._STARTED_BY] = str(os.getppid())
        _run_module(*json.loads(asked))
      told.send(str(process).encode())
      while not (found := os.waitpid(process, os.WNOHANG))[0]:
        if select.select([told], [], [], 0.01)[0]:  # It has ended.
          os._exit(0)
      told.send(str(os.waitstatus_to_exitcode(found[1])).encode())
    os._exit(0)


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
    counter = Counter(task['folder'], task['strike_at'], lambda: None)
    start, process = time.monotonic(), os.fork()
    if process == 0:
      _run(task, counter)
    deadline = start + task['timeout']
    while not (found := os.waitpid(process, os.WNOHANG))[0]:
      if time.monotonic() > deadline:
        os.kill(process, signal.SIGKILL)
        found = os.waitpid(process, 0)
        break
      time.sleep(0.01)
    status = os.waitstatus_to_exitcode(found[1])
    seconds = time.monotonic() - start
    print(json.dumps({'status': status, 'changes': counter.count, 'seconds': seconds}), flush=True)


if __name__ == '__main__':
  main()

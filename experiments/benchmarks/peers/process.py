"""A program that runs and times the functions of a file beside it, asked through a pipe.

`python process.py FILE`, by any Python from 3.8 on; JAX and our packages need not be there. A
request is a pickled tuple: ('prepare', function, arguments), ('time', runs), ('result',) or
('memory',). An answer is ('ok', content) or ('error', one line).
"""

import ctypes
import gc
import importlib
import os
import pickle
import re
import sys
import time


def main():
  requests = sys.stdin.buffer
  # What a library prints must not come between the answers.
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)

  def answer(kind, content):
    pickle.dump((kind, content), answers, protocol=4)
    answers.flush()

  call = None
  try:
    file = importlib.import_module(sys.argv[1])
    answer('ok', file.version())
  except Exception as error:
    answer('error', line_of(error))
    return
  while True:
    try:
      what, *given = pickle.load(requests)
    except EOFError:
      return
    try:
      if what == 'prepare':
        call = None  # Frees the memory of the job before.
        call = getattr(file, given[0])(**given[1])
        content = None
      elif what == 'time':
        start = time.perf_counter()
        for _ in range(given[0]):
          call()
          file.wait()
        content = 1000 * (time.perf_counter() - start) / given[0]
      elif what == 'result':
        content = file.plain(call())
      else:
        content = memory(file, call)
      answer('ok', content)
    except Exception as error:
      answer('error', line_of(error))


def memory(file, call):
  """MiB by which a run raised the peak of the device, or else of this process; None if unknown."""
  call()  # What is kept from run to run is there now.
  file.wait()
  gc.collect()
  if hasattr(file, 'device_peak_mib'):
    found = file.device_peak_mib(call)
    if found is not None:
      return found
  try:
    # What is free goes back to the system, or else a run would find it and take no more.
    ctypes.CDLL(None).malloc_trim(0)
    with open('/proc/self/clear_refs', 'w') as control:
      control.write('5')  # Sets the peak to what is in use now.
    before = status('VmRSS')
    call()
    return (status('VmHWM') - before) / 1024
  except (OSError, TypeError, AttributeError):
    return None


def status(name):
  """KiB of a line of /proc/self/status."""
  with open('/proc/self/status') as lines:
    return int(re.search(name + r':\s+(\d+)', lines.read()).group(1))


def line_of(error):
  """The error in one line."""
  return type(error).__name__ + ': ' + ' '.join(str(error).split())[:300]


if __name__ == '__main__':
  main()

import json
import pathlib
import subprocess
import sys

import pytest

from dilated_jax.weights import keras

_SERVER = """
import json, os, sys
sys.path.append(sys.argv[1])
import hdf5_program
for line in sys.stdin:
  file, unpacked, output = json.loads(line)
  child = os.fork()
  if not child:
    with open(output, 'w') as sys.stdout:
      try:
        hdf5_program.main(file, unpacked)
      except Exception:
        pass
    os._exit(0)
  os.waitpid(child, 0)
  print(flush=True)
"""


@pytest.fixture(scope='module')
def hdf5_server():
  """Answers of weights/hdf5_program.py from a process that forks for each.

  To start Python for a thousand damaged files would take minutes. The program, its limits and what
  it says are the same.
  """
  server = subprocess.Popen(
    [sys.executable, '-P', '-c', _SERVER, pathlib.Path(keras.__file__).parent],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )

  def answer(file, unpacked):
    output = unpacked.with_name('answer')
    print(json.dumps([str(file), str(unpacked), str(output)]), file=server.stdin, flush=True)
    assert server.stdout.readline() == '\n'
    return output.read_bytes()

  with server, pytest.MonkeyPatch.context() as patch:
    patch.setattr(keras, '_answer', answer)
    yield
    server.stdin.close()

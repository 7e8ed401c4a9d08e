"""hosts: process 0 of a sweep asks, and all hosts run the same trials."""

import os
import socket
import subprocess
import sys

from tests.experiments.sweeps import test_sweep as common


def test_two_processes_run_the_same_trials(tmp_path):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  space = tmp_path / 'space.py'
  space.write_text(common.SPACE)
  program = common.PROGRAM.format(stand_in=common.STAND_IN)
  flags = [f'--space={space}', '--trials=3', '--prune=median', '--prune_after=1']
  both = [
    subprocess.Popen(
      [
        sys.executable, '-c', program, f'--workdir={tmp_path / "w"}', *flags, '--distributed',
        f'--coordinator={address}', '--processes=2', f'--process={index}', '--', 'train',
        '--num_steps=3',
      ],
      env=os.environ | {'PYTHONPATH': str(common.ROOT), 'STAND_IN_LATE': '0.5'},
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    for index in range(2)
  ]  # fmt: skip
  told = [process.communicate(timeout=120) for process in both]
  assert [process.returncode for process in both] == [0, 0], told
  trials = common.results(tmp_path / 'w')['trials']
  assert len(trials) == 3
  ports = []
  for each in trials:
    folder = tmp_path / 'w' / 'trials' / f'{each["trial"]:04}'
    rate, where = (folder / 'followed_1').read_text().split()
    assert rate == each['flags']['learning_rate']  # What process 0 has chosen.
    ports.append(int(where.rpartition(':')[2]))
  first = int(address.rpartition(':')[2])
  assert ports == [first + 1, first + 2, first + 3]
  assert '| trial |' in told[0][0] and not told[1][0]

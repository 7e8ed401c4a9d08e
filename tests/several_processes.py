"""Runs of several processes on this machine, for tests: as commands, or as this program.

As a program it is one process of several that trains what it is told: a JSON list of runs, of each
of which it prints a line when it is done or why it was refused.
"""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]


def free_port() -> int:
  """A port of this machine that nothing listens on."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    return free.getsockname()[1]


def start(
  count: int, module: str, *arguments: str, of_last: tuple[str, ...] = (), **environment: str
) -> list[subprocess.Popen]:
  """Starts `python -m module` as the tasks of a step of Slurm, which this machine plays.

  Args:
    count: of processes.
    module: to run, with these arguments in each.
    of_last: more arguments of the last one.
    **environment: of each, besides that of this process.
  """
  step = {
    'SLURM_JOB_ID': '1', 'SLURM_STEP_NODELIST': 'localhost', 'SLURM_NTASKS': f'{count}',
    'SLURM_STEP_NUM_NODES': '1', 'JAX_COORDINATOR_PORT': f'{free_port()}', 'JAX_PLATFORMS': 'cpu',
  }  # fmt: skip
  return [
    subprocess.Popen(
      [sys.executable, '-m', module, *arguments, *(of_last if i == count - 1 else ())],
      cwd=ROOT,
      env={**os.environ, **step, 'SLURM_PROCID': f'{i}', 'SLURM_LOCALID': f'{i}', **environment},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(count)
  ]


def finish(processes, seconds: float = 300) -> list[tuple[int, str, str]]:
  """Waits for processes; exit status, stdout and stderr of each."""
  ended = []
  try:
    for process in processes:
      out, errors = process.communicate(timeout=seconds)
      ended.append((process.returncode, out, errors))
  finally:
    for process in processes:
      process.kill()
      process.communicate()
  return ended


def train(runs: list[dict], count: int, **environment: str) -> list[str]:
  """Trains in `count` processes, run after run; what the first of them says of each.

  Args:
    runs: as for `train_here`.
    count: of processes.
    **environment: of each, besides that of this process.
  """
  ended = finish(start(count, 'tests.several_processes', json.dumps(runs), **environment))
  for status, _, errors in ended:
    assert status == 0, errors[-3000:]
  # Gloo writes of its connections between the lines, and its ends of lines come when they will.
  said = re.sub(r'\[Gloo\].*', '', ended[0][1])
  return [line for line in said.splitlines() if line.strip()]


def train_here(folder, way: str, steps: dict[str, int], *, after=None, **options) -> None:
  """Trains in this process, or in this one of several.

  Args:
    folder: of the run.
    way: 'pmap' or 'mesh'.
    steps: by stage.
    after: folder of a run to go on with as if it had been cut after its last checkpoint.
    **options: of the stages.
  """
  from jax.experimental import multihost_utils

  from dilated_jax.training import loop
  from dilated_jax.training.config import StageConfig
  from tests.training import test_loop as toy

  if after and jax.process_index() == 0:
    shutil.copytree(after, folder, ignore=shutil.ignore_patterns('weights*'))
  multihost_utils.sync_global_devices(f'{folder}')
  common = dict(batch_size=4, eval_every=2, threads=1, parallelism=way, **options)
  configs = [
    StageConfig(stage, count, **common, **({'crop': (16, 8)} if stage == 'front_end' else {}))
    for stage, count in steps.items()
  ]
  images = [
    {**one, 'image': _tall(one['image']), 'label': _tall(one['label'])} for one in toy.TRAIN
  ]
  # Its masks are drawn by device.
  spec = dataclasses.replace(toy.SPEC, options={**toy.OPTIONS, 'dropout': 0.0})
  loop.train(configs, spec, toy.started(), images, toy.VAL, toy.CLASSES, folder)


def _tall(array):
  """Twice, one above the other: high enough for bands."""
  return np.concatenate([array, array[:, ::-1]])


def main():
  from dilated_jax.errors import InputError

  jax.distributed.initialize(heartbeat_timeout_seconds=600)  # Busy machines may stand still.
  for run in json.loads(sys.argv[1]):
    try:
      train_here(**run)
      print('done', flush=True)
    except InputError as error:
      print(f'refused: {error}', flush=True)


if __name__ == '__main__':
  main()

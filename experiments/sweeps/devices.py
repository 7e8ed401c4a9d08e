"""Deals the devices of this machine out to trials that run side by side."""

from __future__ import annotations

from collections.abc import Sequence
import os
import pathlib
import subprocess
from typing import NamedTuple

from dilated_jax.errors import InputError

KINDS = ('cuda', 'tpu', 'cpu')
# Chips of one process, and how they lie beside each other; as Cloud TPU documents for several
# processes on one host.
_TPU_BOUNDS = {1: '1,1,1', 2: '1,2,1', 4: '2,2,1', 8: '2,4,1'}


class Share(NamedTuple):
  """What one trial may use.

  Attributes:
    environment: variables that say so.
    cores: of the CPU; empty: all.
    text: for people.
  """

  environment: dict[str, str]
  cores: frozenset[int]
  text: str


def deal(parallel: int, asked: str = 'auto') -> list[Share]:
  """A share for each trial that runs at once.

  Args:
    parallel: how many run at once.
    asked: 'auto'; 'none', every trial sees everything; or a kind and numbers, as 'cuda:0,1'.

  Raises:
    InputError: there are fewer devices than trials, or they can't be shared evenly.
  """
  if asked == 'none' or (asked == 'auto' and parallel == 1):
    return [Share({}, frozenset(), 'all devices')] * parallel
  kind, numbers = _found() if asked == 'auto' else _parsed(asked)
  if kind == 'cpu' and asked == 'auto' and len(numbers) < parallel:
    return [Share({}, frozenset(), 'all cores')] * parallel
  count = len(numbers) // parallel
  if not count:
    raise InputError(
      f'--parallel={parallel}: there are {len(numbers)} devices ({kind}): take --parallel='
      f'{len(numbers)}, or --devices=none if trials are to share them'
    )
  groups = [numbers[index * count : (index + 1) * count] for index in range(parallel)]
  return [_share(kind, group, index) for index, group in enumerate(groups)]


def _share(kind: str, group: Sequence[str], index: int) -> Share:
  listed = ','.join(group)
  if kind == 'cpu':
    return Share({}, frozenset(map(int, group)), f'cores {listed}')
  if kind == 'cuda':
    return Share({'CUDA_VISIBLE_DEVICES': listed}, frozenset(), f'GPU {listed}')
  if len(group) not in _TPU_BOUNDS:
    raise InputError(f'--devices: a trial can have 1, 2, 4 or 8 chips of a TPU, not {len(group)}')
  environment = {
    'TPU_VISIBLE_CHIPS': listed,
    'TPU_CHIPS_PER_PROCESS_BOUNDS': _TPU_BOUNDS[len(group)],
    'TPU_PROCESS_BOUNDS': '1,1,1',
    # Processes on one host must not speak at the same ports.
    'TPU_PROCESS_PORT': str(8476 + index),
    'TPU_PROCESS_ADDRESSES': f'localhost:{8476 + index}',
    'CLOUD_TPU_TASK_ID': '0',
  }
  return Share(environment, frozenset(), f'TPU {listed}')


def _parsed(asked: str) -> tuple[str, list[str]]:
  kind, _, listed = asked.partition(':')
  numbers = [each.strip() for each in listed.split(',') if each.strip()]
  right = kind in KINDS and numbers and len(set(numbers)) == len(numbers)
  if not right or (kind != 'cuda' and not all(each.isdecimal() for each in numbers)):
    raise InputError(
      f'--devices={asked}: give auto, none, or a kind ({", ".join(KINDS)}) and numbers, as cuda:0,1'
    )
  if kind == 'cpu' and (missing := set(map(int, numbers)) - _cores()):
    raise InputError(f'--devices={asked}: this process has no core {min(missing)}')
  return kind, numbers


def _found() -> tuple[str, list[str]]:
  """The devices of this machine, without JAX: it would take their memory."""
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is not None and visible.strip() not in ('', '-1'):
    return 'cuda', [each.strip() for each in visible.split(',')]
  if visible is None and (gpus := _gpus()):
    return 'cuda', gpus
  chips = sorted(pathlib.Path('/dev').glob('accel[0-9]*')) or sorted(
    pathlib.Path('/dev/vfio').glob('[0-9]*')
  )
  if chips and _has_libtpu():
    return 'tpu', [f'{index}' for index in range(len(chips))]
  return 'cpu', [f'{core}' for core in sorted(_cores())]


def _gpus() -> list[str]:
  command = ['nvidia-smi', '--query-gpu=index', '--format=csv,noheader']
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
  except (OSError, subprocess.SubprocessError):
    return []
  return [line.strip() for line in done.stdout.splitlines() if line.strip().isdecimal()]


def _has_libtpu() -> bool:
  import importlib.util

  return importlib.util.find_spec('libtpu') is not None


def _cores() -> set[int]:
  if hasattr(os, 'sched_getaffinity'):  # Linux.
    return os.sched_getaffinity(0)
  return set()

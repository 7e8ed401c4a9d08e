"""Runs of several processes, on one host or many: how they find each other, and how they end.

`--distributed` asks JAX, which knows Slurm, Open MPI (others by mpi4py), Cloud TPU and Kubernetes;
on bare hosts `--coordinator`, `--processes` and `--process` say it. What is only half there ends
in one line that says what was looked for.
"""

import atexit
from collections.abc import Iterator
import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import time

from absl import flags, logging

from dilated_jax.errors import InputError, first_line

flags.disclaim_key_flags()  # They are flags of the command that calls `define_flags`.

NAMES = ('distributed', 'coordinator', 'processes', 'process')
_BARE = NAMES[1:]
# Seconds: after which a process that sends no heartbeats counts as dead; in which processes wait
# for each other, at the start, since hosts boot and pull images, and at the end, since process 0
# writes the weights; and by which process 0 leaves last where all of them fail.
_HEARTBEAT, _START, _END, _LAST = 30, 300, 300, 3
# What a process finds when another one is gone, by the words of Gloo, NCCL and JAX.
_GONE = r'gloo|nccl|unavailable|deadline_exceeded|coordination|heartbeat|connection (reset|closed)'
LOST = 'another process of the run has ended or can not be reached'
_GO_ON = 'the same command on every host goes on after the last checkpoint'

_SLURM = (
  'SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID',
)  # fmt: skip
_OPEN_MPI = ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK')
_OTHER_MPI = ('PMI_RANK', 'PMIX_RANK')
_TPU = ('TPU_WORKER_HOSTNAMES', 'TPU_PROCESS_ADDRESSES', 'TPU_PROCESS_ADDRESSES_PATH')
_KUBERNETES = 'KUBERNETES_SERVICE_HOST'


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags of several processes."""
  into = {'flag_values': values}
  flags.DEFINE_bool(
    'distributed', False,
    'Run on several hosts, this command on each; finds Slurm, Open MPI, Cloud TPU and Kubernetes.',
    **into,
  )  # fmt: skip
  flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, on bare hosts.', **into)
  flags.DEFINE_integer('processes', None, 'Number of processes, on bare hosts.', 1, **into)
  flags.DEFINE_integer('process', None, 'Number of this process, on bare hosts.', 0, **into)


@contextlib.contextmanager
def joined(values: flags.FlagValues) -> Iterator[None]:
  """Within, this process is one of those of the run; without `--distributed` it is the only one.

  A process that fails, or whose work ends because another one is gone, leaves at once instead of
  waiting for the others: they would wait for it.

  Raises:
    InputError: no cluster was found or only a part of one, the others did not come, or another
      process is gone.
  """
  given = [name for name in _BARE if values[name].value is not None]
  if not values.distributed:
    if given:
      raise InputError(f'--{given[0]} is for several hosts; give --distributed too')
    yield
    return
  import jax  # Here, because --help does not need it.

  _join(*(_bare_hosts(values) if given else environment()))
  last_words = _LastWords()
  try:
    yield
    jax.distributed.shutdown()  # Waits for the others, so that process 0 is there till the end.
  except BaseException as error:
    atexit.register(_leave, last_words)  # After the message, before JAX's own end.
    if isinstance(error, Exception) and (loss := _loss(error)):
      raise InputError(f'{LOST} ({first_line(loss)}); {_GO_ON}') from error
    raise
  last_words.need_not_be_said()


def _loss(error: BaseException | None) -> BaseException | None:
  """What JAX has said of another process that is gone: this error, or what has led to it."""
  while error is not None:
    # XLA raises what it can't name as a ValueError; before its messages stands a code.
    of_xla = isinstance(error, (RuntimeError, ValueError)) and re.match('[A-Z_]+: ', str(error))
    if of_xla and re.search(_GONE, str(error), re.I):
      return error
    error = error.__cause__ or error.__context__
  return None


def _join(where: str, arguments: dict) -> None:
  import jax

  logging.info('%s: waiting for the other processes, %d s at most', where, _START)
  try:
    jax.distributed.initialize(
      **arguments,
      initialization_timeout=_START,
      heartbeat_timeout_seconds=_HEARTBEAT,
      shutdown_timeout_seconds=_END,
    )
  except Exception as error:  # Of sockets, of web interfaces, of JAX: all of them are of the hosts.
    if 'coordinator_address should be defined' in str(error):
      raise InputError(_nothing_found()) from error
    raise InputError(f'--distributed: {where}: {first_line(error)}') from error
  logging.info(
    'process %d of %d, with %d of %d devices',
    jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count(),
  )  # fmt: skip


class _LastWords:
  """One line for a process that is ended without a word of its own, or with too many.

  Where heartbeats stop, JAX aborts the process in C++, and nothing that is written in Python runs.
  A small process that waits for the end of this one says what that was.
  """

  def __init__(self):
    code = 'import sys; sys.stdin.read() or sys.exit(sys.argv[1])'
    self._process = subprocess.Popen(
      [sys.executable, '-ISc', code, f'error: this process was ended, or {LOST}; {_GO_ON}'],
      stdin=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      start_new_session=True,  # Ctrl-C is for this process alone.
    )

  def need_not_be_said(self) -> None:
    """This process has come to an end of its own."""
    with contextlib.suppress(OSError):
      self._process.communicate(b'done')


def _leave(last_words: _LastWords) -> None:
  """Ends this process without waiting for the others.

  Process 0 is the last one, where all of them fail by the same fault: its end aborts the others.
  """
  import jax

  last_words.need_not_be_said()
  if jax.process_index() == 0:
    time.sleep(_LAST)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(1)


def _bare_hosts(values) -> tuple[str, dict]:
  """Where this process is by the flags, and what JAX is to be told."""
  missing = [name for name in _BARE if values[name].value is None]
  if missing:
    raise InputError(
      f'--{missing[0]} is missing: bare hosts need --coordinator, --processes and --process; '
      'clusters that JAX knows need none of them'
    )
  host, _, port = values.coordinator.rpartition(':')
  if not host or not port.isdecimal():
    raise InputError(f'--coordinator={values.coordinator}: give HOST:PORT of process 0')
  if values.process >= values.processes:
    raise InputError(
      f'--process={values.process}: processes are numbered from 0 to {values.processes - 1}'
    )
  arguments = dict(
    coordinator_address=values.coordinator, num_processes=values.processes,
    process_id=values.process, cluster_detection_method='deactivate',
  )  # fmt: skip
  return f'process {values.process} of {values.processes} at {values.coordinator}', arguments


def environment() -> tuple[str, dict]:
  """Which cluster the environment is of, and what JAX is to be told besides.

  Returns:
    its name, and arguments of `jax.distributed.initialize`.

  Raises:
    InputError: a part of what JAX needs is missing; says which.
  """
  env = os.environ
  if 'OMPI_COMM_WORLD_SIZE' in env:
    _need(_OPEN_MPI, 'Open MPI', 'start it with mpirun')
    if 'OMPI_MCA_orte_hnp_uri' in env:  # Up to version 4.
      return 'Open MPI', _devices(env.get('OMPI_COMM_WORLD_LOCAL_SIZE') == '1')
    return 'Open MPI', _by_mpi4py('Open MPI 5') | _devices(
      env.get('OMPI_COMM_WORLD_LOCAL_SIZE') == '1'
    )
  if 'SLURM_JOB_ID' in env:
    _need(_SLURM, f'job {env["SLURM_JOB_ID"]} of Slurm', 'start it with srun, as a step of the job')
    return 'Slurm', _devices(env['SLURM_NTASKS'] == env.get('SLURM_STEP_NUM_NODES'))
  if any(name in env for name in _OTHER_MPI):
    return 'MPI', _by_mpi4py('MPI')
  if any(name in env for name in _TPU):
    return 'Cloud TPU', {}
  if _KUBERNETES in env:
    if importlib.util.find_spec('kubernetes') is None:
      raise InputError(
        '--distributed: this is a pod of Kubernetes, and JAX asks its API who the others are by a '
        "package that is missing: pip install 'jax[k8s]'"
      )
    _need(
      ('JOB_COMPLETION_INDEX',), 'a pod of Kubernetes',
      'jobs must be indexed, completionMode: Indexed, as those of a JobSet are',
    )  # fmt: skip
    return 'Kubernetes', {}
  return 'Cloud TPU', {}  # Of a TPU VM nothing but its metadata server tells.


def _need(names, what: str, hint: str) -> None:
  missing = [name for name in names if name not in os.environ]
  if missing:
    are = 'is' if len(missing) == 1 else 'are'
    raise InputError(
      f'--distributed: found {what}, but {", ".join(missing)} {are} not set: {hint}; or give '
      '--coordinator, --processes and --process'
    )


def _by_mpi4py(what: str) -> dict:
  if importlib.util.find_spec('mpi4py') is None:
    raise InputError(
      f'--distributed: {what} tells the processes of each other by a package that is missing: pip '
      'install mpi4py'
    )
  return dict(cluster_detection_method='mpi4py')


def _devices(alone: bool) -> dict:
  """Has a process use all devices that it sees where it is alone or where they were dealt out.

  JAX gives process i of a host device i of those it sees, which is right for as many processes as
  devices, leaves devices idle where there is one process, and finds none where each sees its own.
  """
  several = ',' in os.environ.get('CUDA_VISIBLE_DEVICES', ',')
  if 'JAX_LOCAL_DEVICE_IDS' in os.environ or not (alone or not several):
    return {}
  return dict(local_device_ids=[])


def _nothing_found() -> str:
  return (
    '--distributed: found no cluster: looked for Slurm (SLURM_JOB_ID), Open MPI '
    f'(OMPI_COMM_WORLD_SIZE) and other MPI ({", ".join(_OTHER_MPI)}), Cloud TPU '
    f'({_TPU[0]}, or the metadata of a TPU VM) and Kubernetes ({_KUBERNETES}); on bare hosts give '
    '--coordinator, --processes and --process'
  )

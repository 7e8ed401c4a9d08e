"""hosts.py: clusters are found by the variables that they set, and what is missing is told."""

import importlib.util
import os
import sys
import types

from absl import flags
import jax
from jax._src import clusters
from jax._src.clusters import k8s_cluster
import pytest

from dilated_jax.errors import InputError
from experiments import hosts

SLURM = {
  'SLURM_JOB_ID': '4096', 'SLURM_STEP_NODELIST': 'node[003-004],login', 'SLURM_NTASKS': '8',
  'SLURM_STEP_NUM_NODES': '2', 'SLURM_PROCID': '5', 'SLURM_LOCALID': '1',
}  # fmt: skip
OPEN_MPI = {
  'OMPI_COMM_WORLD_SIZE': '4', 'OMPI_COMM_WORLD_RANK': '3', 'OMPI_COMM_WORLD_LOCAL_RANK': '1',
  'OMPI_COMM_WORLD_LOCAL_SIZE': '2',
}  # fmt: skip
ORTE = {'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911'}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
  """Whatever these tests are started by: none of its variables is seen."""
  for name in list(os.environ):
    if name.startswith(('SLURM_', 'OMPI_', 'PMI', 'TPU_', 'KUBERNETES_', 'JAX_COORD', 'CUDA_VIS')):
      monkeypatch.delenv(name)


def values_of(*arguments):
  values = flags.FlagValues()
  hosts.define_flags(values)
  values(['train', *arguments])
  return values


def found(monkeypatch, environment, *arguments):
  """What the installed JAX would begin with: coordinator, processes, process, local devices."""
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  seen = []

  def initialize(
    coordinator_address=None, num_processes=None, process_id=None, local_device_ids=None,
    cluster_detection_method=None, *, initialization_timeout, **timeouts,
  ):  # fmt: skip
    given = (coordinator_address, num_processes, process_id, local_device_ids)
    if cluster_detection_method != 'deactivate':
      given = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        *given, cluster_detection_method, initialization_timeout
      )
    if given[0] is None:
      raise ValueError('coordinator_address should be defined.')
    seen.append(given)

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  monkeypatch.setattr(jax.distributed, 'shutdown', lambda: None)
  with hosts.joined(values_of('--distributed', *arguments)):
    pass
  (only,) = seen
  return only


def test_slurm(monkeypatch):
  assert found(monkeypatch, SLURM) == ('node003:61440', 8, 5, [1])


def test_slurm_with_one_task_a_host_leaves_no_device_idle(monkeypatch):
  alone = {'SLURM_NTASKS': '2', 'SLURM_PROCID': '1', 'SLURM_LOCALID': '0'}
  assert found(monkeypatch, {**SLURM, **alone}) == ('node003:61440', 2, 1, [])


def test_slurm_that_has_dealt_out_the_devices(monkeypatch):
  assert found(monkeypatch, {**SLURM, 'CUDA_VISIBLE_DEVICES': '3'})[3] == []


def test_devices_that_the_user_has_named(monkeypatch):
  named = {'SLURM_NTASKS': '2', 'SLURM_PROCID': '1', 'JAX_LOCAL_DEVICE_IDS': '0,2'}
  for name, value in {**SLURM, **named}.items():
    monkeypatch.setenv(name, value)
  assert hosts.environment() == ('Slurm', {})


def test_open_mpi_4(monkeypatch):
  assert found(monkeypatch, {**OPEN_MPI, **ORTE}) == ('10.96.0.1:62624', 4, 3, [1])


def with_mpi4py(monkeypatch, rank, size):
  """A stand-in of mpi4py, which tells every process what process 0 says."""

  class World:
    Get_rank = staticmethod(lambda: rank)
    Get_size = staticmethod(lambda: size)
    bcast = staticmethod(lambda text, root: 'node7:1234')
    Split_type = staticmethod(lambda kind: types.SimpleNamespace(Get_rank=lambda: 1))

  module = types.ModuleType('mpi4py')
  module.__spec__ = importlib.util.spec_from_loader('mpi4py', None)
  module.MPI = types.SimpleNamespace(COMM_WORLD=World, COMM_TYPE_SHARED=None)
  monkeypatch.setitem(sys.modules, 'mpi4py', module)


@pytest.mark.parametrize('environment', [
  OPEN_MPI, {'PMI_RANK': '3', 'PMI_SIZE': '4'},
  # mpirun within a job of Slurm, whose variables are those of mpirun's own helper.
  {**SLURM, **OPEN_MPI},
])  # fmt: skip
def test_mpi_by_mpi4py(monkeypatch, environment):
  with_mpi4py(monkeypatch, 3, 4)
  assert found(monkeypatch, environment) == ('node7:1234', 4, 3, [1])


@pytest.mark.parametrize('environment', [OPEN_MPI, {'PMIX_RANK': '0'}])
def test_mpi_without_mpi4py(monkeypatch, environment):
  monkeypatch.setitem(sys.modules, 'mpi4py', None)
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(InputError, match=r'--distributed: (Open MPI 5|MPI) .*: pip install mpi4py$'):
    found(monkeypatch, environment)


@pytest.fixture
def tpu_vm(monkeypatch):
  for module in (clusters.cloud_tpu_cluster, clusters.cluster):
    monkeypatch.setattr(module, 'running_in_cloud_tpu_vm', True)
  metadata = {
    'agent-worker-number': ('1', 200), 'tpu-env': ('', 200),
    'worker-network-endpoints': ('unknown:unknown:127.0.0.1,unknown:unknown:10.0.0.2', 200),
  }  # fmt: skip
  monkeypatch.setattr(clusters.cloud_tpu_cluster, 'get_metadata', metadata.__getitem__)


def test_cloud_tpu(monkeypatch, tpu_vm):
  """Hosts of a TPU VM are told apart by its metadata server alone."""
  assert found(monkeypatch, {}) == ('127.0.0.1:8482', 2, 1, None)


def test_cloud_tpu_of_kubernetes(monkeypatch, tpu_vm):
  tpu = {
    'TPU_WORKER_HOSTNAMES': 'localhost,run-workers-0-1,run-workers-0-2', 'TPU_WORKER_ID': '2',
    'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'TPU_SKIP_MDS_QUERY': '1',
  }  # fmt: skip
  assert found(monkeypatch, tpu) == ('localhost:8482', 3, 2, None)


def pod(monkeypatch):
  """A pod of a JobSet: what Kubernetes' own package would tell of it."""
  named = types.SimpleNamespace
  owner = named(controller=True, kind='Job')
  labels = {'job-name': 'run-workers-0', 'jobset.sigs.k8s.io/jobset-name': 'run'}
  meta = named(name='run-workers-0', labels=labels, owner_references=[owner])
  core = named(list_namespaced_pod=lambda **_: named(items=[named(metadata=meta)]))
  job = named(metadata=meta, spec=named(parallelism=4))
  client = named(
    CoreV1Api=lambda: core,
    BatchV1Api=lambda: named(read_namespaced_job=lambda **_: job),
    exceptions=named(ApiException=OSError),
  )
  module = types.ModuleType('kubernetes')
  module.__spec__ = importlib.util.spec_from_loader('kubernetes', None)
  module.client, module.config = client, named(load_incluster_config=lambda: None)
  monkeypatch.setitem(sys.modules, 'kubernetes', module)
  monkeypatch.setattr(k8s_cluster.K8sCluster, '_namespace', lambda: 'default')
  monkeypatch.setattr(k8s_cluster.socket, 'gethostbyname', lambda name: '10.0.0.7')


KUBERNETES = {'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'HOSTNAME': 'run-workers-0-3-x7f2k'}


def test_a_job_set_of_kubernetes(monkeypatch):
  pod(monkeypatch)
  at = found(monkeypatch, {**KUBERNETES, 'JOB_COMPLETION_INDEX': '3'})
  assert at == ('run-workers-0-0.run:55527', 4, 3, None)


@pytest.mark.parametrize('environment, words', [
  ({}, 'found no cluster: looked for Slurm .*Open MPI .*Cloud TPU .*Kubernetes .*on bare hosts'),
  (
    {'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '2'},
    'found job 7 of Slurm, but SLURM_STEP_NODELIST, SLURM_PROCID, SLURM_LOCALID are not set: '
    'start it with srun',
  ),
  ({'OMPI_COMM_WORLD_SIZE': '2', **ORTE}, 'found Open MPI, but OMPI_COMM_WORLD_RANK'),
  (KUBERNETES, 'found a pod of Kubernetes, but JOB_COMPLETION_INDEX is not set: .*Indexed'),
  ({**OPEN_MPI, 'OMPI_MCA_orte_hnp_uri': 'nothing'}, 'Open MPI: '),
])  # fmt: skip
def test_a_cluster_that_is_missing_or_half_there(monkeypatch, environment, words):
  pod(monkeypatch)
  with pytest.raises(InputError, match=f'--distributed: {words}') as raised:
    found(monkeypatch, environment)
  assert '\n' not in str(raised.value)


def test_a_pod_without_the_package(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(InputError, match=r"a pod of Kubernetes.*: pip install 'jax\[k8s\]'"):
    found(monkeypatch, KUBERNETES)


def test_bare_hosts(monkeypatch):
  """What the flags say counts, wherever it is."""
  at = ('--coordinator=node1:7000', '--processes=2', '--process=1')
  assert found(monkeypatch, SLURM, *at) == ('node1:7000', 2, 1, None)


@pytest.mark.parametrize('arguments, words', [
  (['--coordinator=a:1', '--processes=2'], '--process is missing: bare hosts need'),
  (['--coordinator=a', '--processes=2', '--process=0'], '--coordinator=a: give HOST:PORT'),
  (['--coordinator=a:1', '--processes=2', '--process=2'], '--process=2: .* from 0 to 1'),
])  # fmt: skip
def test_flags_of_bare_hosts_that_are_wrong(arguments, words):
  with (
    pytest.raises(InputError, match=words),
    hosts.joined(values_of('--distributed', *arguments)),
  ):
    pass


@pytest.mark.parametrize('flag', ['--coordinator=a:1', '--processes=2', '--process=0'])
def test_flags_of_several_hosts_without_distributed(flag):
  with (
    pytest.raises(InputError, match='is for several hosts; give --distributed too'),
    hosts.joined(values_of(flag)),
  ):
    pass


@pytest.mark.parametrize(
  'error',
  [
    ValueError('UNKNOWN: Gloo AllGather failed: Read error: Connection reset by peer'),
    jax.errors.JaxRuntimeError('UNAVAILABLE: failed to connect to all addresses'),
    RuntimeError('DEADLINE_EXCEEDED: Barrier timed out'),
  ],
)
def test_another_process_that_is_gone(error):
  assert hosts._loss(error) is error
  led_to = OSError('no checkpoint')
  led_to.__cause__ = error
  assert hosts._loss(led_to) is error


@pytest.mark.parametrize(
  'error',
  [InputError('gloo.png: connection reset'), ValueError('gloo'), RuntimeError('INTERNAL: cuDNN')],
)
def test_errors_of_this_process(error):
  assert hosts._loss(error) is None

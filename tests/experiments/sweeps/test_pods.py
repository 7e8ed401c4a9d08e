"""pods: what is written for Kubernetes fits the schema of JobSets; scripts are shell."""

import re
import shlex
import subprocess

import pytest
import yaml

from dilated_jax.errors import InputError
from tests.experiments.sweeps import test_sweep as common

GRID = '--grid=learning_rate=1e-3,1e-4 stage="front_end,context",joint'
TRAIN = ('train', '--model=dilation8', '--context=basic')
JOBSET = [
  '--launcher=jobset', '--pods=image=example.com/p/dilated:1', '--pods=volume=claim:/mnt/shared',
]  # fmt: skip
TPU = [
  *JOBSET, '--pods=hosts=4', '--pods=slices=2', '--pods=accelerator=tpu-v5-lite-podslice',
  '--pods=topology=4x4', '--pods=devices=4', '--pods=queue=tpus', '--pods=memory=64Gi',
]  # fmt: skip
GCLOUD = [
  '--launcher=gcloud', '--pods=zone=us-west4-a', '--pods=type=v5litepod-16',
  '--pods=runtime=v2-alpha-tpuv5-lite',
]  # fmt: skip


class Map(dict):
  """Keys that an object must have; those with ? it may have."""


# The part of the definition of JobSets (jobset.x-k8s.io/v1alpha2, and what it takes of batch/v1 and
# core/v1) that is used. A text is a pattern, a list a list of such things, a type a type.
NAME = r'[a-z]([-a-z0-9]*[a-z0-9])?'
QUANTITIES = {
  re.compile(r'cpu|memory|google\.com/tpu|nvidia\.com/gpu'): r'[0-9]+(\.[0-9]+)?[KMGT]?i?'
}
POD = Map({
  'restartPolicy': 'Never|OnFailure',
  'terminationGracePeriodSeconds?': int,
  'nodeSelector?': {re.compile(r'cloud\.google\.com/[-a-z]+'): r'[-a-zA-Z0-9]+'},
  'serviceAccountName?': NAME,
  'containers': [Map({
    'name': NAME, 'image': r'\S+', 'command': [str],
    'volumeMounts': [Map({'name': NAME, 'mountPath': '/.*'})],
    'resources?': Map({'limits': QUANTITIES, 'requests': QUANTITIES}),
  })],
  'volumes': [Map({'name': NAME, 'persistentVolumeClaim': Map({'claimName': NAME})})],
})  # fmt: skip
JOB = Map({
  'parallelism': int, 'completions': int, 'completionMode': 'Indexed|NonIndexed',
  'backoffLimit': int,
  'podFailurePolicy?': Map({'rules': [Map({
    'action': 'FailJob|FailIndex|Ignore|Count',
    'onExitCodes': Map({'containerName': NAME, 'operator': 'In|NotIn', 'values': [int]}),
  })]}),
  'template': Map({'spec': POD}),
})  # fmt: skip
SCHEMA = Map({
  'apiVersion': r'jobset\.x-k8s\.io/v1alpha2',
  'kind': 'JobSet',
  'metadata': Map({
    'name': NAME,
    'labels?': {re.compile(r'kueue\.x-k8s\.io/queue-name'): NAME},
    'annotations?': {re.compile(r'alpha\.jobset\.sigs\.k8s\.io/exclusive-topology'): r'\S+'},
  }),
  'spec': Map({
    'failurePolicy?': Map({
      'maxRestarts': int,
      'rules?': [Map({
        'name': r'[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?',
        'action': 'FailJobSet|RestartJob(Set)?(AndIgnoreMaxRestarts)?',
        'onJobFailureReasons?': [
          'BackoffLimitExceeded|DeadlineExceeded|FailedIndexes|MaxFailedIndexesExceeded|'
          'PodFailurePolicy'
        ],
      })],
    }),
    'replicatedJobs': [Map({'name': NAME, 'replicas': int, 'template': Map({'spec': JOB})})],
  }),
})  # fmt: skip


def faults(schema, value, where='') -> list[str]:
  """Where a value does not fit a schema."""
  if isinstance(schema, str):
    return [] if isinstance(value, str) and re.fullmatch(schema, value) else [where]
  if isinstance(schema, type):
    return [] if type(value) is schema else [where]
  if isinstance(schema, list):
    if not isinstance(value, list) or not value:
      return [where]
    return [
      each for i, inner in enumerate(value) for each in faults(schema[0], inner, f'{where}[{i}]')
    ]
  if not isinstance(value, dict):
    return [where]
  if not isinstance(schema, Map):
    ((key, inner),) = schema.items()
    wrong = [f'{where}.{name}' for name in value if not key.fullmatch(name)]
    return wrong + [
      each for name in value for each in faults(inner, value[name], f'{where}.{name}')
    ]
  known = {name.rstrip('?'): inner for name, inner in schema.items()}
  wrong = [f'{where}.{name}' for name in value if name not in known]
  wrong += [
    f'{where}.{name} is missing' for name in schema if name[-1] != '?' and name not in value
  ]
  both = known.keys() & value.keys()
  return wrong + [
    each for name in both for each in faults(known[name], value[name], f'{where}.{name}')
  ]


def written(tmp_path, *flags, workdir='/mnt/shared/sweep', command=TRAIN) -> str:
  path = tmp_path / 'written'
  common.run(workdir, *flags, f'--output={path}', command=command)
  return path.read_text()


def test_a_jobset_of_slices(tmp_path, capsys):
  made = yaml.safe_load(written(tmp_path, GRID, '--seed=3', *TPU))
  assert 'start it by: kubectl apply -f' in capsys.readouterr().out
  assert faults(SCHEMA, made) == []
  (slices,) = made['spec']['replicatedJobs']
  job = slices['template']['spec']
  assert (slices['replicas'], job['parallelism'], job['completions']) == (2, 4, 4)
  pod = job['template']['spec']
  assert pod['nodeSelector']['cloud.google.com/gke-tpu-topology'] == '4x4'
  (container,) = pod['containers']
  assert container['resources']['limits'] == {'google.com/tpu': '4', 'memory': '64Gi'}
  # What runs there is this sweep: it parses, and means the same.
  program, name, *words = container['command']
  assert (program, name) == ('dilated-jax', 'sweep')
  flags, behind = words[: words.index('--')], words[words.index('--') + 1 :]
  values = common.calling.parsed(common.sweep, *flags)
  assert values.grid == GRID.removeprefix('--grid=') and values.seed == 3
  assert values.share and values.distributed and values.launcher == 'local'
  assert behind == [*TRAIN]


def test_a_jobset_of_one_host(tmp_path):
  made = yaml.safe_load(written(tmp_path, GRID, *JOBSET, '--pods=account=reader', '--pods=cpus=8'))
  assert faults(SCHEMA, made) == []
  (container,) = made['spec']['replicatedJobs'][0]['template']['spec']['template']['spec'][
    'containers'
  ]
  assert not {'--share', '--distributed'} & {*container['command']}
  assert container['resources']['limits'] == {'cpu': '8'}


def test_the_schema_finds_faults(tmp_path):
  made = yaml.safe_load(written(tmp_path, GRID, *TPU))
  job = made['spec']['replicatedJobs'][0]['template']['spec']
  job['template']['spec']['containers'][0]['comand'] = job['template']['spec']['containers'][0].pop(
    'command'
  )
  job['parallelism'] = '4'
  made['spec']['failurePolicy']['rules'][0]['action'] = 'GiveUp'
  assert len(faults(SCHEMA, made)) == 4


def test_tpu_vms(tmp_path):
  grid = '--grid=val_split=val,"it\'s" stage="front_end,context",joint'
  text = written(tmp_path, grid, *GCLOUD, '--pods=slices=2')
  assert subprocess.run(['sh', '-n'], input=text.encode(), check=True).returncode == 0
  # What gcloud gets, by a gcloud that tells.
  (tmp_path / 'gcloud').write_text(
    '#!/bin/sh\nfor each; do echo "$each"; done >> told\necho READY\n'
  )
  (tmp_path / 'gcloud').chmod(0o755)
  environment = {'PATH': f'{tmp_path}:/usr/bin:/bin'}
  subprocess.run(['sh'], input=text.encode(), cwd=tmp_path, env=environment, check=True)
  told = (tmp_path / 'told').read_text().splitlines()
  sent = [line.removeprefix('--command=') for line in told if line.startswith('--command=')]
  assert len(sent) == 2 and sent[0] == sent[1]
  words = shlex.split(sent[0].partition(' && ')[2])
  assert words[:4] == ['dilated-jax', 'sweep', '--share', '--distributed']
  assert grid in words and words[-3:] == [*TRAIN]


def test_what_does_not_fit_is_one_line(tmp_path):
  for flags, message in {
    (*JOBSET[:2],): '--pods=volume=... is missing',
    (*JOBSET, '--pods=color=red'): '--pods=color=red: write NAME=VALUE; jobset has name (',
    (*JOBSET, '--pods=hosts=0'): '--pods=hosts=0: give a whole number',
    (*JOBSET, '--pods=name=My_Sweep'): '--pods=name=My_Sweep: up to 40 small letters',
    (*JOBSET, '--pods=volume=claim'): 'give CLAIM:/FOLDER',
    (*JOBSET, '--space=/home/me/space.py'): 'give either --grid or --space',
    (*GCLOUD, '--pods=image=x'): '--pods=image=x: write NAME=VALUE; gcloud has',
  }.items():
    with pytest.raises(InputError) as caught:
      written(tmp_path, GRID, *flags)
    assert message in str(caught.value)
  with pytest.raises(InputError, match='lies outside /mnt/shared, the folder that all pods share'):
    written(tmp_path, GRID, *JOBSET, workdir='/home/me')
  with pytest.raises(InputError, match='give an absolute path'):
    written(tmp_path, GRID, *JOBSET, workdir='sweep')
  with pytest.raises(InputError, match='--distributed: all hosts run one trial at a time'):
    common.run(tmp_path / 'w', GRID, '--distributed', '--parallel=2', command=TRAIN)

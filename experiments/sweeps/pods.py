"""A sweep written out for machines that others start: JobSets of Kubernetes, and TPU VMs of Google.

Nothing is started here. What is written runs this very command on every host: on each slice one
sweep, whose process 0 asks and tells the others (`hosts.py`), and all slices share one workdir.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import pathlib
import re
import shlex
from typing import Any

from dilated_jax.errors import InputError

KINDS = ('jobset', 'gcloud')
# Option: (of which kinds, default, what it is). Without a default it must be given; '' is none.
OPTIONS = {
  'name': ('jobset gcloud', 'sweep', 'of the JobSet or of the TPU VMs'),
  'slices': ('jobset gcloud', '1', 'slices, each with a trial at a time'),
  'hosts': ('jobset', '1', 'hosts of a slice'),
  'image': ('jobset', None, 'container image with the project'),
  'volume': ('jobset', None, 'CLAIM:/FOLDER, a volume claim that all pods mount; holds --workdir'),
  'queue': ('jobset', '', 'LocalQueue of Kueue'),
  'accelerator': ('jobset', '', 'of GKE, as tpu-v5-lite-podslice or nvidia-h100-80gb'),
  'topology': ('jobset', '', 'of a TPU slice, as 4x4'),
  'devices': ('jobset', '0', 'chips or GPUs of a host'),
  'cpus': ('jobset', '', 'cores of a host'),
  'memory': ('jobset', '', 'memory of a host, as 64Gi'),
  'account': ('jobset', '', 'service account; on GPUs JAX reads pods and jobs by it'),
  'restarts': ('jobset', '20', 'restarts after which it is given up'),
  'zone': ('gcloud', None, 'of the TPU VMs'),
  'type': ('gcloud', None, 'accelerator type, as v5litepod-16'),
  'runtime': ('gcloud', None, 'runtime version, as v2-alpha-tpuv5-lite'),
  'folder': ('gcloud', '~/dilated_jax', 'where the project lies on the TPU VMs'),
}
_NAME = re.compile(r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?')


def parse(kind: str, given: Sequence[str]) -> dict[str, str]:
  """The options of `--pods`, with defaults.

  Raises:
    InputError: one is unknown, missing or wrong; says which there are.
  """
  known = {name: rest for name, rest in OPTIONS.items() if kind in rest[0].split()}
  found = {name: rest[1] for name, rest in known.items() if rest[1] is not None}
  for option in given:
    name, _, value = option.partition('=')
    if name not in known or not value:
      listed = ', '.join(f'{name} ({rest[2]})' for name, rest in known.items())
      raise InputError(f'--pods={option}: write NAME=VALUE; {kind} has {listed}')
    found[name] = value
  for name, rest in known.items():
    if name not in found:
      raise InputError(f'--pods={name}=... is missing: {rest[2]}')
  for name in ('slices', 'hosts', 'devices', 'restarts'):
    low = 1 if name in ('slices', 'hosts') else 0
    if name in found and not (found[name].isdecimal() and int(found[name]) >= low):
      raise InputError(f'--pods={name}={found[name]}: give a whole number')
  if not _NAME.fullmatch(found['name']):
    raise InputError(
      f'--pods=name={found["name"]}: up to 40 small letters, digits and hyphens, a letter first'
    )
  if 'volume' in found and not re.fullmatch(r'[-a-z0-9.]+:/[^:]+', found['volume']):
    raise InputError(f'--pods=volume={found["volume"]}: give CLAIM:/FOLDER, where it is mounted')
  return found


def command(words: Sequence[str], options: Mapping[str, str]) -> list[str]:
  """What runs on every host.

  Args:
    words: the flags of the sweep, and the command behind --.
    options: from `parse`.
  """
  flags = []
  if int(options['slices']) > 1:
    flags.append('--share')
  if int(options.get('hosts', '2')) > 1:  # Of TPU VMs the type says how many there are.
    flags.append('--distributed')
  return ['dilated-jax', 'sweep', *flags, *words]


def jobset(words: Sequence[str], options: Mapping[str, str]) -> dict[str, Any]:
  """A JobSet (jobset.x-k8s.io/v1alpha2), as `yaml` or `json` write it.

  A pod that ends because a flag is wrong (status 2) or trials have failed (3) ends the JobSet.
  After anything else, as where a node is lost, all pods are made anew and go on.

  Args:
    words: the flags of the sweep, and the command behind --.
    options: from `parse`.
  """
  claim, _, mount = options['volume'].partition(':')
  resources = {name: options[name] for name in ('memory',) if options[name]}
  if options['cpus']:
    resources['cpu'] = options['cpus']
  is_tpu = options['accelerator'].startswith('tpu')
  if options['devices'] != '0':
    resources['google.com/tpu' if is_tpu else 'nvidia.com/gpu'] = options['devices']
  selector = {}
  if options['accelerator']:
    label = 'gke-tpu-accelerator' if is_tpu else 'gke-accelerator'
    selector[f'cloud.google.com/{label}'] = options['accelerator']
  if options['topology']:
    selector['cloud.google.com/gke-tpu-topology'] = options['topology']
  container = {
    'name': 'sweep',
    'image': options['image'],
    'command': command(words, options),
    'volumeMounts': [{'name': 'shared', 'mountPath': mount}],
  }
  if resources:
    container['resources'] = {'limits': resources, 'requests': dict(resources)}
  pod: dict[str, Any] = {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': 120,  # For a checkpoint.
    'containers': [container],
    'volumes': [{'name': 'shared', 'persistentVolumeClaim': {'claimName': claim}}],
  }
  if selector:
    pod['nodeSelector'] = selector
  if options['account']:
    pod['serviceAccountName'] = options['account']
  hosts = int(options['hosts'])
  job = {
    'parallelism': hosts,
    'completions': hosts,
    'completionMode': 'Indexed',  # Each pod has a number, which JAX reads.
    'backoffLimit': 0,
    'podFailurePolicy': {
      'rules': [
        {
          'action': 'FailJob',
          'onExitCodes': {'containerName': 'sweep', 'operator': 'In', 'values': [2, 3]},
        }
      ]
    },
    'template': {'spec': pod},
  }
  metadata: dict[str, Any] = {'name': options['name']}
  if options['queue']:
    metadata['labels'] = {'kueue.x-k8s.io/queue-name': options['queue']}
  if hosts > 1 and is_tpu:  # All hosts of a slice belong to one node pool.
    metadata['annotations'] = {
      'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool'
    }
  return {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': metadata,
    'spec': {
      'failurePolicy': {
        'maxRestarts': int(options['restarts']),
        'rules': [
          {
            'name': 'wrong',
            'action': 'FailJobSet',
            'onJobFailureReasons': ['PodFailurePolicy'],
          }
        ],
      },
      'replicatedJobs': [
        {'name': 'slice', 'replicas': int(options['slices']), 'template': {'spec': job}}
      ],
    },
  }


def gcloud(words: Sequence[str], options: Mapping[str, str]) -> str:
  """A shell script that asks for TPU VMs and runs the sweep on all workers of each."""
  zone = f'--zone={shlex.quote(options["zone"])}'
  names = [options['name']]
  if (count := int(options['slices'])) > 1:
    names = [f'{options["name"]}-{index}' for index in range(count)]
  folder = options['folder']
  where = f'~/{shlex.quote(folder[2:])}' if folder.startswith('~/') else shlex.quote(folder)
  inner = f'cd {where} && {shlex.join(command(words, options))}'
  lines = [
    '#!/bin/sh',
    '# Asks for TPU VMs, waits for them, and runs the sweep on all workers of each. The project is',
    f'# installed there, in {folder}, and all of them mount the file system of the workdir. Run it',
    '# again after a preemption: the sweep goes on.',
    'set -eu',
  ]
  for name in names:
    lines += [
      '',
      f'if ! gcloud compute tpus tpu-vm describe {name} {zone} >/dev/null 2>&1; then',
      f'  gcloud compute tpus queued-resources create {name} --node-id={name} {zone} \\',
      f'    --accelerator-type={shlex.quote(options["type"])} '
      f'--runtime-version={shlex.quote(options["runtime"])}',
      'fi',
    ]
  for name in names:
    lines += [
      '',
      f'until gcloud compute tpus tpu-vm describe {name} {zone} --format="value(state)" \\',
      '  2>/dev/null | grep -q READY; do sleep 60; done',
      f'gcloud compute tpus tpu-vm ssh {name} {zone} --worker=all --command={shlex.quote(inner)} &',
    ]
  return '\n'.join([*lines, '', 'wait', ''])


def check_paths(paths: Mapping[str, Any], options: Mapping[str, str]) -> None:
  """Refuses paths that the hosts would not see.

  Args:
    paths: by flag; None where it is not given.
    options: from `parse`.

  Raises:
    InputError: a path is not on the volume that all pods mount, or is not absolute.
  """
  for flag, path in paths.items():
    if path is None:
      continue
    if not pathlib.PurePosixPath(path).is_absolute():
      raise InputError(f'--{flag}={path}: give an absolute path, as the hosts see it')
    mount = options.get('volume', ':/').partition(':')[2]
    if not pathlib.PurePosixPath(path).is_relative_to(mount):
      raise InputError(f'--{flag}={path}: lies outside {mount}, the folder that all pods share')

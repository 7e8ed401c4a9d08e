r"""Runs a command with many settings and finds the best ones: here, under Slurm, on pods.

  dilated-jax sweep --workdir=runs/sweep --grid='learning_rate=1e-3,1e-4 context=basic,large' \
    -- train --flagfile=preset:scenes --stage=front_end,context
  dilated-jax sweep --workdir=runs/sweep --space=space.py --search=tpe --trials=40 \
    --prune=median --parallel=4 -- train --flagfile=preset:camvid_cpu

Behind -- stands a command of this project: train, evaluate or wavenet. Each trial is that command
with some flags more, in a folder of its own, trials/0007, where its log lies too. --grid names
flags and their values; a value with commas or spaces stands in quotes: 'stage="front_end,context"'.
--space names a Python file, which is executed, with a function of an optuna trial that returns
flags: def space(trial): return {'learning_rate': trial.suggest_float('lr', 1e-5, 1e-2, log=True)}.

The same command goes on with a sweep that was interrupted, wherever and however it was. Leaves
table.md, results.csv, results.json and a page with plots, report.html. Ends with status 3 if a
trial has failed; --retry runs those again.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import shlex

from absl import flags, logging

from dilated_jax.errors import InputError
from dilated_jax.files import format_json, write_atomic
from dilated_jax.locks import Lock

from . import cli, hosts, path_flags
from .sweeps import command as commands_behind, pods, space as spaces

LAUNCHERS = ('local', 'slurm', 'jobset', 'gcloud')
# As in sweeps/study.py, which imports optuna; --help does without.
SEARCHES = ('grid', 'random', 'tpe')
FAILED = 3  # The exit status if a trial has failed; of other errors it is 1 and 2 (cli.py).
PRUNERS = ('none', 'median', 'asha')


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}

  # What is tried
  path_flags.define('workdir', None, 'Folder of the sweep.', required=True, **into)
  flags.DEFINE_string('grid', None, "Flags and values: 'learning_rate=1e-3,1e-4 seed=0,1'.", **into)
  path_flags.define('space', None, 'Python file with a function space(trial).', **into)
  flags.DEFINE_enum(
    'search', None, SEARCHES, 'How settings are chosen (default: grid of --grid, tpe of --space).',
    **into,
  )  # fmt: skip
  flags.DEFINE_integer('trials', None, 'How many; may grow later. Default: the grid.', 1, **into)
  flags.DEFINE_integer('seed', 0, 'Of the search.', 0, **into)
  flags.DEFINE_string(
    'metric', None, 'What is measured (default: val_mean_iou of train, mean_iou of evaluate).',
    **into,
  )  # fmt: skip
  flags.DEFINE_enum(
    'direction', None, ('maximize', 'minimize'), 'Whether it is to be large or small.', **into
  )
  flags.DEFINE_enum(
    'prune', 'none', PRUNERS, 'Stops trainings that are worse than others by then.', **into
  )
  flags.DEFINE_integer(
    'prune_after', None, 'median: trials that are finished before (4); asha: first steps (100).', 1,
    **into,
  )  # fmt: skip
  flags.DEFINE_bool('retry', False, 'Run trials again that have failed.', **into)

  # Where it is run
  flags.DEFINE_enum(
    'launcher', 'local', LAUNCHERS,
    'What starts trials; jobset and gcloud write a file that others run.', **into,
  )  # fmt: skip
  flags.DEFINE_multi_string(
    'slurm', [], 'Options of jobs as submitit names them: timeout_min=600, slurm_partition=gpu.',
    **into,
  )  # fmt: skip
  flags.DEFINE_integer('parallel', 1, 'Trials that run at once.', 1, **into)
  flags.DEFINE_string(
    'devices', 'auto',
    'Devices that are dealt out to them: auto, none, or as in cuda:0,1, tpu:0,1,2,3, cpu:0,1.',
    **into,
  )  # fmt: skip
  flags.DEFINE_bool('share', False, 'Several sweeps work on this workdir at once.', **into)
  flags.DEFINE_multi_string(
    'pods', [], 'Options of jobset and gcloud: image=..., slices=2; a wrong one lists them.', **into
  )
  path_flags.define('output', None, 'File of jobset and gcloud (jobset.yaml, tpu.sh).', **into)
  hosts.define_flags(values)


def main(words, values=flags.FLAGS):
  path_flags.check_folder(values, 'workdir', at_once=True)
  command = commands_behind.parse(words)
  space = _space(values)
  if importlib.util.find_spec('optuna') is None:
    raise InputError("sweep needs a package that is missing: pip install 'dilated_jax[sweep]'")
  settings = _settings(values, command, space)
  checked = _check_flags(command, space, settings)
  if values.launcher in pods.KINDS:
    _write_out(values, command)
    return
  if values.distributed and (values.launcher != 'local' or values.parallel > 1):
    raise InputError('--distributed: all hosts run one trial at a time, which process 0 starts')
  workdir = pathlib.Path(values.workdir).absolute()
  from .sweeps import hosts as several

  with several.joined(values) as processes:
    if processes is not None and processes.index > 0:
      several.follow(processes, workdir, command, space)
      return
    launcher = _launcher(values, workdir, processes)
    trials = _run(values, workdir, command, space, settings, checked, launcher)
  failed = [each for each in trials if each.state == 'failed']
  if failed:
    cli.fail(
      f'{len(failed)} of {len(trials)} trials have failed, as trial {failed[0].number:04}: '
      f'{failed[0].reason}; --retry runs them again',
      FAILED,
    )


def _run(values, workdir, command, space, settings: dict, checked: list, launcher) -> list:
  """Runs what is left to run, and writes and prints what came out."""
  from .sweeps import content, results, run, study as studies

  workdir.mkdir(parents=True, exist_ok=True)
  with Lock(workdir / '.sweep') as lock:
    if not lock.take(shared=values.share):
      raise InputError(
        f'--workdir={values.workdir}: another sweep is working here; wait for it, or give --share '
        'to all of them'
      )
    _check_or_save(workdir / 'sweep.json', settings, content.digests(checked))
    study = studies.Study(
      workdir, space, search=settings['search'], trials=values.trials, seed=values.seed,
      direction=settings['direction'], prune=values.prune, prune_after=settings['prune_after'],
    )  # fmt: skip
    if values.retry and (again := study.retry()):
      logging.info('%d failed trials are run again', len(again))
    metric = settings['metric']
    try:
      run.Sweep(workdir, command, study, launcher, metric).run()
    finally:
      trials = results.write(workdir, study, metric, command.name)
  print('\n'.join(results.table(trials, study.direction, metric)))
  for name in results.LEFT:
    print(workdir / name)
  return trials


def _write_out(values, command) -> None:
  """Writes what runs this sweep elsewhere, and says how to start it."""
  options = pods.parse(values.launcher, values.pods)
  workdir = pathlib.PurePath(values.workdir)
  pods.check_paths({'workdir': workdir, 'space': values.space}, options)
  left = {'launcher', 'pods', 'output', 'slurm', 'share', *hosts.NAMES}
  own = values.get_key_flags_for_module('__main__' if __name__ == '__main__' else __name__)
  given = [flag for flag in own if flag.present and flag.name not in left]
  words = [word for flag in given for word in flag.serialize().splitlines()]
  words += ['--', command.name, *command.arguments]
  if values.launcher == 'jobset':
    import yaml

    path, how = values.output or 'jobset.yaml', 'kubectl apply -f'
    text = yaml.safe_dump(pods.jobset(words, options), sort_keys=False, width=100)
  else:
    path, how = values.output or 'tpu.sh', 'sh'
    text = pods.gcloud(words, options)
  write_atomic(path, text.encode())
  print(f'written; start it by: {how} {shlex.quote(path)}')


def _settings(values, command, space) -> dict:
  """What a sweep is, in JSON's types; what is not here may change when it goes on."""
  if values.prune != 'none' and command.name != 'train':
    raise InputError(f'--prune={values.prune}: {command.name} reports nothing before its end')
  search = values.search or ('grid' if values.grid else 'tpe')
  if search != 'grid' and values.trials is None:
    raise InputError(f'--trials is missing: --search={search} goes on forever')
  return {
    'command': [command.name, command.record()],
    'space': space.text,
    'search': search,
    'seed': values.seed,
    'metric': values.metric or command.kind.metric,
    'direction': values.direction or command.kind.direction,
    'prune': values.prune,
    'prune_after': values.prune_after or (100 if values.prune == 'asha' else 4),
  }


def _space(values) -> spaces.Space:
  if bool(values.grid) == bool(values.space):
    raise InputError('give either --grid or --space')
  return spaces.of_grid(values.grid) if values.grid else spaces.of_file(values.space)


def _launcher(values, workdir, processes):
  if values.launcher == 'local':
    if values.slurm:
      raise InputError(f'--slurm={values.slurm[0]}: is for --launcher=slurm')
    from .sweeps import hosts as several, launchers

    local = launchers.Local(values.parallel, values.devices, shared=values.share)
    return local if processes is None else several.Leader(processes, local)
  if values.share:
    raise InputError('--share: one sweep submits all jobs, --parallel of them at once')
  if importlib.util.find_spec('submitit') is None:
    raise InputError(
      "--launcher=slurm needs a package that is missing: pip install 'dilated_jax[slurm]'"
    )
  from .sweeps import slurm

  return slurm.Slurm(workdir, values.parallel, values.slurm)


def _check_flags(command, space, settings: dict) -> list[flags.FlagValues]:
  """Refuses, before anything is started, what the command would refuse; the flags of trials."""
  import optuna

  from .sweeps import points

  if settings['search'] == 'grid':
    found = points.grid(space)
  else:  # Names of flags at least, and values of some points.
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=settings['seed']))
    found = [points.ask(space, study) for _ in range(20)]
  return [command.check(point.flags) for point in found]


def _check_or_save(path: pathlib.Path, settings: dict, content: dict[str, str]) -> None:
  """Keeps what a sweep is and what its trials read, or refuses to go on with another one.

  Raises:
    InputError: the workdir holds another sweep, or one of other content; says what differs.
  """
  known = {}
  if path.exists():
    try:
      old = dict(json.loads(path.read_text()))
    except ValueError as error:
      raise InputError(f'{path}: not the settings of a sweep; take another --workdir') from error
    different = [name for name in settings if settings[name] != old.get(name)]
    if different:
      name = different[0]
      told = f'{name} is {settings[name]!r} and was {old.get(name)!r}'
      if name in ('space', 'command'):
        told = f'its {name} was another'
      raise InputError(f'{path.parent}: holds another sweep: {told}; take another --workdir')
    kept = old.get('content')
    known = kept if isinstance(kept, dict) else {}
    if changed := [name for name in content if known.get(name, content[name]) != content[name]]:
      raise InputError(
        f'{path.parent}: {changed[0]} has other content than when this sweep began, so the trials '
        'would not compare; take another --workdir'
      )
  write_atomic(path, format_json(settings | {'content': known | content}))


if __name__ == '__main__':
  define_flags()
  cli.run(main, named='command')

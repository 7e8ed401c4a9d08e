"""sweep: from its flags to its table, whatever is killed meanwhile."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from dilated_jax.errors import InputError
from dilated_jax.locks import Lock
from experiments import commands, flag_files, sweep
from experiments.sweeps import command as sweep_command, content, folders
from tests import calling
from tests.attacks import damaged

ROOT = pathlib.Path(__file__).parents[3]
STAND_IN = pathlib.Path(__file__).with_name('stand_in.py')
GRID = '--grid=learning_rate=1,0.1,0.01,0.001 batch_size=8,4'
SPACE = """
def space(trial):
  rate = trial.suggest_float('rate', 1e-5, 1e-1, log=True)
  flags = {'learning_rate': rate, 'batch_size': trial.suggest_int('batch', 2, 8)}
  if trial.suggest_categorical('schedule', ['constant', 'poly']) == 'poly':
    flags |= {'schedule': 'poly', 'power': trial.suggest_float('power', 0.5, 2)}
  return flags
"""
# Runs the sweep with the stand-in for the command, as a program of its own.
PROGRAM = """
import sys
from absl import flags
from experiments import cli, commands, sweep
from experiments.sweeps import run
run.POLL = 0.02
commands.program = lambda name, line: [sys.executable, '-S', '{stand_in}', *line]
sweep.define_flags()
cli.run(sweep.main, named='command')
"""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
  """Trials run the stand-in."""
  monkeypatch.setattr('experiments.sweeps.run.POLL', 0.02)
  monkeypatch.setattr(
    commands, 'program', lambda name, line: [sys.executable, '-S', str(STAND_IN), *line]
  )


def run(workdir, *arguments, command=('train', '--num_steps=4')):
  values = calling.parsed(sweep, f'--workdir={workdir}', *arguments)
  sweep.main(list(command), values)


def results(workdir) -> dict:
  return json.loads((workdir / 'results.json').read_text())


def values_of(workdir) -> list:
  return [(each['flags'], each['state'], each['value']) for each in results(workdir)['trials']]


def starts(workdir) -> list[int]:
  return [
    len((folder / 'starts').read_text().split())
    for folder in sorted((workdir / 'trials').iterdir())
  ]


def test_a_grid(tmp_path, capsys):
  run(tmp_path, GRID, '--parallel=2')
  found = results(tmp_path)
  assert [each['flags'] for each in found['trials']] == [
    {'learning_rate': rate, 'batch_size': size}
    for rate in ('1', '0.1', '0.01', '0.001') for size in ('8', '4')
  ]  # fmt: skip
  assert found['best'] == 4 and found['metric'] == 'val_mean_iou'
  assert found['trials'][4]['value'] == pytest.approx(0.98168, abs=1e-4)  # 1 - exp(-4)
  assert found['importance']['learning_rate'] > found['importance']['batch_size']
  out = capsys.readouterr().out
  assert re.search(r'\| 0004 +\| +0.01 \| +8 \| +0.981684 \| complete \|', out)
  assert out.splitlines()[:-4] == (tmp_path / 'table.md').read_text().splitlines()
  assert (tmp_path / 'results.csv').read_text().splitlines()[1] == (
    f'0,complete,{found["trials"][0]["value"]},1,8'
  )
  page = (tmp_path / 'report.html').read_text()
  assert '<polyline' in page and 'PED-ANOVA' in page
  assert 'step 4' in (tmp_path / 'trials/0007' / folders.LOG).read_text()
  # The same command has nothing left to do.
  run(tmp_path, GRID, '--parallel=2')
  assert starts(tmp_path) == [1] * 8
  # More of a grid that was begun in part.
  with pytest.raises(InputError, match='holds another sweep: its space was another; take another'):
    run(tmp_path, '--grid=learning_rate=1')


def test_a_space_file_is_searched_the_same_again_after_every_kill(tmp_path):
  space = tmp_path / 'space.py'
  space.write_text(SPACE)
  for name in ('whole', 'cut'):
    flags = [f'--space={space}', '--search=tpe', '--trials=14', '--seed=3', '--prune=median']
    if name == 'whole':
      run(tmp_path / name, *flags)
    else:  # Begun several times, with fewer trials: as if it had been cut between two.
      for trials in (3, 11, 14):
        flags[2] = f'--trials={trials}'
        run(tmp_path / name, *flags)
  assert values_of(tmp_path / 'whole') == values_of(tmp_path / 'cut')
  assert results(tmp_path / 'whole') == results(tmp_path / 'cut')
  states = {each['state'] for each in results(tmp_path / 'whole')['trials']}
  assert states == {'complete', 'pruned'}
  assert any('power' in each['flags'] for each in results(tmp_path / 'cut')['trials'])
  assert not any('.' in each['flags']['batch_size'] for each in results(tmp_path / 'cut')['trials'])


def test_killed_at_any_time(tmp_path):
  space = tmp_path / 'space.py'
  space.write_text(SPACE)
  flags = [f'--space={space}', '--trials=5', '--prune=median', '--prune_after=2']
  run(tmp_path / 'whole', *flags)
  program = PROGRAM.format(stand_in=STAND_IN)
  words = [f'--workdir={tmp_path / "cut"}', *flags, '--', 'train', '--num_steps=4']
  command = [sys.executable, '-c', program, *words]
  environment = os.environ | {'STAND_IN_WAIT': '0.03', 'PYTHONPATH': str(ROOT)}
  victims = ['trial', 'both']
  for victim in [*victims, *[''] * 5]:
    with open(tmp_path / 'log', 'a') as log:
      process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    seen = len(list((tmp_path / 'cut').glob('trials/*/starts')))
    while process.poll() is None:
      time.sleep(0.02)
      trials = sorted((tmp_path / 'cut').glob('trials/*/starts'))
      if victim and len(trials) > seen:
        pid = int(trials[-1].read_text().split()[-1])
        if victim != 'trial':
          process.kill()
        if victim != 'sweep' and pid_is_ours(pid):
          os.kill(pid, signal.SIGKILL)
        break
    status = process.wait()
    if status == 0:
      break
  assert status == 0, (tmp_path / 'log').read_text()
  assert results(tmp_path / 'cut') == results(tmp_path / 'whole')
  tables = [(tmp_path / name / 'table.md').read_text() for name in ('whole', 'cut')]
  assert tables[0] == tables[1]


def pid_is_ours(pid: int) -> bool:
  try:
    return b'stand_in' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
  except OSError:
    return False


def test_a_trial_that_fails_is_told_and_run_again_when_asked(tmp_path, capsys):
  grid = '--grid=seed=0,3,9'
  with pytest.raises(SystemExit, match='3'):
    run(tmp_path, grid)
  assert '1 of 3 trials have failed, as trial 0001: --seed: no luck' in capsys.readouterr().err
  states = [each['state'] for each in results(tmp_path)['trials']]
  assert states == ['complete', 'failed', 'complete']
  assert '--seed: no luck' in (tmp_path / 'report.html').read_text()
  with pytest.raises(SystemExit, match='3'):  # It stays so,
    run(tmp_path, grid)
  assert starts(tmp_path) == [1, 1, 1]
  (tmp_path / 'trials/0001/step').write_text('3')  # until what was wrong is mended.
  run(tmp_path, grid, '--retry')
  assert [each['state'] for each in results(tmp_path)['trials']] == ['complete'] * 3
  assert starts(tmp_path) == [1, 2, 1]


def test_a_sweep_is_of_one_content(tmp_path):
  """Other weights or labels under the same path would be another sweep."""
  damaged.folder(tmp_path / 'own')
  weights, label = tmp_path / 'start.npz', tmp_path / 'own/labels/0.png'
  command = ('train', '--num_steps=2', '--dataset=folder', f'--data_dir={tmp_path / "own"}')
  workdir, grid = tmp_path / 'sweep', f'--grid=init={weights} seed=0,5'
  weights.write_bytes(b'one')
  run(workdir, grid, command=command)
  weights.write_bytes(b'two')
  with pytest.raises(InputError, match=f'--init={weights} has other content than when'):
    run(workdir, grid, command=command)
  weights.unlink()  # Finished trials stay; what is still to run will miss it.
  run(workdir, grid, command=command)
  weights.write_bytes(b'one')
  run(workdir, grid, command=command)
  assert starts(workdir) == [1, 1]
  PIL.Image.fromarray(np.roll(np.asarray(PIL.Image.open(label)), 1, 0)).save(label)
  with pytest.raises(InputError, match='--dataset=folder has other content'):
    run(workdir, grid, command=command)
  told = json.loads((workdir / 'sweep.json').read_text())
  assert set(told.pop('content')) == {f'--init={weights}', '--dataset=folder'}
  (workdir / 'sweep.json').write_text(json.dumps(told))  # As of a version that kept none.
  run(workdir, grid, command=command)
  assert 'content' in json.loads((workdir / 'sweep.json').read_text())


def test_the_content_of_evaluations(tmp_path, monkeypatch):
  """The data set is that of the weights; those within splits count too, unprepared ones do not."""
  monkeypatch.setattr(content.data, 'is_prepared', lambda name, data_dir: name != 'coco')
  monkeypatch.setattr(content.data, 'fingerprint', lambda name, *places: f'of {name} {places[0]}')
  (tmp_path / 'w').mkdir()
  (tmp_path / 'w/model.json').write_text('{"dataset": "voc"}')

  def digests(name, *words):
    return content.digests([sweep_command.parse((name, *words)).check({})])

  found = digests('evaluate', f'--weights={tmp_path / "w"}', '--data_dir=d')
  assert list(found) == [f'--weights={tmp_path / "w"}', '--dataset=voc']
  assert found['--dataset=voc'] == 'of voc d'
  found = digests('train', '--dataset=camvid', '--train_split=train[:9]+coco:train+kitti:val')
  assert sorted(found) == ['--dataset=camvid', '--dataset=kitti']
  assert digests('wavenet') == {}


def test_what_the_command_refuses_is_one_line_before_anything_starts(tmp_path):
  for arguments, message in {
    (
      '--grid=learnig_rate=1',
    ): "Unknown command line flag 'learnig_rate'. Did you mean: learning_r",
    ('--grid=learning_rate=1,fast',): '--learning_rate=fast: must be a number',
    ('--grid=model=dilation8,dilation9',): '--model=dilation9: value should be one of',
    ('--grid=crop=32,33',): '--crop=33x33: both must be multiples of 8',
    ('--grid=workdir=a,b',): '--workdir is not for train here: each trial gets its own folder',
    ('--grid=distributed=true',): '--distributed is not for train here: give it to sweep',
    ('--grid=seed=0', '--space=x.py'): 'give either --grid or --space',
    (): 'give either --grid or --space',
    ('--space=x.py',): '--space=x.py: No such file',
    ('--grid=seed=0', '--search=tpe'): '--trials is missing',
    ('--grid=seed=0,1', '--devices=cuda:0', '--parallel=2'): 'there are 1 devices',
  }.items():
    with pytest.raises(InputError) as caught:
      run(tmp_path / 'w', *arguments)
    assert message in str(caught.value)
  for words, message in {
    (): 'name the command behind --',
    ('tune', '--output=x'): 'tune: leaves no single score; sweep runs train, evaluate, wavenet',
    ('rm', '-rf'): 'rm: is no command',
    ('train', 'x'): "unexpected argument 'x'",
    ('train', '--workdir=x'): '--workdir is not for train here',
    ('evaluate', '--weights=x', '--output=y'): '--output is not for evaluate here',
  }.items():
    with pytest.raises(InputError, match=re.escape(message)):
      run(tmp_path / 'w', '--grid=seed=0', command=words)
  with pytest.raises(InputError, match='evaluate reports nothing before its end'):
    run(tmp_path / 'w', '--grid=tile=64', '--prune=median', command=('evaluate', '--weights=x'))
  assert not list(tmp_path.glob('w/trials'))


def test_two_sweeps_at_once(tmp_path, monkeypatch):
  lock = Lock(tmp_path / '.sweep')
  assert lock.take(shared=True)
  with pytest.raises(InputError, match=r'another sweep is working here; .* give --share to'):
    run(tmp_path, GRID)
  program = PROGRAM.format(stand_in=STAND_IN)
  words = [f'--workdir={tmp_path}', GRID, '--share', '--', 'train', '--num_steps=3']
  environment = os.environ | {'STAND_IN_WAIT': '0.03', 'PYTHONPATH': str(ROOT)}
  both = [
    subprocess.Popen([sys.executable, '-c', program, *words], env=environment,
                     stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(2)
  ]  # fmt: skip
  told = [process.communicate()[1] for process in both]
  assert [process.returncode for process in both] == [0, 0], told
  assert starts(tmp_path) == [1] * 8
  assert all('starts on' in text for text in told)
  run(tmp_path, GRID, '--share', command=('train', '--num_steps=3'))
  assert [each['state'] for each in results(tmp_path)['trials']] == ['complete'] * 8


def test_the_journal_of_a_stranger_gives_no_flags(tmp_path):
  run(tmp_path, GRID, '--trials=2')
  journal = tmp_path / 'journal.log'
  text = journal.read_text()
  run(tmp_path, GRID, '--trials=2')
  assert journal.read_text() == text
  (line,) = [
    each for each in text.splitlines() if '"params":{"learning_rate":0,"batch_size":0' in each
  ]
  for change in (
    ('"learning_rate":0', '"learning_rate":7'),  # No such choice.
    ('"learning_rate"', '"init"'),
    ('[\\"1\\"', '[\\"; rm -rf ~\\"') if '[\\"1\\"' in line else ('"1', '"; rm -rf ~'),
    ('{', '{{'),
  ):
    assert change[0] in line, line
    journal.write_text(text.replace(line, line.replace(*change)))
    with pytest.raises(
      InputError, match=r'journal\.log: (trial 0: .* has no point|this is no journal)'
    ):
      run(tmp_path, GRID)
  journal.write_text(text + text.splitlines()[-1][:9])  # Killed while it wrote.
  run(tmp_path, GRID)
  assert starts(tmp_path) == [1] * 8


def test_spaces_that_are_wrong_are_one_line(tmp_path):
  space = tmp_path / 'space.py'
  for text, message in {
    'def space(trial):\n  return 1 / 0': 'space.py: line 2: ZeroDivisionError: division by zero',
    'import nothing_at_all': "line 1: ModuleNotFoundError: No module named 'nothing_at_all'",
    'def space(:': 'line 1: SyntaxError',
    'x = 1': 'has no function `space(trial)`',
    'def space(trial):\n  return 3': '`space` must return flags by name',
    'def space(trial):\n  return {"--seed": 3}': "'--seed' is no name of a flag",
    'def space(trial):\n  return {"sed": trial.suggest_int("s", 0, 3)}': "command line flag 'sed'",
  }.items():
    space.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
      run(tmp_path / 'w', f'--space={space}', '--trials=2')
  space.write_text('def space(t):\n  return {"learning_rate": t.suggest_float("rate", 0.1, 1)}')
  with pytest.raises(InputError, match=r'rate has no steps between 0.1 and 1'):
    run(tmp_path / 'w', f'--space={space}', '--search=grid')


def test_help_and_missing_optuna(tmp_path, monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(InputError, match=r"pip install 'dilated_jax\[sweep\]'"):
    run(tmp_path, GRID)
  assert flag_files.PRESETS  # The presets are still there: nothing was written.
  assert not list(tmp_path.iterdir())

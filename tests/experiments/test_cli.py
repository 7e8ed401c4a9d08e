"""cli.py: every way to fail is one line and an exit status, seen from outside the process."""

import importlib
import os
import pathlib
import signal
import subprocess
import sys

from absl import flags
import pytest

from dilated_jax.errors import InputError
from experiments import audit, cli, commands, path_flags, predict

ROOT = pathlib.Path(__file__).resolve().parents[2]

COMMAND = '''"""Draws a thing.

Example: dilated-jax draw --workdir=/tmp/drawing
"""
import atexit, os, signal
from absl import flags, logging
from dilated_jax.errors import InputError
from experiments import cli, path_flags

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for results.', required=True)
MODE = flags.DEFINE_enum('mode', 'good', ['good', 'input', 'missing', 'bare', 'interrupt', 'bug', 'much', 'argument', 'memory', 'device_memory', 'threads', 'late_term', 'late_int'], 'How to end.')
path_flags.define_list('parts', [], 'Which.')
flags.DEFINE_list('numbers', [], 'How many.')
SIZE = flags.DEFINE_integer('size', 1, 'Pixels.', lower_bound=1)

def main():
  if MODE.value == 'good':
    logging.warning('a log line')
  if MODE.value == 'input':
    raise InputError('a.png: found 12;\\n  store 0..11')
  if MODE.value == 'missing':
    open('/nowhere/a.png')
  if MODE.value == 'bare':
    raise OSError
  if MODE.value == 'interrupt':
    # Ignored, as in its parents, where the tests run in the background of a shell.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)
  if MODE.value.startswith('late'):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit.register(os.kill, os.getpid(), signal.SIGINT if 'int' in MODE.value else signal.SIGTERM)
  if MODE.value == 'argument':
    raise InputError('`size` is 7; try `size=6` or `data.prepare`, not `sise`')
  if MODE.value == 'memory':
    raise MemoryError
  if MODE.value == 'device_memory':
    raise ValueError('RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.')
  if MODE.value == 'threads':
    raise RuntimeError("can't start new thread")
  if MODE.value == 'bug':
    raise ZeroDivisionError('ours')
  for _ in range(200_000 if MODE.value == 'much' else 1):
    print('drew', WORKDIR.value, SIZE.value)

if __name__ == '__main__':
  cli.run(main)
'''  # noqa: E501


@pytest.fixture(scope='module')
def start(tmp_path_factory):
  """Starts the command above with some flags, as a user does."""
  folder = tmp_path_factory.mktemp('command')
  (folder / 'draw.py').write_text(COMMAND)
  (folder / 'good.flags').write_text('# a comment\n--workdir=there\n--size=3\n--parts=x\n')
  (folder / 'bad.flags').write_text('--workdir=there\n--sise=3\n')
  (folder / 'picture.png').write_bytes(b'\x89PNG\r\n\x1a\n\xff\xfe')

  def begin(*arguments):
    return subprocess.Popen(
      [sys.executable, 'draw.py', *arguments],
      cwd=folder,
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  return begin


@pytest.fixture(scope='module')
def run(start):
  """Runs it to the end: (exit status, stdout, stderr)."""

  def finish(*arguments):
    with start(*arguments) as process:
      out, err = process.communicate(timeout=60)
    return process.returncode, out, err

  return finish


@pytest.mark.parametrize(
  ('arguments', 'status', 'line'),
  [
    ('', 2, 'error: flag --workdir is required; see --help'),
    (
      '--workdr=a',
      2,
      "error: Unknown command line flag 'workdr'. Did you mean: workdir; see --help",
    ),
    (
      '--workdir=a --mode=c',
      2,
      'error: flag --mode=c: value should be one of '
      '<good|input|missing|bare|interrupt|bug|much|argument|memory|device_memory|threads|late_term|'
      'late_int>; see --help',
    ),
    ('--workdir=a --size=0', 2, 'error: flag --size=0: 0 is not a positive integer; see --help'),
    ('--workdir', 2, 'error: Missing value for flag --workdir; see --help'),
    ('--workdir=a b', 2, "error: unexpected argument 'b': every option is a --flag, see --help"),
    (
      '--flagfile=none.flags',
      2,
      'error: --flagfile=none.flags: no such file or folder; python -m experiments.presets lists '
      'those that come with the project',
    ),
    (
      '--flagfile=picture.png',
      2,
      'error: --flagfile=picture.png: is not text; a flag file holds one --flag=value a line',
    ),
    (
      '--flagfile=bad.flags',
      2,
      "error: Unknown command line flag 'sise'. Did you mean: size; see --help",
    ),
    (
      '--flagfile=preset:scene',
      2,
      'error: --flagfile=preset:scene: there is no such preset; did you mean preset:scenes? '
      'See python -m experiments.presets',
    ),
    ('--workdir=a --mode=input', 1, 'error: a.png: found 12; store 0..11'),
    ('--workdir=a --mode=missing', 1, 'error: /nowhere/a.png: No such file or directory'),
    ('--workdir=a --mode=bare', 1, 'error: OSError'),
    (
      '--workdir=a --mode=argument',
      1,
      'error: --size is 7; try --size=6 or python -m experiments.prepare, not `sise`',
    ),
    ('--workdir=a --mode=memory', 1, 'error: this does not fit into memory; take smaller pictures'),
    (
      '--workdir=a --mode=device_memory',
      1,
      'error: this does not fit into memory; take smaller pictures',
    ),
    (
      '--workdir=a --mode=threads',
      1,
      'error: the system starts no more threads: end other programs, or raise the limits on '
      'memory and processes of this shell or container (ulimit -v, ulimit -u)',
    ),
    ('--workdir=a --mode=interrupt', 130, 'error: interrupted'),
  ],
)
def test_failures_are_one_line(run, arguments, status, line):
  code, out, err = run('--verbosity=-1', *arguments.split())
  assert (code, out, err) == (status, '', line + '\n')


def test_success_and_log_lines(run):
  code, out, err = run('--flagfile=good.flags', '--size=4')
  assert (code, out) == (0, 'drew there 4\n')
  assert err.endswith(' a log line\n') and err.count('\n') == 1


def test_help_shows_the_commands_own_flags(run):
  code, out, err = run('--help')
  assert (code, err) == (0, '')
  assert out.startswith('Draws a thing.\n\nExample: python -m experiments.draw --workdir')
  assert 'Folder for results.' in out and '--size' in out
  assert 'jax_' not in out and 'verbosity' not in out


@pytest.mark.parametrize(
  'mode, number', [('late_term', signal.SIGTERM), ('late_int', signal.SIGINT)]
)
def test_a_signal_while_python_ends_leaves_no_trace(run, mode, number):
  code, out, err = run('--workdir=a', f'--mode={mode}')
  assert (code, out, err) == (-number, 'drew a 1\n', '')


def test_a_defect_keeps_its_traceback(run):
  code, _, err = run('--workdir=a', '--mode=bug')
  assert code == 1
  assert 'Traceback' in err and 'ZeroDivisionError: ours' in err


def test_a_closed_pipe_is_silent(start):
  with start('--verbosity=-1', '--workdir=a', '--mode=much') as process:
    assert process.stdout.readline() == 'drew a 1\n'
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait(timeout=60) in (1, -signal.SIGPIPE)


def test_a_closed_pipe_is_silent_in_help_too(start):
  with start('--help') as process:
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait(timeout=60) in (0, 1, -signal.SIGPIPE)


def test_a_list_given_twice_is_refused_for_only_the_last_would_count():
  for command in commands.names():
    values = flags.FlagValues()
    importlib.import_module(f'experiments.{command}').define_flags(values)
    for name in values:
      several = path_flags.has_several_paths(values[name])
      for given in ([f'--{name}=a', f'--{name}=b'], [f'--{name}', 'a', f'-{name}', 'b']):
        if several:
          with pytest.raises(InputError, match=f'--{name} is given 2 times; .*--{name}=A,B'):
            cli.check_repeated(given, values)
        else:
          cli.check_repeated(given, values)
      # A flag file may be overruled.
      cli.check_repeated([f'--{name}=a', '--flagfile=x', '--', f'--{name}=b'], values)


@pytest.mark.parametrize('command, names', [(audit, {'split_files'}), (predict, {'inputs'})])
def test_flags_that_have_several_paths(command, names):
  values = flags.FlagValues()
  command.define_flags(values)
  assert names == {name for name in values if path_flags.has_several_paths(values[name])}


def test_a_list_given_twice_ends_with_one_line(run):
  assert run('--workdir=a', '--parts=x', '--parts', 'y') == (
    2, '', 'error: --parts is given 2 times; give it once, with commas between: --parts=A,B\n'
  )  # fmt: skip
  assert run('--flagfile=good.flags', '--parts=y')[0] == 0
  assert run('--workdir=a', '--numbers=1', '--numbers=2')[0] == 0  # A setting: the later wins.


def test_messages_name_flags_of_the_command_alone(monkeypatch):
  values = flags.FlagValues()
  for name in ('tile', 'fc'):
    flags.DEFINE_string(name, None, '', flag_values=values)
  monkeypatch.setattr(cli.flags, 'FLAGS', values)
  for text, typed in (
    ("`tile` or `tile=(3, 4)`, `fc='random'`", '--tile or --tile=(3, 4), --fc=random'),
    ('`scales` and tile stay, `x` too', '`scales` and tile stay, `x` too'),
    ('run `data.audit`', 'run python -m experiments.audit'),
    ('see dilated-jax --help', 'see python -m experiments --help'),
  ):
    assert cli.as_typed(text) == typed


@pytest.mark.parametrize(
  'command, words',
  [
    ('train', '--batch_size or a smaller --crop or --grad_accum_steps or --remat'),
    ('predict', 'a smaller --tile'),
    ('wavenet', '--dtype=bfloat16 or a smaller --segment_length'),
  ],
)
def test_what_takes_less_memory(command, words, monkeypatch):
  values = flags.FlagValues()
  importlib.import_module(f'experiments.{command}').define_flags(values)
  monkeypatch.setattr(flags, 'FLAGS', values)
  assert words in cli._less_memory()

"""How every command starts and how it fails: one clear line, exit status not 0, no traceback."""

import collections
import errno
import logging as python_logging
import os
import re
import signal
import sys
import threading
import traceback

from absl import app, flags, logging

import dilated_jax
from dilated_jax.errors import InputError

from . import commands, compilation_cache, flag_files, path_flags

_NO_THREAD = (
  'the system starts no more threads: end other programs, or raise the limits on memory and '
  'processes of this shell or container (ulimit -v, ulimit -u)'
)
_HELP = {'--help', '-help', '-h', '-?', '--helpshort', '-helpshort'}
# Functions that messages of the library name, and the commands that call them.
_FUNCTIONS = {'data.prepare': 'prepare', 'data.audit': 'audit', 'weights.convert': 'convert'}


def run(main, *, named: str | None = None) -> None:
  """Runs `main()` as an absl program.

  Args:
    main: a function without arguments, called after the flags are parsed.
    named: what arguments that are no flags name; `main` is called with the list of them. None: no
      such argument is allowed.

  Exits with 0 when `main` returns and after `--help`, 1 on bad input (`InputError`, `OSError`),
  2 on a wrong flag or flag file, 130 when interrupted, 143 when terminated. Any other exception is
  a defect of ours and keeps its traceback.
  """

  def guarded(argv):
    if len(argv) > 1 and not named:
      fail(f'unexpected argument {argv[1]!r}: every option is a --flag, see --help', 2)
    _log_plainly()
    # An exception, so that what is half done is cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    commands.end_with_starter()
    try:
      compilation_cache.use(flags.FLAGS.compilation_cache)
      main(argv[1:]) if named else main()
      sys.stdout.flush()
    except BrokenPipeError:
      _leave_pipe()
    except InputError as error:
      fail(as_typed(str(error)), 1)
    except OSError as error:
      fail(explain(error), 1)
    except KeyboardInterrupt:
      fail('interrupted', 130)
    except (RuntimeError, ValueError, MemoryError) as error:  # Those of JAX are of the first two.
      if "can't start new thread" in str(error):
        fail(_NO_THREAD, 1)
      if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      fail(f'this does not fit into memory; {_less_memory()}', 1)
    finally:
      # All is written: a signal ends it at once, not in a trace from what Python does at its end.
      for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
          signal.signal(number, signal.SIG_DFL)

  compilation_cache.define_flag(flags.FLAGS)
  if _HELP.intersection(sys.argv[1:]):
    try:
      print(usage(), flush=True)
    except BrokenPipeError:
      _leave_pipe()
    sys.exit(0)
  app.run(guarded, flags_parser=parse)


def usage() -> str:
  """The docstring of the program and its own flags."""
  _, _, own = flags.FLAGS.main_module_help().strip().partition('\n')
  doc = commands.as_typed(sys.modules['__main__'].__doc__).strip()
  listed = ['', 'flags:', own] if own else []
  _, _, shared = flags.FLAGS.module_help(compilation_cache).strip().partition('\n')
  listed += ['', 'of every command:', shared]
  return '\n'.join([doc, *listed, '', '--helpfull lists the flags of absl and JAX too.'])


def parse(argv):
  """Parses the flags; a wrong one ends the program with one line and exit status 2."""
  try:
    check_repeated(argv[1:], flags.FLAGS)
    argv = [argv[0], *flag_files.expand(argv[1:])]
    if any(re.match('--?(no)?jax_|--?helpfull', argument) for argument in argv[1:]):
      import jax  # Only now, because it takes longer than to say what is wrong with a flag.

      jax.config.config_with_absl()
    return flags.FLAGS(argv)
  except InputError as error:
    fail(as_typed(str(error)), 2)
  except flags.Error as error:
    message = re.sub('--(.+)=None: Flag .* other than None', r'--\1 is required', str(error))
    fail(f'{message.removeprefix("ERROR:: ").rstrip(" .?")}; see --help', 2)
  except SystemExit as done:  # absl ends --helpfull with 1, as if it had failed.
    sys.exit(0 if done.code == 1 else done.code)


def check_repeated(arguments, values: flags.FlagValues) -> None:
  """Refuses a flag of several paths that is given twice: both are meant, and one would count.

  Settings may be given again, and the later wins, as in most programs.

  Args:
    arguments: as they were typed; what a flag file states may be given again, and the later wins.
    values: the flags.

  Raises:
    InputError: names the flag.
  """
  if '--' in arguments:
    arguments = arguments[: arguments.index('--')]
  found = (re.match('--?([^=]+)', argument) for argument in arguments)
  for name, count in collections.Counter(each[1] for each in found if each).items():
    if count > 1 and name in values and path_flags.has_several_paths(values[name]):
      raise InputError(
        f'--{name} is given {count} times; give it once, with commas between: --{name}=A,B'
      )


def as_typed(text: str, values: flags.FlagValues | None = None) -> str:
  """Turns what the library says of its arguments and functions into flags and commands.

  Names in backticks are meant: `tile` becomes --tile and `fc='random'` --fc=random where this
  command has such a flag, `data.prepare` becomes `dilated-jax prepare`. Where that program is not
  installed, commands are as they are typed in a clone.

  Args:
    text: a message.
    values: the flags of the command that it is about, if that is another than this.
  """
  known = flags.FLAGS if values is None else values

  def as_flag(found):
    name, value = found[1], found[2]
    if name in _FUNCTIONS:
      return f'dilated-jax {_FUNCTIONS[name]}'
    if name not in known:
      return found[0]
    return f'--{name}' if value is None else f'--{name}={value}'

  return commands.as_typed(re.sub(r"`([\w.]+)(?:='?([^`]*?)'?)?`", as_flag, text))


def _leave_pipe():
  """Ends silently: `... | head` has closed our output."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  sys.exit(1)


def _less_memory() -> str:
  """Flags of this command that save memory."""
  ways = {
    'batch_size': 'a smaller --batch_size', 'crop': 'a smaller --crop',
    'grad_accum_steps': '--grad_accum_steps', 'remat': '--remat', 'dtype': '--dtype=bfloat16',
    'tile': 'a smaller --tile', 'segment_length': 'a smaller --segment_length',
  }  # fmt: skip
  known = [way for name, way in ways.items() if name in flags.FLAGS]
  return f'take {" or ".join(known)}' if known else 'take smaller pictures'


def explain(error: OSError) -> str:
  """Says what went wrong with which file, without the error number, and what to do about it."""
  if error.strerror and error.filename is not None:
    remedy = _REMEDIES.get(error.errno)
    return f'{error.filename}: {error.strerror}' + (f'; {remedy}' if remedy else '')
  return str(error) or type(error).__name__


_REMEDIES = {
  errno.ENOSPC: 'make room there, or choose another folder',
  errno.EDQUOT: 'remove some of your files there, or choose another folder',
  errno.EROFS: 'choose another folder',
  errno.EACCES: 'choose another folder, or ask whoever owns it',
  errno.EIO: 'the disk fails: choose a folder on another',
}


def parsed(name: str, text: str, convert):
  """Converts the value of a flag.

  Args:
    name: of the flag.
    text: its value, or one of its values.
    convert: a function of the text that raises ValueError, such as `count` and `size`.

  Raises:
    InputError: the text can't be converted; names the flag.
  """
  try:
    return convert(text)
  except ValueError as error:
    raise InputError(f'--{name}={text}: {error}') from error


def check_choices(name: str, given, known=()) -> None:
  """Refuses a flag of several values that names none, or another than those that there are.

  Args:
    name: of the flag.
    given: its values.
    known: what they may be; anything if empty.

  Raises:
    InputError: names the flag, the value and the choices.
  """
  choices = f'choose among {", ".join(known)}' if known else 'name one at least'
  if not given:
    raise InputError(f'--{name}= names none; {choices}')
  for value in given:
    if known and value not in known:
      raise InputError(f'--{name}={value}: no such choice; {choices}')


def count(text: str) -> int:
  """Parses a number of things.

  Raises:
    ValueError: it is not a whole number from 1 on.
  """
  value = whole(text)
  if value < 1:
    raise ValueError('must be 1 or more')
  return value


def whole(text: str) -> int:
  """Parses a whole number.

  Raises:
    ValueError: it is none.
  """
  try:
    return int(text)
  except ValueError:
    raise ValueError('must be a whole number') from None


def number(text: str) -> float:
  """Parses a number.

  Raises:
    ValueError: it is none.
  """
  try:
    return float(text)
  except ValueError:
    raise ValueError('must be a number') from None


def size(text: str) -> tuple[int, int]:
  """Parses HxW, or one number for both sides.

  Raises:
    ValueError: it is neither.
  """
  if not re.fullmatch(r'\d+(x\d+)?', text):
    raise ValueError('a size is HxW, as in 480x640, or one number for both')
  height, _, width = text.partition('x')
  return int(height), int(width or height)


def _log_plainly():
  """Time and message on stderr; of other packages only warnings, since Orbax tells its life."""
  if flags.FLAGS.verbosity < logging.INFO and 'verbosity' not in _given_flags():
    logging.set_verbosity(logging.INFO)
  threading.excepthook, sys.unraisablehook = _tell_thread_error, _tell_unraisable
  handler = logging.get_absl_handler()
  handler.setFormatter(_Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
  ours = {os.path.dirname(__file__), os.path.dirname(dilated_jax.__file__)}
  handler.addFilter(
    lambda record: (
      record.levelno >= python_logging.WARNING
      or any(record.pathname.startswith(folder) for folder in ours)
    )
  )


def _tell_thread_error(args):
  """Of a full disk, say, threads of other packages tell a line too."""
  if isinstance(args.exc_value, OSError):
    logging.warning('%s', explain(args.exc_value))
  else:
    threading.__excepthook__(args)


def _tell_unraisable(args):
  """All but what TensorStore prints of writes that Orbax no longer waits for."""
  if str(args.exc_value) != 'Event loop is closed':
    sys.__unraisablehook__(args)


class _Formatter(python_logging.Formatter):
  """What the library logs of its arguments is told of flags; of traces, the last line."""

  def formatException(self, ei):
    return ''.join(traceback.format_exception_only(ei[1])).strip()

  def format(self, record):
    return as_typed(super().format(record))


def _given_flags():
  return [name for name in flags.FLAGS if flags.FLAGS[name].present]


def fail(message: str, status: int):
  """Prints one line on stderr and exits."""
  print(f'error: {" ".join(message.split())}', file=sys.stderr)
  sys.exit(status)

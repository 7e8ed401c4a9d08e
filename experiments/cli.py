"""How every command starts and how it fails: one clear line, exit status not 0, no traceback."""

import logging as python_logging
import os
import re
import signal
import sys

from absl import app, flags, logging
import jax

import dilated_jax
from dilated_jax.errors import InputError


def run(main) -> None:
  """Runs `main()` as an absl program.

  Args:
    main: a function without arguments, called after the flags are parsed.

  Exits with 0 when `main` returns and after `--help`, 1 on bad input (`InputError`, `OSError`),
  2 on a wrong flag or flag file, 130 when interrupted, 143 when terminated. Any other exception is
  a defect of ours and keeps its traceback.
  """

  def guarded(argv):
    if len(argv) > 1:
      fail(f'unexpected argument {argv[1]!r}: every option is a --flag, see --help', 2)
    _log_plainly()
    # An exception, so that what is half done is cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
      main()
      sys.stdout.flush()
    except BrokenPipeError:  # `... | head` closed our output: nothing left to say.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit(1)
    except InputError as error:
      fail(str(error), 1)
    except OSError as error:
      fail(explain(error), 1)
    except KeyboardInterrupt:
      fail('interrupted', 130)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
      if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      fail(
        'this does not fit into memory: in training take a smaller --batch_size or --crop, '
        '--grad_accum_steps, --remat or --dtype=bfloat16; in prediction smaller pictures or --tile',
        1,
      )

  jax.config.config_with_absl()
  app.run(guarded, flags_parser=parse)


def parse(argv):
  """Parses the flags; a wrong one ends the program with one line and exit status 2."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    message = re.sub('--(.+)=None: Flag .* other than None', r'--\1 is required', str(error))
    fail(f'{message.removeprefix("ERROR:: ").rstrip(" .?")}; see --help', 2)
  except UnicodeDecodeError:
    fail('a --flagfile is not text: it holds one --flag=value a line', 2)
  except SystemExit as done:  # absl ends --help with 1, as if it had failed.
    sys.exit(0 if done.code == 1 else done.code)


def explain(error: OSError) -> str:
  """Says what went wrong with which file, without the error number."""
  if error.strerror and error.filename is not None:
    return f'{error.filename}: {error.strerror}'
  return str(error) or type(error).__name__


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


def count(text: str) -> int:
  """Parses a number of things.

  Raises:
    ValueError: it is not a whole number from 1 on.
  """
  value = int(text)
  if value < 1:
    raise ValueError('must be 1 or more')
  return value


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
  handler = logging.get_absl_handler()
  handler.setFormatter(python_logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
  ours = {os.path.dirname(__file__), os.path.dirname(dilated_jax.__file__)}
  handler.addFilter(
    lambda record: (
      record.levelno >= python_logging.WARNING
      or any(record.pathname.startswith(folder) for folder in ours)
    )
  )


def _given_flags():
  return [name for name in flags.FLAGS if flags.FLAGS[name].present]


def fail(message: str, status: int):
  """Prints one line on stderr and exits."""
  print(f'error: {" ".join(message.split())}', file=sys.stderr)
  sys.exit(status)

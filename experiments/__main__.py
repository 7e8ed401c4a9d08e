"""`dilated-jax NAME --flags` runs a command, `dilated-jax --help` lists them.

In a clone that is `python -m experiments NAME --flags`; and as each command is a module of this
folder, `python -m experiments.NAME --flags` is the same.
"""

import ast
import difflib
import pathlib
import runpy
import sys

import dilated_jax

from . import commands


def main():
  """Runs the command that the first argument names, as `python -m` would."""
  name, *arguments = sys.argv[1:] or ['--help']
  names = commands.names()
  if name in ('--help', '-h', 'help'):
    print(overview(names))
  elif name == '--version':
    print(dilated_jax.__version__)
  elif name in names:
    sys.argv = [name, *arguments]
    runpy.run_module(f'{__package__}.{name}', run_name='__main__', alter_sys=True)
  else:
    near = difflib.get_close_matches(name, names, 1)
    guess = f'; did you mean {near[0]}?' if near else f': see {commands.typed()} --help'
    print(f'error: there is no command {name!r}{guess}', file=sys.stderr)
    sys.exit(2)


def overview(names) -> str:
  """The commands, each with the first line of its docstring, which is read without importing it."""
  lines = [f'usage: {commands.typed("NAME")} --flags', '']
  for name in names:
    source = pathlib.Path(__file__).with_name(f'{name}.py').read_text()
    summary = ast.get_docstring(ast.parse(source)).partition('\n')[0]
    lines.append(f'  {name:10} {summary}')
  return '\n'.join([*lines, '', f'{commands.typed("NAME")} --help describes one with its flags.'])


if __name__ == '__main__':
  main()

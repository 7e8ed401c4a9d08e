"""What the documents say is so: commands, flags, presets, files and names of Python exist."""

import ast
import doctest
import functools
import importlib
import inspect
import pathlib
import re
import shlex

from absl import flags
import pytest

from experiments import commands

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'dilated_jax'
DOCUMENTS = [
  *(ROOT / name for name in ('README.md', 'WORKSPACE.md', 'CONTRIBUTING.md')),
  *sorted((ROOT / 'docs').glob('*.md')),
]
PRESETS = ROOT / 'experiments' / 'presets'
COMMAND = re.compile(r'(?:dilated-jax|python -m experiments\.?) ?(?P<line>[a-z]\w* .*--.*)')
FILES = [['py'], ['md'], ['json'], ['jsonl'], ['png'], ['html']]
FENCED = re.compile(r'^```(?P<kind>\w*)\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE)


def code(text: str) -> list[str]:
  """The lines of code of a document, whole commands together."""
  blocks = [found['text'].replace('\\\n', ' ') for found in FENCED.finditer(text)]
  spans = re.findall(r'`([^`]+)`', FENCED.sub('', text))
  return [line for block in blocks for line in block.splitlines()] + [
    ' '.join(span.split()) for span in spans
  ]


def values_of(command: str) -> flags.FlagValues:
  values = flags.FlagValues()
  importlib.import_module(f'experiments.{command}').define_flags(values)
  return values


def check(values, arguments):
  """Fails where a flag doesn't exist or can't have the value."""
  for argument in arguments:
    name, _, value = argument.removeprefix('--').partition('=')
    if name in ('flagfile', 'help', 'compilation_cache'):
      continue
    known = name in values or name.removeprefix('no') in values
    assert known, f'there is no flag --{name}'
    if value and name in values and not value.isupper():  # NAME stands for something.
      values[name].parse(value)


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_commands_have_the_flags(path):
  for line in code(path.read_text()):
    found = COMMAND.search(line)
    if found and '[' not in line:
      command, *arguments = shlex.split(found['line'].partition(' # ')[0].rstrip(" .'"))
      if '--' in arguments:  # Behind it stands the command that sweep runs.
        behind = arguments[arguments.index('--') + 1 :]
        arguments = arguments[: arguments.index('--')]
        check(values_of(behind[0]), behind[1:])
      if command != 'NAME':
        check(values_of(command), [each for each in arguments if each.startswith('--')])


@pytest.mark.parametrize('path', sorted(PRESETS.rglob('*.flags')), ids=lambda path: path.stem)
def test_heads_of_presets_have_the_flags(path):
  for line in path.read_text().splitlines():
    if line.startswith('#') and (found := COMMAND.search(line)):
      command, *arguments = shlex.split(found['line'])
      check(values_of(command), [each for each in arguments if each.startswith('--')])


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_flags_by_themselves_are_those_of_some_command(path):
  known = {name for command in commands.names() for name in values_of(command)}
  known |= {'flagfile', 'compilation_cache'}  # Of every command.
  for line in code(path.read_text()):
    for name in re.findall(r'^--(?!xla_)(\w+)', line):
      assert {name, name.removeprefix('no')} & known, f'no flag --{name}'


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_presets_and_files_exist(path):
  for line in code(path.read_text()):
    for name in re.findall(r'preset:([a-z]\w*(?:/\w+)?)', line):
      assert (PRESETS / f'{name}.flags').exists() or (PRESETS / name).is_dir(), name
    for name in re.findall(r'^((?:tests|docs|experiments|dilated_jax)/[\w/.]+)$', line):
      assert 'NAME' in name or (ROOT / name).exists(), name
    for name in re.findall(r'^(\w+/[\w/]+\.py)$', line):
      assert (ROOT / name).exists() or (PACKAGE / name).exists() or 'NAME' in name, name


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_names_of_python_exist(path):
  for found in FENCED.finditer(path.read_text()):
    if found['kind'] != 'python':
      continue
    nodes, known = list(ast.walk(ast.parse(found['text']))), {}
    for node in nodes:
      if isinstance(node, (ast.Import, ast.ImportFrom)):
        exec(ast.unparse(node), known)
    for node in nodes:
      if isinstance(node, ast.Attribute):
        owner, *names = ast.unparse(node).split('.')
        if owner in known and all(name.isidentifier() for name in names):
          functools.reduce(getattr, names, known[owner])


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_names_in_the_text_exist(path):
  places = {}  # Modules and packages by the last part of their name.
  for file in [*PACKAGE.rglob('*.py')]:
    name = '.'.join(file.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    places.setdefault(name.rpartition('.')[2], []).append(name)
  places |= {'CrfRnn': ['dilated_jax.crf.rnn']}
  for line in re.findall(r'`([\w.]+)`', FENCED.sub('', path.read_text())):
    first, *names = line.split('.')
    # Variables of the examples, and files.
    if first in ('segmenter', 'spec') or first not in places or names[-1:] in FILES:
      continue
    names = [first, *names] if first == 'CrfRnn' else names
    assert any(resolves(module, names) for module in places[first]), f'there is no {line}'


def resolves(module: str, names: list[str]) -> bool:
  try:
    functools.reduce(getattr, names, importlib.import_module(module))
  except AttributeError:
    return False
  return True


def test_the_tests_of_the_table_of_conformance_exist():
  """Every line names the test that would notice if it were no longer true."""
  known = {
    name
    for path in (ROOT / 'tests').rglob('test_*.py')
    for name in re.findall(r'^def (test_\w+)\(', path.read_text(), re.MULTILINE)
  }
  lines = (ROOT / 'docs/conformance.md').read_text().splitlines()
  rows = [line for line in lines if line.startswith('| ') and not line.startswith('| behavior')]
  cells = [row.strip('|').split('|') for row in rows]
  assert sum(len(row) == 6 for row in cells) > 45  # Those of the paper; of other systems, 4.
  for *row, last in cells:
    named = re.findall(r'`(test_\w+)`', last)
    assert set(named) <= known and (named or len(row) == 3), row


def test_readme_is_short():
  assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


def test_the_map_names_every_file():
  text = (ROOT / 'WORKSPACE.md').read_text()
  for path in [*PACKAGE.rglob('*.py'), *(ROOT / 'experiments').glob('*.py')]:
    command = path.parent.name == 'experiments' and path.stem in commands.names()
    if path.parent.name != 'builders' and not command:
      assert path.name in text, f'WORKSPACE.md does not name {path.relative_to(ROOT)}'


@pytest.mark.parametrize(
  'path',
  [path for path in sorted(PACKAGE.rglob('*.py')) if '>>> ' in path.read_text()],
  ids=lambda path: path.stem,
)
def test_examples_of_docstrings(path):
  name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
  runner = doctest.DocTestRunner()
  for test in _Finder().find(importlib.import_module(name)):
    runner.run(test)
  assert runner.tries and not runner.failures


class _Finder(doctest.DocTestFinder):
  """Finds the examples of functions in a wrapper too, as of `jax.jit` and of the type checks."""

  def _from_module(self, module, object):
    return super()._from_module(module, inspect.unwrap(object))

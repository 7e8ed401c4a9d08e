"""What `mkdocs build` adds to the pages of this folder, so that each text is written once.

The texts at the root become pages, each package of dilated_jax gets an API page, and the explorer
is there to be used: the one that `make demo` has left, or one without a network that runs in it.
See `hooks` in mkdocs.yml.
"""

import ast
import pathlib
import re

from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'dilated_jax'
# Texts at the root of the project, and the pages that they become.
TEXTS = {
  'README.md': 'index.md',
  'CONTRIBUTING.md': 'contributing.md',
  'WORKSPACE.md': 'workspace.md',
  'CHANGELOG.md': 'changelog.md',
}
EXPLORER = 'explorer_page.html'


def on_config(config):
  """Lets Markdown read docstrings as they are written."""
  config.markdown_extensions.append(Docstrings())
  return config


def on_files(files, config):
  """Adds the pages."""
  for source, page in TEXTS.items():
    files.append(File.generated(config, page, content=moved((ROOT / source).read_text())))
  for room in (PACKAGE, *sorted(path.parent for path in PACKAGE.glob('*/__init__.py'))):
    page = f'api/{room.name}.md'
    files.append(File.generated(config, page, content='\n\n'.join(api_page(room))))
  files.append(File.generated(config, EXPLORER, content=explorer()))
  return files


def explorer() -> str:
  """The explorer's page."""
  demo = ROOT / 'demo' / 'explorer.html'
  if demo.exists():
    return demo.read_text('utf-8')
  from experiments.explorer import contents, page  # With JAX, which the demo's does without.

  return page.assemble(contents.contents())


def on_page_markdown(markdown, page, **kwargs):
  """Turns links to the texts at the root into links to their pages, and drops those to code."""
  del kwargs
  for source, target in TEXTS.items():
    markdown = markdown.replace(f'](../{source}', f']({target}')
  if page.file.src_uri == 'explorer.md':  # Elsewhere than here the explorer has to be made first.
    markdown = markdown.replace('## The page\n', f'## The page\n\n[Open it]({EXPLORER}).\n', 1)
  # Notebooks are no pages.
  return re.sub(r'\[([^]]+)\]\(\.\./experiments/[^)]+\)', r'`\1`', markdown)


def moved(text: str) -> str:
  """A text at the root as a page of docs/: its links start there."""
  for source, page in TEXTS.items():
    text = text.replace(f']({source}', f']({page}')
  return text.replace('](docs/', '](')


def api_page(room: pathlib.Path):
  """What a package is for, the names that it hands on, and each of its modules."""
  name = '.'.join(room.relative_to(ROOT).parts)
  yield f'# {name}'
  if room == PACKAGE:
    yield f'::: {name}'
    modules = sorted(room.glob('[a-z]*.py'))
  else:
    yield f'::: {name}\n    options:\n      members: []'
    modules = sorted(room.rglob('*.py'))
  names = handed_on(room)
  if names:
    # Constants have no docstring, and so no place to link to.
    links = (f'`{each}`' if each.isupper() else f'[`{each}`][{name}.{each}]' for each in names)
    yield 'Names: ' + ', '.join(links)
  for path in modules:
    module = '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    if module != name and ast.get_docstring(ast.parse(path.read_text())):
      yield f'## {module.removeprefix("dilated_jax.")}'
      yield f'::: {module}'


def handed_on(room: pathlib.Path) -> list[str]:
  """The names, other than modules, that a package takes from its modules."""
  stub = room / '__init__.pyi'
  text = stub if stub.exists() else room / '__init__.py'
  return sorted(
    alias.name
    for node in ast.parse(text.read_text()).body
    if isinstance(node, ast.ImportFrom) and node.module != 'dilated_jax'
    for alias in node.names
    if node.module and node.module != '__future__'
  )


class Docstrings(Extension):
  """Markdown as docstrings use it: indented by two spaces, with examples after >>>."""

  def extendMarkdown(self, md):
    md.tab_length = 2
    for processor in md.parser.blockprocessors:  # They have looked at it already.
      processor.tab_length = 2
    md.preprocessors.register(Examples(md), 'examples', 27)  # Before fenced code is looked for.


class Examples(Preprocessor):
  """Puts a fence around lines that start with >>>, up to the next empty line."""

  def run(self, lines):
    result, fenced, example = [], False, False
    for line in lines:
      if re.match(r' *(```|~~~)', line):
        fenced = not fenced
      if not fenced and not example and line.lstrip().startswith('>>> '):
        result.append('```pycon')
        example = True
      elif example and not line.strip():
        result.append('```')
        example = False
      result.append(line.lstrip() if example else line)
    return [*result, '```'] if example else result

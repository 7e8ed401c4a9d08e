"""The package as a notebook meets it: quick to import, and its rooms are found."""

import ast
import importlib
import importlib.metadata
import pathlib
import pydoc
import re
import subprocess
import sys

import pytest

import dilated_jax

ROOMS = {
  path.parent.name for path in pathlib.Path(dilated_jax.__file__).parent.glob('*/__init__.py')
}


def test_completion_and_help_show_the_rooms():
  assert len(ROOMS) == 11 and set(dir(dilated_jax)) >= ROOMS and set(dilated_jax.__all__) >= ROOMS
  names = {'load', 'predict', 'create_model', 'Segmenter', '__version__'}
  assert names <= set(dilated_jax.__all__) == set(dir(dilated_jax))
  shown = pydoc.plain(pydoc.render_doc(dilated_jax))
  assert all(room in shown for room in ROOMS) and 'create_model' in shown


@pytest.mark.parametrize('room', sorted(ROOMS))
def test_what_a_room_lists_is_there(room):
  module = getattr(dilated_jax, room)
  assert module is importlib.import_module(f'dilated_jax.{room}')
  assert module.__doc__ and len(module.__doc__.strip().splitlines()) <= 12
  for name in module.__all__:
    assert getattr(module, name) is not None
  assert set(module.__all__) <= set(dir(module))


def test_importing_is_quick_since_it_imports_nothing_heavy():
  program = """
import sys, dilated_jax
heavy = {'jax', 'flax', 'numpy', 'orbax', 'optax', 'tensorflow_datasets', 'PIL', 'scipy'}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
dilated_jax.nn.ops
assert 'jax' in sys.modules
"""
  subprocess.run([sys.executable, '-c', program], check=True)


def test_an_unknown_name_is_an_attribute_error():
  with pytest.raises(AttributeError, match='segment'):
    dilated_jax.segment  # noqa: B018


def test_types_are_shipped():
  assert (pathlib.Path(dilated_jax.__file__).parent / 'py.typed').exists()


def test_version():
  assert dilated_jax.__version__ == importlib.metadata.version('dilated_jax')


def test_messages_speak_of_arguments():
  """Flags and commands are for experiments/ to name, see `cli.as_typed`."""
  for path in pathlib.Path(dilated_jax.__file__).parent.rglob('*.py'):
    tree = ast.parse(path.read_text())
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    alone = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # Docstrings.
    for text in texts:
      if isinstance(text.value, str) and text not in alone and not text.value.startswith('--xla'):
        found = re.search(r'--[a-z]|experiments|dilated-jax', text.value)
        assert not found, f'{path}:{text.lineno}: {text.value}'

"""Annotated dtypes and shapes: checked in tests, and costing users nothing."""

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from dilated_jax.crf import dense_crf, exact
from dilated_jax.nn import ops, stack, table as tables
from tests import typed


def zeros(*shape, dtype=np.float32):
  return np.zeros(shape, dtype)


@pytest.mark.parametrize(
  'call, words',
  [
    (lambda: ops.max_pool(zeros(5, 5, 1)), "'n h w c'"),
    (lambda: ops.max_pool(zeros(1, 5, 5, 1, dtype=np.int32)), "'n h w c'"),
    (lambda: ops.dilated_conv(zeros(1, 5, 5, 2), zeros(3, 3, 1, 4)), "'kh kw c o'"),
    (lambda: ops.resize(jnp.zeros((1, 5, 5)), (2, 2), align_corners=True), "'n h w c'"),
    (lambda: stack.Stack(list(tables.context(2))), 'parameter .table.'),
    (lambda: stack.Stack(tables.context(2)).apply({}, zeros(5, 5, 2)), "'n h w c'"),
    (lambda: dense_crf(zeros(4, 5, 2), zeros(5, 4, 3)), "'.batch h w f'"),
    (lambda: exact.apply(exact.ExactKernel(zeros(6, 2)), zeros(6)), "'n c'"),
  ],
)
def test_wrong_dtypes_and_shapes_are_refused(call, words):
  with pytest.raises(jaxtyping.TypeCheckError, match=words):
    call()


def functions_run_elsewhere(names) -> list[str]:
  """Functions of these modules, and of those in these packages, whose code is not in their file."""
  modules = []
  for module in map(importlib.import_module, names):
    path = getattr(module, '__path__', ())
    inside = [f'{module.__name__}.{each.name}' for each in pkgutil.iter_modules(path)]
    modules += [module, *map(importlib.import_module, inside)]
  return [
    f'{module.__name__}.{name}'
    for module in modules
    for name, value in vars(module).items()
    if inspect.isfunction(value)
    and value.__module__ == module.__name__
    and value.__code__.co_filename != module.__file__
  ]


def test_every_module_is_checked():
  checked = functions_run_elsewhere(typed.MODULES)
  for module in typed.MODULES:
    assert any(name.startswith(module) for name in checked)


def test_calls_of_users_are_not_checked():
  """Nothing is wrapped, and the checker is not even imported."""
  program = (
    'import importlib, inspect, json, pkgutil, sys',
    inspect.getsource(functions_run_elsewhere),
    f'found = functions_run_elsewhere({typed.MODULES!r})',
    "print(json.dumps([found, 'beartype' in sys.modules]))",
  )
  command = [sys.executable, '-c', '\n'.join(program)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert json.loads(done.stdout) == [[], False]

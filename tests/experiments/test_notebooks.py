"""The notebooks run from top to bottom."""

import json
import pathlib

import jax
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[2] / 'experiments/notebooks').glob('*.ipynb'))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path):
  cells = [
    ''.join(cell['source'])
    for cell in json.loads(path.read_text())['cells']
    if cell['cell_type'] == 'code'
  ]
  assert cells
  names = {}
  # As a notebook has it: what is mixed in a hurry is promoted.
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    for number, cell in enumerate(cells):
      exec(compile(cell, f'{path.name}, cell {number}', 'exec'), names)

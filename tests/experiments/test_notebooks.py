"""The notebooks run from top to bottom, in small, and show what their code gives."""

import inspect
import json
import pathlib
import re
import runpy

import jax
import matplotlib
import matplotlib.pyplot as plt
import pytest

from dilated_jax import models, training

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / 'experiments/notebooks').glob('*.ipynb'))
LARGEST = 150_000  # Bytes, with the plots.
# What takes the place of the cell that is tagged `parameters`.
SMALL = {
  '1_first_segmentation': dict(
    COUNTS={'train': 8, 'val': 1, 'test': 4}, FRONT_END_STEPS=1, CONTEXT_STEPS=1
  ),
  '3_dilated_convolution': dict(DRAWS=1),
  '4_identity_initialization': dict(
    COUNTS={'train': 8, 'val': 1, 'test': 2},
    FRONT_END_STEPS=1,
    BASIC_STEPS=1,
    LARGE_STEPS=1,
    SEEDS=1,
    LAYERS=5,
  ),
  '5_your_own_folder': dict(COUNT=24, STEPS=1),
  '6_crf_and_crf_rnn': dict(
    ITERATIONS=2, CROP=(slice(40, 72), slice(60, 100)), LEARN=1, CHECK=1, STEPS=1
  ),
  '7_many_devices': dict(STEPS=1),
  '8_published_weights': dict(TILE=(500, 532)),
}


def read(path) -> dict:
  return json.loads(path.read_text())


def code_cells(path) -> list[dict]:
  return [cell for cell in read(path)['cells'] if cell['cell_type'] == 'code']


@pytest.fixture
def as_in_a_notebook(monkeypatch):
  """What is mixed in a hurry is promoted, and plots are drawn into memory."""
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')  # What a notebook sets ends with the test.
  matplotlib.use('Agg')
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    yield
  plt.close('all')


def untrained(*arguments):
  """In the place of `training.train`: leaves the weights of the start."""
  given = inspect.signature(training.loop.train).bind(*arguments).arguments
  assert len(given['source'])
  for config in given['configs']:
    training.loop.check(config, given['spec'])
  models.save_weights(given['workdir'] / 'weights', given['spec'], given['variables'])


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path, as_in_a_notebook, monkeypatch):
  if path.stem != '1_first_segmentation':  # Compiling steps takes seconds: once is enough.
    monkeypatch.setattr(training, 'train', untrained)
  names, small = {}, SMALL.get(path.stem, {})
  for number, cell in enumerate(code_cells(path)):
    if 'parameters' in cell['metadata'].get('tags', ()):
      known = dict(names)
      exec(''.join(cell['source']), names)
      assert small.keys() <= names.keys() - known.keys()
      names |= small
      small = {}
    else:
      exec(compile(''.join(cell['source']), f'{path.name}, cell {number}', 'exec'), names)
  assert not small, 'no cell is tagged `parameters`'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_of_this_code(path):
  """`make notebooks` runs again what was changed."""
  fingerprint = runpy.run_path(str(ROOT / '.ci/notebooks'))['fingerprint']
  assert read(path)['metadata'].get('outputs_of') == fingerprint(read(path))
  cells = code_cells(path)
  assert [cell['execution_count'] for cell in cells] == list(range(1, len(cells) + 1))
  assert path.stat().st_size < LARGEST


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_texts_fit(path):
  """Links lead to files, and the documentation has the notebook."""
  cells = read(path)['cells']
  texts = [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown']
  for link in re.findall(r'\]\((?!http)([^)]+)\)', '\n'.join(texts)):
    assert (path.parent / link).exists(), link
  assert f'experiments/notebooks/{path.name}' in (ROOT / 'docs/notebooks.md').read_text()

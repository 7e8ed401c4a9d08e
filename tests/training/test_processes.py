"""Runs of several processes, saved on N of them and restored on M."""

import jax
import numpy as np
import pytest

from dilated_jax.models import weights_folder
from tests import several_processes

# Orbax says so when a checkpoint is read without being told for which devices.
pytestmark = pytest.mark.filterwarnings('ignore:Sharding info not provided:UserWarning')
HALF, WHOLE = {'front_end': 2}, {'front_end': 4, 'context': 2}


def weights(folder):
  """What the stages have learnt, by stage."""
  found = {}
  for stage in WHOLE:
    _, variables, *_ = weights_folder.load_weights(folder / stage / 'weights_last')
    found[stage] = jax.tree.map(np.asarray, variables)
  return found


def assert_close(one, other):
  """Equal to rounding: sums over devices are added in another order."""
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), one, other)


@pytest.mark.slow
def test_saved_on_n_and_restored_on_m(tmp_path):
  """One process and two, each goes on with the other's run in the other way."""
  here, at = several_processes.train_here, str(tmp_path)
  here(tmp_path / 'one', 'pmap', HALF)
  here(tmp_path / 'whole', 'mesh', WHOLE, mesh_height=2)
  said = several_processes.train([
    dict(folder=f'{at}/two', way='mesh', steps=HALF),
    dict(folder=f'{at}/one_two', way='mesh', steps=WHOLE, after=f'{at}/one'),
    dict(folder=f'{at}/whole_two', way='pmap', steps=WHOLE),
    dict(folder=f'{at}/bands', way='mesh', steps=HALF, mesh_height=2),
    dict(folder=f'{at}/odd', way='pmap', steps=HALF, grad_accum_steps=4),
  ], 2)  # fmt: skip
  assert said[:3] == ['done'] * 3
  bands, odd = said[3:]
  assert 'refused: `mesh_height` is 2; ' in bands and 'each of the 2 processes, 1: each' in bands
  assert 'refused: `batch_size=4` can not be shared evenly by 2 devices of 2 processes' in odd
  here(tmp_path / 'two_one', 'pmap', WHOLE, after=tmp_path / 'two')

  expected = weights(tmp_path / 'whole')
  for folder in ('whole_two', 'one_two', 'two_one'):
    assert_close(weights(tmp_path / folder), expected)

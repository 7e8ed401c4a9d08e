"""What was kept of an earlier answer is never given for another question."""

import numpy as np
import PIL.Image

from dilated_jax import data
from experiments import comparison_records
from tests.attacks import damaged


def test_a_comparison_is_of_these_images(tmp_path):
  """An edited label gives another digest, whose record is another; the old folder is set aside."""
  damaged.folder(tmp_path / 'raw')
  first = data.fingerprint('folder', tmp_path / 'one', tmp_path / 'raw')
  assert data.fingerprint('folder', tmp_path / 'one', tmp_path / 'raw') == first
  assert data.fingerprint('folder', tmp_path / 'copy', tmp_path / 'raw') == first
  label = tmp_path / 'raw/labels/0.png'
  PIL.Image.fromarray(np.roll(np.asarray(PIL.Image.open(label)), 1, 0)).save(label)
  second = data.fingerprint('folder', tmp_path / 'two', tmp_path / 'raw')
  assert second != first
  before, now = (
    comparison_records.record('train', ['--seed=0'], None, of) for of in (first, second)
  )
  system = tmp_path / 'front_end'
  comparison_records.begin(system, before)
  (system / 'weights').mkdir()
  comparison_records.begin(system, dict(before))
  assert (system / 'weights').exists()
  comparison_records.begin(system, now)
  assert not (system / 'weights').exists()
  assert 'its images or labels are others' in comparison_records.changes(before, now)

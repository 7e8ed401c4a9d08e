"""What was kept of an earlier answer is never given for another question."""

import json
import os
from unittest import mock

import numpy as np
import PIL.Image
import pytest

from dilated_jax import data
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from experiments import comparison_records, prediction_record
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


@pytest.mark.parametrize('last', ['write_atomic', 'replace_folder'])
def test_a_step_that_was_killed_as_it_began_is_no_older_answer(tmp_path, monkeypatch, last):
  with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
    killed.setattr(comparison_records, last, mock.Mock(side_effect=KeyboardInterrupt))
    comparison_records.begin(tmp_path / 'system', {'command': 'train', 'flags': {}, 'after': None})
  comparison_records.begin(tmp_path / 'system', {'command': 'train', 'flags': {}, 'after': None})
  assert [path.name for path in tmp_path.iterdir()] == ['system']


def test_a_picture_that_was_exchanged_is_labeled_again(tmp_path):
  """Though it has the size of the one before, and its time."""
  picture, label = tmp_path / 'a.png', tmp_path / 'label.png'
  picture.write_bytes(b'one')
  label.touch()
  network = Segmenter(None, {}, ModelSpec('front_end', {}, ('a', 'b'), ((0,) * 3,) * 2, (0.0,) * 3))

  def record():
    return prediction_record.Record(tmp_path / 'predictions.json', network, 'weights', {})

  first = record()
  first.add(picture, prediction_record.state_of(picture), ['labels'])
  first.write()
  assert record().has(picture, {'labels': label})
  about = picture.stat()
  picture.write_bytes(b'two')
  os.utime(picture, ns=(about.st_atime_ns, about.st_mtime_ns))
  assert not record().has(picture, {'labels': label})
  damaged_entry = json.loads((tmp_path / 'predictions.json').read_text())
  damaged_entry['inputs'] = {str(picture): 3}
  (tmp_path / 'predictions.json').write_text(json.dumps(damaged_entry))
  assert not record().has(picture, {'labels': label})

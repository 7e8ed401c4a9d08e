"""Errors that most labels share, missing classes, and ragged borders."""

import numpy as np
from PIL import Image

from dilated_jax.data import audit, folder
from dilated_jax.data.builders import scenes
from dilated_jax.data.label_specs import CAMVID
from tests.data.audit.planted import (
  NUM_SCENES,
  Pair,
  draw,
  found,
  kinds,
  label_that_was_a_jpeg,
  run,
  save,
)


def test_classes_counted_from_one(tmp_path):
  for pair in draw(tmp_path, 8, 2):
    pair.relabel(pair.ids + 1)
  report = run(tmp_path)
  assert found(report, 'error') == {('ids start at 1', 'labels')}
  assert 'subtract 1' in kinds(report)['ids start at 1'].advice
  report = run(tmp_path, None)
  assert report.valid and ('no id 0', 'labels') in found(report)
  assert report.spec.num_classes == NUM_SCENES + 1


def test_masks_of_0_and_255(tmp_path):
  for pair in draw(tmp_path, 8, 2):
    pair.relabel(255 * (pair.ids > 1))
  assert found(run(tmp_path, 2), 'error') == {('only 0 and 255', 'labels')}
  report = run(tmp_path, None)
  assert report.valid and found(report) == {('binary masks', 'labels')}
  assert report.spec.raw_ids == (0, 255)
  assert report.counts['train'].pixels.min() > 0 and report.counts['train'].ignored == 0


def test_missing_classes(tmp_path):
  for pair in draw(tmp_path, 8, 3):
    ids = np.where(pair.ids == 6, 0, pair.ids)
    pair.relabel(np.where(ids == 5, 0, ids) if pair.image.parent.name == 'train' else ids)
  report = run(tmp_path)
  assert found(report) == {('class never occurs', 'class 6'), ('class not in train', 'class 5')}
  assert report.class_weights['median'][5:].tolist() == [0, 0]


def test_much_is_ignored(tmp_path):
  for pair in draw(tmp_path, 6, 2):
    ids = pair.ids.copy()
    ids[:90] = 255
    pair.relabel(ids)
  assert ('many pixels ignored', 'labels') in found(run(tmp_path))


def test_one_class_in_many_labels_is_how_the_data_is(tmp_path):
  pairs = draw(tmp_path, 8, 2)
  for pair in pairs[:4]:
    pair.relabel(np.zeros_like(pair.ids))
  assert kinds(run(tmp_path))['one class only'].severity == 'note'


def test_labels_all_saved_with_loss(tmp_path):
  pairs = draw(tmp_path, 8, 2)
  for pair in pairs:
    label_that_was_a_jpeg(pair)
  assert len(kinds(run(tmp_path))['ragged borders'].issues) >= 4


def test_stray_colors_are_told(tmp_path):
  pairs = [Pair(tmp_path, '', f'c{i}x', *scenes.draw(i)) for i in range(5)]
  for pair in pairs:
    save(np.array(CAMVID.palette, np.uint8)[pair.ids], pair.label)
  mask = np.asarray(Image.open(pairs[0].label)).copy()
  mask[0, :9] = 1, 2, 3
  save(mask, pairs[0].label)
  pairing = folder.pair_folders(tmp_path / 'images', tmp_path / 'labels')
  report = audit.audit_files(pairing, classes=CAMVID)
  assert report.valid and ('unknown colors', 'c0x.png') in found(report)
  assert '#010203 on 9 of 20480' in kinds(report)['unknown colors'].issues[0].detail

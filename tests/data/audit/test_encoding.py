"""The encoding of labels is found, and labels with another one are named."""

import numpy as np
from PIL import Image

from dilated_jax.data import audit, folder
from dilated_jax.data.label_specs import CITYSCAPES, SCENES
from tests.data.audit.planted import (
  draw,
  found,
  ids_in_three_channels,
  illegal_value,
  kinds,
  run,
  save,
  with_palette,
)


def test_palettes(tmp_path):
  colors = [*SCENES.palette, *[(9, 9, 9)] * 249]
  pairs = draw(tmp_path, 8, 2)
  for pair in pairs:
    save(with_palette(pair.ids, colors), pair.label)
  assert found(run(tmp_path)) == set()
  save(with_palette(pairs[3].ids, colors[::-1]), pairs[3].label)
  report = run(tmp_path)
  assert report.valid and found(report) == {('different palette', 'a003x.png')}
  # Without stated classes only the colors mean the same everywhere, for training too.
  report = run(tmp_path, None)
  assert report.encoding == 'colors' and report.spec.num_classes == 8
  assert ('different palette', 'a003x.png') in found(report)


def test_color_masks(tmp_path):
  pairs = draw(tmp_path, 8, 2)
  palette = np.array(SCENES.palette, np.uint8)
  for pair in pairs:
    save(palette[pair.ids], pair.label)
  pairing = folder.pair_folders(tmp_path / 'images', tmp_path / 'labels')
  report = audit.audit_files(pairing, classes=SCENES)
  assert (
    report.valid
    and found(report) == set()
    and report.encoding_description == 'labels: colors of scenes'
  )
  reference = sum(np.bincount(pair.ids.ravel(), minlength=7) for pair in pairs[:8])
  np.testing.assert_array_equal(report.counts['train'].pixels, reference)
  assert audit.audit_files(pairing).spec.num_classes == 7
  assert (
    len(
      kinds(audit.audit_files(pairing, classes=audit.numbered_classes(7)))[
        'color mask among ids'
      ].issues
    )
    == 10
  )

  pairs[1].relabel(pairs[1].ids)
  smooth = Image.fromarray(palette[pairs[2].ids]).resize((70, 60), Image.Resampling.BILINEAR)
  save(smooth.resize((160, 128), Image.Resampling.BILINEAR), pairs[2].label)
  report = audit.audit_files(pairing, classes=SCENES)
  assert {('ids among color masks', 'a001x.png'), ('invalid values', 'a002x.png'),
          ('ragged borders', 'a002x.png')} == found(report)  # fmt: skip
  report = audit.audit_files(pairing)
  assert ('labels not understood', 'labels') in found(report) and not report.valid
  detail = kinds(report)['labels not understood'].issues[0].detail
  assert 'a002x.png' in detail and 'as after smoothing or JPEG' in detail


def test_official_ids_and_train_ids(tmp_path):
  raw = np.array(CITYSCAPES.raw_ids, np.uint8)
  pairs = draw(tmp_path, 5, 2)
  pairing = folder.pair_folders(tmp_path / 'images', tmp_path / 'labels')
  train_ids = audit.audit_files(pairing, classes=CITYSCAPES)
  assert train_ids.encoding_description == 'labels: class ids of cityscapes'
  for pair in pairs:
    pair.relabel(raw[pair.ids])
  ids = audit.audit_files(pairing, classes=CITYSCAPES)
  assert ids.encoding_description == 'labels: ids of the label files of cityscapes'
  for report in (train_ids, ids):
    assert report.valid and {kind for kind, _ in found(report)} <= {
      'class never occurs', 'class not in train'
    }  # fmt: skip
  np.testing.assert_array_equal(train_ids.counts['val'].pixels, ids.counts['val'].pixels)


def test_three_channels_all_over_are_understood(tmp_path):
  for pair in draw(tmp_path, 6, 2):
    ids_in_three_channels(pair)
  report = run(tmp_path, None)
  assert report.valid and found(report) == set() and report.spec.num_classes == 7
  numbered = run(tmp_path)
  assert numbered.valid and found(numbered) == set() and numbered.encoding == report.encoding
  np.testing.assert_array_equal(numbered.counts['val'].pixels, report.counts['val'].pixels)


def test_three_channels_among_ids_are_an_error_however_the_classes_are_stated(tmp_path):
  pairs = draw(tmp_path, 6, 2)
  ids_in_three_channels(pairs[1])
  for classes in ({}, {'classes': None}):
    report = run(tmp_path, *classes.values())
    assert not report.valid and ('three equal channels', 'a001x.png') in found(report)


def test_a_value_that_one_label_has(tmp_path):
  pairs = draw(tmp_path, 8, 2)
  illegal_value(pairs[5])
  report = run(tmp_path, None)
  assert report.valid and found(report) == {('value in one file only', 'a005x.png')}
  assert report.spec.raw_ids == (0, 1, 2, 3, 4, 5, 6, 77)

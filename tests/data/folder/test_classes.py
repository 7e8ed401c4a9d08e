"""Classes are inferred from the values of labels, or the labels are refused."""

import numpy as np
from PIL import Image
import pytest

from dilated_jax.data import folder
from tests.data.folder.folders import COLORS, SIZE, blocks, check, ids, make, picture, refused, save


def test_numbers(tmp_path):
  check(make(tmp_path, label=ids(0, 2, 255)), ids(0, 2, 255), ('class 0', 'class 1', 'class 2'))
  notes = ' '.join(folder.scan(tmp_path).notes)
  assert 'ids 0, 2, 255, so 3 classes' in notes and '255 is ignored' in notes
  assert 'no pixel belongs to class 1' in notes


@pytest.mark.parametrize(
  'values, classes',
  [((0, 255), 2), ((0, 128, 255), 3), ((0, 85, 170, 255), 4), ((0, 100, 255), 3), ((7, 50), 2)],
)
def test_far_apart_numbers_are_counted(tmp_path, values, classes):
  """0 and 255 are two classes, and 255 is one beside other values that are not 0, 1, 2, ..."""
  expected = ids(*[*range(classes), 255][: len(values)])
  check(make(tmp_path, label=ids(*values)), expected)
  found = folder.scan(tmp_path)
  assert found.spec.raw_ids == values[:classes]
  assert 'number the classes 0..' in ' '.join(found.notes)


@pytest.mark.parametrize('painted', [False, True])
def test_smoothed_labels_are_refused(tmp_path, painted):
  make(tmp_path, label=COLORS[ids(1, 2)] if painted else ids(0, 60, 120))
  path = tmp_path / 'labels' / 'b.png'
  image = Image.open(path).resize((15, 10), Image.Resampling.BICUBIC)
  save(image.resize(SIZE[::-1], Image.Resampling.BICUBIC), path)
  refused(
    tmp_path, r'b\.png: \d+ values of these labels nowhere fill 2x2 pixels, as after smoothing'
  )


def test_too_many_colors(tmp_path):
  many = np.zeros((12, 200, 3), np.uint8)
  many[..., 0] = blocks(*range(100), size=(12, 200))
  for name in 'ab':
    save(picture((12, 200)), tmp_path / 'images' / f'{name}.png')
    save(many, tmp_path / 'labels' / f'{name}.png')
  refused(tmp_path, r'have 100 colors that are not ignored; state in classes.json')


@pytest.mark.parametrize(
  'label, words',
  [
    (ids(255), 'every pixel of these labels is ignored'),
    (ids(0), 'all labels are of one class'),
    (ids(0, 1).astype(np.uint16) * 300, 'label values 0..300, above 255'),
  ],
)
def test_labels_that_say_nothing(tmp_path, label, words):
  refused(make(tmp_path, label=label), words)

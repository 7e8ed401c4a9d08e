"""List files of every kind, and wrong ones."""

import pytest

from dilated_jax.data import folder
from tests.data.folder.folders import LISTS, ids, make, picture, refused, save


@pytest.mark.parametrize('kind', LISTS)
def test_lists(tmp_path, kind):
  make(tmp_path)
  first, second = LISTS[kind]
  for split, names in {'train': 'hgf', 'val': 'ab'}.items():
    for line, name in (
      (first, f'{split}_images' if second else split),
      (second, f'{split}_labels'),
    ):
      if line:
        text = '\r\n'.join(['# made by hand', '', *map(line.format, names)])
        (tmp_path / f'{name}.txt').write_bytes(b'\xef\xbb\xbf' + text.encode())
  found = folder.scan(tmp_path)
  assert [pair.name for pair in found.splits['train']] == ['f', 'g', 'h']
  assert [pair.name for pair in found.splits['val']] == ['a', 'b']
  assert ('3 images in no list' in ' '.join(found.notes)) == (kind != 'pairs of lists')


def test_lists_of_pairs_need_no_layout(tmp_path):
  for name in 'abcd':
    save(picture(), tmp_path / 'day 1' / f'{name}.png')
    save(ids(0, 1), tmp_path / 'day 1' / f'{name}_truth.png')
  (tmp_path / 'train.txt').write_text(
    'day 1/a.png day 1/a_truth.png\nday 1/b.png day 1/b_truth.png'
  )
  (tmp_path / 'val.txt').write_text('day 1/c.png day 1/c_truth.png\n')
  assert [pair.label.name for pair in folder.scan(tmp_path).splits['train']] == [
    'a_truth.png', 'b_truth.png'
  ]  # fmt: skip


@pytest.mark.parametrize(
  'text, words',
  [
    ('a\nnothing\n', 'nothing does not exist'),
    ('a\nimages/x.png labels/x.png', 'images/x.png does not exist'),
    ('a\nlone', 'lone has no label'),
    ('', 'train.txt: this list is empty'),
    (b'\xff\xfe\x00\x01', 'train.txt: is not text'),
    ('a\nb\n', 'a is in train and val'),
  ],
)
def test_lists_that_are_wrong(tmp_path, text, words):
  make(tmp_path)
  save(picture(), tmp_path / 'images' / 'lone.png')
  (tmp_path / 'train.txt').write_bytes(text if isinstance(text, bytes) else text.encode())
  (tmp_path / 'val.txt').write_text('a' if 'train and val' in words else 'c')
  refused(tmp_path, words)


def test_lists_of_different_length(tmp_path):
  make(tmp_path)
  (tmp_path / 'train_images.txt').write_text('images/a.png\nimages/b.png')
  (tmp_path / 'train_labels.txt').write_text('labels/a.png')
  refused(tmp_path, 'train_labels.txt: names 1 labels and train_images.txt 2 images')

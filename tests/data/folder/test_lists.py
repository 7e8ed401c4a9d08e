"""List files of every kind, and wrong ones."""

import unicodedata

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
    (b'\x89PNG\r\n\x1a\n\x00\x00', 'train.txt: is not text'),
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


PLAIN = 'images/{0}.png labels/{0}.png'


@pytest.mark.parametrize(
  'line, encoding',
  [
    (r'images\{0}.png labels\{0}.png', 'utf-8'),
    (r'D:\data\mine\images\{0}.png', 'utf-8'),
    (r'.\images\{0}.png;labels\{0}.png', 'utf-8'),
    (PLAIN, 'utf-16'),
    (PLAIN, 'utf-16-le'),
    (PLAIN, 'utf-16-be'),
    (PLAIN, 'utf-32'),
    (PLAIN, 'utf-8-sig'),
    (PLAIN + '   \t', 'utf-8'),
    ('"images/{0}.png" "labels/{0}.png"', 'utf-8'),
    ("'images/{0}.png'", 'utf-8'),
    ('"{0}"', 'utf-8'),
    ('images/{0}.png,labels/{0}.png,', 'utf-8'),
    ('IMAGES/{0}.PNG', 'utf-8'),
    ('images/{0}.PNG labels/{0}.Png', 'utf-8'),
  ],
)
def test_lists_from_other_platforms(tmp_path, line, encoding):
  make(tmp_path)
  for split, names in {'train': 'hgf', 'val': 'ab'}.items():
    text = ''.join(line.format(name) + '\r\n' for name in names)
    (tmp_path / f'{split}.txt').write_bytes(text.encode(encoding))
  found = folder.scan(tmp_path)
  assert [pair.name for pair in found.splits['train']] == ['f', 'g', 'h']
  assert [pair.name for pair in found.splits['val']] == ['a', 'b']


@pytest.mark.parametrize('encoding, form', [('cp1252', 'NFC'), ('utf-8', 'NFD'), ('utf-8', 'NFC')])
def test_lists_in_other_encodings_and_unicode_forms(tmp_path, encoding, form):
  make(tmp_path, ['café', 'b', 'c'])
  (tmp_path / 'val.txt').write_text('b')
  for text in ('café', 'images/café.png'):
    content = unicodedata.normalize(form, text).encode(encoding)
    (tmp_path / 'train.txt').write_bytes(content + b'\nc\n')
    assert len(folder.scan(tmp_path).splits['train']) == 2


@pytest.mark.parametrize('name', ['{}.csv', '{}.lst', '{}2017.txt', '{}_list.txt', 'splits/{}.txt'])
def test_names_of_lists(tmp_path, name):
  make(tmp_path)
  (tmp_path / 'splits').mkdir()
  head = 'image,label\n' if name.endswith('csv') else ''
  (tmp_path / name.format('train')).write_text(head + 'images/a.png,labels/a.png\n')
  (tmp_path / name.format('val')).write_text(head + 'images/b.png,labels/b.png\n')
  found = folder.scan(tmp_path)
  assert {split: len(pairs) for split, pairs in found.splits.items()} == {'train': 1, 'val': 1}


def test_the_nearest_name_is_shown(tmp_path):
  make(tmp_path, ['frame_001', 'frame_002'])
  (tmp_path / 'train.txt').write_text('frame_001\nframe-0O2\n')
  refused(tmp_path, r'frame-0O2 does not exist \(nearest: frame_002\.png\)')
  (tmp_path / 'train.txt').write_text('images/frame_001.png labels/frame_l.png\n')
  refused(tmp_path, r'labels/frame_l.png does not exist \(nearest: frame_00[12].png\)')


@pytest.mark.parametrize('head', ['Bild;Maske', 'sep=;', 'id,rle_mask', 'epoch,loss', '"Bild"'])
@pytest.mark.parametrize('rows', ['images/{0}.png;labels/{0}.png\n', '{0}\n', '{0},1 3 10 5\n'])
def test_a_table_that_is_not_understood_is_never_passed_over(tmp_path, head, rows):
  make(tmp_path)
  (tmp_path / 'train.txt').write_text('c\nd\n')
  (tmp_path / 'val.csv').write_text(f'{head}\n' + ''.join(map(rows.format, 'ab')))
  name = head.strip('";')
  refused(tmp_path, f"val.csv: line 1: '{name}' names no image .* write image,label there")
  assert folder.find_pairs(tmp_path).problems[0].kind == 'listed but missing'


def test_a_table_without_a_head_is_a_list(tmp_path):
  make(tmp_path)
  (tmp_path / 'val.csv').write_text('a\nb\n')
  (tmp_path / 'train.csv').write_text('c.png;c.png\n')
  assert {split: len(pairs) for split, pairs in folder.scan(tmp_path).splits.items()} == {
    'train': 1, 'val': 2
  }  # fmt: skip


def test_a_head_alone_is_an_empty_list(tmp_path):
  make(tmp_path)
  (tmp_path / 'train.txt').write_text('c\nd\n')
  (tmp_path / 'val.csv').write_text('image,label\n')
  refused(tmp_path, 'val.csv: this list is empty')


def test_a_table_of_something_else_lies_beside_the_list(tmp_path):
  make(tmp_path)
  (tmp_path / 'train.csv').write_text('id,rle_mask\na,1 3 10 5\n')
  (tmp_path / 'train.txt').write_text('a\nb\n')
  (tmp_path / 'val.txt').write_text('c\n')
  found = folder.scan(tmp_path)
  assert len(found.splits['train']) == 2
  assert 'not read as lists of a split: train.csv' in ' '.join(found.notes)


@pytest.mark.parametrize(
  'image, label',
  [
    ('images/{}.jpg', 'labels/{}.png'),  # Folders and endings say it.
    ('images/{}.png', 'labels/{}.png'),
    ('train/{}.png', 'trainannot/{}.png'),
    ('day/{}.jpg', 'day/{}_truth.png'),
    ('pictures/{}.png', 'masks/{}.png'),
    ('photos/{}.tif', 'classes/{}.png'),
    ('labels/img/{}.png', 'labels/{}.png'),
    ('images/{}.png', 'images/gt/{}.png'),
  ],
)
def test_swapped_columns_are_named(tmp_path, image, label):
  for name in 'abcd':
    save(picture(), tmp_path / image.format(name))
    save(ids(0, 1, 2), tmp_path / label.format(name))
  rows = [(image.format(name), label.format(name)) for name in 'abcd']
  (tmp_path / 'train.txt').write_text(''.join(f'{x} {y}\n' for x, y in rows))
  assert folder.find_pairs(tmp_path).problems == ()
  (tmp_path / 'train.txt').write_text('# mine\n' + ''.join(f'{y} {x}\n' for x, y in rows))
  refused(
    tmp_path, f'^{tmp_path}/train.txt: line 2 and 3 more: the columns are swapped, {rows[0][1]}'
  )
  assert folder.find_pairs(tmp_path).unlisted == ()


@pytest.mark.parametrize(
  'image, label', [('left/{}.png', 'labels/img/{}.png'), ('gt/images/{}.png', 'gt/{}.png')]
)
def test_folders_that_say_both_are_no_swapped_columns(tmp_path, image, label):
  for name in 'ab':
    save(picture(), tmp_path / image.format(name))
    save(ids(0, 1), tmp_path / label.format(name))
  rows = [f'{image.format(name)} {label.format(name)}\n' for name in 'ab']
  (tmp_path / 'train.txt').write_text(''.join(rows))
  assert folder.find_pairs(tmp_path).problems == ()


def test_swapped_columns_of_two_folders_of_any_name(tmp_path):
  save(picture(), tmp_path / 'a' / 'x.jpg')
  save(ids(0, 1), tmp_path / 'b' / 'x.png')
  (tmp_path / 'val.txt').write_text('b/x.png a/x.jpg\n')
  pairing = folder.pair_folders(tmp_path / 'a', tmp_path / 'b', [tmp_path / 'val.txt'])
  assert [problem.kind for problem in pairing.problems] == ['swapped columns']


def test_the_plainest_of_several_lists_is_read_and_the_others_are_named(tmp_path):
  make(tmp_path)
  (tmp_path / 'train.txt').write_text('a\nb\nc\n')
  for name in ('train (1).txt', 'train_images.txt'):
    (tmp_path / name).write_text('a\n')
  (tmp_path / 'val.txt').write_text('d\n')
  found = folder.scan(tmp_path)
  assert len(found.splits['train']) == 3
  text = 'not read as lists of a split: train (1).txt, train_images.txt'
  assert text in ' '.join(found.notes)


def test_the_head_of_a_table_says_the_order(tmp_path):
  make(tmp_path)
  (tmp_path / 'train.csv').write_text('mask_path,image_path\nlabels/a.png,images/a.png\n')
  (tmp_path / 'val.csv').write_text('label;image\nb.png;b.png\n')
  found = folder.scan(tmp_path)
  pairs = [pair for split in found.splits.values() for pair in split]
  assert [(pair.image.parent.name, pair.label.parent.name) for pair in pairs] == [
    ('images', 'labels')
  ] * 2


def test_lists_that_were_put_together_keep_byte_order_marks_between(tmp_path):
  make(tmp_path)
  (tmp_path / 'train.txt').write_bytes(b'\xef\xbb\xbfa\r\n\xef\xbb\xbfb\r\n')
  (tmp_path / 'val.txt').write_text('c\n')
  assert [pair.name for pair in folder.scan(tmp_path).splits['train']] == ['a', 'b']

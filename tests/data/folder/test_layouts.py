"""Every layout of folders is understood, and anything else is refused."""

import pytest

from dilated_jax import data
from dilated_jax.data import folder
from dilated_jax.errors import InputError
from tests.data.folder.folders import ids, make, picture, refused, save


@pytest.mark.parametrize(
  'images, masks',
  [('images', 'labels'), ('imgs', 'masks'), ('JPEGImages', 'SegmentationClass'), ('Image', 'GT')],
)
@pytest.mark.parametrize('order', ['above', 'below'])
def test_splits_by_folder(tmp_path, images, masks, order):
  for split, names in {'train': 'abc', 'validation': 'de', 'test': 'a'}.items():
    for side in (images, masks):
      place = f'{side}/{split}' if order == 'below' else f'{split}/{side}'
      for name in names:
        save(picture() if side == images else ids(0, 1), tmp_path / place / f'{name}.png')
  found = folder.scan(tmp_path)
  assert {split: len(pairs) for split, pairs in found.splits.items()} == {
    'train': 3, 'val': 2, 'test': 1
  }  # fmt: skip
  assert all(pair.image.parts[-3:] != pair.label.parts[-3:] for pair in found.splits['test'])
  assert 'held out' not in ' '.join(found.notes)


@pytest.mark.parametrize('second', ['annot', '_labels', '-masks'])
def test_splits_as_segnet_names_them(tmp_path, second):
  for split, names in {'train': 'abc', 'val': 'de'}.items():
    make(tmp_path, names, images=split, masks=split + second)
  found = folder.scan(tmp_path)
  assert [pair.name for pair in found.splits['val']] == ['d', 'e']


def test_folders_that_are_none(tmp_path):
  refused(tmp_path / 'nowhere', 'no such folder')
  refused(tmp_path, 'expected images/ and labels/')
  (tmp_path / 'images').mkdir()
  (tmp_path / 'labels').mkdir()
  refused(tmp_path, 'images: no images in this folder')
  save(picture(), tmp_path / 'images' / 'a.png')
  save(ids(0, 1), tmp_path / 'labels' / 'b.png')
  refused(tmp_path, 'no image has a label of the same name.*b.png has no image')
  with pytest.raises(InputError, match='as `data_dir`'):
    folder_default(tmp_path)
  refused(tmp_path / 'images' / 'a.png', 'a.png: is a file; name its folder')
  make(tmp_path / 'outer' / 'inner', 'ab')
  refused(tmp_path / 'outer', 'no images with labels are found here; .*inner has some')


@pytest.mark.parametrize(
  'image, label',
  [
    ('train/{}.jpg', 'train/{}_mask.png'),
    ('train/{}_jpg.rf.0f.jpg', 'train/{}_jpg.rf.0f_mask.png'),
    ('{}.jpg', '{}.png'),
    ('shop/{}_rgb.png', 'shop/{}_seg.png'),
  ],
)
def test_labels_beside_their_images_need_the_list_that_the_error_names(tmp_path, image, label):
  for name in 'abc':
    save(picture(), tmp_path / image.format(name))
    save(ids(0, 1), tmp_path / label.format(name))
  image, label = image.format('a'), label.format('a')
  refused(tmp_path, f'lie in one folder.*train.txt with "{image} {label}"')
  (tmp_path / 'train.txt').write_text(f'{image} {label}\n')
  assert [pair.label for pair in folder.scan(tmp_path).splits['train']] == [tmp_path / label]


def folder_default(tmp_path):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('TFDS_DATA_DIR', str(tmp_path / 'empty'))
    return data.load('folder', 'train')


def counted(root):
  found = folder.scan(root)
  return {split: len(pairs) for split, pairs in found.splits.items()}, ' '.join(found.notes)


@pytest.mark.parametrize(
  'train, val',
  [
    ('train2017', 'val2017'), ('Train_set', 'Validation_set'), ('Train1', 'val1'),
    ('training', 'valid'), ('TRAIN', 'VAL'),
  ],
)  # fmt: skip
def test_names_of_splits(tmp_path, train, val):
  for split, names in {train: 'abc', val: 'ab'}.items():
    make(tmp_path, names, images=f'images/{split}', masks=f'labels/{split}')
  splits, notes = counted(tmp_path)
  assert splits == {'train': 3, 'val': 2} and 'held out' not in notes


@pytest.mark.parametrize(
  'images, masks',
  [
    ('train_images', 'train_masks'), ('images_train', 'labels_train'), ('train', 'train_gt'),
    ('train2017/imgs', 'train2017/masks'), ('imagesTrain', 'labelsTrain'),
    ('images/day/train', 'labels/day/train'), ('images/train2017', 'labels/train'),
    ('img_dir/train', 'ann_dir/train'),
  ],
)  # fmt: skip
def test_where_splits_may_be_named(tmp_path, images, masks):
  for split, names in {'train': 'abc', 'val': 'ab'}.items():
    sides = [side.replace('train', split).replace('Train', split) for side in (images, masks)]
    make(tmp_path, names, images=sides[0], masks=sides[1])
  splits, notes = counted(tmp_path)
  assert splits == {'train': 3, 'val': 2} and 'held out' not in notes


def test_links_are_followed(tmp_path):
  make(tmp_path / 'real', 'abc')
  make(tmp_path / 'other', 'de')
  for side in ('images', 'labels'):
    (tmp_path / 'own' / side).mkdir(parents=True)
    (tmp_path / 'own' / side / 'train').symlink_to(tmp_path / 'real' / side)
    (tmp_path / 'own' / side / 'val').symlink_to(tmp_path / 'other' / side)
    (tmp_path / 'real' / side / 'loop').symlink_to(tmp_path / 'own' / side)
  splits, notes = counted(tmp_path / 'own')
  assert splits == {'train': 3, 'val': 2}
  assert 'loop: passed over: a link back to a folder above it' in notes
  (tmp_path / 'linked').symlink_to(tmp_path / 'own')
  assert counted(tmp_path / 'linked')[0] == splits


def test_what_is_passed_over_is_counted_and_named(tmp_path):
  make(tmp_path, 'ab', images='images/monday', masks='labels/monday')
  for name in ('a.heic', 'b.heic', 'notes.txt', '.DS_Store', 'Thumbs.db'):
    (tmp_path / 'images' / name).write_text('')
  (tmp_path / 'images' / 'gone').symlink_to(tmp_path / 'nowhere')
  (tmp_path / 'masks_old').mkdir()
  (tmp_path / 'trainval.txt').write_text('a')
  save(picture(), tmp_path / 'images' / 'monday' / 'alone.png')
  notes = counted(tmp_path)[1]
  for words in (
    '3 files with other endings (.heic 2, .txt 1)', 'gone: passed over: a link to nothing',
    'subfolders whose names are no splits (train, val, test): monday', 'not used: masks_old',
    'not read as lists of a split: trainval.txt', 'not used: alone.png',
  ):  # fmt: skip
    assert words in notes, notes
  assert 'DS_Store' not in notes and 'Thumbs' not in notes


def test_the_layout_of_voc(tmp_path):
  make(tmp_path, 'abcd', images='JPEGImages', masks='SegmentationClass')
  (tmp_path / 'Annotations').mkdir()
  (tmp_path / 'Annotations' / 'a.xml').write_text('')
  (tmp_path / 'ImageSets' / 'Segmentation').mkdir(parents=True)
  for split, names in {'train': 'abc', 'val': 'd', 'trainval': 'abcd'}.items():
    (tmp_path / 'ImageSets' / 'Segmentation' / f'{split}.txt').write_text('\n'.join(names))
  splits, notes = counted(tmp_path)
  assert splits == {'train': 3, 'val': 1} and 'Segmentation/trainval.txt' in notes


def test_only_some_images_in_a_split(tmp_path):
  for split in ('train', 'val', 'extra'):
    make(tmp_path, 'ab', images=f'images/{split}', masks=f'labels/{split}')
  refused(tmp_path, 'extra/a.png: is in no split, and other images are')
  assert {'in no split'} == {problem.kind for problem in folder.find_pairs(tmp_path).problems}


def test_an_image_and_its_label_in_different_splits(tmp_path):
  make(tmp_path, 'abc', images='images/train', masks='labels/train')
  make(tmp_path, 'd', images='images/train', masks='labels/val')
  refused(tmp_path, 'd.png is in train and its label d.png in val')


def test_images_without_the_ending_of_one(tmp_path):
  make(tmp_path, 'abc')
  (tmp_path / 'images' / 'b.png').rename(tmp_path / 'images' / 'b.heic')
  refused(tmp_path, r'b\.png has no image, but b\.heic is there, whose ending is not read')
  make(tmp_path / 'none', 'ab')
  for path in (tmp_path / 'none' / 'labels').iterdir():
    path.rename(path.with_suffix('.npy'))
  refused(tmp_path / 'none', r'labels: no images in this folder .*, only 2 files .*\(\.npy 2\)')


def test_links_to_images_that_are_gone(tmp_path):
  make(tmp_path, 'abc')
  (tmp_path / 'labels' / 'b.png').unlink()
  (tmp_path / 'labels' / 'b.png').symlink_to(tmp_path / 'gone.png')
  refused(tmp_path, r'labels/b\.png: a link to nothing')

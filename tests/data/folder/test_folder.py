"""folder: every layout and kind of label is read right, and what is found is told."""

import json
import shutil

import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from dilated_jax import data
from dilated_jax.data import folder
from dilated_jax.data.folder import labels, pairing
from dilated_jax.errors import InputError
from dilated_jax.label_spec import SCENES

RNG = np.random.default_rng(0)
SIZE = 12, 20


def save(content, path, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = content if isinstance(content, Image.Image) else Image.fromarray(content)
  image.save(path, **options)
  return path


def picture(size=SIZE):
  return RNG.integers(0, 256, (*size, 3), np.uint8)


def blocks(*values, size=SIZE):
  """A map in which each value fills a column, and so 2x2 pixels."""
  return np.repeat(np.resize(values, size[1] // 2 + 1), 2)[: size[1]][None].repeat(size[0], 0)


def ids(*values, size=SIZE):
  return blocks(*values, size=size).astype(np.uint8)


THREE = ids(0, 1, 2)


def make(root, names='abcdefgh', label=THREE, images='images', masks='labels'):
  for name in names:
    save(picture(), root / images / f'{name}.png')
    save(label, root / masks / f'{name}.png')
  return root


def files_of(root):
  return sorted((path, path.stat().st_mtime_ns) for path in root.rglob('*'))


def load(root, split='train'):
  return data.load('folder', split, root)


def refused(root, words):
  with pytest.raises(InputError, match=words) as raised:
    folder.look(root)
  assert '\n' not in str(raised.value)


# Layouts.


def test_pictures_come_back_exactly_and_nothing_is_written(tmp_path):
  pixels = {}
  for number, name in enumerate(['a', 'b2', 'b10', 'c']):
    size = (12, 20) if number % 2 else (16, 10)
    pixels[name] = picture(size), RNG.integers(0, 3, size, np.uint8)
    save(pixels[name][0], tmp_path / 'images' / f'{name}.png')
    save(pixels[name][1], tmp_path / 'labels' / f'{name}.png')
  before = files_of(tmp_path)
  assert data.splits('folder', tmp_path) == ('train', 'val')
  found = [example for split in ('train', 'val') for example in load(tmp_path, split)]
  assert sorted(example['name'] for example in found) == sorted(pixels)
  for example in found:
    np.testing.assert_array_equal(example['image'], pixels[example['name']][0])
    np.testing.assert_array_equal(example['label'], pixels[example['name']][1])
  classes = data.classes('folder', tmp_path)
  assert classes.names == ('class 0', 'class 1', 'class 2') and len(set(classes.palette)) == 3
  train = [pixels[example['name']][0].reshape(-1, 3) for example in load(tmp_path)]
  np.testing.assert_allclose(classes.mean, np.concatenate(train).mean(0), atol=0.006)
  assert data.prepare('folder', tmp_path) == tmp_path
  assert files_of(tmp_path) == before


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
  found = folder.look(tmp_path)
  assert {split: len(pairs) for split, pairs in found.splits.items()} == {
    'train': 3, 'val': 2, 'test': 1
  }  # fmt: skip
  assert all(pair.image.parts[-3:] != pair.label.parts[-3:] for pair in found.splits['test'])
  assert 'held out' not in ' '.join(found.notes)


@pytest.mark.parametrize('second', ['annot', '_labels', '-masks'])
def test_splits_as_segnet_names_them(tmp_path, second):
  for split, names in {'train': 'abc', 'val': 'de'}.items():
    make(tmp_path, names, images=split, masks=split + second)
  found = folder.look(tmp_path)
  assert [pair.name for pair in found.splits['val']] == ['d', 'e']


LISTS = {
  'names': ('{}', None),
  'files': ('{}.png', None),
  'paths': ('images/{}.png', None),
  'pairs': ('images/{0}.png labels/{0}.png', None),
  'of another machine': ('/SegNet/x/images/{0}.png /SegNet/x/labels/{0}.png', None),
  'commas': ('images/{0}.png, labels/{0}.png', None),
  'Caffe': ('images/{}.png', 'labels/{}.png'),
}


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
  found = folder.look(tmp_path)
  assert [pair.name for pair in found.splits['train']] == ['f', 'g', 'h']
  assert [pair.name for pair in found.splits['val']] == ['a', 'b']
  assert ('3 pictures are in no list' in ' '.join(found.notes)) == (kind != 'pairs of lists')


def test_lists_of_pairs_need_no_layout(tmp_path):
  for name in 'abcd':
    save(picture(), tmp_path / 'day 1' / f'{name}.png')
    save(ids(0, 1), tmp_path / 'day 1' / f'{name}_truth.png')
  (tmp_path / 'train.txt').write_text(
    'day 1/a.png day 1/a_truth.png\nday 1/b.png day 1/b_truth.png'
  )
  (tmp_path / 'val.txt').write_text('day 1/c.png day 1/c_truth.png\n')
  assert [pair.label.name for pair in folder.look(tmp_path).splits['train']] == [
    'a_truth.png', 'b_truth.png'
  ]  # fmt: skip


@pytest.mark.parametrize(
  'text, words',
  [
    ('a\nnothing\n', 'nothing is not there'),
    ('a\nimages/x.png labels/x.png', 'images/x.png is not there'),
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
  refused(tmp_path, 'train_labels.txt: names 1 labels and train_images.txt 2 pictures')


@pytest.mark.parametrize(
  'image, label',
  [
    ('x_leftImg8bit.jpg', 'x_gtFine_labelIds.png'),
    ('0016E5_1.jpg', '0016E5_1_L.png'),
    ('x.JPG', 'x_mask.png'),
    ('1_sat.jpg', '1_mask.png'),
    ('x.jpg', 'x-Segmentation.png'),
  ],
)
def test_names(tmp_path, image, label):
  make(tmp_path, 'ab')
  save(picture(), tmp_path / 'images' / image)
  save(ids(0, 1), tmp_path / 'labels' / label)
  pairs = pairing.find(tmp_path).pairs
  assert (image, label) in [(pair.image.name, pair.label.name) for pair in pairs]


def test_a_name_in_several_subfolders(tmp_path):
  for day in ('monday', 'tuesday'):
    make(tmp_path, 'ab', images=f'images/{day}', masks=f'labels/{day}')
  pairs = pairing.find(tmp_path).pairs
  assert [pair.name for pair in pairs] == ['monday/a', 'monday/b', 'tuesday/a', 'tuesday/b']
  assert all(pair.image.parent.name == pair.label.parent.name for pair in pairs)


def test_pictures_without_labels_are_left_out_and_told(tmp_path):
  make(tmp_path)
  save(picture(), tmp_path / 'images' / 'new.jpg')
  found = folder.look(tmp_path)
  assert '1 pictures have no label and are left out: new.jpg' in found.notes
  assert sum(map(len, found.splits.values())) == 8


def test_folders_that_are_none(tmp_path):
  refused(tmp_path / 'nowhere', 'no such folder')
  refused(tmp_path, 'expected images/ and labels/')
  (tmp_path / 'images').mkdir()
  (tmp_path / 'labels').mkdir()
  refused(tmp_path, 'images: no pictures in this folder')
  save(picture(), tmp_path / 'images' / 'a.png')
  save(ids(0, 1), tmp_path / 'labels' / 'b.png')
  refused(tmp_path, 'no picture has a label of its name.*b.png has no picture')
  with pytest.raises(InputError, match='give --data_dir=DIR'):
    folder_default(tmp_path)


def folder_default(tmp_path):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('TFDS_DATA_DIR', str(tmp_path / 'empty'))
    return data.load('folder', 'train')


def test_two_files_of_one_name(tmp_path):
  make(tmp_path)
  save(picture(), tmp_path / 'images' / 'c.jpg')
  refused(tmp_path, 'c.jpg and c.png|c.png and c.jpg')


def test_the_first_wrong_files_are_named_and_the_rest_counted(tmp_path):
  make(tmp_path)
  for name in 'abcde':
    (tmp_path / 'images' / f'{name}.png').write_bytes(b'')
  refused(tmp_path, r'a\.png: is an empty file.*b\.png.*c\.png.*and 2 more \(of 8 pairs.*audit')


def test_sizes_must_agree(tmp_path):
  make(tmp_path)
  save(ids(0, 1, size=(9, 20)), tmp_path / 'labels' / 'c.png')
  refused(tmp_path, r'c\.png: 20x9 for a picture of 20x12 \(width x height\) \(of')
  save(ids(0, 1, size=(20, 12)), tmp_path / 'labels' / 'c.png')
  refused(tmp_path, r'turned by 90 degrees')


# Splits.


def test_held_out_pictures_are_always_the_same(tmp_path):
  make(tmp_path, [f'{word}x' for word in map(str, range(40))])
  val = {pair.name for pair in folder.look(tmp_path).splits['val']}
  assert len(val) == 6
  moved = shutil.copytree(tmp_path, tmp_path.with_name('moved'))
  found = folder.look(moved)
  assert {pair.name for pair in found.splits['val']} == val
  assert '6 pictures, chosen by a hash of their names, are held out' in ' '.join(found.notes)
  assert found.fingerprint == folder.look(tmp_path).fingerprint
  # One more picture moves at most one that was held out, never one that was learnt into val.
  make(moved, ['new'])
  assert len({pair.name for pair in folder.look(moved).splits['val']} ^ val) <= 2


def test_whole_sequences_are_held_out():
  names = [f'{film}_{frame:05}' for film in ('a1', 'b2', 'c3', 'd4', 'e5') for frame in range(8)]
  val, how = folder.hold_out(names)
  assert val == {name for name in names if name[:2] in {name[:2] for name in val}}
  assert len(val) == 8 and 'all of' in how
  # One film, or one that is far too large, leaves single pictures.
  for others in ([f'a1_{i}' for i in range(20)], [f'a{i % 2}_{i}' for i in range(20)]):
    val, how = folder.hold_out(others)
    assert len(val) == 3 and 'hash' in how


@pytest.mark.parametrize('count, held', [(1, 0), (2, 1), (3, 1), (10, 2), (100, 15)])
def test_how_many_are_held_out(count, held):
  val, _ = folder.hold_out([f'{index}x' for index in range(count)])
  assert len(val) == held


def test_train_without_val_and_test_without_train(tmp_path):
  for split in ('train', 'test'):
    make(tmp_path, images=f'images/{split}', masks=f'labels/{split}')
  found = folder.look(tmp_path)
  assert {split: len(pairs) for split, pairs in found.splits.items()} == {
    'train': 7, 'val': 1, 'test': 8
  }  # fmt: skip
  shutil.rmtree(tmp_path / 'images' / 'train')
  shutil.rmtree(tmp_path / 'labels' / 'train')
  refused(tmp_path, 'no train split')


def test_slices(tmp_path):
  make(tmp_path, [f'{index}x' for index in range(20)])
  names = [example['name'] for example in load(tmp_path)]
  assert [example['name'] for example in load(tmp_path, 'train[:50%]')] == names[:8]
  assert [example['name'] for example in load(tmp_path, 'train[3:5]+val')][:2] == names[3:5]
  for split, words in (
    ('trian', "no split 'trian': choose one of train, val"),
    ('train[3', 'is no slice'), ('train[:0]', 'holds no picture'), ('train[99:]', 'is no slice'),
  ):  # fmt: skip
    with pytest.raises(InputError, match=words):
      load(tmp_path, split)


# Labels.


def check(root, expected, names=None):
  """All labels of train and val, as class ids."""
  for split in data.splits('folder', root):
    for example in load(root, split):
      np.testing.assert_array_equal(example['label'], expected)
  if names:
    assert data.classes('folder', root).names == names


def test_numbers(tmp_path):
  check(make(tmp_path, label=ids(0, 2, 255)), ids(0, 2, 255), ('class 0', 'class 1', 'class 2'))
  notes = ' '.join(folder.look(tmp_path).notes)
  assert 'numbers 0, 2, 255, so 3 classes' in notes and '255 is ignored' in notes
  assert 'no pixel is of class 1' in notes


@pytest.mark.parametrize(
  'values, classes',
  [((0, 255), 2), ((0, 128, 255), 3), ((0, 85, 170, 255), 4), ((0, 100, 255), 2), ((7, 50), 2)],
)
def test_far_apart_numbers_are_counted(tmp_path, values, classes):
  """0 and 255 are two classes; 255 that is not one more step is ignored, as ever."""
  expected = ids(*[*range(classes), 255][: len(values)])
  check(make(tmp_path, label=ids(*values)), expected)
  found = folder.look(tmp_path)
  assert found.classes.raw_ids == values[:classes]
  assert 'number the classes 0..' in ' '.join(found.notes)


def test_one_bit_labels(tmp_path):
  mask = ids(0, 1)
  root = make(tmp_path, label=Image.fromarray(mask.astype(bool)))
  check(root, mask, ('class 0', 'class 1'))


PALETTE = [*SCENES.palette, *[(9, 9, 9)] * 248, (224, 224, 192)]


def with_palette(array, palette):
  image = Image.fromarray(array)
  image.putpalette(np.ravel(palette).astype(np.uint8).tolist())
  return image


def test_palette_pictures_bring_their_colors(tmp_path):
  root = make(tmp_path, label=with_palette(ids(0, 1, 2, 255), PALETTE))
  check(root, ids(0, 1, 2, 255))
  assert data.classes('folder', root).palette == SCENES.palette[:3]


def test_palettes_that_disagree_are_read_by_color(tmp_path):
  make(tmp_path, label=with_palette(ids(0, 1), [(9, 9, 9), (200, 0, 0)]))
  save(with_palette(ids(1, 0), [(200, 0, 0), (9, 9, 9)]), tmp_path / 'labels' / 'a.png')
  check(tmp_path, ids(0, 1), ('#090909', '#c80000'))


COLORS = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)


def test_color_masks(tmp_path):
  check(make(tmp_path, label=COLORS[ids(0, 1, 2)]), ids(0, 2, 1), ('#000000', '#00008e', '#804080'))
  found = folder.look(tmp_path)
  assert found.classes.palette == ((0, 0, 0), (0, 0, 142), (128, 64, 128))
  assert 'color masks, 3 classes' in ' '.join(found.notes)


def test_color_masks_by_the_palette_of_classes_json(tmp_path):
  make(tmp_path, label=COLORS[ids(0, 1, 2)])
  say(tmp_path, names=['car', 'road'], palette=[[0, 0, 142], [128, 64, 128]])
  check(tmp_path, ids(255, 1, 0), ('car', 'road'))
  say(tmp_path, palette=[[0, 0, 142], [1, 1, 1]])
  refused(tmp_path, r'a\.png: holds #804080, which no class has')
  say(tmp_path, names=['car', 'road'])
  refused(tmp_path, r'classes\.json: names 2 classes and the labels are color masks; add "palette"')
  say(tmp_path, ignore=[[128, 64, 128]])
  check(tmp_path, ids(0, 255, 1), ('#000000', '#00008e'))


def test_three_equal_channels_are_numbers(tmp_path):
  gray = np.repeat(ids(0, 1, 2, 255)[..., None], 3, -1)
  check(make(tmp_path, label=gray), ids(0, 1, 2, 255))
  assert folder.look(tmp_path).form == 'channels'
  say(tmp_path, names=['a', 'b'], palette=[[0, 0, 0], [255, 255, 255]])
  make(tmp_path, label=np.repeat(ids(0, 255)[..., None], 3, -1))
  check(tmp_path, ids(0, 1), ('a', 'b'))  # The palette says that these grays are colors.


def test_numbers_and_colors_do_not_mix(tmp_path):
  make(tmp_path)
  save(COLORS[ids(0, 1)], tmp_path / 'labels' / 'c.png')
  refused(tmp_path, r'c\.png is a color mask and .*\.png holds numbers')


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
  refused(tmp_path, r'have 100 colors that count; say in classes.json')


@pytest.mark.parametrize(
  'label, words',
  [
    (ids(255), 'every pixel of these labels is to be ignored'),
    (ids(0), 'know one class only'),
    (ids(0, 1).astype(np.uint16) * 300, 'label values 0..300, above 255'),
  ],
)
def test_labels_that_say_nothing(tmp_path, label, words):
  refused(make(tmp_path, label=label), words)


def test_jpeg_labels(tmp_path):
  for name in 'ab':
    save(picture(), tmp_path / 'images' / f'{name}.jpg')
    save(ids(0, 1), tmp_path / 'labels' / f'{name}.jpg')
  refused(tmp_path, 'JPEG changes label values')


# classes.json.


def say(root, **content):
  (root / 'classes.json').write_text(json.dumps(content))


def test_classes_json_for_numbers(tmp_path):
  make(tmp_path, label=ids(0, 1, 2, 11))
  say(tmp_path, names=['sky', 'road', 'car'], ignore=[11], mean=[1, 2.5, 3])
  check(tmp_path, ids(0, 1, 2, 255), ('sky', 'road', 'car'))
  assert data.classes('folder', tmp_path).mean == (1, 2.5, 3)
  say(tmp_path, names=['sky', 'road', 'car'])
  refused(tmp_path, r'holds 11, which no class has')
  say(tmp_path, names=['car', 'sky'], ids=[2, 0], ignore=[1, 11])
  check(tmp_path, ids(1, 255, 0, 255), ('car', 'sky'))
  say(tmp_path, names=['road', 'car'], ignore=[0, 11])  # Ids are 1 and 2 then.
  check(tmp_path, ids(255, 0, 1, 255), ('road', 'car'))
  say(tmp_path, ignore=[0])
  check(tmp_path, ids(255, 0, 1, 2))


@pytest.mark.parametrize(
  'text, words',
  [
    ('{', 'is not JSON'),
    ('\xff', 'is not JSON|holds no'),
    ('[]', 'holds no'),
    ('[' * 100_000, 'is not JSON'),
    ('{"name": []}', "'name' means nothing here"),
    ('{"names": "sky"}', '"names" must be a list of names'),
    ('{"names": []}', '"names" has 0 elements'),
    ('{"names": ["a", "a"]}', '"names" has an element twice'),
    ('{"names": ["a", "b"], "palette": [[0, 0, 0]]}', '2 names and 1 elements in "palette"'),
    ('{"palette": [[0, 0, 256]]}', '"palette" must be a list of colors'),
    ('{"palette": [[0, 0, 1], [0, 0, 2]], "ids": [3]}', '1 ids and 2 colors'),
    ('{"ids": [true]}', '"ids" must be a list of numbers'),
    ('{"ids": [300]}', '"ids" must be a list of numbers'),
    ('{"ids": [1, 2], "ignore": [2]}', '2 is in "ids" and in "ignore"'),
    ('{"palette": [[1, 2, 3], [4, 5, 6]], "ignore": [[1, 2, 3]]}', 'color .1, 2, 3. is in'),
    ('{"mean": [1, 2]}', '"mean" must be three numbers'),
    ('{"mean": [NaN, 1, 2]}', '"mean" must be a list of numbers'),
  ],
)
def test_classes_json_that_is_wrong(tmp_path, text, words):
  make(tmp_path)
  (tmp_path / 'classes.json').write_text(text, 'latin-1')
  refused(tmp_path, rf'classes\.json: .*({words})')


JSON = st.recursive(
  st.none() | st.booleans() | st.integers(-300, 300) | st.floats() | st.text(max_size=5),
  lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
  max_leaves=10,
)


@hypothesis.given(
  st.dictionaries(st.sampled_from(['names', 'palette', 'ids', 'ignore', 'mean', 'found']), JSON)
)
def test_any_classes_json_is_understood_or_refused(tmp_path_factory, content):
  path = tmp_path_factory.mktemp('spec') / 'classes.json'
  path.write_text(json.dumps(content))
  try:
    spec = labels.read_spec(path)
  except InputError as error:
    assert '\n' not in str(error)
  else:
    assert not spec.names or all(isinstance(name, str) for name in spec.names)


@pytest.mark.parametrize(
  'label',
  [ids(0, 1, 2), ids(0, 255), ids(1, 2), COLORS[ids(0, 1, 2)], COLORS[ids(0, 1)],
   np.repeat(ids(0, 4, 2)[..., None], 3, -1)],
)  # fmt: skip
def test_what_is_found_serves_as_classes_json(tmp_path, label):
  make(tmp_path, label=label)
  before = folder.look(tmp_path)
  expected = [example['label'] for example in load(tmp_path)]
  (tmp_path / 'classes.json').write_text(json.dumps(before.about()))
  after = folder.look(tmp_path)
  assert after.classes == before.classes and after.form == before.form
  for example, wanted in zip(load(tmp_path), expected, strict=True):
    np.testing.assert_array_equal(example['label'], wanted)


# Prepared.


def test_prepared_is_the_same(tmp_path):
  root = make(tmp_path / 'own', 'abcdefghijk', label=ids(0, 255, 9))
  gray = save(Image.fromarray(picture()).convert('L'), root / 'images' / 'c.png')
  exif = Image.Exif()
  exif[0x0112] = 3
  save(picture(), root / 'images' / 'd.png', exif=exif)
  jpeg = save(picture(), root / 'images' / 'k.jpg')
  (root / 'images' / 'k.png').unlink()
  own = tmp_path / 'prepared'
  place = data.prepare('folder', own, root)
  assert place == own / 'folder' / '1.0.0'
  assert data.splits('folder', own) == ('train', 'val')
  for split in ('train', 'val', 'train[:2]'):
    for one, other in zip(load(root, split), load(own, split), strict=True):
      assert one['name'] == other['name']
      np.testing.assert_array_equal(one['image'], other['image'])
      np.testing.assert_array_equal(one['label'], other['label'])
  here, there = (data.classes('folder', where) for where in (root, own))
  assert (here.names, here.palette, here.mean) == (there.names, there.palette, there.mean)
  assert data.describe_folder('folder', own) == json.loads(
    json.dumps(data.describe_folder('folder', root))
  )
  # Files that any decoder reads right are kept byte by byte, in the records.
  records = b''.join(path.read_bytes() for path in place.glob('*.array_record*'))
  assert jpeg.stat().st_size < len(records) and gray.exists()

  assert len(data.load('folder', 'train', own, root)) > 0
  make(root, ['new'], label=ids(0, 9))
  with pytest.raises(InputError, match=r'was prepared from .* has changed since; delete it'):
    data.load('folder', 'train', own, root)
  (place / 'classes.json').write_text('{')
  with pytest.raises(InputError, match='damaged'):
    data.classes('folder', own)


def test_a_wrong_folder_prepares_nothing(tmp_path):
  root = make(tmp_path / 'own')
  (root / 'labels' / 'a.png').unlink()
  save(ids(0), root / 'labels' / 'z.png')
  with pytest.raises(InputError, match=r'z\.png has no picture'):
    data.prepare('folder', tmp_path / 'prepared', root)
  assert not [path for path in (tmp_path / 'prepared').rglob('*') if path.is_file()]
  with pytest.raises(InputError, match='expected images/ and labels/'):
    data.prepare('folder', tmp_path / 'prepared', tmp_path)


def test_manual_dir_alone_is_read_where_it_is(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'default'))
  root = make(tmp_path / 'own')
  assert len(data.load('folder', 'train', None, root)) == 7
  assert not (tmp_path / 'default').exists()
  data.prepare('folder', None, root)
  assert (tmp_path / 'default' / 'folder' / '1.0.0' / 'classes.json').exists()
  assert data.is_prepared('folder') and len(data.load('folder', 'train')) == 7


def test_both_folders_prepare_at_once(tmp_path):
  root = make(tmp_path / 'own')
  assert data.classes('folder', tmp_path / 'prepared', root).num_classes == 3
  assert data.is_prepared('folder', tmp_path / 'prepared')


def test_camvid_as_it_is(camvid_dir):
  """The release of SegNet is such a folder: its lists name the files of another machine."""
  found = folder.look(camvid_dir)
  assert {split: len(pairs) for split, pairs in found.splits.items()} == {
    'train': 367, 'val': 101, 'test': 233
  }  # fmt: skip
  assert found.classes.num_classes == 12  # Nothing says that 11 is to be ignored.
  np.testing.assert_allclose(found.classes.mean, (105.03, 108.41, 110.33), atol=0.01)

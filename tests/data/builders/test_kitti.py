"""kitti.py and kitti2015.py: every layout, pixel for pixel; strange colors and files are named."""

import logging

from absl import flags
import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.data.builders import kitti, kitti2015
from experiments import prepare
from tests import raw_files

# Written down a second time: the colors of the labels of Ros et al., and the classes' order.
COLORS = {
  'building': (128, 0, 0), 'tree': (128, 128, 0), 'sky': (128, 128, 128), 'car': (64, 0, 128),
  'sign': (192, 128, 128), 'road': (128, 64, 128), 'pedestrian': (64, 64, 0),
  'fence': (64, 64, 128), 'pole': (192, 192, 128), 'sidewalk': (0, 0, 192),
  'bicyclist': (0, 128, 192),
}  # fmt: skip
NAMES = {'train': ['000000', '000020', '000040'], 'test': ['000000', '000024']}
# Where the picture and the label of a frame are, and the list of a split, for every layout.
LAYOUTS = {
  'authors': (
    {'train': 'KITTI_SEMANTIC/Training_00', 'test': 'KITTI_SEMANTIC/Validation_07'}, 'RGB', 'GT',
  ),
  'zagreb': (
    {'train': 'kitti_semseg_unizg/train', 'test': 'kitti_semseg_unizg/test'}, 'rgb', 'labels',
  ),
  'own': ({'train': 'kitti/train', 'test': 'kitti/test'}, 'images', 'labels'),
}  # fmt: skip


def mask(rng, size):
  """Random class ids, and the colors that paint them; 255 is black."""
  ids = rng.choice(np.array([*range(11), 255], np.uint8), size)
  palette = np.zeros((256, 3), np.uint8)
  palette[:11] = list(COLORS.values())
  return ids, palette[ids]


def release(layout='authors', seed=0):
  """Files by name, and the label maps by split and frame."""
  rng, files, labels = np.random.default_rng(seed), {}, {}
  roots, pictures, masks = LAYOUTS[layout]
  for split, names in NAMES.items():
    for index, name in enumerate(names):
      size = (10 + index, 32)
      labels[split, name], painted = mask(rng, size)
      files[f'{roots[split]}/{pictures}/{name}.png'] = raw_files.picture(rng, size)
      files[f'{roots[split]}/{masks}/{name}.png'] = raw_files.png(painted)
  return files, labels


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / 'prepared'


def check(name, data_dir, files, labels, folders):
  """Compares what was prepared; `folders` has the pictures of each split."""
  for split, frames in NAMES.items():
    source = data.load(name, split, data_dir)
    assert [example['name'] for example in source] == frames
    for example in source:
      stored = raw_files.decoded(files[f'{folders[split]}/{example["name"]}.png'])
      np.testing.assert_array_equal(example['image'], stored)
      np.testing.assert_array_equal(example['label'], labels[split, example['name']])


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('inside', [False, True])
def test_layouts(tmp_path, data_dir, layout, inside, caplog):
  files, labels = release(layout)
  # What else lies there: ids in another order, and notes.
  files['KITTI_SEMANTIC/Training_00/GT_ind/000000.png'] = raw_files.png(np.zeros((1, 1), np.uint8))
  files['KITTI_SEMANTIC/Training_00/RGB/Thumbs.db'] = b'junk'
  files[f'{LAYOUTS[layout][0]["test"]}/{LAYOUTS[layout][1]}/._000024.png'] = b'what macOS leaves'
  raw_files.unpack(tmp_path / 'raw', files)
  roots, pictures, _ = LAYOUTS[layout]
  raw = tmp_path / 'raw' / (roots['train'].split('/')[0] if inside else '')
  with caplog.at_level(logging.WARNING):
    data.prepare('kitti', data_dir, raw)
  assert '3 train images' in caplog.text and 'has 100' in caplog.text
  folders = {split: f'{root}/{pictures}' for split, root in roots.items()}
  check('kitti', data_dir, files, labels, folders)


def test_an_archive(tmp_path, data_dir):
  files, labels = release()
  raw_files.pack(tmp_path / 'raw' / 'KITTI_SEMANTIC.zip', files)
  data.prepare('kitti', data_dir, tmp_path / 'raw')
  folders = {split: f'{root}/RGB' for split, root in LAYOUTS['authors'][0].items()}
  check('kitti', data_dir, files, labels, folders)


def lists(tmp_path, train, test):
  """The layout with one folder of pictures and lists of file names."""
  files, labels = release()
  flat = {}
  for split, root in LAYOUTS['authors'][0].items():
    for name in NAMES[split]:
      for kind in ('RGB', 'GT'):
        flat[f'KITTI_SEMANTIC/{kind}/{split}_{name}.png'] = files[f'{root}/{kind}/{name}.png']
  flat |= {'KITTI_SEMANTIC/train.txt': train, 'KITTI_SEMANTIC/test.txt': test}
  raw_files.unpack(tmp_path / 'raw', flat)
  return labels


def test_lists(tmp_path, data_dir):
  train = b'train_000000.png\n\n./RGB/train_000040.png ./GT/train_000040.png\r\n'
  labels = lists(tmp_path, train, b'test_000024')
  for split, frames in (('train', ['000000', '000040']), ('test', ['000024'])):
    source = data.load('kitti', split, data_dir, tmp_path / 'raw')
    assert [example['name'] for example in source] == [f'{split}_{frame}' for frame in frames]
    for example, frame in zip(source, frames):
      np.testing.assert_array_equal(example['label'], labels[split, frame])


def test_a_list_of_what_is_not_there(tmp_path, data_dir):
  lists(tmp_path, b'train_000000.png\ntrain_7.png', b'test_000000.png')
  message = r'train\.txt: names train_7, and KITTI_SEMANTIC/RGB has no such file'
  raw_files.expect_refusal('kitti', tmp_path / 'raw', data_dir, message)


def test_the_official_counts():
  assert kitti.SPLITS == {'train': 100, 'test': 46}
  assert kitti2015.SPLITS == {'train': 200, 'test': 200}


def refused(tmp_path, data_dir, files, *messages):
  raw_files.unpack(tmp_path / 'raw', files)
  return raw_files.expect_refusal('kitti', tmp_path / 'raw', data_dir, *messages)


def test_unknown_colors_are_named_with_their_place(tmp_path, data_dir):
  files, _ = release()
  painted = np.full((12, 32, 3), (128, 64, 128), np.uint8)
  painted[7, 30] = 128, 65, 128
  name = 'KITTI_SEMANTIC/Training_00/GT/000040.png'
  files[name] = raw_files.png(painted)
  message = r'GT/000040\.png: the color \(128, 65, 128\) at row 7, column 30 .* kitti'
  refused(tmp_path, data_dir, files, message)


def test_ids_instead_of_colors(tmp_path, data_dir):
  files, _ = release()
  files['KITTI_SEMANTIC/Training_00/GT/000040.png'] = raw_files.png(np.zeros((12, 32), np.uint8))
  message = r'GT/000040\.png: is an image of mode .* labels here are color masks'
  refused(tmp_path, data_dir, files, message)


def test_palettes_and_alpha(tmp_path, data_dir):
  """Colors may be those of a palette, and an alpha channel may be there if it hides nothing."""
  files, labels = release()
  ids = labels['train', '000000']
  painted = raw_files.decoded(files['KITTI_SEMANTIC/Training_00/GT/000000.png'])
  opaque = np.dstack([painted, np.full(ids.shape, 255, np.uint8)])
  name = 'KITTI_SEMANTIC/Training_00/GT/000000.png'
  colors = [*COLORS.values(), (0, 0, 0)]
  palette = raw_files.palette_png(np.minimum(ids, 11), colors)
  for index, content in enumerate((raw_files.png(opaque), palette)):
    raw_files.unpack(tmp_path / f'{index}', files | {name: content})
    source = data.load('kitti', 'train', data_dir / f'{index}', tmp_path / f'{index}')
    np.testing.assert_array_equal(source[0]['label'], ids)
  opaque[0, 0, 3] = 0
  refused(tmp_path, data_dir / 'no', files | {name: raw_files.png(opaque)}, 'transparent')


def test_incomplete(tmp_path, data_dir):
  files, _ = release()
  del files['KITTI_SEMANTIC/Validation_07/GT/000024.png']
  refused(tmp_path, data_dir, files, r'no label for 1 of 2 files: .*Validation_07/RGB/000024\.png')


def test_half_a_layout(tmp_path, data_dir):
  files, _ = release('zagreb')
  files = {name: file for name, file in files.items() if 'test/labels' not in name}
  refused(tmp_path, data_dir, files, r'folders no kitti_semseg_unizg/test/labels; get it from')


def test_one_split_is_not_taken_for_both(tmp_path, data_dir):
  raw_files.unpack(tmp_path / 'raw', release()[0])
  root = tmp_path / 'raw' / 'KITTI_SEMANTIC' / 'Training_00'
  raw_files.expect_refusal('kitti', root, data_dir, 'Training_00')


# The benchmark of 2015.

TRAIN_ID = {  # Written down a second time: from the id of a label to its train id.
  7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
  26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
PICTURES = {'train': 'training/image_2', 'test': 'testing/image_2'}


def benchmark():
  rng, files, labels = np.random.default_rng(5), {}, {}
  for split, names in NAMES.items():
    for index, name in enumerate(names):
      size = (9, 30 + index)
      files[f'{PICTURES[split]}/{name}.png'] = raw_files.picture(rng, size)
      labels[split, name] = np.full(size, 255, np.uint8)
      if split == 'train':
        ids = rng.integers(0, 34, size, np.uint8)
        labels[split, name] = np.vectorize(lambda i: TRAIN_ID.get(i, 255))(ids).astype(np.uint8)
        files[f'training/semantic/{name}.png'] = raw_files.png(ids)
        files[f'training/semantic_rgb/{name}.png'] = raw_files.png(np.zeros((*size, 3), np.uint8))
        files[f'training/instance/{name}.png'] = raw_files.png(256 * ids.astype(np.uint16))
  return files, labels


@pytest.mark.parametrize('packed', [True, False])
def test_the_benchmark_of_2015(tmp_path, data_dir, packed, caplog):
  files, labels = benchmark()
  if packed:
    raw_files.pack(tmp_path / 'raw' / 'data_semantics.zip', files)
  else:
    raw_files.unpack(tmp_path / 'raw', files)
  with caplog.at_level(logging.WARNING):
    data.prepare('kitti2015', data_dir, tmp_path / 'raw')
  assert 'the test images have no labels' in caplog.text
  check('kitti2015', data_dir, files, labels, PICTURES)
  assert data.classes('kitti2015').num_classes == 19
  assert len(data.load('kitti2015', 'train[:2]', data_dir)) == 2


def test_the_benchmark_of_2015_damaged(tmp_path, data_dir):
  files, _ = benchmark()
  root = tmp_path / 'raw'
  files['training/semantic/000020.png'] = raw_files.png(np.full((9, 31), 34, np.uint8))
  raw_files.pack(root / 'data_semantics.zip', files)
  message = r'data_semantics\.zip: training/semantic/000020\.png: invalid label values 34'
  raw_files.expect_refusal('kitti2015', root, data_dir, message)
  del files['training/semantic/000020.png']
  raw_files.pack(root / 'data_semantics.zip', files)
  raw_files.expect_refusal('kitti2015', root, data_dir, r'no label for 1 of 3 files: .*000020\.png')
  (root / 'data_semantics.zip').unlink()
  messages = 'neither prepared', r'call `data\.prepare` for kitti2015'
  raw_files.expect_refusal('kitti2015', root, data_dir, *messages)


@pytest.mark.parametrize('name', ['kitti', 'kitti2015'])
def test_prepare(tmp_path, data_dir, name, capsys):
  raw_files.unpack(tmp_path, release()[0] if name == 'kitti' else benchmark()[0])
  values = flags.FlagValues()
  prepare.define_flags(values)
  values(['prepare', f'--dataset={name}', f'--manual_dir={tmp_path}', f'--data_dir={data_dir}'])
  prepare.main(values)
  out = capsys.readouterr().out.splitlines()
  assert out[0].split() == ['train', 'test'] and out[1].split() == ['pictures', '3', '2']
  assert out[-1].startswith(f'{name} is ready in {data_dir}')

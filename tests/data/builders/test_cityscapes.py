"""cityscapes.py: from the official archives, pixel for pixel; wrong files are named; iIoU."""

import itertools
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax import data, inference, models
from dilated_jax.data.builders import cityscapes
from dilated_jax.data.label_specs import CITYSCAPES, CITYSCAPES_LABELS
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from experiments import evaluate, prepare
from tests import cityscapes_tool, raw_files
from tests.calling import run

FRAMES = {  # Any city may be in any split.
  'train': ('aachen/aachen_000000_000019', 'zurich/zurich_000001_000019'),
  'val': ('st-veit_2/st-veit_2_000000_000294', 'lindau/lindau_000000_000019'),
  'test': ('berlin/berlin_000000_000019',),
}
TRAIN_ID = {  # Written down a second time: from the id of a label to its train id.
  7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
  26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
ARCHIVES = ('leftImg8bit', 'gtFine')


def train_ids(ids):
  return np.vectorize(lambda value: TRAIN_ID.get(value, 255))(ids).astype(np.uint8)


def official(seed=0, sizes=((20, 31), (16, 40))):
  """Files of both archives by name: all that the publisher packs, and dummies for test."""
  rng, files = np.random.default_rng(seed), {'README': b'Cityscapes', 'license.txt': b'...'}
  files['leftImg8bit/val/lindau/._lindau_000000_000019_leftImg8bit.png'] = b'what macOS leaves'
  sizes = itertools.cycle(sizes)
  for split, frames in FRAMES.items():
    for frame in frames:
      size = next(sizes)
      labels, _, instances = cityscapes_tool.street(rng, range(34), size)
      if split == 'test':
        labels, instances = np.full(size, 3, np.uint8), np.full(size, 3)
      files[f'leftImg8bit/{split}/{frame}_leftImg8bit.png'] = raw_files.picture(rng, size)
      start = f'gtFine/{split}/{frame}_gtFine_'
      files[f'{start}labelIds.png'] = raw_files.png(labels)
      files[f'{start}instanceIds.png'] = raw_files.png(instances.astype(np.uint16))
      files[f'{start}color.png'] = raw_files.png(np.zeros((*size, 4), np.uint8))
      files[f'{start}polygons.json'] = b'{}'
  return files


def write(root, files, packed):
  if not packed:
    return raw_files.unpack(root, files)
  for kind in ARCHIVES:
    part = {name: files[name] for name in files if '/' not in name or name.startswith(kind)}
    raw_files.pack(root / f'{kind}_trainvaltest.zip', part)


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / 'prepared'


@pytest.mark.parametrize('packed', [True, False])
def test_pixels_come_back_exactly(tmp_path, data_dir, packed, caplog):
  files = official()
  write(tmp_path / 'raw', files, packed)
  before = sorted((tmp_path / 'raw').rglob('*'))
  with caplog.at_level(logging.WARNING):
    data.prepare('cityscapes', data_dir, tmp_path / 'raw')
  assert '2 train images' in caplog.text and '2975' in caplog.text
  assert 'the test images have no labels' in caplog.text
  assert sorted((tmp_path / 'raw').rglob('*')) == before
  for split, frames in FRAMES.items():
    source = data.load('cityscapes', split, data_dir, instances=True)
    frames = {frame.split('/')[1]: frame for frame in frames}
    assert [example['name'] for example in source] == sorted(frames)
    for example in source:
      frame = frames[example['name']]
      stored = {
        kind: raw_files.decoded(files[f'{folder}/{split}/{frame}_{kind}.png'])
        for folder, kind in (
          ('leftImg8bit', 'leftImg8bit'),
          ('gtFine', 'gtFine_labelIds'),
          ('gtFine', 'gtFine_instanceIds'),
        )
      }
      np.testing.assert_array_equal(example['image'], stored['leftImg8bit'])
      np.testing.assert_array_equal(example['label'], train_ids(stored['gtFine_labelIds']))
      np.testing.assert_array_equal(example['instances'], stored['gtFine_instanceIds'])
  example = data.load('cityscapes', 'val', data_dir)[0]
  assert set(example) == {'image', 'label', 'name'}


def test_splits_that_are_links(tmp_path, data_dir):
  files = official()
  raw_files.unpack(tmp_path / 'raw', files)
  for folder in ('leftImg8bit', 'gtFine'):
    (tmp_path / 'linked' / folder).mkdir(parents=True)
    for split in FRAMES:
      if (tmp_path / 'raw' / folder / split).exists():
        (tmp_path / 'linked' / folder / split).symlink_to(tmp_path / 'raw' / folder / split)
  data.prepare('cityscapes', data_dir, tmp_path / 'linked')
  for split, frames in FRAMES.items():
    assert len(data.load('cityscapes', split, data_dir)) == len(frames)


def test_pictures_keep_their_bytes(tmp_path, data_dir):
  files = official()
  write(tmp_path / 'raw', files, True)
  data.prepare('cityscapes', data_dir, tmp_path / 'raw')
  source = data.load('cityscapes', 'val', data_dir)
  contents = {source._records[index]['image'] for index in range(len(source))}
  assert contents == {files[f'leftImg8bit/val/{frame}_leftImg8bit.png'] for frame in FRAMES['val']}


def test_the_official_counts():
  assert cityscapes.SPLITS == {'train': 2975, 'val': 500, 'test': 1525}


def test_train_ids_where_only_they_are_there(tmp_path, data_dir):
  files, expected = {}, {}
  for name, content in official().items():
    if name.endswith('_labelIds.png'):
      expected[name] = train_ids(raw_files.decoded(content))
      files[name.replace('labelIds', 'labelTrainIds')] = raw_files.png(expected[name])
    elif not name.endswith('_instanceIds.png'):
      files[name] = content
  write(tmp_path / 'raw', files, True)
  source = data.load('cityscapes', 'train', data_dir, tmp_path / 'raw', instances=True)
  for example, frame in zip(source, FRAMES['train'], strict=True):
    label = expected[f'gtFine/train/{frame}_gtFine_labelIds.png']
    np.testing.assert_array_equal(example['label'], label)
    assert 'instances' not in example


def test_a_test_split_without_any_labels(tmp_path, data_dir):
  files = {name: file for name, file in official().items() if 'gtFine/test' not in name}
  write(tmp_path / 'raw', files, False)
  (example,) = data.load('cityscapes', 'test', data_dir, tmp_path / 'raw', instances=True)
  assert (example['label'] == 255).all() and 'instances' not in example
  assert example['label'].shape == example['image'].shape[:2]


# What is wrong is named, and nothing is written.


def refused(tmp_path, data_dir, files, *messages):
  write(tmp_path / 'raw', files, True)
  return raw_files.expect_refusal('cityscapes', tmp_path / 'raw', data_dir, *messages)


@pytest.mark.parametrize('kind', ARCHIVES)
def test_a_missing_or_cut_archive(tmp_path, data_dir, kind):
  root = tmp_path / 'raw'
  write(root, official(), True)
  path = root / f'{kind}_trainvaltest.zip'
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])
  raw_files.expect_refusal('cityscapes', root, data_dir, rf'{path.name}: the archive is damaged')
  path.unlink()
  raw_files.expect_refusal('cityscapes', root, data_dir, rf'no {path.name} here', 'cityscapes-data')


@pytest.mark.parametrize('split', FRAMES)
def test_a_split_without_pictures(tmp_path, data_dir, split):
  files = {name: file for name, file in official().items() if f'/{split}/' not in name}
  refused(tmp_path, data_dir, files, f'no {split} images here')


def test_files_without_partners(tmp_path, data_dir):
  files = official()
  del files['gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png']
  refused(tmp_path, data_dir, files, r'no label for 1 of 2 files: .*lindau_000000_000019_leftImg')
  files = official()
  del files['leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png']
  refused(tmp_path, data_dir, files, r'no image for 1 of 2 files: .*lindau.*labelIds\.png')


def test_two_files_of_one_name(tmp_path, data_dir):
  files = official()
  name = 'leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png'
  files[name.replace('/lindau/', '/copy/')] = files[name]
  refused(tmp_path, data_dir, files, 'belong to the same image')


def test_many_wrong_files_are_counted_and_the_first_ones_named(tmp_path, data_dir):
  files = official()
  bad = raw_files.png(np.full((20, 31), 34, np.uint8))
  names = [name for name in files if name.endswith('labelIds.png') and '/test/' not in name]
  files |= dict.fromkeys(names, bad)
  text = refused(tmp_path, data_dir, files, '4 of 5 examples have wrong files', 'and 1 more')
  assert text.count('invalid label values 34') == 3
  assert 'gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png' in text


@pytest.mark.parametrize('kind', ['leftImg8bit', 'gtFine_labelIds', 'gtFine_instanceIds'])
@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty', 'text'])
def test_a_damaged_file(tmp_path, data_dir, kind, damage):
  files = official()
  name = next(name for name in files if name.endswith(f'/lindau_000000_000019_{kind}.png'))
  content = bytearray(files[name])
  content[len(content) // 2] ^= damage == 'flipped'
  cut = {'cut': content[: len(content) // 2], 'flipped': content, 'empty': b'', 'text': b'<html>'}
  files[name] = bytes(cut[damage])
  refused(tmp_path, data_dir, files, rf'lindau_000000_000019_{kind}\.png: is not a complete image')


def test_a_label_of_another_size_and_colors(tmp_path, data_dir):
  files = official()
  name = 'gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png'
  files[name] = raw_files.png(np.zeros((31, 20), np.uint8))
  del files[name.replace('labelIds', 'instanceIds')]
  refused(tmp_path, data_dir, files, r'labelIds\.png: label of 20x31 for an image of \d+x\d+')
  files[name] = raw_files.png(np.zeros((20, 31, 3), np.uint8))
  refused(tmp_path, data_dir, files, r'labelIds\.png: a label image .* one channel')


def test_instances_of_other_labels(tmp_path, data_dir):
  files = official()
  name = 'gtFine/val/lindau/lindau_000000_000019_gtFine_'
  labels = np.full_like(raw_files.decoded(files[f'{name}labelIds.png']), 26)
  instances = np.full(labels.shape, 26001, np.uint16)
  instances[2, 5] = 24001
  files[f'{name}labelIds.png'] = raw_files.png(labels)
  files[f'{name}instanceIds.png'] = raw_files.png(instances)
  refused(tmp_path, data_dir, files, r'24001 at row 2, column 5, where the label is car \(26\)')
  files[f'{name}instanceIds.png'] = raw_files.png(instances[1:])
  refused(tmp_path, data_dir, files, r'instanceIds\.png: instances of shape')


# As a user.


def test_prepare_and_evaluate(tmp_path, data_dir, monkeypatch, capsys):
  """The iIoU of a network on a split is that of the official tool for its label maps."""
  files = official(sizes=((20, 32),))
  write(tmp_path / 'raw', files, True)
  raw = f'--manual_dir={tmp_path / "raw"}'
  run(prepare, '--dataset=cityscapes', raw, f'--data_dir={data_dir}')
  out = capsys.readouterr().out
  assert out.splitlines()[0].split() == ['train', 'val', 'test'] and '100.00%' in out

  options = {'width': 1 / 16, 'blocks': [1, 1, 1, 1, 1], 'fc_kernel': 3}
  spec = ModelSpec(
    model='front_end',
    options=options,
    classes=CITYSCAPES.names,
    palette=CITYSCAPES.palette,
    mean=CITYSCAPES.mean,
    upsampling='corner',
    dataset='cityscapes',
  )
  model = models.create('front_end', 19, **options)
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 200, 200, 3)))
  weights_folder.save_weights(tmp_path / 'weights', spec, variables)
  weights = [f'--weights={tmp_path}/weights', f'--data_dir={data_dir}', '--split=val']
  run(evaluate, *weights, '--protocol=cityscapes', f'--output={tmp_path}/scores.json')
  scores = json.loads((tmp_path / 'scores.json').read_text())

  official_ids = np.array([label.id for label in CITYSCAPES_LABELS if label.evaluated], np.uint8)
  triples = []
  for example in data.load('cityscapes', 'val', data_dir):
    frame = next(frame for frame in FRAMES['val'] if frame.endswith(example['name']))
    said = inference.predict(Segmenter(model, variables, spec), example['image']).labels
    labels, instances = (
      raw_files.decoded(files[f'gtFine/val/{frame}_gtFine_{kind}.png'])
      for kind in ('labelIds', 'instanceIds')
    )
    triples.append((labels, official_ids[said], instances))
  theirs = cityscapes_tool.scores(*cityscapes_tool.write(tmp_path / 'tool', triples), monkeypatch)
  # The prepared labels no longer tell one ignored label from another.
  for label in CITYSCAPES_LABELS:
    if not label.evaluated and label.id >= 0:
      scores['confusion'][label.id] = theirs['confMatrix'][label.id]
  cityscapes_tool.check(scores, theirs)
  assert scores['mean_iiou'] is not None and 'notes' not in scores

  capsys.readouterr()
  run(evaluate, *weights[:2], '--split=test', '--protocol=cityscapes')
  assert 'None' not in capsys.readouterr().out
  run(evaluate, *weights, '--boundaries')

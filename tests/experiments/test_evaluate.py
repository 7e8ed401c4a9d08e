"""evaluate: label pictures against label pictures, a network on a split, and every wrong flag."""

import functools
import json
import os
import shutil

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from dilated_jax import data, files, models
from dilated_jax.data.label_specs import CAMVID, CAMVID_DILATION8, CITYSCAPES, VOC
from dilated_jax.errors import InputError
from dilated_jax.evaluation import boundaries, metrics, protocols
from dilated_jax.images import files as image_files, visualization
from dilated_jax.models import weights_folder
from dilated_jax.models.spec import ModelSpec
from experiments import evaluate
from tests import calling, cityscapes_tool
from tests.html_pages import Page

KEYS = {
  'mean_iou', 'per_class_iou', 'pixel_accuracy', 'mean_accuracy', 'frequency_weighted_iou',
  'confusion', 'dataset', 'split', 'pictures', 'protocol', 'weights', 'flags', 'made',
}  # fmt: skip


run = functools.partial(calling.run, evaluate)


@pytest.fixture
def folders(tmp_path):
  """Three predictions and labels of CamVid with 11 and 255 to ignore."""
  rng = np.random.default_rng(0)
  kept = []
  for index in range(3):
    label = rng.choice(np.r_[np.arange(12), 255].astype(np.uint8), (6 + index, 8))
    said = rng.integers(0, 11, label.shape, dtype=np.uint8)
    kept.append((label, said))
    files.write_atomic(tmp_path / f'labels/0001TP_{index}_L.png', image_files.encode_png(label))
    files.write_atomic(tmp_path / f'said/0001TP_{index}.png', image_files.encode_png(said))
  return tmp_path, kept


def test_pictures_against_pictures(folders, capsys):
  folder, kept = folders
  arguments = [f'--predictions={folder}/said', f'--labels={folder}/labels', '--dataset=camvid']
  run(*arguments, f'--output={folder}/new/scores.json')
  report = json.loads((folder / 'new/scores.json').read_text())
  assert set(report) == KEYS | {'read_as'}
  expected = np.zeros((11, 11), int)
  for label, said in kept:
    for truth, one in zip(label.ravel(), said.ravel()):
      if truth < 11:
        expected[truth, one] += 1
  scores = metrics.scores(expected, CAMVID.names)
  assert {key: report[key] for key in scores} == scores
  assert (report['dataset'], report['split'], report['pictures']) == ('camvid', None, 3)
  assert report['flags']['predictions'] == f'{folder}/said' and report['weights'] is None
  out = capsys.readouterr().out
  assert report['read_as'] == out.splitlines()[:2]
  assert out.splitlines()[1] == 'predictions: class ids, as the images hold numbers'
  page = Page((folder / 'new/scores.html').read_bytes())
  page.check_harmless()
  assert f'as a page: {folder}/new/scores.html' in out
  for row, (name, iou) in zip(
    page.tables['Scores by class'][1:], scores['per_class_iou'].items(), strict=False
  ):
    assert row[0] == name and row[2] == f'{100 * iou:.1f}'
  shown = {a['alt'] for name, a in page.tags if name == 'img'}
  assert {f'difference of 0001TP_{index}.png' for index in range(3)} < shown
  assert not any(alt.startswith('image') for alt in shown)  # There are none.
  assert 'bicyclist' in out and f'{100 * scores["mean_iou"]:.2f}' in out and '3 pictures' in out

  run(*arguments, '--limit=1', f'--output={folder}/scores.json')
  assert json.loads((folder / 'scores.json').read_text())['pictures'] == 1


def test_bad_pictures_are_named(folders):
  folder, kept = folders
  arguments = [f'--predictions={folder}/said', f'--labels={folder}/labels', '--dataset=camvid']
  label, said = kept[1]

  def broken(file, array, words):
    before = (folder / file).read_bytes()
    files.write_atomic(folder / file, image_files.encode_png(array))
    with pytest.raises(InputError, match=words) as raised:
      run(*arguments)
    assert file in str(raised.value) and '\n' not in str(raised.value)
    files.write_atomic(folder / file, before)

  broken('said/0001TP_1.png', np.full_like(said, 11), 'predicted as none of the classes')
  broken('said/0001TP_1.png', np.full_like(said, 99), 'invalid label values 99')
  broken('said/0001TP_1.png', said[:3], '3 x 8')
  broken('said/0001TP_1.png', visualization.colorize(said, CAMVID.palette), 'color mask and')
  broken('labels/0001TP_1_L.png', np.full_like(label, 77), '77')
  (folder / 'said/0001TP_0.png').unlink()
  with pytest.raises(InputError, match='no prediction for 1 of 3 files: 0001TP_0_L'):
    run(*arguments)


def save(folder, **arrays):
  for name, array in arrays.items():
    files.write_atomic(folder / f'{name}.png', image_files.encode_png(array))
  return folder


def scores_of(tmp_path, *arguments):
  run(*arguments, f'--output={tmp_path}/scores.json')
  return json.loads((tmp_path / 'scores.json').read_text())


def test_cityscapes_as_the_official_tool(tmp_path, monkeypatch, capsys):
  rng = np.random.default_rng(5)
  triples = [cityscapes_tool.street(rng, range(34)) for _ in range(3)]
  predictions, truths = cityscapes_tool.write(tmp_path, triples)
  theirs = cityscapes_tool.scores(predictions, truths, monkeypatch)
  common = [f'--predictions={tmp_path}/said', f'--labels={tmp_path}/gtFine', '--dataset=cityscapes']
  ours = scores_of(tmp_path, *common, '--protocol=cityscapes', '--boundaries')
  cityscapes_tool.check(ours, theirs)
  out = capsys.readouterr().out
  assert 'labels: official ids, by their names' in out
  assert 'predictions: official ids, as ' in out
  assert 'mean category iIoU' in out and 'boundary F1' in out
  assert ours['boundary']['boundary_iou_ratio'] == 0.005

  # The same predictions as train ids: but for caravans and trailers nothing changes.
  for path, (_, said, _) in zip(predictions, triples):
    files.write_atomic(path, image_files.encode_png(CITYSCAPES.to_train_ids(said, path)))
  again = scores_of(tmp_path, *common, '--protocol=cityscapes')
  assert 'predictions: train ids, as ' in capsys.readouterr().out
  for key in ('mean_iou', 'mean_category_iou', 'mean_iiou', 'pixel_accuracy'):
    assert again[key] == pytest.approx(ours[key], rel=1e-12)

  instances = str(truths[1]).replace('labelIds', 'instanceIds')
  Image.fromarray(np.full((40, 60), 26001, np.uint16)).save(instances)
  with pytest.raises(InputError, match='the instance map has 26001 at row') as raised:
    run(*common, '--protocol=cityscapes')
  assert truths[1].name in str(raised.value)
  os.unlink(instances)
  report = scores_of(tmp_path, *common, '--protocol=cityscapes')
  assert 'iiou' not in report
  assert 'note: no iIoU: instance maps (*_instanceIds.png) for 2 of 3 images' in (
    capsys.readouterr().out
  )
  Image.fromarray(np.full((40, 60), 26001, np.uint16)).save(truths[1])
  with pytest.raises(InputError, match=r'has label values 26001.*, above 255') as raised:
    run(*common, '--protocol=cityscapes')
  assert truths[1].name in str(raised.value)


def test_values_that_need_a_flag(tmp_path):
  labels = np.array([[8, 11], [13, 7]], np.uint8)
  save(tmp_path / 'labels', a=labels)
  save(tmp_path / 'said', a=labels)
  common = [f'--predictions={tmp_path}/said', f'--labels={tmp_path}/labels', '--dataset=cityscapes']
  with pytest.raises(InputError, match="say which with `predictions_are='ids'` or"):
    run(*common)
  with pytest.raises(InputError, match="say which with `labels_are='ids'` or"):
    run(*common, '--predictions_are=ids')
  report = scores_of(tmp_path, *common, '--predictions_are=ids', '--labels_are=ids')
  assert report['per_class_iou']['road'] == 1 and report['mean_iou'] == 1
  assert report['flags']['labels_are'] == 'ids'
  report = scores_of(tmp_path, *common, '--predictions_are=train_ids', '--labels_are=train_ids')
  assert report['per_class_iou']['road'] is None and report['per_class_iou']['vegetation'] == 1


def test_predictions_in_the_order_of_published_weights(folders, capsys):
  folder, kept = folders
  common = [f'--predictions={folder}/said', f'--labels={folder}/labels', '--dataset=camvid']
  expected = scores_of(folder, *common)
  place = [CAMVID_DILATION8.names.index(name) for name in CAMVID.names]
  for index, (_, said) in enumerate(kept):
    save(folder / 'said', **{f'0001TP_{index}': np.array(place, np.uint8)[said]})
  assert scores_of(folder, *common)['mean_iou'] != expected['mean_iou']

  def equal(report):
    assert report['per_class_iou'] == expected['per_class_iou']
    assert report['confusion'] == expected['confusion']
    assert 'matched by name from' in capsys.readouterr().out

  equal(scores_of(folder, *common, '--prediction_order=camvid_dilation8'))
  content = {'classes': CAMVID_DILATION8.names, 'palette': CAMVID_DILATION8.palette}
  (folder / 'said/predictions.json').write_text(json.dumps(content | {'dataset': 'camvid'}))
  equal(scores_of(folder, *common))
  with pytest.raises(InputError, match=r'predictions\.json: says the order'):
    run(*common, '--prediction_order=camvid_dilation8')


def test_segnet_protocol(folders):
  """Predicted void is left out; labels may be colors."""
  folder, kept = folders
  for index, (label, said) in enumerate(kept):
    said[0] = 11
    save(folder / 'said', **{f'0001TP_{index}': said})
    colors = visualization.colorize(CAMVID.to_train_ids(label, 'x'), CAMVID.palette)
    save(folder / 'labels', **{f'0001TP_{index}_L': colors})
  report = scores_of(
    folder, f'--predictions={folder}/said', f'--labels={folder}/labels', '--dataset=camvid',
    '--protocol=segnet', '--boundaries',
  )  # fmt: skip
  assert report['read_as'][0] == 'labels: colors, as the images are RGB'
  valid = sum(np.sum(label < 11) for label, _ in kept)
  right = sum(np.sum((label < 11) & (label == said)) for label, said in kept)
  assert report['pixel_accuracy'] == pytest.approx(right / valid)
  counted = sum(np.sum((label < 11) & (said < 11)) for label, said in kept)
  assert np.sum(report['confusion']) == counted


def test_voc_protocol(tmp_path, capsys):
  rng = np.random.default_rng(0)
  label = rng.choice([0, 1, 2, 255], (9, 11)).astype(np.uint8)
  said = rng.integers(0, 3, label.shape, dtype=np.uint8)
  save(tmp_path / 'labels', a=label)
  save(tmp_path / 'said', a=said)
  common = [f'--predictions={tmp_path}/said', f'--labels={tmp_path}/labels', '--dataset=voc']
  report = scores_of(tmp_path, *common, '--protocol=voc', '--boundaries')
  assert report['mean_iou'] is None and 'boat' in report['notes'][0]
  assert 'note: no mean IoU: bird, boat' in capsys.readouterr().out
  protocol, lines = protocols.create('default', VOC), boundaries.BoundaryMetrics(VOC)
  for measure in (protocol, lines):
    measure.add(label, said)
  assert report['boundary'] == lines.scores()['boundary']
  assert scores_of(tmp_path, *common)['mean_iou'] == protocol.scores()['mean_iou']
  save(tmp_path / 'said', a=np.where(label == 255, 255, said))
  run(*common)
  with pytest.raises(InputError, match='predicted value 255 is above 20'):
    run(*common, '--protocol=voc')


def test_alpha_and_strange_colors_are_named(tmp_path):
  mask = np.full((4, 5, 3), VOC.palette[3], np.uint8)
  save(tmp_path / 'labels', a=mask, b=mask)
  common = [f'--predictions={tmp_path}/said', f'--labels={tmp_path}/labels', '--dataset=voc']
  save(tmp_path / 'said', a=mask, b=mask)
  assert scores_of(tmp_path, *common)['mean_iou'] == 1
  save(tmp_path / 'said', b=mask + 1)
  with pytest.raises(InputError, match=r'said/b\.png: the color \(129, 129, 1\) at row 0'):
    run(*common)
  Image.fromarray(np.dstack([mask, np.arange(20, dtype=np.uint8).reshape(4, 5)])).save(
    tmp_path / 'said/b.png'
  )
  with pytest.raises(InputError, match=r'said/b\.png: has an alpha channel'):
    run(*common)


@pytest.mark.parametrize(
  'arguments, words',
  [
    ('--dataset=camvid', 'give --weights'),
    ('--predictions=a --dataset=camvid', 'give --weights'),
    ('--predictions=a --labels=b --weights=c', 'give --weights'),
    ('--predictions=a --labels=b', '--dataset is missing'),
    ('--predictions=a --labels=b --dataset=camvid --split=test', '--split has no meaning'),
    ('--predictions=/nowhere --labels=b --dataset=camvid', '/nowhere: no such folder'),
    ('--predictions=a --labels=b --dataset=voc --protocol=cityscapes', 'Cityscapes, not voc'),
    ('--weights=a --prediction_order=voc', '--prediction_order has no meaning with --weights'),
    ('--weights=a --labels_are=ids', '--labels_are has no meaning with --weights'),
    ('--weights=/nowhere', '/nowhere'),
    ('--weights=/nowhere --output=/tmp', 'is a folder'),
  ],
)
def test_wrong_combinations(arguments, words):
  with pytest.raises((InputError, OSError), match=words):
    run(*arguments.split())


@pytest.mark.parametrize(
  'argument', ['--protocol=best', '--dataset=cityscapse', '--limit=0', '--scales=0', '--scales=a']
)
def test_wrong_flags(argument):
  with pytest.raises(flags.IllegalFlagValueError):
    run(argument)


def test_a_network_on_a_split(tmp_path, capsys):
  data.prepare('scenes', tmp_path / 'data', counts={'train': 2, 'val': 5, 'test': 2})
  table = data.classes('scenes')
  turned = np.roll(np.arange(table.num_classes), 1)  # The network's order of the same classes.
  options = {'width': 1 / 16, 'blocks': [1, 1, 1, 1, 1], 'fc_kernel': 3}
  spec = ModelSpec(
    model='front_end',
    options=options,
    classes=tuple(table.names[index] for index in turned),
    palette=tuple(table.palette[index] for index in turned),
    mean=table.mean,
    upsampling='corner',
    dataset='scenes',
  )
  model = models.create('front_end', table.num_classes, **options)
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 200, 200, 3)))
  weights_folder.save_weights(tmp_path / 'weights', spec, variables)

  common = [f'--weights={tmp_path}/weights', f'--data_dir={tmp_path}/data']
  run(*common, f'--output={tmp_path}/scores.json', '--batch_size=2', '--limit=3')
  report = json.loads((tmp_path / 'scores.json').read_text())
  assert set(report) == KEYS
  assert (report['dataset'], report['split'], report['pictures']) == ('scenes', 'val', 3)
  assert 'scenes val: 3 pictures' in capsys.readouterr().out
  source = data.load('scenes', 'val', tmp_path / 'data')
  counted = sum(int(np.sum(source[index]['label'] != 255)) for index in (0, 2, 4))
  assert np.sum(report['confusion']) == counted

  run(*common, f'--output={tmp_path}/more.json', '--limit=3', '--protocol=voc', '--boundaries')
  more = json.loads((tmp_path / 'more.json').read_text())
  assert set(more) - {'notes'} == KEYS | {'boundary'}
  assert (more['protocol'], more['confusion']) == ('voc', report['confusion'])
  assert more['boundary']['trimap']['32'] is not None
  with pytest.raises(InputError, match='Cityscapes, not scenes'):
    run(*common, '--protocol=cityscapes')

  with pytest.raises(InputError, match='only in the weights'):
    run(*common, '--dataset=camvid')
  with pytest.raises(InputError, match='dev'):
    run(*common, '--split=dev')


@pytest.fixture(params=['ids', 'masks', 'channels'])
def own(request, tmp_path):
  """A folder of one's own, its label pictures predicted without a fault, and how many classes."""
  values = {'masks': (0, 255)}.get(request.param, (0, 1, 2))
  for index in range(4):
    ids = np.arange(64).reshape(8, 8) // 8 % len(values)
    stored = {'images': np.stack([ids * 40] * 3, -1), 'own': ids, 'labels': np.take(values, ids)}
    if request.param == 'channels':
      stored['labels'] = np.stack([stored['labels']] * 3, -1)
    for folder, array in stored.items():
      (tmp_path / folder).mkdir(exist_ok=True)
      Image.fromarray(array.astype(np.uint8)).save(tmp_path / folder / f'{index}.png')
  return tmp_path, len(values)


def test_label_pictures_of_ones_own(own):
  """Classes are told by --data_dir; predictions are label pictures, or class ids."""
  folder, count = own
  (folder / 'd').mkdir()
  for kind in ('images', 'labels'):
    shutil.copytree(folder / kind, folder / 'd' / kind)
  asked = ['--dataset=folder', f'--data_dir={folder}/d', f'--labels={folder}/labels']
  for said in ('labels', 'own'):
    report = scores_of(folder, f'--predictions={folder}/{said}', *asked)
    assert report['mean_iou'] == 1 and np.sum(report['confusion']) == 4 * 64
    assert len(report['per_class_iou']) == count
  both = [f'--predictions={folder}/own', f'--labels={folder}/labels']
  with pytest.raises(InputError, match=r'--dataset is missing: .*--dataset=folder --data_dir='):
    run(*both)
  with pytest.raises(InputError, match='--dataset=folder: give --data_dir too'):
    run(*both, '--dataset=folder')
  with pytest.raises(InputError, match=r'--data_dir has no meaning .* but for --dataset=folder'):
    run(*both, '--dataset=camvid', f'--data_dir={folder}/d')


def test_classes_told_by_predictions_json(own):
  """Enough where label pictures hold class ids; where 255 may be one of them, it is refused."""
  folder, count = own
  about = {'classes': list('abc')[:count], 'palette': [[i, 0, 0] for i in range(count)]}
  (folder / 'own/predictions.json').write_text(json.dumps(about | {'dataset': 'folder'}))
  both = [f'--predictions={folder}/own', f'--labels={folder}/labels']
  if count == 2:
    with pytest.raises(InputError, match=r'no pixel is b, and 255 occurs, .*--data_dir'):
      run(*both)
    return
  assert set(scores_of(folder, *both)['per_class_iou'].values()) == {1}
  (folder / 'own/predictions.json').write_text(json.dumps(about | {'dataset': 'camvid'}))
  with pytest.raises(InputError, match='have 3 classes and camvid has 11'):
    run(*both)

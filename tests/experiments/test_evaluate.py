"""evaluate: label pictures against label pictures, a network on a split, and every wrong flag."""

import json

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax import checkpoints, datasets, files, metrics, models, pictures
from dilated_jax.datasets.classes import CAMVID
from dilated_jax.errors import InputError
from experiments import evaluate

KEYS = {
  'mean_iou', 'per_class_iou', 'pixel_accuracy', 'mean_accuracy', 'frequency_weighted_iou',
  'confusion', 'dataset', 'split', 'pictures', 'protocol', 'weights', 'flags',
}  # fmt: skip


def run(*arguments):
  values = flags.FlagValues()
  evaluate.define_flags(values)
  values(['evaluate', *map(str, arguments)])
  evaluate.main(values)


@pytest.fixture
def folders(tmp_path):
  """Three predictions and labels of CamVid with 11 and 255 to ignore."""
  rng = np.random.default_rng(0)
  kept = []
  for index in range(3):
    label = rng.choice(np.r_[np.arange(12), 255].astype(np.uint8), (6 + index, 8))
    said = rng.integers(0, 11, label.shape, dtype=np.uint8)
    kept.append((label, said))
    files.write_atomic(tmp_path / f'labels/0001TP_{index}_L.png', pictures.encode_png(label))
    files.write_atomic(tmp_path / f'said/0001TP_{index}.png', pictures.encode_png(said))
  return tmp_path, kept


def test_pictures_against_pictures(folders, capsys):
  folder, kept = folders
  arguments = [f'--predictions={folder}/said', f'--labels={folder}/labels', '--dataset=camvid']
  run(*arguments, f'--output={folder}/new/scores.json')
  report = json.loads((folder / 'new/scores.json').read_text())
  assert set(report) == KEYS
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
  assert 'bicyclist' in out and f'{100 * scores["mean_iou"]:.2f}' in out and '3 pictures' in out

  run(*arguments, '--limit=1', f'--output={folder}/scores.json')
  assert json.loads((folder / 'scores.json').read_text())['pictures'] == 1


def test_bad_pictures_are_named(folders):
  folder, kept = folders
  arguments = [f'--predictions={folder}/said', f'--labels={folder}/labels', '--dataset=camvid']
  label, said = kept[1]

  def broken(file, array, words):
    before = (folder / file).read_bytes()
    files.write_atomic(folder / file, pictures.encode_png(array))
    with pytest.raises(InputError, match=words) as raised:
      run(*arguments)
    assert file in str(raised.value)
    files.write_atomic(folder / file, before)

  broken('said/0001TP_1.png', np.full_like(said, 11), 'values 11 are outside')
  broken('said/0001TP_1.png', said[:3], '3 x 8')
  broken('said/0001TP_1.png', pictures.colourise(said, CAMVID.palette), 'colour mask')
  broken('labels/0001TP_1_L.png', np.full_like(label, 77), '77')
  (folder / 'said/0001TP_0.png').unlink()
  with pytest.raises(InputError, match='no prediction for 1 of 3 files: 0001TP_0_L'):
    run(*arguments)


@pytest.mark.parametrize(
  'arguments, words',
  [
    ('--dataset=camvid', 'give --weights'),
    ('--predictions=a --dataset=camvid', 'give --weights'),
    ('--predictions=a --labels=b --weights=c', 'give --weights'),
    ('--predictions=a --labels=b', '--dataset is missing'),
    ('--predictions=a --labels=b --dataset=camvid --split=test', '--split has no meaning'),
    ('--predictions=/nowhere --labels=b --dataset=camvid', '/nowhere: no such folder'),
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
  datasets.prepare('scenes', tmp_path / 'data', counts={'train': 2, 'val': 5, 'test': 2})
  table = datasets.classes('scenes')
  turned = np.roll(np.arange(table.num_classes), 1)  # The network's order of the same classes.
  options = {'width': 1 / 16, 'blocks': [1, 1, 1, 1, 1], 'fc_kernel': 3}
  card = checkpoints.Card(
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
  checkpoints.save_weights(tmp_path / 'weights', card, variables)

  common = [f'--weights={tmp_path}/weights', f'--data_dir={tmp_path}/data']
  run(*common, f'--output={tmp_path}/scores.json', '--batch_size=2', '--limit=3')
  report = json.loads((tmp_path / 'scores.json').read_text())
  assert set(report) == KEYS
  assert (report['dataset'], report['split'], report['pictures']) == ('scenes', 'val', 3)
  assert 'scenes val: 3 pictures' in capsys.readouterr().out
  source = datasets.load('scenes', 'val', tmp_path / 'data')
  counted = sum(int(np.sum(source[index]['label'] != 255)) for index in range(3))
  assert np.sum(report['confusion']) == counted

  with pytest.raises(InputError, match='only in the weights'):
    run(*common, '--dataset=camvid')
  with pytest.raises(InputError, match='dev'):
    run(*common, '--split=dev')

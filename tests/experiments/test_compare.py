"""compare: which commands it runs, what it makes of their results, and that it goes on."""

import json
import pathlib
import re

from absl import flags
import jax
import numpy as np
import pytest

from dilated_jax import checkpoints, datasets
from dilated_jax.errors import InputError
from experiments import compare
from experiments.commands import Done

RECIPES = pathlib.Path(__file__).resolve().parents[2] / 'experiments/presets/compare'
OPTIONS = {'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}


def values_of(*arguments):
  values = flags.FlagValues()
  compare.define_flags(values)
  values(['compare', *map(str, arguments)])
  return values


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  datasets.prepare('scenes', folder, counts={'train': 1, 'val': 1, 'test': 2})
  return folder


@pytest.fixture
def commands(monkeypatch):
  """Stands in for the commands: notes them, and leaves what they would leave."""
  ran = []

  def run(command, *options):
    ran.append((command, options))
    given = {}
    for option in options:
      name, _, value = option.removeprefix('--').partition('=')
      given[name] = value
    if command == 'train':
      save(pathlib.Path(given['workdir']), given)
    elif command == 'tune':
      folder = pathlib.Path(given['output'])
      folder.mkdir(parents=True)
      (folder / 'best.flags').write_text('--crf=dense\n--crf_iterations=1\n')
    else:
      classes = datasets.classes('scenes').names
      score = (
        0.5 + 0.1 * ('rnn' in given['weights']) + 0.01 * int(given['weights'].split('_')[-1][0])
      )
      pathlib.Path(given['output']).parent.mkdir(parents=True, exist_ok=True)
      pathlib.Path(given['output']).write_text(
        json.dumps({
          'mean_iou': score, 'per_class_iou': dict.fromkeys(classes, score),
          'pixel_accuracy': 0.9, 'dataset': 'scenes', 'split': 'test', 'pictures': 2,
          'boundary': {'boundary_f1': 0.4},
        })
      )  # fmt: skip
    return Done(1 << 30)

  monkeypatch.setattr(compare, 'run', run)
  return ran


def save(workdir, given):
  classes = datasets.classes('scenes')
  options = dict(OPTIONS, **({'crf': 'rnn'} if 'crf' in given else {}))
  if 'context' in given:
    options |= {'context': given['context'], 'dilations': [1, 1, 1]}
  card = checkpoints.Card(
    given['model'], options, classes.names, classes.palette, classes.mean, dataset='scenes'
  )
  model = card.create()
  side = 2 * model.margin + model.stride
  images = jax.ShapeDtypeStruct((1, side, side, 3), 'float32')
  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  checkpoints.save_weights(workdir / 'weights', card, zeros)
  (workdir / 'metrics.jsonl').write_text('{"steps_per_second": 2.0}\n{"val_mean_iou": 0.5}\n')


def test_all_cells_and_what_is_left(data_dir, tmp_path, commands, compile_quickly):
  (tmp_path / 'recipe').mkdir()
  for name in ('common', 'front_end', 'basic', 'rnn', 'tune'):
    (tmp_path / 'recipe' / f'{name}.flags').write_text('')
  (tmp_path / 'recipe/published.json').write_text('{"front_end basic rnn": 73.1}')
  arguments = [
    f'--recipe={tmp_path}/recipe', f'--workdir={tmp_path}/run', f'--data_dir={data_dir}',
    '--contexts=none,basic', '--seeds=0,1', '--pictures=1',
  ]  # fmt: skip
  compare.main(values_of(*arguments))
  trainings = [options for command, options in commands if command == 'train']
  assert len(trainings) == 8  # Two networks and their CRF-RNNs, two seeds; dense CRFs need none.
  assert sum(command == 'tune' for command, _ in commands) == 4
  assert sum(command == 'evaluate' for command, _ in commands) == 12
  first, *_, last = trainings
  assert '--model=front_end' in first and '--stage=front_end' in first
  assert {'--model=dilation8', '--context=basic', '--crf=rnn', '--stage=crf', '--seed=1'} <= {*last}
  assert f'--init={tmp_path}/run/front_end_basic_none_1/weights' in last
  files = [re.sub('.*/', '', option) for option in last if option.startswith('--flagfile')]
  assert files == ['common.flags', 'front_end.flags', 'basic.flags', 'rnn.flags']

  lines = (tmp_path / 'run/table.md').read_text().splitlines()
  heads = [head.strip() for head in lines[0].split('|')]
  assert heads[2:5] == ['no CRF', 'dense CRF', 'CRF-RNN']
  assert lines[2].startswith('| front_end ') and lines[3].startswith('| front_end + basic ')
  assert '60.5 ± 0.7' in lines[3] and '73.1' in lines[3] and '2 seeds' in lines[5]
  assert len(json.loads((tmp_path / 'run/results.json').read_text())) == 12
  assert (tmp_path / 'run/sheet.png').exists() and (tmp_path / 'run/bars.png').exists()

  commands.clear()
  compare.main(values_of(*arguments))
  assert commands == []


@pytest.mark.parametrize(
  'arguments, words',
  [
    (['--contexts=huge'], "--contexts: no 'huge'; choose among none, basic, large"),
    (['--crfs=yes'], "--crfs: no 'yes'"),
    (['--seeds=one'], '--seeds=one'),
    (['--models=unet'], 'has no unet.flags'),
    (['--recipe=/nowhere'], '/nowhere: has no common.flags'),
  ],
)
def test_wrong_flags(tmp_path, arguments, words):
  given = [f'--recipe={RECIPES}/scenes', f'--workdir={tmp_path}/run', *arguments]
  with pytest.raises(InputError, match=words):
    compare.main(values_of(*given))
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('recipe', sorted(path.name for path in RECIPES.iterdir()))
def test_recipes_are_flags_of_train_and_tune(recipe):
  from experiments import train, tune

  for path in sorted((RECIPES / recipe).glob('*.flags')):
    values = flags.FlagValues()
    (tune if path.name == 'tune.flags' else train).define_flags(values)
    values.mark_as_parsed()
    values(['command', f'--flagfile={path}', '--workdir=w', '--weights=w', '--output=o'][:2] + (
      ['--weights=w', '--output=o'] if path.name == 'tune.flags' else ['--workdir=w']
    ))  # fmt: skip

"""compare: which commands it runs, what it makes of their results, and that it goes on."""

import itertools
import json
import pathlib
import re

import jax
import numpy as np
import pytest

from dilated_jax import data, models
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.models.spec import ModelSpec
from dilated_jax.training import loop
from experiments import compare, comparison_tables, networks, train, tune
from experiments.commands import Done
from tests import calling
from tests.html_pages import Page

RECIPES = sorted((pathlib.Path(compare.__file__).parent / 'presets/compare').iterdir())
PUBLISHED = [path for recipe in RECIPES for path in recipe.glob('published_*.json')]
OPTIONS = {'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  data.prepare('scenes', folder, counts={'train': 1, 'val': 1, 'test': 2})
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
      folder.mkdir(parents=True, exist_ok=True)
      (folder / 'best.flags').write_text('--crf=dense\n--crf_iterations=1\n')
    else:
      classes = data.classes('scenes').names
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
  classes = data.classes('scenes')
  options = dict(OPTIONS, **({'crf': 'rnn', 'crf_rnn_iterations': 1} if 'crf' in given else {}))
  if 'context' in given:
    options |= {'context': given['context'], 'dilations': [1, 1, 1]}
  spec = ModelSpec(
    given['model'], options, classes.names, classes.palette, classes.mean, dataset='scenes'
  )
  model = spec.create()
  shapes = weights_folder.abstract_variables(model)
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  weights_folder.save_weights(workdir / 'weights', spec, zeros)
  (workdir / 'metrics.jsonl').write_text('{"steps_per_second": 2.0}\n{"val_mean_iou": 0.5}\n')


def test_all_cells_and_what_is_left(data_dir, tmp_path, commands):
  (tmp_path / 'recipe').mkdir()
  for name in ('common', 'front_end', 'basic', 'rnn', 'tune'):
    (tmp_path / 'recipe' / f'{name}.flags').write_text('')
  (tmp_path / 'recipe/front_end_basic.flags').write_text('')
  published = {'columns': ['mean', 'sea'], 'rows': {'front_end basic rnn': [73.1, None]}}
  (tmp_path / 'recipe/published_test.json').write_text(json.dumps(published))
  arguments = [
    f'--recipe={tmp_path}/recipe', f'--workdir={tmp_path}/run', f'--data_dir={data_dir}',
    '--contexts=none,basic', '--seeds=0,1', '--num_images=1',
  ]  # fmt: skip
  calling.run(compare, *arguments)
  trainings = [options for command, options in commands if command == 'train']
  assert len(trainings) == 8  # Two networks and their CRF-RNNs, two seeds; dense CRFs need none.
  assert sum(command == 'tune' for command, _ in commands) == 4
  assert sum(command == 'evaluate' for command, _ in commands) == 12
  first, *_, last = trainings
  assert '--model=front_end' in first and '--stage=front_end' in first
  assert {'--model=dilation8', '--context=basic', '--crf=rnn', '--stage=crf', '--seed=1'} <= {*last}
  assert f'--init={tmp_path}/run/front_end_basic_none_1/weights' in last
  files = [re.sub('.*/', '', option) for option in last if option.startswith('--flagfile')]
  assert files == [
    f'{name}.flags' for name in ('common', 'front_end', 'basic', 'front_end_basic', 'rnn')
  ]

  lines = (tmp_path / 'run/table.md').read_text().splitlines()
  heads = [head.strip() for head in lines[0].split('|')]
  assert heads[2:5] == ['no CRF', 'dense CRF', 'CRF-RNN']
  assert lines[2].startswith('| front_end ') and lines[3].startswith('| front_end + basic ')
  assert '60.5 ± 0.7' in lines[3] and '73.1' in lines[3] and '2 seeds' in lines[5]
  lines = (tmp_path / 'run/classes.md').read_text().splitlines()
  assert 'sea' in lines[0] and lines[0].rstrip(' |').endswith('mean')
  assert [line.split('|')[1].strip() for line in lines[2:9]] == [
    'front_end', 'front_end + dense', 'front_end + rnn', 'front_end + basic',
    'front_end + basic + dense', 'front_end + basic + rnn', 'front_end + basic + rnn, published',
  ]  # fmt: skip
  assert '60.5 ± 0.7' in lines[7] and lines[8].rstrip(' |').endswith('73.1')
  assert len(json.loads((tmp_path / 'run/results.json').read_text())) == 12
  assert (tmp_path / 'run/grid.png').exists() and (tmp_path / 'run/bars.png').exists()
  page = Page((tmp_path / 'run/report.html').read_bytes())
  page.check_harmless()
  rows = page.tables['Mean IoU of the systems']
  assert rows[0][1:4] == ['no CRF', 'dense CRF', 'CRF-RNN'] and rows[2][3] == '60.5 ± 0.7'
  assert len(page.tables['IoU by class, %']) == 7 and len(page.tables['Pages of each system']) == 13
  assert sum(name == 'img' for name, _ in page.tags) == 1

  commands.clear()
  calling.run(compare, *arguments)
  assert commands == []


def test_an_edited_recipe_is_run_again(data_dir, tmp_path, commands, caplog):
  """Each step as far as it is told something else, or starts from what is; the log says it."""
  recipe = tmp_path / 'recipe'
  recipe.mkdir()
  for name in ('common', 'front_end', 'basic', 'tune', 'evaluate'):
    (recipe / f'{name}.flags').write_text('')
  arguments = [
    f'--recipe={recipe}', f'--workdir={tmp_path}/run', f'--data_dir={data_dir}',
    '--contexts=none,basic', '--crfs=none,dense', '--num_images=1',
  ]  # fmt: skip
  calling.run(compare, *arguments)
  names = ['train', 'evaluate', 'tune', 'evaluate'] * 2
  assert [command for command, _ in commands] == names

  def run_after(file, text):
    commands.clear()
    caplog.clear()
    (recipe / file).write_text(text)
    calling.run(compare, *arguments)
    return [command for command, _ in commands]

  # What says nothing else: comments, order, how it is done.
  assert run_after('common.flags', '# A comment.\n--threads=2\n') == []
  assert run_after('evaluate.flags', '--protocol=voc\n') == ['evaluate'] * 4
  assert 'test.json: the recipe has changed (--protocol is voc and was not given)' in caplog.text
  assert run_after('tune.flags', '--split=val[:10]\n') == ['tune', 'evaluate'] * 2
  assert run_after('basic.flags', '--num_steps=7\n') == names[:4]
  told = 'front_end_basic_none_0: the recipe has changed (--num_steps is 7 and was not given)'
  assert f'{told}, so that it is run again; what was there is in' in caplog.text
  assert 'front_end_basic_dense_0: what it starts from is another' in caplog.text
  assert (tmp_path / 'run/front_end_basic_none_0.before1/weights/model.json').exists()
  assert run_after('common.flags', '--learning_rate=1e-4\n') == names
  assert run_after('common.flags', '--learning_rate=1e-4\n') == []
  # Other weights under the same path, of --init and of a step before.
  (tmp_path / 'vgg').write_bytes(b'some')
  init = f'--init={tmp_path}/vgg\n'
  assert run_after('front_end.flags', init) == names and run_after('front_end.flags', init) == []
  (tmp_path / 'vgg').write_bytes(b'other')
  assert run_after('front_end.flags', init) == names
  assert 'front_end_none_none_0: the weights that it starts from are others' in caplog.text
  edited = models.load_weights(tmp_path / 'run/front_end_none_none_0/weights')
  others = jax.tree.map(np.ones_like, edited.variables)
  weights_folder.save_weights(tmp_path / 'run/front_end_none_none_0/weights', edited.spec, others)
  assert run_after('front_end.flags', init) == ['evaluate', 'tune', 'evaluate', *names[:4]]
  assert run_after('front_end.flags', init) == []
  assert run_after('front_end.flags', '') == names
  # What nothing tells the recipe of is not trusted.
  (tmp_path / 'run/front_end_basic_none_0/recipe.json').write_text('{')
  (tmp_path / 'run/front_end_basic_none_0/test.json').unlink()
  assert run_after('common.flags', '--learning_rate=1e-4\n') == names[:4]
  (tmp_path / 'run/front_end_basic_none_0/test.json').write_text('{')
  assert run_after('common.flags', '--learning_rate=1e-4\n') == ['evaluate']


@pytest.mark.parametrize(
  'arguments, words',
  [
    (['--contexts=huge'], '--contexts=huge: no such choice; choose among none, basic, large'),
    (['--crfs=yes'], '--crfs=yes: no such choice'),
    (['--seeds=one'], '--seeds=one'),
    (['--models=unet'], 'has no unet.flags; it has .*common, '),
    (['--recipe=/nowhere'], '--recipe=/nowhere: no such file or folder; .*presets lists'),
    (['--recipe=experiments/compare/camvid'], 'project is preset:compare/camvid, from any folder'),
    ([f'--recipe={RECIPES[0]}/common.flags'], 'common.flags: is a file; name the folder'),
    (['--recipe=/tmp'], '/tmp: has no common.flags; it is no recipe'),
  ],
)
def test_wrong_flags(tmp_path, arguments, words):
  given = [f'--recipe={RECIPES[0]}', f'--workdir={tmp_path}/run', *arguments]
  with pytest.raises(InputError, match=words):
    calling.run(compare, *given)
  assert not (tmp_path / 'run').exists()


def test_places_in_a_recipe(tmp_path):
  for name in ('common', 'front_end', 'basic', 'large', 'rnn', 'tune'):
    (tmp_path / f'{name}.flags').write_text('--data_dir=own\n' if name == 'basic' else '')
  with pytest.raises(InputError, match=r'basic\.flags: has --data_dir, .*: give it to compare'):
    calling.run(compare, f'--recipe={tmp_path}', f'--workdir={tmp_path}/run')


def test_damaged_figures(tmp_path):
  for text in ('{', '[]', '{"columns": ["mean"], "rows": {"front_end none none": [1, 2]}}'):
    (tmp_path / 'published_val.json').write_text(text)
    with pytest.raises(InputError, match=r'published_val.json: is no table of columns and rows'):
      comparison_tables.figures(tmp_path / 'published_val.json')
  assert comparison_tables.figures(tmp_path / 'published_test.json') == {}


@pytest.mark.parametrize('recipe', RECIPES, ids=lambda path: path.name)
def test_recipes_say_what_can_be_run(recipe, tmp_path, monkeypatch):
  """Every cell of every recipe: the flags of `train` and `tune` parse and make a network."""
  calling.parsed(tune, f'--flagfile={recipe}/tune.flags', '--weights=w', '--output=o')
  ran = []
  monkeypatch.setattr(compare, 'run', lambda command, *options: ran.append(options) or Done(1))
  names = {path.stem for path in recipe.glob('*.flags')}
  for model, context, crf in itertools.product(models.NAMES, compare.CONTEXTS, compare.CRFS):
    if {model, context, crf} - {'none', 'dense'} <= names and crf != 'dense':
      folder = tmp_path / f'{model}_{context}_{crf}_0'
      with pytest.raises(InputError, match='was interrupted'):  # As nothing was really run.
        compare.trained(recipe, tmp_path, model, context, crf, 0, [])
      given = calling.parsed(train, *ran[-1])
      configs = train.stage_configs(given)
      stages = [config.stage for config in configs]
      last = {
        'rnn': {'crf', 'joint'},
        'none': {'front_end'} if context == 'none' else {'context', 'joint'},
      }
      assert stages[-1] in last[crf]
      network = models.create(given.model, 11, **networks.options(given))
      assert network.table
      colors = ((0, 0, 0),) * 11
      options = networks.options(given)
      spec = ModelSpec(given.model, options, ('',) * 11, colors, (0.0, 0.0, 0.0))
      loop.check_options(configs, spec)
      (folder / 'weights').mkdir()
      (folder / 'weights/model.json').touch()
  assert len(ran) >= 4


@pytest.mark.parametrize('path', PUBLISHED, ids=lambda path: path.parent.name)
def test_published_figures_are_of_classes_that_there_are(path):
  table = json.loads(path.read_text())
  names = {name for name in data.NAMES if path.parent.name.startswith(name)}
  classes = {*data.classes(max(names, key=len)).names, 'mean'}
  assert {*table['columns']} <= classes
  for name, row in comparison_tables.figures(path).items():
    model, context, crf = name.split()
    assert model in models.NAMES and context in compare.CONTEXTS and crf in compare.CRFS
    # The mean of the classes, where all are there; of VOC's, the background is not.
    values = [float(value) for column, value in row.items() if column != 'mean' and value != '-']
    if len(values) == len(classes) - 1:
      assert float(row['mean']) == pytest.approx(np.mean(values), abs=0.06)

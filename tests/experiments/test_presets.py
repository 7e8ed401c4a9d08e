"""The presets say what the paper says, and run."""

import json

import pytest

from dilated_jax import models
from dilated_jax.images import preprocessing
from dilated_jax.nn import costs
from experiments import flag_files, networks, presets, starting_weights, train
from tests import calling
from tests.data.builders import test_cityscapes, test_voc

FOLDER = flag_files.PRESETS
PRESETS = sorted(
  path
  for path in FOLDER.rglob('*.flags')
  if path.name != 'smoke.flags' and path.parts[-3] != 'compare'  # Recipes: test_compare.py.
)
PAPER = [path for path in PRESETS if path.parent.name == 'paper']
RELATED = [path for path in PRESETS if path.parent.name == 'related']


def parsed(*files, **more):
  arguments = [f'--flagfile={file}' for file in files]
  return calling.parsed(train, *arguments, *(f'--{name}={value}' for name, value in more.items()))


@pytest.mark.parametrize('path', PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_a_run(path):
  values = parsed(path, workdir='run')
  assert train.stage_configs(values)
  models.create(values.model, 11, **networks.options(values))
  head = [line for line in path.read_text().splitlines() if line.startswith('#')]
  name = path.relative_to(FOLDER).with_suffix('').as_posix()
  assert any(f'--flagfile=preset:{name} ' in line for line in head)


# Stage: steps, rate, momentum, batch, pixels fed a side (0: whole). Paper, sections 4 and 5 and
# Appendix A, but for what the head of a preset says is the code's or is stated nowhere.
PUBLISHED = {
  'voc_front_end': {'front_end': (60_000, 1e-3, 0.9, 14, 500)},
  'voc_coco_front_end_1': {'front_end': (140_000, 1e-3, 0.9, 14, 500)},
  'voc_coco_front_end_2': {'front_end': (50_000, 1e-5, 0.9, 14, 500)},
  'voc_context_basic': {'context': (None, 1e-3, 0.9, 60, 0)},
  'voc_context_large': {'context': (None, 1e-3, 0.9, 60, 0)},
  'voc_joint': {'joint': (None, 1e-5, 0.9, 14, 900)},
  'camvid': {'front_end': (20_000, 1e-4, 0.99, 8, 628), 'joint': (None, 1e-5, 0.9, 1, 852)},
  'kitti': {'front_end': (10_000, 1e-4, 0.99, 8, 628), 'joint': (20_000, 1e-5, 0.99, 1, 900)},
  'cityscapes': {
    'front_end': (40_000, 1e-4, 0.99, 8, 628),
    'context': (24_000, 1e-4, 0.99, 100, 0),
    'joint': (60_000, 1e-5, 0.99, 1, 1396),
  },
}


@pytest.mark.parametrize('path', PAPER, ids=lambda path: path.stem)
def test_the_numbers_are_those_of_the_paper(path):
  values = parsed(path, workdir='run')
  configs = {config.stage: config for config in train.stage_configs(values)}
  assert configs.keys() == PUBLISHED[path.stem].keys()
  model = models.create(values.model, 21, **networks.options(values))
  for stage, (steps, rate, momentum, batch, fed) in PUBLISHED[path.stem].items():
    config = configs[stage]
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum) == (
      'caffe',
      rate,
      momentum,
    )
    assert (optimizer.weight_decay, optimizer.bias_lr_multiplier) == (5e-4, 2)
    assert config.batch_size == batch and steps in (None, config.num_steps)
    assert tuple(config.crop) == ((fed - 2 * model.margin,) * 2 if fed else (0, 0))
  assert (
    costs.num_parameters(models.create('front_end', 21).table) == 134_346_581
  )  # All of full width.


# What the releases say: rate of the weights of a convolution, momentum, decay, batch, pixels whose
# losses are summed (1: their mean), factors on the rate of layers, and the size of a picture.
FCN_MEAN, PSP_MEAN = (122.68, 116.67, 104.01), (123.68, 116.779, 103.939)
CRF_RATES = {'crf/spatial': 1e4, 'crf/bilateral': 1e4, 'crf/compatibility': 1e3}
RELEASES = {
  'fcn8s': (1e-10, 0.99, 5e-4, 1, 500 * 375, {}, FCN_MEAN, False),
  'deeplab_largefov': (1e-3, 0.9, 5e-4, 20, 1, {'front_end/fc8': 10}, FCN_MEAN, True),
  'pspnet': (
    1e-2, 0.9, 1e-4, 16, 1,
    dict.fromkeys(('pyramid1', 'pyramid6', 'head', 'final', 'aux', 'aux_final'), 10),
    PSP_MEAN, True,
  ),
  'crf_rnn': (1e-13, 0.99, 5e-4, 1, 500 * 375, CRF_RATES, FCN_MEAN, False),
}  # fmt: skip


@pytest.mark.parametrize('path', RELATED, ids=lambda path: path.stem)
def test_the_numbers_are_those_of_the_releases(path):
  values = parsed(path, workdir='run')
  rate, momentum, decay, batch, pixels, layers, mean, flip = RELEASES[path.stem]
  assert starting_weights.mean_of(values, (0.0, 0.0, 0.0), []) == mean
  for config in train.stage_configs(values):
    optimizer = config.optimizer
    assert optimizer.learning_rate == pytest.approx(rate * pixels, rel=0.02)
    # Beside a sum of losses, which is larger than a mean by the number of pixels.
    assert optimizer.weight_decay == pytest.approx(decay / pixels, rel=0.02)
    assert (optimizer.momentum, optimizer.bias_lr_multiplier) == (momentum, 2)
    assert (config.batch_size, config.augmentation.random_flip) == (batch, flip)
    assert config.augmentation.border == ('reflect' if config.stage == 'crf' else 'mean')  # Unread.
    found = {layer: optimizer.multiplier_of(layer) for layer in layers}
    assert found == layers and optimizer.multiplier_of('front_end/conv1_1') == 1


def test_the_recipe_of_the_papers_table_trains_systems_as_their_presets_do():
  """FCN-8s, DeepLab-LargeFOV and the CRF-RNN behind FCN-8s: flags of both, but for the loop's."""
  recipe = FOLDER / 'compare/voc'
  more = dict(workdir='run')
  for name, files, own in (
    ('fcn8s', ['common', 'fcn8s'], {'model': 'fcn8s'}),
    ('deeplab_largefov', ['common', 'deeplab_largefov'], {'model': 'deeplab_largefov'}),
    ('crf_rnn', ['common', 'fcn8s', 'rnn'], {'model': 'fcn8s', 'crf': 'rnn'}),
  ):
    preset = parsed(FOLDER / f'related/{name}.flags', eval_every=2000, **more)
    cell = parsed(*(recipe / f'{file}.flags' for file in files), **own, **more)
    assert train.stage_configs(cell) == train.stage_configs(preset), name
    assert networks.options(cell) == networks.options(preset), name
    assert cell.mean == preset.mean


def test_effective_rates_of_the_crf_rnn():
  """Weights of its kernels at 1.9e-2, compatibilities a tenth of that, the network at 1.9e-6."""
  values = parsed(FOLDER / 'related/crf_rnn.flags', workdir='run')
  crf, joint = train.stage_configs(values)
  assert (crf.stage, joint.stage) == ('crf', 'joint')
  layers = ('crf/spatial', 'crf/compatibility', 'front_end/conv1_1')
  for optimizer in (crf.optimizer, joint.optimizer):
    effective = optimizer.learning_rate / (1 - optimizer.momentum)
    rates = [effective * optimizer.multiplier_of(layer) for layer in layers]
    assert rates == pytest.approx([1.9e-2, 1.9e-3, 1.9e-6], rel=0.02)
  model = models.create(values.model, 21, **networks.options(values))
  assert (model.iterations, model.test_iterations) == (5, 10)


def test_camvid_is_scored_at_the_papers_size():
  """Appendix A.1: 640 x 480; the stills have 960 x 720."""
  values = parsed(FOLDER / 'paper/camvid.flags', workdir='run')
  assert values.score_size == 'network'
  assert preprocessing.scaled_size((720, 960), values.image_scale) == (480, 640)
  recipe = FOLDER / 'compare/camvid_gpu'
  assert '--score_size=network' in (recipe / 'common.flags').read_text().split()
  assert '--score_size=network' in (recipe / 'evaluate.flags').read_text().split()


def test_the_mean_of_camvid_is_the_authors():
  """That of datasets/camvid.json, which is BGR."""
  values = parsed(FOLDER / 'paper/camvid.flags', workdir='run')
  assert [float(text) for text in values.mean] == [105.41212523, 108.77808759, 110.70313206]


def test_the_rate_drops_with_coco():
  values = parsed(FOLDER / 'paper/voc_coco_front_end_1.flags', workdir='run')
  (config,) = train.stage_configs(values)
  assert (config.optimizer.schedule, config.optimizer.step_size) == ('step', 100_000)


def test_a_preset_may_build_on_another():
  values = parsed('preset:folder', workdir='run')
  assert (values.dataset, values.image_scale, values.stride) == ('folder', 1, 4)


def test_list(capsys):
  calling.run(presets)
  lines = capsys.readouterr().out.splitlines()
  listed = {line.split()[0]: line for line in lines if line.startswith('  preset:')}
  assert '2 minutes' not in listed['preset:scenes_fcn'] and 'FCN-8s' in listed['preset:scenes_fcn']
  assert 'two CPU cores' in listed['preset:compare/scenes']
  assert len(listed) == len(PRESETS) + 1 + len(flag_files.recipes())  # And smoke.
  assert all(len(line.split()) > 2 for line in listed.values())
  assert str(FOLDER) in lines[-1]


def cityscapes(folder):
  test_cityscapes.write(folder, test_cityscapes.official(), packed=True)


def voc(folder):
  voc_files, sbd_files, *_ = test_voc.official()
  test_voc.write(folder, voc_files, sbd_files)


@pytest.mark.slow
@pytest.mark.parametrize(
  'preset, write, smaller',
  [
    ('cityscapes', cityscapes, {'blocks': '1,1,1,1,1', 'image_scale': 0.25, 'crop': '64,0,64'}),
    ('voc_front_end', voc, {'blocks': '1,1,1,1,1'}),
  ],
)
def test_smoke(preset, write, smaller, tmp_path):
  raw = tmp_path / 'raw'
  raw.mkdir()
  write(raw)
  values = parsed(
    FOLDER / f'paper/{preset}.flags', FOLDER / 'paper/smoke.flags',
    workdir=tmp_path / 'run', manual_dir=raw, data_dir=tmp_path / 'prepared', **smaller,
  )  # fmt: skip
  train.main(values)
  assert (tmp_path / 'run/weights/model.json').exists()
  lines = (tmp_path / 'run/metrics.jsonl').read_text().splitlines()
  trained = {json.loads(line)['stage'] for line in lines if 'loss' in line}
  assert trained == set(PUBLISHED[preset])

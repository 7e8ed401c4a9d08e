"""train: one run from the flags to the weights, and every wrong flag in one line."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys

from absl import flags
import jax
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy

import dilated_jax
from dilated_jax import data, files
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.models.spec import ModelSpec, load_spec
from dilated_jax.training import loop
from experiments import starting_weights, train
from experiments.starting_weights import opened
from tests import several_processes, torch_files
from tests.html_pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[2]
NARROW = [
  '--model=dilation8', '--blocks=1', '--width=0.0625', '--stride=2', '--fc_kernel=3',
  '--fc_channels=4', '--dilations=1,2,1', '--norm=none',
]  # fmt: skip


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  data.prepare('scenes', folder, counts={'train': 4, 'val': 2, 'test': 2})
  return folder


def start(*arguments, **environment):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.train', *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **environment},
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.mark.slow
def test_from_flags_to_weights(data_dir, tmp_path):
  arguments = [
    f'--workdir={tmp_path}/run', f'--data_dir={data_dir}', *NARROW, '--stage=front_end,context',
    '--num_steps=2,3', '--batch_size=2', '--crop=16x32', '--learning_rate=1e-3,1e-2',
    '--class_weights=median', '--image_scale=0.5', '--loss_resolution=full', '--log_every=1',
  ]  # fmt: skip
  done = start(*arguments)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-2:] == [
    f'report: {tmp_path}/run/report.html', f'weights: {tmp_path}/run/weights',
  ]  # fmt: skip

  classes = data.classes('scenes')
  spec = load_spec(tmp_path / 'run/weights')
  assert (spec.model, spec.classes, spec.palette) == ('dilation8', classes.names, classes.palette)
  assert (spec.mean, spec.image_scale, spec.upsampling) == (classes.mean, 0.5, 'deconvolution')
  model, variables, _ = dilated_jax.load(tmp_path / 'run/weights')
  side = 2 * model.margin + 8
  logits = model.apply(variables, np.zeros((1, side, side, 3), np.float32))
  assert logits.shape == (1, 4, 4, classes.num_classes)
  lines = [json.loads(line) for line in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
  rates = [(line['stage'], line['step'], line['learning_rate']) for line in lines if 'loss' in line]
  assert [(stage, step) for stage, step, _ in rates] == [
    ('front_end', 1), ('front_end', 2), ('context', 1), ('context', 2), ('context', 3),
  ]  # fmt: skip
  assert [rate for _, _, rate in rates] == pytest.approx([1e-3, 1e-3, 1e-2, 1e-2, 1e-2])

  # The page tells the same, and shows pictures of both stages' last scores.
  page = Page((tmp_path / 'run/report.html').read_bytes())
  page.check_harmless()
  losses = [(line['step'], line['loss']) for line in lines if 'loss' in line]
  rows = [row for row in page.tables['Loss'] if row[0] != 'step']
  assert rows == [[f'{step}', f'{loss:.4g}'] for step, loss in losses]
  scores = json.loads((tmp_path / 'run/context/val.json').read_text())
  assert page.tables['Scores by class'][-1][2] == f'{100 * scores["mean_iou"]:.1f}'
  assert sum(name == 'img' for name, _ in page.tags) == 8

  # What it leaves behind starts the same run again, which is finished; another one is refused.
  again = start(f'--flagfile={tmp_path}/run/flags.txt')
  assert again.returncode == 0, again.stderr
  assert 'stage context is finished' in again.stderr
  other = start(*arguments, '--num_steps=9', '--threads=1')
  assert other.returncode == 1 and 'Traceback' not in other.stderr
  (line,) = [line for line in other.stderr.splitlines() if line.startswith('error: ')]
  assert 'num_steps is 9 and was 2' in line and 'threads' not in line


@pytest.mark.parametrize('frozen', [False, True])
def test_scores_that_were_trained_for_other_pixels(frozen, tmp_path, caplog):
  classes = data.classes('scenes')
  spec = ModelSpec(
    'dilation8', {'stride': 4}, classes.names, classes.palette, classes.mean,
    upsampling='deconvolution',
  )  # fmt: skip
  front_end = dataclasses.replace(spec, model='front_end')
  (tmp_path / 'model.json').write_text(json.dumps(front_end.to_json()))
  starting_weights.tell_other_upsampling(spec, [opened(tmp_path)], frozen=frozen)
  assert not caplog.messages
  other = dataclasses.replace(spec, upsampling='corner')
  starting_weights.tell_other_upsampling(other, [opened(tmp_path)], frozen=frozen)
  assert len(caplog.messages) == frozen
  if frozen:
    assert 'cell 0 at pixel 1.5; this run has corner, cell 0 at pixel 0' in caplog.text
    assert '--loss_resolution=full is that of these weights' in caplog.text


def values_of(**settings):
  """Flags of their own, set as a command line would."""
  values = flags.FlagValues()
  train.define_flags(values)
  values.mark_as_parsed()
  for name, value in settings.items():
    setattr(values, name, value)
  return values


@pytest.mark.parametrize(
  'flag, value',
  [('model', 'unet'), ('dataset', 'imagenet'), ('stride', '0'), ('parallelism', 'tpu'),
   ('dropout', '2')],
)  # fmt: skip
def test_a_wrong_value_of_a_flag(flag, value):
  with pytest.raises(flags.IllegalFlagValueError, match=f'flag --{flag}={value}: '):
    values_of()[flag].parse(value)


def test_wrong_flags_from_outside(tmp_path):
  done = start(f'--workdir={tmp_path}/run', '--stage=frontend')
  assert done.returncode == 1 and not (tmp_path / 'run').exists()
  (line,) = done.stderr.splitlines()
  assert (
    line == 'error: --stage=frontend: no such choice; choose among front_end, context, crf, joint'
  )


@pytest.mark.parametrize(
  'arguments, words',
  [
    ({'stage': ['front_end', 'end']}, '--stage=end: no such choice'),
    ({'stage': ['joint', 'joint']}, '--stage=joint,joint: a stage can be run once'),
    ({'stage': []}, '--stage= names none'),
    ({'num_steps': ['0']}, '--num_steps=0: must be 1 or more'),
    ({'num_steps': ['many']}, '--num_steps=many: '),
    ({'num_steps': ['1', '2']}, '--num_steps has 2 values for 1 stage; give 1$'),
    ({'num_steps': []}, '--num_steps has 0 values'),
    ({'batch_size': ['8', '8', '1']}, '--batch_size has 3 values'),
    ({'batch_size': ['-1']}, '--batch_size=-1: must be 1 or more'),
    ({'learning_rate': ['1e-3', '1e-4']}, '--learning_rate has 2 values'),
    ({'learning_rate': ['fast']}, '--learning_rate=fast: '),
    ({'crop': ['16x']}, '--crop=16x: a size is HxW'),
    ({'crop': ['16x31']}, '`crop=16x31`: both must be multiples of 2'),
    ({'random_scale': ['1']}, '--random_scale has 1 values'),
    ({'random_scale': ['2', '1']}, '`random_scale=2,1`: give the smaller first'),
    ({'blocks': ['1', 'x']}, '--blocks=x: '),
    ({'stride': 3}, 'stride is 3; this network can have a power of two up to 2'),
    ({'stage': ['context'], 'crop': ['0']}, 'needs a trained front end: give --init'),
    ({'model': 'front_end', 'dilations': None, 'padding': 'same'}, "has no option 'padding'"),
    ({'dilations': ['1']}, 'at least 3'),
    ({'init': ['/nowhere']}, '/nowhere: is not a weights folder'),
    ({'grad_accum_steps': 3}, '`batch_size=8` can not be cut into equal parts by'),
    ({'stage': ['context']}, '--crop is not read: stage context learns from maps'),
    (
      {'stage': ['front_end', 'context'], 'crop': ['16', '32']},
      '--crop is not read: stage context learns from maps',
    ),
    ({'stage': ['crf'], 'crop': ['0'], 'random_scale': ['1', '2']}, '--random_scale is not read'),
    ({'feature_dir': 'maps'}, '--feature_dir is not read: stage front_end learns from images'),
    ({'step_size': 5}, r"--step_size is not read: it belongs to `schedule='step'`"),
    ({'val_split': 'tset'}, "no split 'tset'"),
    ({'dataset': 'camvid'}, 'camvid: neither prepared in'),
  ],
)
def test_wrong_flags_are_one_line(data_dir, tmp_path, monkeypatch, arguments, words):
  monkeypatch.setattr(loop, 'init_variables', zeros)
  settings = {
    'workdir': str(tmp_path / 'run'), 'data_dir': str(data_dir), 'model': 'dilation8',
    'blocks': ['1'], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4,
    'dilations': ['1', '2', '1'], 'crop': ['16x32'], 'stage': ['front_end'],
  }  # fmt: skip
  with pytest.raises(InputError, match=words) as raised:
    train.main(values_of(**{**settings, **arguments}))
  assert '\n' not in str(raised.value)
  # Nothing was written, so a corrected command may take the same folder.
  assert not [path for path in tmp_path.glob('run/**/*') if path.is_file()]


def zeros(model, seed):
  """In place of drawn weights, which take seconds to compile."""
  shapes = weights_folder.abstract_variables(model)
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def test_grafts_and_ends_quietly_when_preempted(data_dir, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(loop, 'init_variables', zeros)
  seen = []

  def preempted(configs, spec, variables, *arguments, **options):
    seen.append((configs, variables))
    raise loop.Preempted('asked to end')

  monkeypatch.setattr(loop, 'train', preempted)
  options = {'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
  classes = data.classes('scenes')
  spec = ModelSpec('front_end', options, classes.names, classes.palette, classes.mean)
  given = zeros(spec.create(), 0)
  given['params']['front_end']['conv1_1']['bias'] += 7
  weights_folder.save_weights(tmp_path / 'given', spec, given)
  values = values_of(
    workdir=str(tmp_path / 'run'), data_dir=str(data_dir), init=[str(tmp_path / 'given')],
    model='dilation8', blocks=['1'], width=0.0625, stride=2, fc_kernel=3, fc_channels=4,
    stage=['context', 'joint'], num_steps=['5'], batch_size=['8', '2'], crop=['0', '16'],
    random_scale=['0.5', '2'], optimizer='sgd', momentum=['0.9', '0.99'], parallelism='mesh',
    mesh_height=2,
  )  # fmt: skip
  train.main(values)
  assert capsys.readouterr().out == ''
  ((configs, variables),) = seen
  assert (np.asarray(variables['params']['front_end']['conv1_1']['bias']) == 7).all()
  assert not np.asarray(variables['params']['context']['ctx_final']['bias']).any()
  assert [(c.stage, c.num_steps, c.batch_size, c.crop) for c in configs] == [
    ('context', 5, 8, (0, 0)), ('joint', 5, 2, (16, 16)),
  ]  # fmt: skip
  assert [c.optimizer.momentum for c in configs] == [0.9, 0.99]
  # Given for both stages, of which one reads it.
  assert [c.augmentation.random_scale for c in configs] == [(1.0, 1.0), (0.5, 2.0)]
  assert {(c.optimizer.name, c.mesh_height) for c in configs} == {('sgd', 2)}
  settings = files.pathlib.Path(tmp_path / 'run/joint/config.json').read_text()
  assert json.loads(settings)['optimizer']['momentum'] == 0.99


def test_fine_tuning_on_other_classes(tmp_path, monkeypatch, caplog):
  """The usual job: weights of one data set, three classes of one's own, any stage."""
  monkeypatch.setattr(loop, 'init_variables', zeros)
  monkeypatch.setattr(loop, 'train', lambda *arguments, **options: None)
  own = folder_of(tmp_path / 'own', classes=3)
  options = {'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
  classes = data.classes('voc')
  spec = ModelSpec('front_end', options, classes.names, classes.palette, classes.mean)
  weights_folder.save_weights(tmp_path / 'given', spec, zeros(spec.create(), 0))
  settings = dict(
    workdir=str(tmp_path / 'run'), dataset='folder', data_dir=str(own), val_split='',
    init=[str(tmp_path / 'given')], model='dilation8', blocks=['1'], width=0.0625, stride=2,
    fc_kernel=3, fc_channels=4, crop=['16x32'],
  )  # fmt: skip
  train.main(values_of(**settings, stage=['front_end', 'context']))
  assert any('given: front_end/final: start afresh: they depend on the classes' in text
             for text in caplog.messages)  # fmt: skip
  message = r'learns from a trained front_end, and of that of .*given front_end/final would start'
  with pytest.raises(InputError, match=message):
    train.main(values_of(**{**settings, 'crop': ['0'], 'stage': ['context']}))


def test_batch_statistics_of_one_value_are_refused(tmp_path):
  """DeepLab v3 pools the image to 1x1; with one image at a time it would learn from noise."""
  own = folder_of(tmp_path / 'own', classes=2)
  done = start(
    '--dataset=folder', f'--data_dir={own}', f'--workdir={tmp_path}/run', '--model=deeplab_v3',
    '--width=0.03', '--blocks=1,1,1,1', '--val_split=', '--num_steps=1', '--batch_size=4',
    '--grad_accum_steps=4',
  )  # fmt: skip
  assert done.returncode == 1 and 'Traceback' not in done.stderr
  assert done.stderr.splitlines()[-1].startswith(
    'error: aspp_4 normalizes by batch statistics of a single value (of 1 image at a time, its map '
    'is 1x1): their variance is 0, and what the network predicts would be noise; take a larger '
    '--batch_size, fewer --grad_accum_steps, or --norm=group'
  )
  assert not (tmp_path / 'run/metrics.jsonl').exists()


def test_starts_from_a_file_of_imagenet(data_dir, tmp_path, monkeypatch, caplog):
  """What torchvision and timm publish needs no conversion; the log tells what was taken."""
  monkeypatch.setattr(loop, 'init_variables', zeros)
  seen = []
  monkeypatch.setattr(loop, 'train', lambda *arguments, **options: seen.append(arguments))
  tensors = torch_files.resnet(basic=True)
  safetensors.numpy.save_file(tensors, tmp_path / 'resnet.safetensors')
  train.main(values_of(
    workdir=str(tmp_path / 'run'), data_dir=str(data_dir), model='fcn_resnet', backbone='resnet18',
    blocks=['1'] * 4, width=1 / 32, crop=['32'], init=[str(tmp_path / 'resnet.safetensors')],
  ))  # fmt: skip
  ((_, spec, variables, *_),) = seen
  front_end = variables['params']['front_end']
  expected = tensors['layer2.0.downsample.0.weight'].transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(front_end['layer2_0_downsample']['kernel'], expected)
  assert spec.mean == pytest.approx((123.675, 116.28, 103.53))
  assert not np.asarray(front_end['head']['kernel']).any()
  assert 'taken by its content' in caplog.text and 'variant' not in caplog.text
  assert '24 of 27 layers are taken' in caplog.text
  assert 'front_end/head: start afresh' in caplog.text


def test_a_resnet_that_steps_elsewhere(caplog):
  """The published weights are of torchvision's; the papers' networks have other strides."""

  def spec(model, **options):
    return ModelSpec(model, options, ('a', 'b'), ((0, 0, 0),) * 2, (0, 0, 0))

  for backbone, first in (('resnet18', 'conv1'), ('resnet50', 'conv2')):
    theirs = starting_weights.Start('a file', spec('fcn_resnet', backbone=backbone))
    own = spec('pspnet', backbone=backbone)
    starting_weights.tell_other_resnet(own, [theirs])
    assert f'begins with 7x7 and strides in {first}; this run has 3x3 and {first}' in caplog.text
    assert '--variant=torchvision is that of these weights' in caplog.text
    caplog.clear()
    other = spec('pspnet', backbone=backbone, variant='torchvision')
    starting_weights.tell_other_resnet(other, [theirs])
    assert not caplog.messages
  starting_weights.tell_other_resnet(spec('deeplab_v3', backbone='resnet50'), [theirs])
  assert 'this run has 7x7 and conv1; --variant=torchvision' in caplog.text


def test_the_mean_that_is_subtracted(tmp_path, caplog):
  """That of --mean, of trained weights to start from, or of the data set, in this order."""
  options = {'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
  usual, theirs = (1.0, 2.0, 3.0), (122.68, 116.67, 104.01)
  spec = ModelSpec('front_end', options, ('a', 'b'), ((0, 0, 0),) * 2, theirs)
  trained, vgg = tmp_path / 'trained', tmp_path / 'vgg'
  for folder, untrained in ((trained, ()), (vgg, ('final',))):
    about = dataclasses.replace(spec, untrained=untrained)
    weights_folder.save_weights(folder, about, zeros(spec.create(), 0))

  def found(*folders, **settings):
    caplog.clear()
    return starting_weights.mean_of(
      values_of(**settings), usual, [opened(folder) for folder in folders]
    )

  assert found() == found(vgg) == usual and not caplog.messages
  assert found(vgg, trained) == theirs
  assert 'that of the weights of --init; the data set has (1.0, 2.0, 3.0)' in caplog.text
  assert found(mean=['5', '6', '7']) == (5.0, 6.0, 7.0) and not caplog.messages
  assert found(trained, mean=['5', '6', '7']) == (5.0, 6.0, 7.0)
  assert 'were trained with (122.68, 116.67, 104.01)' in caplog.text
  for wrong in ('5,6', '1,2,256', '1,2,-1', 'a,b,c', '1,2,nan', '1,2,3,4'):
    with pytest.raises(InputError, match=f'^--mean={wrong}: give three numbers of 0 to 255'):
      found(mean=wrong.split(','))
  with pytest.raises(InputError, match=r'^--mean=.*: a mean of images of 0 to 1; '):
    found(mean=['0.48', '0.46', '0.41'])
  assert found(mean=['0', '0', '0']) == (0, 0, 0)


def test_weights_whose_cells_lie_elsewhere(tmp_path, caplog):
  """torchvision's networks are upsampled by half cells, this project's from where the cells lie."""
  options = {'blocks': [1, 1, 1, 1], 'width': 1 / 32}
  colors = ((0, 0, 0),) * 2
  own = ModelSpec('fcn_resnet', options, ('a', 'b'), colors, (0, 0, 0), upsampling='corner_logits')
  for method in ('deconvolution', 'corner_logits'):
    spec = dataclasses.replace(own, upsampling=method)
    weights_folder.save_weights(tmp_path / method, spec, zeros(spec.create(), 0))
  caplog.clear()
  starting_weights.tell_other_upsampling(own, [opened(tmp_path / 'corner_logits')], frozen=False)
  assert not caplog.messages
  starting_weights.tell_other_upsampling(own, [opened(tmp_path / 'deconvolution')], frozen=False)
  assert 'upsampling deconvolution, cell 0 at pixel 3.5; this run has corner_logits' in caplog.text


def test_a_single_picture(tmp_path, monkeypatch, caplog):
  """The usual trial, whether a network can overfit: there is nothing to hold out."""
  monkeypatch.setattr(loop, 'init_variables', zeros)
  seen = []
  monkeypatch.setattr(loop, 'train', lambda *arguments, **options: seen.append(arguments))
  own = folder_of(tmp_path / 'own', classes=2, count=1)
  settings = dict(dataset='folder', data_dir=str(own), model='front_end', width=0.0625)
  for number, more in enumerate(({}, {'val_split': ''})):
    caplog.clear()
    train.main(values_of(workdir=str(tmp_path / f'run{number}'), **settings, **more))
    assert len(seen[-1][3]) == 1 and seen[-1][4] == []
    assert ('has no val split: nothing is held out' in caplog.text) == (not more)
  with pytest.raises(InputError, match=r"--val_split: .*no split 'val': .*; --val_split= trains"):
    train.main(values_of(workdir=str(tmp_path / 'run'), **settings, val_split='val'))


def folder_of(root, classes, count=4):
  """Images and labels of one's own."""
  rng = np.random.default_rng(0)
  for index in range(count):
    ids = rng.integers(0, classes, (4, 8), np.uint8).repeat(8, 0).repeat(8, 1)
    for kind, array in (('images', np.stack([ids * 50] * 3, -1)), ('labels', ids)):
      (root / kind).mkdir(parents=True, exist_ok=True)
      PIL.Image.fromarray(array).save(root / kind / f'p{index}.png')
  return root


def of_two_processes(data_dir, workdir, *more):
  arguments = [
    f'--data_dir={data_dir}', *NARROW, '--num_steps=3', '--batch_size=4', '--crop=16x32',
    '--log_every=1', '--image_scale=0.5', '--trackers=', f'--workdir={workdir}', '--distributed',
  ]  # fmt: skip
  return several_processes.start(2, 'experiments.train', *arguments, *more)


def test_two_tasks_of_slurm(data_dir, tmp_path):
  ended = several_processes.finish(of_two_processes(data_dir, tmp_path))
  assert [status for status, _, _ in ended] == [0, 0], ended
  (_, out, errors), (_, silent, other) = ended
  assert 'Slurm: waiting for the other processes' in errors
  assert 'process 1 of 2, with 1 of 2 devices' in other
  assert f'weights: {tmp_path}/weights' in out and 'front_end 3/3  loss' in errors
  assert 'front_end 3/3' not in other
  steps = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in steps if 'loss' in line] == [1, 2, 3]  # Once, by process 0.


def test_a_process_that_is_killed_ends_the_other_with_a_word(data_dir, tmp_path):
  processes = of_two_processes(data_dir, tmp_path, '--num_steps=1000000', '--eval_every=0')
  other, victim = processes
  try:
    for line in other.stderr:
      if 'front_end 2/' in line:
        break
    victim.kill()
    _, errors = other.communicate(timeout=60)  # Within a minute.
  finally:
    for process in processes:
      process.kill()
      process.communicate()
  assert other.returncode in (1, -signal.SIGABRT)
  # JAX may add words of its own.
  (words,) = (line for line in errors.splitlines() if line.startswith('error: '))
  assert 'another process of the run has ended' in words, errors
  assert words.endswith('the same command on every host goes on after the last checkpoint')

"""stages.py: runs that are broken off and taken up again, and runs that go wrong."""

import dataclasses
import json
import os
import shutil
import signal

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from dilated_jax.crf import lattice
from dilated_jax.errors import InputError
from dilated_jax.evaluation import extremes
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.training import checkpoints, diagnostics, loop, workdir
from dilated_jax.training.config import OptimizerOptions, StageConfig
from dilated_jax.training.run_logger import RunLogger
from dilated_jax.training.trackers import Writers
from dilated_jax.training.validation import Validation

MEAN = (100.0, 110.0, 120.0)
# Orbax says so when a checkpoint is read without being told for which devices.
pytestmark = pytest.mark.filterwarnings('ignore:Sharding info not provided:UserWarning')

CLASSES = LabelSpec('toys', ('a', 'b', 'c'), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), MEAN)
OPTIONS = {
  'blocks': [1], 'width': 1 / 16, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4, 'norm': 'batch',
  'dilations': [1, 2, 1],
}  # fmt: skip
SPEC = ModelSpec('dilation8', OPTIONS, CLASSES.names, CLASSES.palette, MEAN, dataset='toys')


def pictures(count, seed=0):
  rng = np.random.default_rng(seed)
  return [
    {'image': rng.integers(0, 256, (8, 12, 3), dtype=np.uint8),
     'label': rng.integers(0, 3, (8, 12)).astype(np.uint8), 'name': str(i)}
    for i in range(count)
  ]  # fmt: skip


TRAIN, VAL = pictures(6), pictures(2, seed=1)
# Two of the eight devices share a batch.
MAPS = dict(batch_size=2, eval_every=2, log_every=1, threads=1)
COMMON = dict(crop=(4, 8), **MAPS)
TWO = [StageConfig('front_end', 5, **COMMON), StageConfig('context', 5, **MAPS)]


class Watched(list):
  """Pictures that call a function before each is read."""

  def __init__(self, call):
    super().__init__(TRAIN)
    self.call, self.reads = call, 0

  def __getitem__(self, index):
    self.reads += 1
    self.call(self.reads)
    return super().__getitem__(index)


def started():
  rng = np.random.default_rng(0)
  model = SPEC.create()
  shapes = weights_folder.abstract_variables(model)
  return jax.tree.map(lambda x: np.abs(0.3 * rng.standard_normal(x.shape, np.float32)), shapes)


def run(workdir, configs=TWO, train=TRAIN, val=VAL, spec=SPEC):
  return loop.train(configs, spec, started(), train, val, CLASSES, workdir)


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
  folder = tmp_path_factory.mktemp('unbroken')
  return folder, run(folder)


def latest(folder):
  """Step and numbers of the latest checkpoint of a stage."""
  with checkpoints.manager(folder / 'checkpoints') as manager:
    step = manager.latest_step()
    state = manager.restore(step, args=ocp.args.StandardRestore())
    best = manager.best_step()
  state = dict(state, key=jax.random.key_data(state['key']))
  return step, best, state


def lines(folder):
  entries = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  return [
    {k: v for k, v in entry.items() if k not in ('steps_per_second', 'waiting')}
    for entry in entries
  ]


def assert_equal(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_broken_run_ends_as_the_unbroken_one(unbroken, tmp_path):
  """Power cut in the first stage, SIGTERM in the second; then the same to the last bit."""

  def cut(reads):
    if reads > 7:
      raise RuntimeError('power cut')

  with pytest.raises(RuntimeError, match='power cut'):
    run(tmp_path, train=Watched(cut))
  step, _, _ = latest(tmp_path / 'front_end')
  assert step == 2 and lines(tmp_path)[-1]['step'] > 2
  assert not (tmp_path / 'weights').exists()
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write('{"stage": "front_e')

  waiting = []

  def terminate(reads):
    if (tmp_path / 'context/checkpoints').exists():
      waiting.append(reads)
      if len(waiting) == 3:
        os.kill(os.getpid(), signal.SIGTERM)

  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(loop.Preempted, match='context is saved after step'):
    run(tmp_path, train=Watched(terminate))
  assert signal.getsignal(signal.SIGTERM) is before
  step, _, _ = latest(tmp_path / 'context')
  assert 1 <= step < 5
  (maps,) = (tmp_path / 'context/features').glob('*.npy')
  made = maps.stat().st_mtime_ns
  # Weights of what is finished are there to look at.
  assert set(weights_folder.load_weights(tmp_path / 'weights')[1]['params']) == {'front_end'}

  variables = run(tmp_path)
  assert maps.stat().st_mtime_ns == made
  folder, expected = unbroken
  assert_equal(variables, expected)
  for stage in ('front_end', 'context'):
    (step, best, found), (_, expected_best, wanted) = (
      latest(tmp_path / stage),
      latest(folder / stage),
    )
    assert (step, best) == (5, expected_best)
    assert_equal(found, wanted)
  assert lines(tmp_path) == lines(folder)


def test_a_run_that_was_cut_before_it_wrote_weights_only_writes_them(unbroken, tmp_path):
  folder, variables = unbroken
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  shutil.rmtree(tmp_path / 'context/weights')
  assert_equal(run(tmp_path), variables)
  assert latest(tmp_path / 'context')[0] == latest(folder / 'context')[0]
  assert lines(tmp_path) == lines(folder)


def test_what_a_run_leaves(unbroken):
  folder, variables = unbroken
  _, found, spec = weights_folder.load_weights(folder / 'weights')
  assert spec == SPEC
  assert_equal(found, variables)
  entries = lines(folder)
  train = [(e['stage'], e['step']) for e in entries if 'loss' in e]
  assert train == [(stage, k) for stage in ('front_end', 'context') for k in range(1, 6)]
  val = {(e['stage'], e['step']): e['val_mean_iou'] for e in entries if 'val_mean_iou' in e}
  assert list(val) == [(stage, k) for stage in ('front_end', 'context') for k in (2, 4, 5)]
  classes = {(e['stage'], e['step']): e for e in entries if 'val_per_class_iou' in e}
  layers = {(e['stage'], e['step']): e for e in entries if any(k.startswith('layer_') for k in e)}
  assert list(classes) == list(val) and list(layers)[-3:] == list(val)[-3:]
  assert len(entries) == len(train) + len(val) + len(classes) + len(layers)
  # The weights are those of the best step, and the front end is the context stage's.
  scores = Validation(VAL, CLASSES).scores(Segmenter.from_spec(SPEC, variables))
  assert scores['mean_iou'] == max(val['context', k] for k in (2, 4, 5))
  # Its scores and images are kept, and how far its context module has come from the identity.
  kept = json.loads((folder / 'context/val.json').read_text())
  assert val['context', kept['step']] == kept['mean_iou'] and scores.items() <= kept.items()
  assert classes['context', kept['step']]['val_per_class_iou'] == kept['per_class_iou']
  (best,), (worst,) = extremes.load(folder / 'context/val_images.npz')
  assert {best.name, worst.name} == {'0', '1'} and best.mean_iou >= worst.mean_iou
  last = {e['step']: e for e in entries if e['stage'] == 'context' and 'layer_drift' in e}
  assert list(last) == [0, 2, 4, 5]
  of_layers = last[5]['layer_gradient_norm']
  total = next(e['gradient_norm'] for e in entries[::-1] if 'loss' in e)
  assert np.linalg.norm(list(of_layers.values())) == pytest.approx(total, rel=1e-5)
  state = latest(folder / 'context')[2]['params']
  assert last[5]['layer_drift'] == diagnostics.identity_drift(SPEC.create(), state)
  # Beside them, those of the last step.
  _, last, _ = weights_folder.load_weights(folder / 'weights_last')
  assert_equal(last['params']['context'], latest(folder / 'context')[2]['params']['context'])
  # A stage leaves what it has made: the first one the front end alone.
  _, front_end, spec = weights_folder.load_weights(folder / 'front_end/weights')
  assert spec == SPEC.without_context() and list(front_end['params']) == ['front_end']
  assert_equal(front_end['params']['front_end'], variables['params']['front_end'])


def test_finished_stages_are_not_trained_again(unbroken, monkeypatch):
  (folder, variables), copied = unbroken, []
  before = lines(folder)
  monkeypatch.setattr(loop, 'copy_weights', lambda source, target: copied.append(target.name))
  assert_equal(run(folder, train=Watched(lambda reads: pytest.fail('read a picture'))), variables)
  assert lines(folder) == before
  # A folder with `weights` is complete, whenever the process was killed.
  assert copied == ['weights_last', 'weights'] * 2


def test_without_pictures_to_validate_the_latest_weights_are_taken(tmp_path):
  variables = run(tmp_path, [StageConfig('front_end', 2, **COMMON)], val=[])
  _, _, state = latest(tmp_path / 'front_end')
  assert_equal(variables['params']['front_end'], state['params']['front_end'])
  assert not any('val_mean_iou' in entry for entry in lines(tmp_path))
  assert not (tmp_path / 'weights_last').exists()


def test_a_signal_in_the_last_step_ends_the_run_before_the_next_stage(tmp_path, monkeypatch):
  save = checkpoints.save

  def terminate(manager, step, *arguments):
    save(manager, step, *arguments)
    os.kill(os.getpid(), signal.SIGTERM)

  with (
    monkeypatch.context() as patch,
    pytest.raises(loop.Preempted, match='front_end is finished'),
  ):
    patch.setattr(checkpoints, 'save', terminate)
    run(tmp_path, [StageConfig('front_end', 1, **COMMON), TWO[1]])
  assert (tmp_path / 'front_end/weights').exists() and not (tmp_path / 'context').exists()


def test_several_processes_leave_the_signal_to_jax(monkeypatch):
  before = signal.getsignal(signal.SIGTERM)
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with loop._terminated() as terminated:
    assert signal.getsignal(signal.SIGTERM) is before and not terminated()


def test_divergence_is_told_and_the_last_good_state_kept(tmp_path):
  wild = OptimizerOptions(learning_rate=1e30)
  config = StageConfig('front_end', 9, optimizer=wild, **{**COMMON, 'eval_every': 1})
  with pytest.raises(InputError, match=r'diverged at step 2: the loss is (nan|inf)') as raised:
    run(tmp_path, [config])
  message = str(raised.value)
  assert '\n' not in message and '1e+30' in message and 'keeps step 1' in message
  with checkpoints.manager(tmp_path / 'front_end/checkpoints') as manager:
    assert manager.latest_step() == 1
  assert not (tmp_path / 'weights').exists()


@pytest.mark.parametrize('stage', ['crf', 'joint'])
def test_an_image_without_room_in_the_lattice_is_left_out(stage, tmp_path, monkeypatch, caplog):
  """Image 3 has none: the run ends as one in which it has no labels, and says so."""
  build = lattice.build_traced

  def small(features, size=None):
    built, colors = build(features, size), features[:, 2:]
    if not colors.size:
      return built  # Of positions alone.
    busy = colors.max() - colors.min() > 60  # In standard deviations, of 3 each.
    return dataclasses.replace(built, weights=jnp.where(busy, jnp.nan, built.weights))

  monkeypatch.setattr(lattice, 'build_traced', small)
  one = {'crf_rnn_train_iterations': 1, 'crf_rnn_iterations': 1}
  options = {**OPTIONS, 'crf': 'rnn', 'crf_rnn_grid': 'pixels', **one}
  spec = dataclasses.replace(SPEC, options=options)
  calm = [{**one, 'image': one['image'] // 4} for one in TRAIN]
  busy = [*calm[:3], TRAIN[3], *calm[4:]]
  void = [*busy[:3], {**TRAIN[3], 'label': np.full_like(TRAIN[3]['label'], 255)}, *calm[4:]]
  if stage == 'crf':
    void[3]['image'] = calm[3]['image']  # Room enough.
  shapes = weights_folder.abstract_variables(spec.create())
  variables = jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), shapes)
  settings = {**(COMMON if stage == 'joint' else MAPS), 'log_every': 3}
  config = StageConfig(stage, 9, **settings)
  found = [
    loop.train([config], spec, variables, source, [], CLASSES, tmp_path / name)
    for name, source in (('busy', busy), ('void', void))
  ]
  for ours, wanted in zip(*map(jax.tree.leaves, found), strict=True):
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-7)
  assert 'were left out: the lattice of the CRF-RNN' in caplog.text


@pytest.mark.parametrize('way, batch, parts, multiple', [
  ('pmap', 4, 1, 8), ('pmap', 8, 2, 16), ('mesh', 5, 1, 2),
])  # fmt: skip
def test_a_batch_that_processes_can_not_share(monkeypatch, way, batch, parts, multiple):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  settings = dict(crop=(4, 8), parallelism=way, grad_accum_steps=parts)
  with pytest.raises(InputError, match=f'`batch_size={batch}` can not be shared .* {multiple}$'):
    loop.check(StageConfig('front_end', 1, batch_size=batch, **settings), SPEC)
  loop.check(StageConfig('front_end', 1, batch_size=16, **settings), SPEC)


@pytest.mark.parametrize(
  'config, words',
  [
    (StageConfig('front_end', 5, crop=(4, 7)), '`crop=4x7`: both must be multiples of 2'),
    (
      StageConfig('front_end', 5, batch_size=6, grad_accum_steps=4),
      '`batch_size=6` can not be cut into equal parts by `grad_accum_steps=4`',
    ),
    (
      StageConfig('front_end', 5, crop=(6, 8), parallelism='mesh', mesh_height=2),
      '`crop=6x8`: 2 bands of the mesh need a height of 8 or more',
    ),
    (StageConfig('crf', 5, crop=(4, 8)), '`crop` is not read: stage crf learns from maps'),
  ],
)
def test_a_wrong_stage_is_refused_before_the_first_begins(tmp_path, config, words):
  first = StageConfig('context', 5, **MAPS)
  with pytest.raises(InputError, match=words):
    run(tmp_path, [first, config])
  assert not list(tmp_path.iterdir())


def test_factors_on_the_rate_of_layers_that_nothing_trains(tmp_path):
  wrong = OptimizerOptions(lr_multipliers=('conv1_1:2', 'ctx_*:0.5', 'fc8:10'))
  two = [StageConfig(stage, 5, optimizer=wrong, **MAPS) for stage in ('front_end', 'context')]
  listed = 'context/ctx_conv1_1, .*front_end/conv1_1, front_end/fc6'
  with pytest.raises(InputError, match=f"^`lr_multipliers` has 'fc8:10', which fits .*: {listed}"):
    run(tmp_path, two)
  with pytest.raises(InputError, match=r"has 'ctx_.:0.5', which"):  # The context module stays.
    run(tmp_path, two[:1])
  assert not list(tmp_path.iterdir())


def test_crops_of_cells_at_corners():
  """DeepLab's 321 and PSPNet's 473 pixels: one more than a multiple of the stride."""
  deeplab = ModelSpec('deeplab_largefov', {'width': 1 / 16}, CLASSES.names, CLASSES.palette, MEAN)
  loop.check(StageConfig('front_end', 5, crop=(321, 473)), deeplab)
  with pytest.raises(InputError, match='321x322`: both must be multiples of 8, or one pixel more'):
    loop.check(StageConfig('front_end', 5, crop=(321, 322)), deeplab)
  mesh = StageConfig('front_end', 5, crop=(321, 320), parallelism='mesh')
  with pytest.raises(InputError, match=r'321x320`: both must be multiples of 8$'):
    loop.check(mesh, deeplab)


def test_a_context_stage_needs_a_context_module(tmp_path):
  options = {name: value for name, value in OPTIONS.items() if name != 'dilations'}
  spec = ModelSpec('front_end', options, CLASSES.names, CLASSES.palette, MEAN)
  variables = {kind: {'front_end': parts['front_end']} for kind, parts in started().items()}
  with pytest.raises(InputError, match='stage context trains a context module; front_end has none'):
    loop.train(TWO, spec, variables, TRAIN, VAL, CLASSES, tmp_path)
  assert not list(tmp_path.iterdir())


def test_no_pictures(tmp_path):
  with pytest.raises(InputError, match='no image to learn from'):
    run(tmp_path, train=[])


def test_feature_folder_of_ones_own(tmp_path):
  config = StageConfig('context', 1, feature_dir=str(tmp_path / 'maps'), **MAPS)
  run(tmp_path / 'run', [config], val=[])
  assert len(list((tmp_path / 'maps').glob('*.npy'))) == 1
  assert not (tmp_path / 'run/context/features').exists()


def test_another_run_in_the_same_folder_is_refused(tmp_path):
  settings = {'num_steps': [3], 'seed': 0, 'blocks': (1, 1)}
  workdir.check_or_save_config(tmp_path, settings)
  assert json.loads((tmp_path / 'config.json').read_text())['seed'] == 0
  # Nothing is trained yet: a slip of the pen can be mended.
  workdir.check_or_save_config(tmp_path, {**settings, 'seed': 1})
  workdir.check_or_save_config(tmp_path, settings)
  (tmp_path / 'checkpoints' / '1').mkdir(parents=True)

  workdir.check_or_save_config(tmp_path, settings)
  before = (tmp_path / 'config.json').read_bytes()
  with pytest.raises(
    InputError, match=r'another run: num_steps is \[4\] and was \[3\]; seed is 2'
  ) as raised:
    workdir.check_or_save_config(tmp_path, {**settings, 'num_steps': [4], 'seed': 2})
  assert '\n' not in str(raised.value) and 'blocks' not in str(raised.value)
  assert (tmp_path / 'config.json').read_bytes() == before


def test_a_run_of_an_older_version_is_continued(tmp_path):
  old = {'seed': 1, 'optimizer': {'name': 'adamw'}}
  (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
  (tmp_path / 'config.json').write_text(json.dumps(old))
  defaults = {'seed': 0, 'size': (1, 1), 'optimizer': {'name': 'sgd', 'power': 0.9}}
  new = {'seed': 1, 'size': (1, 1), 'optimizer': {'name': 'adamw', 'power': 0.9}}
  for changed in ({'size': (2, 1)}, {'optimizer': {'name': 'adamw', 'power': 1.0}}):
    with pytest.raises(InputError, match=f'another run: {next(iter(changed))} is'):
      workdir.check_or_save_config(tmp_path, {**new, **changed}, defaults=defaults)
  workdir.check_or_save_config(tmp_path, new, defaults=defaults)
  assert json.loads((tmp_path / 'config.json').read_text()) == {**new, 'size': [1, 1]}


def test_initialize_is_the_models_own_and_depends_on_the_seed():
  options = {'blocks': [1], 'width': 1 / 32, 'stride': 1, 'fc_kernel': 1, 'fc_channels': 2}
  model = ModelSpec('front_end', options, CLASSES.names, CLASSES.palette, MEAN).create()
  kernels = [
    loop.init_variables(model, seed)['params']['front_end']['final']['kernel'] for seed in (0, 1, 0)
  ]
  assert (kernels[0] == kernels[2]).all() and (kernels[0] != kernels[1]).all()


def test_progress_is_logged(unbroken, caplog):
  logging.set_verbosity(logging.INFO)
  report = RunLogger(Writers(unbroken[0] / 'elsewhere'), 'context', 10)
  with caplog.at_level('INFO', logger='absl'):
    report(3, loss=0.123456)
  assert 'context 3/10  loss 0.1235' in caplog.text

"""stages.py: what each stage runs, trains, feeds and leaves; and one stage in its three steps."""

import contextlib
import dataclasses
import pathlib

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.data import statistics
from dilated_jax.errors import InputError
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.training import checkpoints, loop, optimizers, stage_run, step as train_step
from dilated_jax.training.config import StageConfig
from dilated_jax.training.run_logger import RunLogger
from dilated_jax.training.stages import STAGES
from dilated_jax.training.trackers import Writers
from dilated_jax.training.validation import Validation

# Orbax says so when a checkpoint is read without being told for which devices.
pytestmark = pytest.mark.filterwarnings('ignore:Sharding info not provided:UserWarning')

MEAN = (100.0, 110.0, 120.0)
CLASSES = LabelSpec('toys', ('a', 'b', 'c'), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), MEAN)
OPTIONS = {
  'blocks': [1], 'width': 1 / 16, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4, 'norm': 'batch',
  'dilations': [1, 2, 1], 'crf': 'rnn',
}  # fmt: skip
SPEC = ModelSpec('dilation8', OPTIONS, CLASSES.names, CLASSES.palette, MEAN)
COMMON = dict(batch_size=2, crop=(4, 8), log_every=1, threads=1)
# Stage, what it trains, the parts of the network that it leaves.
LEFT = {
  'front_end': (['front_end'], ('front_end',)),
  'context': (['context'], ('front_end', 'context')),
  'crf': (['crf'], ('front_end', 'context', 'crf')),
  'joint': (['front_end', 'context', 'crf'], ('front_end', 'context', 'crf')),
}


def examples(count, seed=0):
  rng = np.random.default_rng(seed)
  return [
    {'image': rng.integers(0, 256, (8, 12, 3), dtype=np.uint8),
     'label': rng.integers(0, 3, (8, 12)).astype(np.uint8), 'name': str(i)}
    for i in range(count)
  ]  # fmt: skip


@pytest.fixture(scope='module')
def variables():
  model, rng = SPEC.create(), np.random.default_rng(0)
  side = 2 * model.margin + 2
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, side, side, 3), 'float32')
  )
  return jax.tree.map(lambda x: np.abs(0.3 * rng.standard_normal(x.shape, np.float32)), shapes)


def test_all_stages_are_here():
  assert list(STAGES) == list(LEFT) == ['front_end', 'context', 'crf', 'joint']
  assert all(stage.name == name for name, stage in STAGES.items())


@pytest.mark.parametrize('name', LEFT)
def test_set_up(name, variables, tmp_path):
  trains, parts = LEFT[name]
  config = StageConfig(name, 3, **COMMON)
  run = stage_run.set_up(config, SPEC, variables, examples(4), CLASSES, tmp_path)
  model = run.spec.create()
  assert model.parts == parts and model == STAGES[name].network(SPEC.create())
  assert set(run.variables['params']) == set(parts)
  assert sorted(run.state.params) == sorted(trains) and int(run.state.step) == 0
  assert run.folder == tmp_path / name
  example = run.input.transform(run.input.source[0], np.random.default_rng(0))
  frozen = name in ('context', 'crf')
  assert ('features' in example) == frozen and ('image' in example) == (name != 'context')
  # What the stage feeds is what its method takes.
  batch = {key: jnp.asarray(value)[None] for key, value in example.items()}
  inputs = STAGES[name].inputs(batch, jnp.asarray(MEAN).reshape(1, 1, 1, 3))
  logits = jax.eval_shape(
    lambda *x: model.apply(run.variables, *x, method=STAGES[name].method), *inputs
  )
  assert logits.shape[0] == 1 and logits.shape[-1] == 3
  # The network made so far, before a step: as it began.
  made = run.segmenter(run.state)
  jax.tree.map(np.testing.assert_array_equal, made.variables, run.variables)


@pytest.mark.parametrize(
  'crop, expected', [((0, 0), (10, 14)), ((0, 4), (10, 4)), ((6, 0), (6, 14)), ((4, 8), (4, 8))]
)
def test_without_a_crop_every_image_is_whole(crop, expected, variables, tmp_path, caplog):
  logging.set_verbosity(logging.INFO)
  source = [
    {'image': np.zeros((*size, 3), np.uint8), 'label': np.full(size, i, np.uint8)}
    for i, size in enumerate([(3, 4), (9, 6), (5, 13)])
  ]
  config = StageConfig('front_end', 3, batch_size=2, crop=crop, threads=1)
  with caplog.at_level('INFO', logger='absl'):
    run = stage_run.set_up(config, SPEC, variables, source, CLASSES, tmp_path)
  assert ('whole images of 3 sizes are trained: ' in caplog.text) == (0 in crop)
  for index, example in enumerate(source):
    label = run.input.transform(example, np.random.default_rng(0))['label']
    known = [min(n, size) for n, size in zip(expected, example['label'].shape)]
    assert label.shape == expected and (label == index).sum() == known[0] * known[1]


@pytest.mark.parametrize('stage', ['context', 'crf'])
@pytest.mark.parametrize('resolution', ['grid', 'full'])
def test_mirrored_features_meet_their_labels(stage, resolution, variables, tmp_path):
  """Cell j of the mirrored features meets the label that cell W - 1 - j met."""
  config = StageConfig(stage, 3, loss_resolution=resolution, batch_size=2, threads=1)
  run = stage_run.set_up(config, SPEC, variables, examples(2), CLASSES, tmp_path)
  example, mirrored = run.input.source[0], None
  for seed in range(20):
    found = run.input.transform(run.input.source[0], np.random.default_rng(seed))
    if (found['features'] != example['features']).any():
      mirrored = found
  assert mirrored is not None
  np.testing.assert_array_equal(mirrored['features'], example['features'][:, ::-1])
  # On the grid, labels are those of pixels 0, stride, ...; at full size, all of them.
  stride = run.spec.create().stride if resolution == 'grid' else 1
  wanted = example['label'][:, ::stride][:, ::-1]
  np.testing.assert_array_equal(mirrored['label'][:, ::stride], wanted)
  if stage == 'crf':  # The CRF-RNN averages the colors of the pixels of each cell.
    np.testing.assert_array_equal(mirrored['image'], example['image'][:, ::-1])


def test_loss_and_learning_rate_are_the_configs(variables, tmp_path):
  settings = dict(class_weights='median', label_smoothing=0.3, jaccard_loss=0.2)
  config = StageConfig('front_end', 4, **settings, **COMMON)
  source = examples(4)
  spec = dataclasses.replace(SPEC, options={**OPTIONS, 'dropout': 0})  # Devices would drop others.
  run = stage_run.set_up(config, spec, variables, source, CLASSES, tmp_path)
  assert float(run.learning_rate(0)) == pytest.approx(config.optimizer.learning_rate)

  with contextlib.closing(run.input.batches(config, 0)) as batches:
    batch = next(batches)
  state = run.runner.put_state(run.state)
  _, metrics = run.runner.step(state, run.runner.put([batch]))
  settings['class_weights'] = statistics.class_weights(source, CLASSES.num_classes, 'median')
  optimizer = optimizers.create(config.optimizer, config.num_steps)
  stage = STAGES['front_end']
  step = train_step.make_step(spec.create(), stage, optimizer, spec.mean, **settings)
  _, expected = jax.jit(step)(run.state, batch)
  found = float(np.ravel(metrics['loss'])[0])
  assert found == pytest.approx(float(expected['loss']), rel=1e-4)


class Manager:
  """Checkpoints in memory."""

  def __init__(self, latest=None):
    self.saved, self.latest = {}, latest

  def latest_step(self):
    return max(self.saved, default=self.latest)

  def reached_preemption(self, step):
    return False

  def wait_until_finished(self):
    pass


@pytest.fixture
def in_memory(monkeypatch):
  def save(manager, step, state, score):
    manager.saved[step] = (jax.device_get(state), score)

  monkeypatch.setattr(checkpoints, 'save', save)
  monkeypatch.setattr(checkpoints, 'restore', lambda manager, step, like: manager.saved[step][0])
  return Manager()


def steps(run, manager, workdir, val=(), terminated=lambda: False):
  logger = RunLogger(Writers(workdir), run.config.stage, run.config.num_steps)
  with contextlib.closing(logger):
    return stage_run.run_steps(run, manager, logger, Validation(val, CLASSES), terminated)


def test_run_steps_alone(variables, tmp_path, in_memory):
  config = StageConfig('front_end', 4, **COMMON, eval_every=2, ema_decay=0.5)
  run = stage_run.set_up(config, SPEC, variables, examples(4), CLASSES, tmp_path)
  state = steps(run, in_memory, tmp_path, examples(2, 1))
  assert int(state.step) == 4 and sorted(in_memory.saved) == [2, 4]
  assert all(0 <= score <= 1 for _, score in in_memory.saved.values())

  # Stopped after step 2, and continued from its checkpoint: the same to the last bit.
  other, calls = Manager(), []
  run = stage_run.set_up(config, SPEC, variables, examples(4), CLASSES, tmp_path)
  with pytest.raises(stage_run.Preempted, match='front_end is saved after step 2'):
    steps(run, other, tmp_path, terminated=lambda: calls.append(1) or len(calls) == 2)
  run = stage_run.set_up(config, SPEC, variables, examples(4), CLASSES, tmp_path)
  continued = steps(run, other, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, continued.params, state.params)
  jax.tree.map(np.testing.assert_array_equal, continued.average, state.average)

  # What is scored, written, and handed to the next stage.
  made = run.segmenter(state).variables['params']['front_end']
  jax.tree.map(np.testing.assert_array_equal, made, state.average['params']['front_end'])


def test_finish_alone(variables, tmp_path, in_memory, caplog):
  logging.set_verbosity(logging.INFO)
  config = StageConfig('context', 2, **COMMON)
  run = stage_run.set_up(config, SPEC, variables, examples(4), CLASSES, tmp_path)
  better = run.state.replace(params=jax.tree.map(lambda x: x + 1, run.state.params))
  in_memory.saved = {1: (better, 0.9), 2: (run.state, 0.1)}
  in_memory.best_step = lambda: 1
  in_memory.metrics = lambda step: {'mean_iou': in_memory.saved[step][1]}
  folder = pathlib.Path(tmp_path) / 'context'

  def check(found, expected):
    jax.tree.map(
      np.testing.assert_array_equal, found['params']['context'], expected.params['context']
    )
    assert set(found['params']) == {'front_end', 'context'}

  # Without validation images there is nothing to choose by.
  check(stage_run.finish(run, in_memory, run.state, by_score=False), run.state)
  assert not (folder / 'weights_last').exists()
  with caplog.at_level('INFO', logger='absl'):
    check(stage_run.finish(run, in_memory, run.state, by_score=True), better)
  check(weights_folder.load_weights(folder / 'weights').variables, better)
  check(weights_folder.load_weights(folder / 'weights_last').variables, run.state)
  assert f'{folder}/weights: step 1 of 2, mean IoU 90.0 on val' in caplog.text
  assert f'{folder}/weights_last: step 2 of 2, mean IoU 10.0 on val' in caplog.text


@pytest.mark.parametrize('val', [[], examples(3)])
def test_validation(val, variables):
  validation = Validation(val, CLASSES)
  assert bool(validation) == bool(val)
  if val:
    segmenter = Segmenter.from_spec(SPEC.without_crf(), variables)
    scores = validation.scores(segmenter)
    assert set(scores['per_class_iou']) == {'a', 'b', 'c'}
    grid = validation.image_grid(segmenter, count=2)
    assert grid.dtype == np.uint8 and grid.shape[2] == 3


@pytest.mark.parametrize('of', ['training', 'validation'])
def test_images_without_a_labeled_pixel(of, variables, tmp_path):
  """Are refused before the first step."""
  void = [{**example, 'label': np.full((8, 12), 255, np.uint8)} for example in examples(2)]
  sources = [void if of == which else examples(1) for which in ('training', 'validation')]
  spec = SPEC.without_context()
  with pytest.raises(InputError, match=f'no pixel of the {of} images has a class'):
    loop.train([StageConfig('front_end', 1)], spec, variables, *sources, CLASSES, tmp_path)
  assert not list(tmp_path.iterdir())

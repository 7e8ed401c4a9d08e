"""A CRF-RNN behind a network: its parameters, its gradients, its stage of training, predictions."""

import flax.traverse_util
import jax
import numpy as np
import pytest

from dilated_jax import inference, models
from dilated_jax.crf import CrfRnn
from dilated_jax.errors import InputError
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn import ops
from dilated_jax.training import loop, stages
from dilated_jax.training.config import OptimizerOptions, StageConfig

NARROW = {
  'blocks': (1,), 'width': 1 / 16, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4,
  'dilations': (1, 2, 1), 'norm': 'batch',
}  # fmt: skip
CLASSES = LabelSpec('toys', ('a', 'b', 'c'), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), (90.0, 90.0, 90.0))


def created(grid, **options):
  return models.create('dilation8', 3, crf='rnn', crf_rnn_grid=grid, **NARROW, **options)


def started(model, seed=0):
  rng = np.random.default_rng(seed)
  shapes = weights_folder.abstract_variables(model)
  drawn = jax.tree.map(lambda x: np.abs(0.3 * rng.standard_normal(x.shape, np.float32)), shapes)
  for name, value in (('spatial', 3), ('bilateral', 5), ('compatibility', 1)):
    drawn['params']['crf'][name] = value * np.eye(3, dtype=np.float32)
  return drawn


@pytest.mark.parametrize('grid', ['cells', 'pixels'])
def test_it_is_the_network_and_then_the_layer(grid):
  model, plain = created(grid, crf_rnn_iterations=3), models.create('dilation8', 3, **NARROW)
  variables = started(model)
  paths = flax.traverse_util.flatten_dict(variables['params'], sep='/')
  assert {'front_end/conv1_1/kernel', 'context/ctx_final/bias', 'crf/spatial'} <= set(paths)
  assert (model.stride, model.margin) == (plain.stride, plain.margin)
  assert (model.full_size, plain.full_size) == (grid == 'pixels', False)
  margin = model.margin
  images = np.random.default_rng(0).uniform(
    -99, 99, (1, 8 + 2 * margin, 12 + 2 * margin, 3)
  ).astype(np.float32)  # fmt: skip
  logits = jax.jit(plain.apply)(variables, images)
  inner = images[:, margin:-margin, margin:-margin]
  if grid == 'pixels':
    logits = ops.resize_corner(logits, 2)
    layer = CrfRnn(3, test_iterations=3)
  else:
    layer = CrfRnn(3, test_iterations=3, stride=2, method='exact')
  expected = jax.jit(layer.apply)({'params': variables['params']['crf']}, logits, inner)
  found = jax.jit(model.apply)(variables, images)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_front_end():
  model = created('cells')
  variables = started(model)
  side = 2 * model.margin + 8
  images = np.random.default_rng(0).uniform(-99, 99, (2, side, side, 3)).astype(np.float32)

  def loss(params):
    given = {**variables, 'params': params}
    options = {'train': True, 'mutable': ['batch_stats'], 'rngs': {'dropout': jax.random.key(0)}}
    out, _ = model.apply(given, images, **options)
    return (out[..., 0] ** 2).sum()

  norms = jax.tree.map(np.linalg.norm, jax.jit(jax.grad(loss))(variables['params']))
  assert norms['crf']['spatial'] > 0 and norms['front_end']['conv1_1']['kernel'] > 0


def pictures(count, seed):
  rng = np.random.default_rng(seed)
  return [
    {'image': rng.integers(0, 256, (8, 12, 3), dtype=np.uint8),
     'label': rng.integers(0, 3, (8, 12)).astype(np.uint8), 'name': str(i)}
    for i in range(count)
  ]  # fmt: skip


@pytest.mark.filterwarnings('ignore:Sharding info not provided:UserWarning')
def test_stages_with_and_without_it(tmp_path):
  options = {**NARROW, 'crf': 'rnn'}
  spec = ModelSpec('dilation8', options, CLASSES.names, CLASSES.palette, CLASSES.mean)
  common = dict(num_steps=2, batch_size=2, log_every=1, threads=1)
  common['optimizer'] = OptimizerOptions(learning_rate=1e-2)
  configs = [StageConfig(stage, **common) for stage in ('context', 'crf')]
  configs.append(StageConfig('joint', crop=(4, 8), **common))
  before = started(spec.create())
  loop.train(configs, spec, before, pictures(4, 0), pictures(2, 1), CLASSES, tmp_path)
  made = {
    stage: weights_folder.load_weights(tmp_path / stage / 'weights')
    for stage in ('context', 'crf', 'joint')
  }
  assert 'crf' not in made['context'].spec.options and 'crf' not in made['context'][1]['params']
  context, crf, joint = (made[stage][1]['params'] for stage in ('context', 'crf', 'joint'))
  same = jax.tree.map(lambda a, b: (a == b).all(), context['front_end'], crf['front_end'])
  assert all(jax.tree.leaves(same))  # The network is frozen, its statistics too.
  jax.tree.map(
    np.testing.assert_array_equal,
    *(made[stage][1]['batch_stats'] for stage in ('context', 'crf')),
  )
  assert (crf['crf']['spatial'] != before['params']['crf']['spatial']).any()
  assert (joint['front_end']['final']['kernel'] != crf['front_end']['final']['kernel']).any()
  assert (joint['crf']['bilateral'] != crf['crf']['bilateral']).any()


def test_predictions_of_odd_sizes_and_by_tiles():
  options = {**NARROW, 'crf': 'rnn', 'norm': 'none'}
  for grid in ('cells', 'pixels'):
    spec = ModelSpec(
      'dilation8', {**options, 'crf_rnn_grid': grid}, CLASSES.names, CLASSES.palette, CLASSES.mean
    )
    model = spec.create()
    variables = started(model)
    image = np.random.default_rng(0).integers(0, 256, (21, 33, 3), np.uint8)
    whole = inference.predict(Segmenter(model, variables, spec), image)
    assert whole.labels.shape == (21, 33)
    assert whole.logits.shape == ((21, 33, 3) if grid == 'pixels' else (11, 17, 3))
    side = 2 * model.margin + 12
    tiled = inference.predict(Segmenter(model, variables, spec), image, tile=(side, side))
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-4)


@pytest.mark.parametrize('name', ['fcn8s', 'deeplab_largefov', 'pspnet'])
def test_behind_networks_that_pad_inside(name):
  options = {'width': 1 / 32, 'crf': 'rnn', 'crf_rnn_iterations': 1}
  if name == 'pspnet':
    options |= {'blocks': [1, 1, 1, 1]}
  if name == 'fcn8s':
    options |= {'crf_rnn_grid': 'pixels'}
  spec = ModelSpec(name, options, CLASSES.names, CLASSES.palette, CLASSES.mean)
  model = spec.create()
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), 'float32')
  )
  rng = np.random.default_rng(0)
  variables = jax.tree.map(lambda x: np.abs(0.1 * rng.standard_normal(x.shape, np.float32)), shapes)
  image = rng.integers(0, 256, (41, 53, 3), np.uint8)
  found = inference.predict(Segmenter(model, variables, spec), image)
  assert found.labels.shape == (41, 53) and np.isfinite(found.probabilities).all()


def test_joint_needs_something_to_join(tmp_path):
  spec = ModelSpec('front_end', {}, CLASSES.names, CLASSES.palette, CLASSES.mean)
  for stage in ('crf', 'joint'):
    with pytest.raises(InputError, match=f'stage {stage} trains a .*; front_end has none'):
      loop.train(
        [StageConfig(stage, 1)],
        spec,
        {'params': {'front_end': {}}},
        [1],
        [],
        CLASSES,
        tmp_path,
      )
  assert stages.STAGES['joint'].trains == ('front_end', 'context', 'crf')


@pytest.mark.parametrize(
  'options, words',
  [
    ({'crf': 'yes'}, "crf is 'yes'; choose none or rnn"),
    ({'crf': 'rnn', 'crf_rnn_grid': 'rows'}, "crf_rnn_grid is 'rows'; choose cells or pixels"),
    ({'crf': 'rnn', 'crf_rnn_bandwidths': [3]}, 'crf_rnn_bandwidths is .* must be 2 numbers'),
    ({'crf': 'rnn', 'crf_rnn_bandwidths': [float('nan'), 3]}, 'each must be a number'),
    ({'crf': 'rnn', 'crf_rnn_iterations': -1}, 'crf_rnn_iterations is -1; must be 0 or more'),
    ({'crf_rnn_grid': 'cells'}, "crf_rnn_grid: there is no CRF-RNN; give `crf='rnn'` too"),
  ],
)
def test_wrong_options(options, words):
  with pytest.raises(InputError, match=words):
    models.create('dilation8', 3, **options)

"""Networks of others where those of the paper are at home: stages, features, prediction, tiles."""

import functools

import jax
import numpy as np
import pytest

from dilated_jax import inference, models
from dilated_jax.errors import InputError
from dilated_jax.inference import prediction as prediction_lib
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn import ops
from dilated_jax.training import feature_cache, loop, optimizers, stage_run, step as train_step
from dilated_jax.training.config import OptimizerOptions, StageConfig
from dilated_jax.training.stages import STAGES
from tests.models.random_inputs import pictures as drawn_pictures, variables_of

pytestmark = [
  pytest.mark.filterwarnings('ignore:Sharding info not provided:UserWarning'),
]
MEAN = (100.0, 110.0, 120.0)
CLASSES = LabelSpec('toys', ('a', 'b', 'c'), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), MEAN)
VGG = {'blocks': (1, 1, 1, 1, 1), 'width': 1 / 32, 'fc_channels': 4}
RESNET = {'blocks': (1, 1, 1, 1), 'width': 1 / 32}
NETWORKS = {
  'fcn32s': VGG,
  'fcn8s': VGG,
  'deeplab': VGG,
  'deeplab_largefov': VGG,
  'deeplab_msc': VGG,
  'deeplab_v2': {**VGG, 'multi_scale': True},
  'deeplab_v3': RESNET,
  'pspnet': RESNET,
  'fcn_resnet': RESNET,
}
SHORT = {'context': 'basic', 'dilations': (1, 2, 1)}


def spec_of(name, upsampling, **more):
  options = NETWORKS[name] | more
  return ModelSpec(name, options, CLASSES.names, CLASSES.palette, MEAN, upsampling=upsampling)


def pictures(count, height=24, width=37):
  rng = np.random.default_rng(0)
  return [
    {'image': rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
     'label': rng.integers(0, 3, (height, width)).astype(np.uint8), 'name': str(i)}
    for i in range(count)
  ]  # fmt: skip


@pytest.mark.parametrize('name', NETWORKS)
def test_a_picture_of_odd_size_is_labeled(name):
  upsampling = 'corner' if name == 'deeplab_largefov' else 'deconvolution'
  spec = spec_of(name, upsampling, **SHORT)
  model = spec.create()
  variables, image = variables_of(model), pictures(1, 35, 51)[0]['image']
  rest = [(0, -side % model.stride) for side in image.shape[:2]]
  fed = np.pad(image, (*rest, (0, 0)), mode='reflect')[None] - np.array(MEAN, np.float32)
  logits = jax.jit(model.apply)(variables, fed)
  found = inference.predict(Segmenter(model, variables, spec), image)
  if model.full_size:
    expected = jax.nn.softmax(logits)
    logits = logits[:, :35, :51]
  elif upsampling == 'corner':
    expected = ops.resize_corner(jax.nn.softmax(logits), model.stride)
  else:
    expected = jax.nn.softmax(ops.deconvolution(logits, model.stride))
  assert found.labels.shape == (35, 51) and found.probabilities.shape == (35, 51, 3)
  np.testing.assert_allclose(found.probabilities, expected[0, :35, :51], atol=1e-4)
  scale = np.abs(logits).max()
  np.testing.assert_allclose(found.logits, logits[0], atol=1e-4 * scale)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, labels, more, several',
  [
    ('fcn8s', 'grid', {}, ('front_end', 'context', 'joint')),
    # Its context alone is trained in test_mirrored_maps_meet_their_labels.
    ('fcn_resnet', 'full', {'auxiliary': True}, ('front_end', 'joint')),
  ],
)
def test_all_stages(name, labels, more, several, tmp_path):
  upsampling = 'corner' if labels == 'grid' else 'deconvolution'
  spec = spec_of(name, upsampling, **SHORT, **more)
  optimizer = OptimizerOptions('adamw', 1e-3)
  configs = [
    StageConfig(stage, 2, batch_size=1, optimizer=optimizer, loss_resolution=labels, threads=1)
    for stage in several
  ]
  train, val = pictures(2), pictures(1, 21, 40) if name == 'fcn8s' else []
  variables = variables_of(spec.create())
  with jax.numpy_dtype_promotion('standard'):  # For optax's AdamW.
    found = loop.train(configs, spec, variables, train, val, CLASSES, tmp_path)
  for path, leaf in jax.tree_util.tree_leaves_with_path(found['params']):
    before = variables['params']
    for key in path:
      before = before[key.key]
    assert (np.asarray(leaf) != before).any(), path
  alone = weights_folder.load_weights(tmp_path / 'front_end' / 'weights').spec
  assert (alone.model, 'context' in alone.options) == (name, False)
  assert alone.create() == spec.create().without_context()
  whole = weights_folder.load_weights(tmp_path / 'weights')
  assert whole.spec.create() == whole.model == spec.create()


@pytest.mark.parametrize('resolution', ['grid', 'full'])
@pytest.mark.parametrize('name', ['fcn8s', 'deeplab', 'fcn_resnet'])
def test_mirrored_maps_meet_their_labels(name, resolution, tmp_path):
  """Through a context module that is its own mirror image, their loss is that of the others."""
  model = models.create(name, 3, **NETWORKS[name], **SHORT)
  variables = variables_of(model)
  context = variables['params']['context']
  for layer in context.values():
    layer['kernel'] = layer['kernel'] + layer['kernel'][:, ::-1]
  frozen = model.without_context()
  source = feature_cache.cached_features(frozen, variables, MEAN, pictures(2), tmp_path)
  config = StageConfig('context', loss_resolution=resolution)
  flip = stage_run.feature_flip(config, STAGES['context'], model)
  seeds = [seed for seed in range(9) if np.random.default_rng(seed).random() >= 0.5][:2]
  mirrored = flip(source[0], np.random.default_rng(seeds[0]))
  # Turned twice, what has no place on the other side has no label either.
  example = flip(mirrored, np.random.default_rng(seeds[1]))
  np.testing.assert_array_equal(example['features'], source[0]['features'])
  known = example['label'] != 255
  np.testing.assert_array_equal(example['label'][known], source[0]['label'][known])
  assert known.sum() > 0.5 * (source[0]['label'] != 255).sum()

  optimizer = optimizers.create(OptimizerOptions('sgd', 0.0), 1)
  make = train_step.make_step(
    model, STAGES['context'], optimizer, MEAN, loss_resolution=resolution
  )  # fmt: skip
  state = train_step.create_state(variables, STAGES['context'], optimizer, jax.random.key(0))
  loss = jax.jit(lambda *given: make(*given)[1]['loss'])  # The gradients are not compiled.
  losses = [
    float(loss(state, {key: array[None] for key, array in one.items()}))
    for one in (example, mirrored)
  ]
  assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0] > 0.1


@pytest.mark.parametrize('name', ['fcn8s', 'deeplab_v3'])
def test_pictures_are_seen_as_a_whole(name, monkeypatch):
  spec = spec_of(name, 'deconvolution')
  model = spec.create()
  variables, image = variables_of(model), pictures(1, 32, 48)[0]['image']
  whole = inference.predict(Segmenter(model, variables, spec), image)
  monkeypatch.setattr(prediction_lib, 'memory', lambda: 1)
  found = inference.predict(Segmenter(model, variables, spec), image)
  np.testing.assert_array_equal(found.logits, whole.logits)
  with pytest.raises(InputError, match='32x32 does not hold the image'):
    inference.predict(Segmenter(model, variables, spec), image, tile=(32, 32))


def test_the_context_starts_as_the_identity():
  """On scores that are not negative: `--init` of a trained scorer begins where that ended."""
  model = models.create('deeplab', 3, **VGG, **SHORT)
  scores = np.random.default_rng(0).uniform(0, 9, (1, 6, 7, 3)).astype(np.float32)
  variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 17, 17, 3), np.float32))
  apply = jax.jit(model.apply, static_argnames='method')
  found = apply(variables, scores, method='apply_context')
  np.testing.assert_allclose(found, scores, atol=2)


@pytest.mark.parametrize('name', NETWORKS)
def test_the_large_context_keeps_the_size(name):
  images = np.zeros((1, 33, 38, 3), np.float32)
  shapes = set()
  for context in ('none', 'basic', 'large'):
    model = models.create(name, 3, context=context, **NETWORKS[name])
    assert ('ctx_final' in {layer.name for layer in model.table}) == (context != 'none')
    shapes.add(jax.eval_shape(model.init_with_output, jax.random.key(0), images)[0].shape)
  assert len(shapes) == 1


def test_without_context():
  for name in models.NAMES:
    options = {'width': 0.5} | ({} if name == 'front_end' else {'context': 'none'})
    alone, left = models.registry.without_context(name, options)
    paper = name == 'front_end' or name.startswith('dilation')
    assert (alone, left) == ('front_end' if paper else name, {'width': 0.5})
    models.create(alone, 5, **left)
  plain = models.create('dilation8', 5, context='none')
  assert plain == models.create('front_end', 5)


@jax.numpy_dtype_promotion('standard')  # Flax's normalization mixes dtypes.
@pytest.mark.parametrize('name', NETWORKS)
def test_bfloat16_and_remat_change_no_shape(name):
  plain, half = (
    models.create(name, 3, **NETWORKS[name], **SHORT, **more)
    for more in ({}, {'dtype': 'bfloat16', 'remat': True})
  )
  images = np.zeros((1, 33, 38, 3), np.float32)

  def shapes(model):
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    rngs = {'dropout': jax.random.key(1)}
    train = functools.partial(model.apply, train=True, mutable=['batch_stats'], rngs=rngs)
    return variables, jax.eval_shape(train, variables, images)

  assert shapes(plain) == shapes(half)


def test_remat_changes_no_gradient():
  plain, remat = (
    models.create('fcn_resnet', 3, auxiliary=True, remat=remat, **RESNET) for remat in (False, True)
  )
  variables, images = variables_of(plain), drawn_pictures(17, 17)

  def gradient(model):
    def energy(params):
      logits, updated = model.apply(
        {**variables, 'params': params}, images, train=True,
        mutable=['batch_stats', 'auxiliary'], rngs={'dropout': jax.random.key(0)},
      )  # fmt: skip
      (auxiliary,) = jax.tree.leaves(updated['auxiliary'])
      return (logits**2).sum() + (auxiliary**2).sum()

    return jax.jit(jax.grad(energy))(variables['params'])

  for one, two in zip(jax.tree.leaves(gradient(plain)), jax.tree.leaves(gradient(remat))):
    np.testing.assert_allclose(one, two, rtol=2e-3, atol=2e-3 * np.abs(one).max())

"""models: the networks of the paper, their names, parameters and receptive fields."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.nn import costs, ops, stack

PAPER = [
  ('front_end', 21, {}),
  ('dilation7', 11, {}),
  ('dilation8', 11, {}),
  ('dilation8', 21, {'context': 'large'}),
  ('dilation10', 19, {}),
]
# Deep enough for each kind of layer: two poolings stay, one goes.
NARROW = {'blocks': (1, 1, 1), 'width': 1 / 16, 'stride': 4, 'fc_kernel': 3, 'fc_channels': 6}


def image_of(model, rows=1, columns=1):
  sides = (2 * model.margin + model.stride * n for n in (rows, columns))
  return np.random.default_rng(0).uniform(-99, 99, (2, *sides, 3)).astype(np.float32)


def started(model):
  """Variables drawn by NumPy, as He's initialization: compiling `model.init` takes many seconds."""
  rng = np.random.default_rng(0)

  def leaf(path, shape):
    name = path[-1].key
    if name == 'kernel':
      spread = np.float32(np.sqrt(2 / np.prod(shape.shape[:3])))
      return spread * rng.standard_normal(shape.shape, np.float32)
    return np.full(shape.shape, name in ('scale', 'var'), np.float32)

  return jax.tree_util.tree_map_with_path(leaf, weights_folder.abstract_variables(model))


@pytest.mark.parametrize('name, classes, options', PAPER)
def test_parameters_are_those_of_the_table(name, classes, options):
  model = models.create(name, classes, **options)
  shape = jax.ShapeDtypeStruct((1, 388, 396, 3), 'float32')
  variables = jax.eval_shape(model.init, jax.random.key(0), shape)
  assert list(variables) == ['params']
  leaves = flax.traverse_util.flatten_dict(variables['params'], sep='/')
  assert sum(leaf.size for leaf in leaves.values()) == costs.num_parameters(model.table)
  convolutions = [layer for layer in model.table if layer.kind == 'conv']
  assert set(leaves) == {
    f'{"context" if layer.name.startswith("ctx") else "front_end"}/{layer.name}/{leaf}'
    for layer in convolutions
    for leaf in ('kernel', 'bias')
  }
  assert leaves['front_end/conv1_1/kernel'].shape == (3, 3, 3, 64)
  assert leaves['front_end/fc6/kernel'].shape == (7, 7, 512, 4096)
  logits = jax.eval_shape(model.apply, variables, shape)
  scale = 8 if model.full_size else 1
  assert logits.shape == (1, 2 * scale, 3 * scale, classes) and logits.dtype == jnp.float32


def test_the_whole_published_voc_network_has_141_million_parameters():
  model = models.create('dilation8', 21, context='large')
  variables = jax.eval_shape(
    model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 900, 900, 3), 'float32')
  )
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 141_149_720
  logits = jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct((1, 900, 900, 3), 'float32'))
  assert logits.shape == (1, 66, 66, 21)


def test_layer_by_layer():
  """The network is its table: each row by hand, and nothing besides."""
  model = models.create('dilation8', 3, dilations=(1, 2, 1), **NARROW)
  images = image_of(model, 3, 2)
  variables = started(model)
  rng = np.random.default_rng(1)
  variables = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), variables)
  params = {**variables['params']['front_end'], **variables['params']['context']}
  x = images
  for layer in model.table:
    if layer.kind == 'max_pool':
      x = ops.max_pool(x, layer.kernel, layer.stride)
    else:
      pads = ((layer.padding, layer.padding),) * 2
      x = jax.lax.conv_general_dilated(
        x, params[layer.name]['kernel'], (1, 1), pads, rhs_dilation=(layer.dilation,) * 2,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      )  # fmt: skip
      x = x + params[layer.name]['bias'].reshape(1, 1, 1, -1)
      if layer.name not in ('final', 'ctx_final'):
        x = jnp.maximum(x, 0)
  found = jax.jit(model.apply)(variables, images)
  assert found.shape == (2, 3, 2, 3)
  np.testing.assert_allclose(found, x, rtol=1e-3, atol=1e-3 * float(jnp.abs(x).max()))
  # The two halves make the whole.
  apply = jax.jit(model.apply, static_argnames='method')
  scores = apply(variables, images, method='apply_front_end')
  np.testing.assert_allclose(
    apply(variables, scores, method='apply_context'), found, rtol=1e-4, atol=1e-4
  )


def test_dilation10_ends_in_the_deconvolution():
  options = {**NARROW, 'dilations': (1, 1, 1)}
  model = models.create('dilation10', 3, **options)
  plain = models.create('dilation8', 3, **options)
  images = image_of(model, 3, 2)
  variables = started(model)
  assert jax.tree.structure(variables) == jax.tree.structure(started(plain))
  assert (model.full_size, plain.full_size, model.stride) == (True, False, 4)
  found = jax.jit(model.apply)(variables, images)
  assert found.shape == (2, 12, 8, 3)
  np.testing.assert_allclose(
    found, ops.deconvolution(jax.jit(plain.apply)(variables, images), 4), atol=1e-4
  )


@jax.numpy_dtype_promotion('standard')  # Flax's normalization mixes dtypes.
@pytest.mark.parametrize('norm', ['none', 'batch', 'group'])
def test_bfloat16_answers_in_float32(norm):
  full = models.create(
    'front_end', 3, norm=norm, dropout=0, **{**NARROW, 'width': 1 / 8, 'fc_channels': 16}
  )
  half = models.create(
    'front_end',
    3,
    norm=norm,
    dropout=0,
    dtype='bfloat16',
    **{**NARROW, 'width': 1 / 8, 'fc_channels': 16},
  )
  images = image_of(full, 2, 2) / 99
  variables = started(half)
  shapes = jax.eval_shape(half.init, jax.random.key(0), images)
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  logits = jax.jit(half.apply)(variables, images)
  assert logits.dtype == jnp.float32
  expected = np.asarray(jax.jit(full.apply)(variables, images))
  np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())
  assert (np.asarray(logits) != expected).any()


def test_remat_changes_nothing():
  plain, remat = (
    models.create('front_end', 3, remat=remat, **{**NARROW, 'blocks': (1, 1)})
    for remat in (False, True)
  )
  images = image_of(plain, 2, 2)
  variables = started(plain)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, started(remat))

  def gradient(model):
    def energy(params):
      logits, updated = model.apply(
        {'params': params}, images, train=True, mutable=['batch_stats'],
        rngs={'dropout': jax.random.key(1)},
      )  # fmt: skip
      return (logits**2).sum(), updated

    return jax.jit(jax.grad(energy, has_aux=True))(variables['params'])

  for one, other in zip(jax.tree.leaves(gradient(plain)), jax.tree.leaves(gradient(remat))):
    np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3 * float(jnp.abs(one).max()))


def test_dropout_and_batch_norm_in_training_alone():
  model = models.create('front_end', 3, norm='batch', **NARROW)
  images = image_of(model, 2, 2)
  variables = started(model)
  assert set(variables) == {'params', 'batch_stats'}
  assert set(variables['batch_stats']['front_end']) == {
    f'{layer.name}_norm' for layer in model.table if layer.kind == 'conv' and layer.name != 'final'
  }
  apply = jax.jit(model.apply, static_argnames=('train', 'mutable'))
  np.testing.assert_array_equal(apply(variables, images), apply(variables, images))

  def trained(seed):
    return apply(
      variables, images, train=True, mutable='batch_stats', rngs={'dropout': jax.random.key(seed)}
    )

  (first, updated), (second, _) = trained(0), trained(1)
  assert (np.asarray(first) != second).any()
  old, new = (v['batch_stats']['front_end']['conv1_1_norm']['mean'] for v in (variables, updated))
  assert (np.asarray(old) != new).all()


def test_group_norm_has_eight_channels_a_group_or_one_group():
  for channels, groups in ((4, 1), (8, 1), (16, 2), (24, 2), (64, 8), (512, 32)):
    layer = stack.Layer('conv', kernel=1, channels=channels, norm='group')
    x = np.random.default_rng(0).standard_normal((2, 3, 3, channels)).astype(np.float32)
    model = stack.Stack((layer,))
    params = {
      'conv': {
        'kernel': np.eye(channels, dtype=np.float32)[None, None],
        'bias': np.zeros(channels, np.float32),
      },
      'conv_norm': {'scale': np.ones(channels, np.float32), 'bias': np.zeros(channels, np.float32)},
    }
    found = jax.jit(model.apply)({'params': params}, x)
    grouped = x.reshape(2, 9, groups, -1).astype(np.float64)
    expected = (grouped - grouped.mean((1, 3), keepdims=True)) / np.sqrt(
      grouped.var((1, 3), keepdims=True) + 1e-6
    )
    np.testing.assert_allclose(found, expected.reshape(x.shape), atol=1e-4)


@pytest.mark.parametrize(
  'name, classes, options, words',
  [
    ('dilation9', 5, {}, "'dilation9'; choose one of front_end, dilation7"),
    ('dilation8', 1, {}, '1 classes; it can have 2 to 255'),
    ('dilation8', 21.0, {}, 'a model of 21.0 classes; give a whole number'),
    ('dilation8', 5, {'depth': 3}, "no option 'depth'; it has axis_name, blocks"),
    ('front_end', 5, {'context': 'large'}, "no option 'context'"),
    ('dilation8', 5, {'context': 'huge'}, "context is 'huge'; choose none, basic or large"),
    ('dilation8', 5, {'stride': 5}, 'stride is 5'),
    ('dilation8', 5, {'norm': 'layer'}, "'layer'; choose none, group or batch"),
    ('dilation8', 5, {'dtype': 'float99'}, "'float99'; choose float32 or bfloat16"),
    ('dilation8', 5, {'dilations': [1]}, 'at least 3'),
  ],
)
def test_wrong_names_and_options(name, classes, options, words):
  with pytest.raises(InputError, match=words):
    models.create(name, classes, **options)


def test_too_small_a_picture():
  model = models.create('front_end', 5)
  with pytest.raises(InputError, match='give 380 or more'):
    jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 900, 300, 3), 'float32'))


def test_lists_from_json_will_do():
  one = models.create('dilation8', 5, blocks=[1, 1], dilations=[1, 2, 1], stride=4)
  assert one == models.create('dilation8', 5, blocks=(1, 1), dilations=(1, 2, 1), stride=4)
  assert hash(one) == hash(one.clone())

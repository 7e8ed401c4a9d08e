"""What a context module sees beyond a picture: the same in training and in prediction."""

import jax
import numpy as np
import pytest

from dilated_jax import inference
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.training import feature_cache

CLASSES = ('a', 'b', 'c')
PALETTE = ((9, 0, 0), (0, 9, 0), (0, 0, 9))
MEAN = (100.0, 110.0, 120.0)
NARROW = {'width': 1 / 32, 'fc_channels': 4, 'fc_kernel': 3, 'dropout': 0.0}
VGG = {'blocks': (1, 1, 1, 1, 1)}
NETWORKS = {
  'same': ('dilation8', {'padding': 'same', 'blocks': (1, 1, 1)}),
  'buffer': ('dilation8', {'padding': 'buffer', 'blocks': (1, 1, 1)}),
  'large': ('dilation8', {'context': 'large', 'dilations': (1, 1, 2, 1), 'blocks': (1, 1, 1)}),
  'deconvolution': ('dilation10', {'dilations': (1, 1, 2, 4, 1), 'blocks': (1, 1, 1)}),
  'deeplab': ('deeplab_largefov', {'context': 'basic', **VGG}),
  'fcn': ('fcn8s', {'context': 'basic', 'image_padding': 32, **VGG}),
}


def made(name):
  """A network with weights of any size, biases included."""
  model, options = NETWORKS[name]
  spec = ModelSpec(model, NARROW | options, CLASSES, PALETTE, MEAN)
  network, rng = spec.create(), np.random.default_rng(0)
  shapes = weights_folder.abstract_variables(network)
  variables = jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)
  return Segmenter.from_spec(spec, variables)


def pictures(*sizes):
  rng = np.random.default_rng(1)
  return [
    {'image': rng.integers(0, 256, (*size, 3), dtype=np.uint8),
     'label': rng.integers(0, 3, size).astype(np.uint8), 'name': f'{size}'}
    for size in sizes
  ]  # fmt: skip


@pytest.mark.parametrize('name', NETWORKS)
def test_training_and_prediction_agree_on_the_cells_of_a_small_picture(name, tmp_path):
  segmenter = made(name)
  model, variables, _ = segmenter
  small, large = pictures((37, 50), (64, 72))
  frozen = model.without_context()
  found = feature_cache.cached_features(frozen, variables, MEAN, [small, large], tmp_path)[0]
  own = found['inside']
  assert own.any() and not own.all() and not found['features'][~own].any()
  assert (found['label'] != 255).sum() == small['label'].size

  @jax.jit
  def context(features, inside):
    return model.apply(variables, features, inside, method='apply_context')

  trained = np.asarray(context(found['features'][None], own[None]))[0]
  predicted = inference.predict(segmenter, small['image'], tile='whole').logits
  rows, columns = predicted.shape[:2]
  scale = np.abs(predicted).max()
  assert scale > 0
  np.testing.assert_allclose(trained[:rows, :columns], predicted, rtol=1e-4, atol=1e-5 * scale)
  if name not in ('buffer', 'large'):
    # Zeros around the features alone are not enough: every layer makes something of them.
    loose = np.asarray(context(found['features'][None], np.ones_like(own)[None]))[0]
    assert np.abs(loose[:rows, :columns] - predicted).max() > 1e-3 * scale


@pytest.mark.parametrize('grid, tolerance', [('cells', 1e-5), ('pixels', 1e-3)])
def test_a_crf_rnn_does_not_see_what_lies_beyond_a_picture(grid, tolerance, tmp_path):
  """To rounding by the exact sum; on the lattice, but for points that only others make."""
  name, options = NETWORKS['same']
  crf = {'crf': 'rnn', 'crf_rnn_grid': grid, 'crf_rnn_bandwidths': (20.0, 50.0)}
  spec = ModelSpec(name, NARROW | options | crf, CLASSES, PALETTE, MEAN)
  model, variables = spec.create(), dict(made('same').variables)
  start = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 400, 400, 3), np.float32))
  variables['params'] = {**start['params'], **variables['params']}
  # So weak that it leaves the classes in doubt.
  crf_rnn = variables['params']['crf']
  variables['params']['crf'] = crf_rnn | {'compatibility': 0.1 * crf_rnn['compatibility']}
  small, large = pictures((37, 50), (64, 72))
  for each in small, large:  # Plain areas, as photographs have.
    each['image'] = each['image'][::16, ::16].repeat(16, 0).repeat(16, 1)
    each['image'] = each['image'][: len(each['label']), : len(each['label'][0])]
  frozen = model.without_crf()
  found = feature_cache.cached_features(
    frozen, variables, MEAN, [small, large], tmp_path, method='__call__', with_images=True
  )[0]
  found = {key: np.asarray(found[key])[None] for key in ('features', 'image', 'inside')}

  def refined(inside):
    arrays = found['features'], found['image'], inside
    return np.asarray(jax.nn.softmax(jax.jit(apply)(variables, *arrays)))[0]

  def apply(variables, *arrays):
    return model.apply(variables, *arrays, method='apply_crf')

  segmenter = Segmenter(model, variables, spec)
  logits = inference.predict(segmenter, small['image'], tile='whole').logits
  rows, columns = logits.shape[:2]
  predicted, trained, loose = (
    array[:rows, :columns]
    for array in (jax.nn.softmax(logits), refined(found['inside']), refined(None))
  )
  difference = abs(trained - predicted).mean()
  assert difference <= tolerance and abs(loose - predicted).mean() > 10 * difference


@pytest.mark.parametrize('name', ['same', 'large'])
def test_the_area_on_which_pictures_are_trained_makes_no_difference(name, tmp_path):
  """The authors' features have 66 x 66 cells; ours as many as the largest picture."""
  segmenter = made(name)
  model, variables, _ = segmenter
  small, large, larger = pictures((37, 50), (64, 72), (96, 80))
  frozen = model.without_context()

  def trained(source):
    found = feature_cache.cached_features(frozen, variables, MEAN, source, tmp_path)[0]
    arrays = (found[key][None] for key in ('features', 'inside'))
    return np.asarray(model.apply(variables, *arrays, method='apply_context'))[0][found['inside']]

  one, other = trained([small, large]), trained([small, larger])
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(one).max())

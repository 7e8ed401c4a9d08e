"""What the releases of FCN, DeepLab, PSPNet and CRF-RNN fix in layers: docs/conformance.md."""

import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.nn import stack, table as tables
from dilated_jax.nn.table import Layer
from tests.models.random_inputs import pictures


def rows(name, **options):
  model = models.create(name, 21, **options)
  return {layer.name: layer for layer in model.front_end_table + model.auxiliary_table}


@pytest.mark.parametrize(
  'name, options, scores',
  [
    ('deeplab', {}, ['fc8']),
    ('deeplab_largefov', {}, ['fc8']),
    ('deeplab_msc', {}, ['fc8']),
    ('deeplab_v2', {}, [f'fc8_{branch}' for branch in range(1, 5)]),
    ('deeplab_v2', {'backbone': 'resnet101'}, [f'final_{branch}' for branch in range(1, 5)]),
  ],
)
def test_scores_of_deeplab_start_from_a_gaussian_of_a_hundredth(name, options, scores):
  layers = rows(name, **options)
  for score in scores:
    layer = layers[score]
    initializer = stack._INITIALIZERS[layer.init](layer)
    kernel = np.asarray(initializer(jax.random.key(0), (3, 3, 512, 21), np.float32))
    assert kernel.std() == pytest.approx(0.01, rel=0.02) and abs(kernel.mean()) < 1e-4


def test_scores_of_fcn_start_from_nothing_and_its_skips_are_scaled():
  layers = rows('fcn8s', at_once=True)
  starts = {name: layers[name] for name in ('score_fr', 'score_pool4', 'score_pool3')}
  assert {layer.init for layer in starts.values()} == {'zeros'}
  scales = [layer.input_scale for layer in starts.values()]
  assert scales == [1, 0.01, 0.0001]
  assert {rows('fcn8s')[name].input_scale for name in starts} == {1}


def test_dilations_and_dropout_of_pspnet():
  """From the first unit of both groups on, in all of them; the stem is three 3x3 convolutions."""
  layers = rows('pspnet')
  for group, units, dilation in ((1, 3, 1), (2, 4, 1), (3, 23, 2), (4, 3, 4)):
    found = [layers[f'layer{group}_{unit}_conv2'].dilation for unit in range(units)]
    assert found == [dilation] * units
  assert [layers[f'conv1_{i}'].stride for i in (1, 2, 3)] == [2, 1, 1]
  assert layers['head'].dropout == layers['aux'].dropout == 0.1
  assert layers['aux'].inputs == ('layer3_22',)  # Caffe's res4b22.


def test_batch_normalization():
  """Of the statistics 0.95 stay at each step, and 1e-5 stands beside the variance."""
  table = (Layer('a', kernel=1, channels=2, norm='batch', bias=False),)
  layer = stack.Stack(tables.with_dropout(table, 0))
  images = 1e-2 * pictures(5, 6)
  variables = jax.tree.map(np.asarray, layer.init(jax.random.key(0), images))
  found, updated = layer.apply(variables, images, train=True, mutable=['batch_stats'])
  maps = images.astype(np.float64) @ variables['params']['a']['kernel'][0, 0].astype(np.float64)
  mean, variance = maps.mean((0, 1, 2)), maps.var((0, 1, 2))
  np.testing.assert_allclose(found, (maps - mean) / np.sqrt(variance + 1e-5), rtol=1e-3, atol=1e-4)
  kept = updated['batch_stats']['a_norm']
  np.testing.assert_allclose(kept['mean'], 0.05 * mean, rtol=1e-3, atol=1e-7)
  np.testing.assert_allclose(kept['var'], 0.95 + 0.05 * variance, rtol=1e-4)


def test_crf_rnn():
  model = models.create('fcn8s', 21, crf='rnn', crf_rnn_grid='pixels', width=1 / 32)
  assert (model.iterations, model.test_iterations, model.bilateral) == (5, 10, (160, 3))
  assert model.full_size
  small = models.create('front_end', 3, crf='rnn', blocks=(1,), width=1 / 16, stride=2)
  side = 2 * small.margin + small.stride
  shapes = jax.eval_shape(small.init, jax.random.key(0), np.zeros((1, side, side, 3), np.float32))
  assert {name: leaf.shape for name, leaf in shapes['params']['crf'].items()} == {
    'spatial': (3, 3), 'bilateral': (3, 3), 'compatibility': (3, 3),
  }  # fmt: skip

"""FCN from Caffe files: what is no such network."""

import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.weights.convert import convert
from tests import caffe_files
from tests.caffe_files import Layer

WIDTHS = (2, 3, 4, 5, 6, 7, 8)


def published(stride, classes=21, learned=0.0, at_once=()):
  """voc-fcn32s, 16s or 8s, narrow, with random weights; its layers in the order of the file.

  `at_once` are the factors on pool4 and pool3 of voc-fcn8s-atonce.
  """
  factors = dict(zip(('pool4', 'pool3'), at_once))
  rng = np.random.default_rng(0)
  layers = list(caffe_files.vgg16(rng, width=WIDTHS).layers[:-8])
  layers[0] = layers[0]._replace(options=layers[0].options | {'pad': 100})

  def conv(name, inputs, outputs, kernel=1):
    blobs = rng.normal(size=(outputs, inputs, kernel, kernel)) / kernel, rng.normal(size=outputs)
    blobs = tuple(blob.astype(np.float32) for blob in blobs)
    layers.append(Layer(name, 'Convolution', blobs, {'num_output': outputs, 'kernel': kernel}))

  def up(name, factor):
    tent = 1 - np.abs(np.arange(2 * factor) - factor + 0.5) / factor
    kernel = np.eye(classes)[:, :, None, None] * np.outer(tent, tent) + learned
    options = dict(num_output=classes, kernel=2 * factor, stride=factor, bias_term=False)
    layers.append(Layer(name, 'Deconvolution', (kernel.astype(np.float32),), options))

  conv('fc6', WIDTHS[4], WIDTHS[5], 7)
  layers.append(Layer('relu6', 'ReLU'))
  conv('fc7', WIDTHS[5], WIDTHS[6])
  layers.append(Layer('relu7', 'ReLU'))
  conv('score_fr', WIDTHS[6], classes)
  for pool, inputs, finer, needed in (
    ('pool4', WIDTHS[3], 'upscore2', stride < 32),
    ('pool3', WIDTHS[2], 'upscore_pool4', stride < 16),
  ):
    if needed:
      up(finer, 2)
      if pool in factors:
        blob = np.full(inputs, factors[pool], np.float32)
        layers.append(Layer(f'scale_{pool}', 'Scale', (blob,)))
      conv(f'score_{pool}', inputs, classes)
      layers += [Layer(f'score_{pool}c', 'Crop'), Layer(f'fuse_{pool}', 'Eltwise')]
  up(f'upscore{stride}', stride)
  layers.append(Layer('score', 'Crop'))
  return caffe_files.Network(f'voc-fcn{stride}s', tuple(layers), (1, 3, 500, 500))


def test_what_is_another_network(tmp_path):
  def message(network):
    (tmp_path / 'a file').write_bytes(caffe_files.caffemodel(network))
    with pytest.raises(InputError) as error:
      convert(tmp_path / 'a file')
    return str(error.value)

  def without(network, name):
    return network._replace(layers=tuple(layer for layer in network.layers if layer.name != name))

  network = published(8)
  assert 'is not a bilinear upsampling' in message(published(8, learned=0.1))
  assert 'upsamples by kernels of [4, 16]; fcn8s does by [4, 4, 16]' in message(
    without(network, 'upscore2')
  )
  assert 'scale_pool4[0] is not the fixed factor' in message(published(8, at_once=(1, 0.0001)))
  at_once = published(8, at_once=(0.01, 0.0001))
  assert 'scales 1 of 2 skips' in message(without(at_once, 'scale_pool3'))
  first = network.layers[0]
  unpadded = first._replace(options=first.options | {'pad': 1})
  assert 'states a pad of (1, 1) for conv1_1' in message(
    network._replace(layers=(unpadded, *network.layers[1:]))
  )
  assert 'upsamples by kernels of [4, 4, 16]; fcn16s' in message(without(network, 'score_pool4'))

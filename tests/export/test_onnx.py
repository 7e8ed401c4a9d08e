"""onnx.py: files that onnx's checker accepts and onnxruntime runs, beside JAX and the geometry."""

import collections
import json

import jax
import numpy as np
import onnx
import onnxruntime
import onnxslim
import pytest

from dilated_jax import inference, models
from dilated_jax.errors import InputError
from dilated_jax.export import onnx as exporter
from dilated_jax.nn import geometry
from tests.export.networks import NETWORKS, VGG, segmenter


def session(content):
  onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
  return onnxruntime.InferenceSession(content)


def assert_labels(network, height, width):
  image = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
  expected = inference.predict(network, image, tile='whole')
  labels, probabilities = session(exporter.export(network)).run(None, {'images': image[None]})
  assert labels.dtype == np.uint8
  found = probabilities[0].transpose(1, 2, 0)
  np.testing.assert_allclose(found, expected.probabilities, atol=1e-4)
  # Ties may break either way.
  first, second = np.sort(expected.probabilities, -1)[..., :-3:-1].transpose(2, 0, 1)
  assert (labels[0] == expected.labels)[first - second > 1e-3].all()


@pytest.mark.parametrize('which', NETWORKS)
def test_labels_as_those_of_predict(which):
  name, options = NETWORKS[which]
  assert_labels(segmenter(name, **options), 45, 61)


@pytest.mark.parametrize('upsampling', models.upsampling.METHODS)
def test_every_upsampling_of_a_tiny_picture(upsampling):
  """The margin is larger than the picture: it is reflected several times."""
  assert_labels(segmenter('front_end', upsampling, **VGG), 5, 9)


@pytest.mark.parametrize('which', ['large context', 'own upsampling'])
def test_logits_as_those_of_the_model(which):
  name, options = NETWORKS[which]
  network = segmenter(name, **options)
  model, rng = network.model, np.random.default_rng(2)
  stride, margin = model.stride, model.margin
  images = rng.normal(0, 60, (2, 4 * stride + 2 * margin, 5 * stride + 2 * margin, 3))
  images = images.astype(np.float32)
  expected = np.asarray(jax.jit(model.apply)(network.variables, images))
  run = session(exporter.export(network, 'network')).run
  (found,) = run(None, {'images': images.transpose(0, 3, 1, 2)})
  scale = np.abs(expected).max()
  np.testing.assert_allclose(found.transpose(0, 2, 3, 1), expected, atol=1e-5 * scale)


@pytest.mark.parametrize('which', ['large context', 'poolings of 3x3', 'image mean'])
def test_sizes_of_any_image(which):
  name, options = NETWORKS[which]
  network = segmenter(name, **options)
  run = session(exporter.export(network, 'network')).run
  least = geometry.valid_size(network.model.table)
  for side in range(least, least + 18):
    (found,) = run(None, {'images': np.zeros((1, 3, side, least), np.float32)})
    wanted = [geometry.output_size(network.model.table, size) for size in (side, least)]
    assert list(found.shape[2:]) == wanted


@pytest.mark.parametrize('which', ['poolings of 3x3', 'three scales', 'pyramid of means'])
def test_a_simplifier_finds_nothing(which):
  name, options = NETWORKS[which]
  content = exporter.export(segmenter(name, **options))
  # Runtimes fold normalizations into convolutions; the file keeps the layers as they are named.
  simple = onnxslim.slim(onnx.load_from_string(content), skip_fusion_patterns=['FusionConvBN'])
  kinds, left = (
    collections.Counter(node.op_type for node in model.graph.node)
    for model in (onnx.load_from_string(content), simple)
  )
  assert left == kinds
  images = np.random.default_rng(1).integers(0, 256, (1, 29, 46, 3)).astype(np.uint8)
  found, expected = (
    session(each).run(None, {'images': images}) for each in (simple.SerializeToString(), content)
  )
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_layers_keep_their_names_and_the_file_says_what_it_is():
  name, options = NETWORKS['large context']
  network = segmenter(name, **options)
  model = onnx.load_from_string(exporter.export(network))
  convolutions = [node.name for node in model.graph.node if node.op_type == 'Conv']
  parts = {'front_end': network.model.front_end_table, 'context': network.model.context_table}
  assert convolutions == [
    f'{part}/{layer.name}'
    for part, table in parts.items()
    for layer in table
    if layer.kind == 'conv'
  ]
  weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
  kernel = network.variables['params']['context']['ctx_conv3_1']['kernel']
  np.testing.assert_array_equal(
    weights['context/ctx_conv3_1/kernel'], np.transpose(kernel, (3, 2, 0, 1))
  )
  about = {entry.key: entry.value for entry in model.metadata_props}
  assert json.loads(about['classes']) == list(network.spec.classes)
  assert json.loads(about['mean']) == list(network.spec.mean)
  assert int(about['margin']) == network.model.margin


def test_what_no_file_can_hold(monkeypatch):
  behind = segmenter('front_end', crf='rnn', **VGG)
  with pytest.raises(InputError, match='has a CRF-RNN, for which ONNX has no operators'):
    exporter.export(behind)
  monkeypatch.setattr(exporter, 'LARGEST', 10)
  with pytest.raises(InputError, match='GiB of weights'):
    exporter.export(behind.without_crf())

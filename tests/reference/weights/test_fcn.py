"""FCN from Caffe files: the converted network says what the file's own arrays say in PyTorch."""

import jax
import numpy as np
import pytest
import torch

import dilated_jax
from dilated_jax.data.label_specs import VOC
from dilated_jax.models import weights_folder
from dilated_jax.weights.convert import convert
from tests import caffe_files
from tests.reference import networks
from tests.reference.models import test_fcn
from tests.weights.test_fcn import published

BLOCKS = (2, 2, 3, 3, 3)


class FromFile(networks.Weights):
  """The blobs as the file has them."""

  def __init__(self, network):
    self.of = {}
    for name, blobs in network.arrays().items():
      if blobs[0].ndim < 4:  # A factor on a skip, which `test_fcn.fcn` knows.
        continue
      kernel = torch.tensor(blobs[0], dtype=torch.float64)
      self.of[name, 'kernel'] = kernel.permute(2, 3, 1, 0)  # As `conv` undoes.
      if len(blobs) == 2:
        self.of[name, 'bias'] = torch.tensor(blobs[1], dtype=torch.float64)


@pytest.mark.parametrize('stride, at_once', [(32, ()), (16, ()), (8, ()), (8, (0.01, 0.0001))])
def test_logits(stride, at_once, tmp_path):
  network = published(stride, at_once=at_once)
  (tmp_path / 'a file').write_bytes(caffe_files.caffemodel(network))
  result = convert(tmp_path / 'a file')
  spec = result.spec
  assert (spec.model, spec.classes, spec.input) == (f'fcn{stride}s', VOC.names, None)
  assert spec.options.get('at_once', False) == bool(at_once)
  assert spec.mean == (122.67892, 116.66877, 104.00699)
  weights_folder.save_weights(tmp_path / 'weights', spec, result.variables)
  model, variables, _ = dilated_jax.load(tmp_path / 'weights')
  images = np.random.default_rng(1).normal(0, 60, (1, 45, 64, 3)).astype(np.float32)
  bgr = torch.tensor(images[..., ::-1].copy(), dtype=torch.float64).permute(0, 3, 1, 2)
  with torch.no_grad():
    expected = test_fcn.fcn(FromFile(network), bgr, stride=stride, blocks=BLOCKS, at_once=at_once)
  found = jax.jit(model.apply)(variables, images)
  assert networks.error(found, expected.permute(0, 2, 3, 1)) <= 1e-5

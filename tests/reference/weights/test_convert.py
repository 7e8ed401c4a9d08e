"""VGG from files that PyTorch has written, against its layers in PyTorch."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from dilated_jax.weights.convert import convert
from tests.weights.test_convert import MEAN, RGB, STD, our_output, torch_names, vgg_arrays


def write_pth(path, arrays, legacy=False):
  tensors = {name: torch.from_numpy(array) for name, array in torch_names(arrays).items()}
  torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)


def dense_output(arrays, feed):
  """fc7 of a padless VGG at one place, in float64, on what the framework would be fed."""
  x = torch.from_numpy(feed.transpose(2, 0, 1)[None]).double()
  places = {'conv1_2': 1, 'conv2_2': 1, 'conv3_3': 1}
  for name, pair in arrays.items():
    kernel, bias = (torch.from_numpy(array).double() for array in pair)
    if name == 'fc8':
      break
    dilation = 2 if name.startswith('conv5') else 4 if name == 'fc6' else 1
    x = torch.relu(functional.conv2d(x, kernel, bias, dilation=dilation))
    if name in places:
      x = functional.max_pool2d(x, 2, 2)
  return x[0, :, 0, 0].numpy()


@pytest.mark.parametrize('legacy', [False, True])
def test_vgg_of_torchvision(legacy, tmp_path):
  arrays = vgg_arrays()
  write_pth(tmp_path / 'vgg', arrays, legacy)
  expected = dense_output(arrays, (RGB / 255 - MEAN) / STD)
  found = our_output(convert(tmp_path / 'vgg'), RGB)
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)
  assert expected.max() > 0.1

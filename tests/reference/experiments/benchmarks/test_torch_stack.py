"""The networks that ours are timed beside are the same: their outputs agree."""

import sys

import flax.traverse_util
import jax
import numpy as np
import pytest
import torch

from dilated_jax import models
from experiments.benchmarks import peers
from experiments.benchmarks.gpu import networks
from experiments.benchmarks.peers import torch_networks
from tests.models.random_inputs import variables_of


@pytest.mark.parametrize(
  'name, options, size',
  [
    ('dilation10', {'width': 1 / 32, 'blocks': (1, 1, 1), 'fc_kernel': 3}, 110),
    ('deeplab_msc', {'width': 1 / 32}, 65),
    ('deeplab_v3', {'backbone': 'resnet50', 'width': 1 / 32, 'blocks': (1, 1, 1, 1)}, 65),
    ('pspnet', {'backbone': 'resnet50', 'width': 1 / 32, 'blocks': (1, 1, 1, 1)}, 65),
    ('fcn8s', {'width': 1 / 32}, 64),
    ('dilation8', {'width': 1 / 4, 'blocks': (1, 1, 1), 'fc_kernel': 3, 'norm': 'group'}, 110),
  ],
)
def test_outputs_agree(name, options, size):
  model = models.create(name, 4, **options)
  variables = variables_of(model)
  images = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype(np.float32)
  network = torch_networks.TorchStack(peers.layers_of(model.table)).eval()
  flat = flax.traverse_util.flatten_dict(jax.device_get(variables))
  of = {path[2:]: torch.from_numpy(np.array(array)) for path, array in flat.items()}
  with torch.no_grad():
    for layer, conv in network.convolutions.items():
      conv.weight.copy_(of[layer, 'kernel'].permute(3, 2, 0, 1))
      if conv.bias is not None:
        conv.bias.copy_(of[layer, 'bias'])
    for layer, norm in network.norms.items():
      names = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
      if isinstance(norm, torch.nn.GroupNorm):
        del names['mean'], names['var']
      for mine, theirs in names.items():
        getattr(norm, theirs).copy_(of[f'{layer}_norm', mine])
    wanted = network(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
  found = np.asarray(jax.jit(model.apply)(variables, images))
  wanted = wanted[:, : found.shape[1], : found.shape[2]]
  np.testing.assert_allclose(found, wanted, atol=1e-4 * abs(wanted).max())


@pytest.mark.parametrize('case', networks.VGG[2:4], ids=['forward', 'step'])
def test_cases_run_at_small_size(case):
  what, ours, flops = networks.of_jax(case, 'float32', small=True)
  assert what.startswith('float32 dilation8 basic') and flops > 0
  jax.block_until_ready(ours())
  found = networks.of_torch(case, 'float32', small=True)()
  assert bool(torch.isfinite(found.detach()).all())


def test_another_process_does_the_same():
  model = models.create('dilation8', 4, width=1 / 16, blocks=(1, 1, 1), fc_kernel=3, dropout=0)
  layers, rng = peers.layers_of(model.table), np.random.default_rng(0)
  side = 2 * model.margin + 3 * model.stride
  x = rng.normal(size=(2, side, side, 3)).astype(np.float32)
  image = rng.integers(0, 256, x.shape).astype(np.uint8)
  label = rng.integers(0, 4, (2, 3, 3)).astype(np.uint8)
  peer = peers.Peer(sys.executable, 'torch_networks')
  try:
    for function, given in (
      ('forward', {'layers': layers, 'x': x}),
      ('gradients', {'layers': layers, 'x': x, 'wrt': ['x']}),
      ('training_step', {'layers': layers, 'images': image, 'label': label}),
      ('product', {'a': x[0, 0], 'b': x[0, 0].T}),
      ('triad', {'a': x, 'b': x}),
    ):
      wanted = getattr(torch_networks, function)(**given)()
      wanted = wanted[0] if isinstance(wanted, tuple) else wanted
      found = peer.job(function, **given).result()
      found = found[0] if isinstance(found, list) else found
      np.testing.assert_allclose(found, wanted.detach(), rtol=1e-4, atol=1e-6)
  finally:
    peer.close()

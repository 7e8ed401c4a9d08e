"""WaveNet against the paper's figure written out in PyTorch."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dilated_jax import models
from tests.signal.test_wavenet import SMALL, close, codes_of


class InPyTorch(nn.Module):
  """The paper's figure 4, written down once more: filter and gate apart, time last."""

  def __init__(self, classes, dilations, channels, skip_channels):
    super().__init__()
    self.start = nn.Conv1d(classes, channels, 1)
    self.dilations = dilations
    several = nn.ModuleList
    self.filters = several(nn.Conv1d(channels, channels, 2, dilation=d) for d in dilations)
    self.gates = several(nn.Conv1d(channels, channels, 2, dilation=d) for d in dilations)
    self.residuals = several(nn.Conv1d(channels, channels, 1) for _ in dilations[:-1])
    self.skips = several(nn.Conv1d(channels, skip_channels, 1) for _ in dilations)
    self.end1 = nn.Conv1d(skip_channels, skip_channels, 1)
    self.end2 = nn.Conv1d(skip_channels, classes, 1)

  def forward(self, one_hot):
    x, total = self.start(one_hot), 0
    for i, dilation in enumerate(self.dilations):
      past = functional.pad(x, (dilation, 0))
      z = torch.tanh(self.filters[i](past)) * torch.sigmoid(self.gates[i](past))
      total = total + self.skips[i](z)
      if i < len(self.residuals):
        x = x + self.residuals[i](z)
    return self.end2(torch.relu(self.end1(torch.relu(total))))

  def places(self):
    """Our names -> its layers; of `filter_gate` the filter and the gate."""
    places = {'input': [self.start], 'head1': [self.end1], 'head2': [self.end2]}
    for i, (values, gate) in enumerate(zip(self.filters, self.gates)):
      places[f'unit_{i}/filter_gate'] = [values, gate]
      places[f'unit_{i}/skip'] = [self.skips[i]]
    for i, layer in enumerate(self.residuals):
      places[f'unit_{i}/residual'] = [layer]
    return places

  def leaves(self, of):
    """The arrays `of(parameter)` under our names and in our order of axes."""
    found = {}
    for name, layers in self.places().items():
      kernels = [of(layer.weight).numpy().transpose(2, 1, 0)[None] for layer in layers]
      found[f'{name}/kernel'] = np.concatenate(kernels, axis=-1)
      found[f'{name}/bias'] = np.concatenate([of(layer.bias).numpy() for layer in layers])
    return found


def test_forward_and_gradient_are_those_of_pytorch():
  torch.manual_seed(0)
  theirs = InPyTorch(16, SMALL['dilations'], SMALL['channels'], SMALL['skip_channels']).double()
  for parameter in theirs.parameters():
    parameter.data *= 2
  model = models.create('wavenet', 16, **SMALL)
  leaves = {name: leaf.astype('f4') for name, leaf in theirs.leaves(lambda p: p.data).items()}
  params = flax.traverse_util.unflatten_dict(leaves, sep='/')
  codes = codes_of(model, 2, 40)

  one_hot = functional.one_hot(torch.tensor(codes).long(), 16).transpose(1, 2).double()
  expected = theirs(one_hot[..., :-1])
  loss = functional.cross_entropy(expected, torch.tensor(codes[:, 1:]).long(), reduction='sum')
  loss.backward()

  def total(params):
    logits = model.apply({'params': params}, codes[:, :-1])
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), codes[:, 1:, None], axis=-1)
    return -chosen.sum(), logits

  (found, logits), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
  close(logits, expected.detach().numpy().transpose(0, 2, 1))
  close(found, loss.item())
  gradient = flax.traverse_util.flatten_dict(gradient, sep='/')
  wanted = theirs.leaves(lambda p: p.grad)
  assert gradient.keys() == wanted.keys()
  for name, leaf in wanted.items():
    close(gradient[name], leaf)

"""Networks by hand in PyTorch, float64, and how ours are compared with them."""

import flax.traverse_util
import jax
import numpy as np
import torch
from torch.nn import functional

from dilated_jax import models
from tests.models.random_inputs import pictures, variables_of


class Weights:
  """The variables of a network of ours as float64 tensors, and the layers that take them."""

  def __init__(self, variables):
    flat = flax.traverse_util.flatten_dict(variables)
    # Names are told apart without 'params' and 'front_end'.
    self.of = {path[2:]: torch.tensor(array, dtype=torch.float64) for path, array in flat.items()}
    self.learned = {path[2:]: self.of[path[2:]] for path in flat if path[0] == 'params'}
    for tensor in self.learned.values():
      tensor.requires_grad_()

  def conv(self, x, name, **options):
    kernel = self.of[name, 'kernel'].permute(3, 2, 0, 1)
    return functional.conv2d(x, kernel, self.of.get((name, 'bias')), **options)

  def relu(self, x, name, **options):
    return self.conv(x, name, **options).relu()

  def same(self, x, name, dilation=1):
    """A 3x3 convolution and ReLU that keep the size."""
    return self.relu(x, name, padding=dilation, dilation=dilation)

  def normed(self, x, name, **options):
    """Convolution and batch normalization by the running statistics."""
    x, norm = self.conv(x, name, **options), f'{name}_norm'
    mean, var, scale, bias = (self.of[norm, part] for part in ('mean', 'var', 'scale', 'bias'))
    return functional.batch_norm(x, mean, var, scale, bias)

  def context(self, x, dilations=(1, 1, 2, 4, 8, 16, 1)):
    """The context module, basic."""
    names = ['conv1_1', 'conv1_2', *(f'conv{i}_1' for i in range(2, len(dilations) - 1)), 'fc1']
    for name, dilation in zip(names, dilations, strict=True):
      x = self.same(x, f'ctx_{name}', dilation)
    return self.conv(x, 'ctx_final')


def bilinear(x, stride):
  """FCN's fixed upsampling: kernel 2 * stride, no padding, every class by itself."""
  tent = 1 - (torch.arange(2 * stride, dtype=x.dtype) - stride + 0.5).abs() / stride
  kernel = torch.outer(tent, tent).expand(x.shape[1], 1, -1, -1)
  return functional.conv_transpose2d(x, kernel, stride=stride, groups=x.shape[1])


def check(name, forward, size, classes=4, tolerance=1e-5, **options):
  """Logits and gradients of a network are those of another construction.

  Args:
    name: for `models.create`.
    forward: from the Weights and a picture (N, 3, H, W) to logits (N, C, h, w), in PyTorch.
    size: height and width of the picture.
    classes: number of classes.
    tolerance: relative error of the logits, and of the gradient of each array, in the norm.
    **options: of the network.

  Returns:
    The largest of these errors.
  """
  model = models.create(name, classes, **options)
  variables, images = variables_of(model), pictures(*size)
  weights, fed = Weights(variables), torch.tensor(images, dtype=torch.float64).permute(0, 3, 1, 2)
  expected = forward(weights, fed)
  expected = expected.permute(0, 2, 3, 1)
  direction = np.random.default_rng(1).standard_normal(expected.shape).astype(np.float32)
  wanted = torch.autograd.grad((expected * torch.tensor(direction)).sum(), weights.learned.values())

  @jax.jit
  def ours(params):
    def energy(params):
      logits = model.apply({**variables, 'params': params}, images)
      return (logits * direction).sum(), logits

    return jax.grad(energy, has_aux=True)(params)

  with jax.default_matmul_precision('float32'):
    gradients, logits = ours(variables['params'])
  gradients = {path[1:]: g for path, g in flax.traverse_util.flatten_dict(gradients).items()}
  errors = {'logits': error(logits, expected)}
  # The auxiliary answer does not move the logits.
  for path, other in zip(weights.learned, wanted, strict=True):
    errors['/'.join(path)] = error(gradients[path], other)
  worst = max(errors, key=errors.get)
  assert errors[worst] <= tolerance, (worst, errors[worst])
  return errors[worst]


def error(found, expected) -> float:
  """Relative error in the norm."""
  found, expected = np.asarray(found, np.float64), expected.detach().numpy()
  assert found.shape == expected.shape
  return np.linalg.norm(found - expected) / np.linalg.norm(expected)

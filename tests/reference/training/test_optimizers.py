"""Layers with learning rates of their own, against PyTorch's groups of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from dilated_jax.training import optimizers
from dilated_jax.training.config import OptimizerOptions


def test_groups_of_parameters():
  rng = np.random.default_rng(0)
  layers = {'conv1_1': 1.0, 'fc7': 1.0, 'fc8': 10.0, 'ctx_final': 0.1}
  shapes = {'kernel': (2, 3), 'bias': (3,)}
  params = {
    'front_end': {
      layer: {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
      for layer in layers
    }
  }
  options = OptimizerOptions(
    'sgd', 0.05, schedule='poly', weight_decay=0.02, lr_multipliers=('fc8:10', 'ctx_*:0.1')
  )
  theirs, groups = {}, []
  for layer, factor in layers.items():
    for name in shapes:
      weight = torch.tensor(params['front_end'][layer][name], requires_grad=True)
      theirs[layer, name] = weight
      bias = name == 'bias'
      groups.append(
        {'params': [weight], 'lr': 0.05 * factor * (2 if bias else 1),
         'weight_decay': 0.0 if bias else 0.02}
      )  # fmt: skip
  solver = torch.optim.SGD(groups, momentum=0.9)
  schedule = torch.optim.lr_scheduler.LambdaLR(solver, lambda k: (1 - k / 6) ** 0.9)
  optimizer = optimizers.create(options, 6)
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  for _ in range(6):
    grads = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), params)
    for (layer, name), weight in theirs.items():
      weight.grad = torch.tensor(grads['front_end'][layer][name])
    solver.step()
    schedule.step()
    updates, state = update(jax.tree.map(jnp.asarray, grads), state, params)
    params = optax.apply_updates(params, updates)
  for (layer, name), weight in theirs.items():
    found = params['front_end'][layer][name]
    np.testing.assert_allclose(found, weight.detach().numpy(), rtol=1e-5, atol=1e-6)

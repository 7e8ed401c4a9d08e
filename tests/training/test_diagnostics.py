"""diagnostics.py: norms of gradients, distance from the identity and activations, by layer."""

import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.models import weights_folder
from dilated_jax.nn.stack import Stack
from dilated_jax.training import diagnostics, optimizers

MEAN = (100.0, 110.0, 120.0)
NARROW = {'blocks': [1, 1], 'width': 1 / 16, 'stride': 4, 'fc_kernel': 3, 'fc_channels': 4}


def made(name, classes=3, **options):
  model = models.create(name, classes, **options)
  rng = np.random.default_rng(0)
  shapes = weights_folder.abstract_variables(model)
  return model, jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)


def test_gradient_norms_of_layers():
  _, variables = made('dilation8', **NARROW, norm='batch')
  grads = variables['params']
  names = optimizers.layer_names(grads)
  for name, norm in zip(names, diagnostics.gradient_norms(grads), strict=True):
    part, layer = name.split('/')
    own = [grads[part][each] for each in (layer, f'{layer}_norm') if each in grads[part]]
    numbers = np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(own)])
    assert float(norm) == pytest.approx(np.sqrt((numbers**2).sum()), rel=1e-6)


@pytest.mark.parametrize(
  'kind, dilations', [('basic', None), ('large', None), ('basic', [1, 3, 1])]
)
def test_drift_from_identity(kind, dilations):
  options = {'dilations': dilations} if dilations else {}
  model, variables = made('dilation8', classes=2, context=kind, **options, **NARROW)
  drift = diagnostics.identity_drift(model, variables['params'])
  layers = [layer for layer in model.context_table if layer.kind == 'conv']
  assert list(drift) == [f'context/{layer.name}' for layer in layers] and len(layers) > 3
  exact = {}
  for layer in layers:
    kernel = variables['params']['context'][layer.name]['kernel'].astype(np.float64)
    identity = np.zeros_like(kernel)  # Equation 5, channel by channel.
    height, width, inputs, outputs = kernel.shape
    for a in range(inputs):
      for b in range(outputs):
        if a * 2 // inputs == b * 2 // outputs:
          identity[height // 2, width // 2, a, b] = 2 / outputs
    expected = np.sqrt(((kernel - identity) ** 2).sum() / (identity**2).sum())
    assert drift[f'context/{layer.name}'] == pytest.approx(expected, rel=1e-5)
    exact[layer.name] = {'kernel': identity}
  assert set(diagnostics.identity_drift(model, {'context': exact}).values()) == {0}
  zeros = jax.tree.map(np.zeros_like, exact)
  assert diagnostics.identity_drift(model, {'context': zeros}) == pytest.approx(
    dict.fromkeys(drift, 1)
  )


def test_layers_that_do_not_start_as_the_identity_have_no_drift():
  model, variables = made('dilation8', context_channels=[5, 5, 5], dilations=[1, 2, 1], **NARROW)
  assert diagnostics.identity_drift(model, variables['params']) == {}
  model, variables = made('front_end', **NARROW)
  assert diagnostics.identity_drift(model, variables['params']) == {}


def test_activations_are_those_of_the_layers_one_by_one():
  model, variables = made('dilation8', dilations=[1, 2, 1], remat=True, **NARROW)
  fc6 = variables['params']['front_end']['fc6']
  fc6['kernel'][..., 1] = 0
  fc6['bias'][1] = -1  # Dead.
  rng = np.random.default_rng(1)
  images = [rng.integers(0, 256, shape, np.uint8) for shape in ((9, 16, 3), (8, 18, 3))]
  found = diagnostics.Activations(model, MEAN, images)(variables)

  margin = model.margin
  middle = np.stack([images[0][:8], images[1][:, 1:17]])
  padded = np.pad(middle, ((0, 0), (margin, margin), (margin, margin), (0, 0)), 'reflect')
  x, seen = padded.astype(np.float32) - np.float32(MEAN), {}
  for part, table in (('front_end', model.front_end_table), ('context', model.context_table)):
    for row in table:
      layer = Stack((row,))
      x = layer.apply({'params': variables['params'][part]}, x)
      if row.kind == 'conv':
        seen[f'{part}/{row.name}'] = row, np.asarray(x, np.float64)
  assert list(found) == list(seen)
  for name, (row, x) in seen.items():
    expected = {'mean': x.mean(), 'std': x.std()}
    if row.activation == 'relu':
      expected |= {'zeros': (x == 0).mean(), 'dead': (x == 0).all((0, 1, 2)).mean()}
    assert found[name] == pytest.approx(expected, rel=1e-3, abs=1e-6)
  assert found['front_end/fc6']['dead'] >= 0.25
  assert not {'zeros', 'dead'} & found['context/ctx_final'].keys()

"""protocol.py: every network has what the rest of the package needs of one."""

import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.models.protocol import Network, SegmentationModel

MEMBERS = (
  'parts', 'front_end_table', 'context_table', 'auxiliary_table', 'stride', 'margin', 'full_size',
  'num_classes', 'table', 'dtype', 'scales', 'apply_front_end', 'apply_context', 'apply_crf',
  'without_context', 'without_crf', 'with_axis_name',
)  # fmt: skip


def created(name, **options):
  narrow = {'width': 1 / 32}
  if name == 'front_end' or name.startswith('dilation'):
    narrow |= {'blocks': (1, 1, 1, 1, 1), 'fc_channels': 4, 'fc_kernel': 3}
  return models.create(name, 3, **narrow, **options)


@pytest.mark.parametrize('crf', ['none', 'rnn'])
@pytest.mark.parametrize('name', models.NAMES)
def test_networks_of_images_fulfil_it(name, crf):
  model = created(name, crf=crf)
  assert isinstance(model, SegmentationModel) and isinstance(model, Network)
  assert all(hasattr(model, member) for member in MEMBERS)
  assert ('crf' in model.parts) == (crf == 'rnn') and model.parts[0] == 'front_end'
  assert ('context' in model.parts) == name.startswith('dilation')
  plain = model.without_crf()
  assert plain == created(name) and plain.without_crf() == plain
  assert model.without_context() == plain.without_context()
  assert model.without_context().parts == ('front_end',)
  assert model.with_axis_name('data').with_axis_name(None) == model
  assert model.with_axis_name('data') != model


def test_a_wavenet_is_a_network_that_labels_no_images():
  model = models.create('wavenet', 16, blocks=1, layers=2)
  assert isinstance(model, Network) and not isinstance(model, SegmentationModel)


def test_an_object_that_lacks_a_member_is_none():
  assert not isinstance(np.zeros(3), Network)


@pytest.mark.parametrize(
  'name, options',
  [
    ('front_end', {}),
    ('dilation8', {}),
    ('dilation10', {'crf': 'rnn'}),
    ('fcn8s', {}),
    ('deeplab_largefov', {'context': 'basic', 'crf': 'rnn'}),
  ],
)
def test_parts_are_those_of_the_variables(name, options):
  model = created(name, **options)
  side = 2 * model.margin + 2 * model.stride
  images = jax.ShapeDtypeStruct((1, side, side, 3), 'float32')
  variables = jax.eval_shape(model.init, jax.random.key(0), images)
  assert set(variables['params']) == set(model.parts)


def test_steps_make_up_the_whole():
  model = models.create(
    'dilation8', 3, blocks=(1,), width=1 / 16, stride=2, fc_kernel=3, fc_channels=4,
    dilations=(1, 2, 1), crf='rnn',
  )  # fmt: skip
  rng, margin = np.random.default_rng(0), model.margin
  images = rng.normal(0, 50, (1, 8 + 2 * margin, 12 + 2 * margin, 3)).astype(np.float32)
  variables = jax.jit(model.init)(jax.random.key(0), images)
  apply, apply_plain = (
    jax.jit(network.apply, static_argnames='method') for network in (model, model.without_crf())
  )
  scores = apply(variables, images, method='apply_front_end')
  logits = apply(variables, scores, method='apply_context')
  inner = images[:, margin:-margin, margin:-margin]
  refined = apply(variables, logits, inner, method='apply_crf')
  np.testing.assert_allclose(apply(variables, images), refined, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(apply_plain(variables, images), logits, rtol=1e-4, atol=1e-4)
  assert model.without_crf().apply(variables, logits, inner, method='apply_crf') is logits

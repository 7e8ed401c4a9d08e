"""normalization.py: what would be normalized by nothing is refused, and nothing else."""

import functools

import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.models.weights_folder import abstract_variables
from dilated_jax.training.normalization import check_statistics

RESIDUAL = {'blocks': (1, 1, 1, 1), 'width': 1 / 32}
VGG = {'blocks': (1, 1), 'width': 1 / 16, 'stride': 4, 'fc_kernel': 3, 'fc_channels': 4}


def without_variance(model, area, images):
  """The layers whose variance in a step is 0, from the running ones: 1 before, 0.95 after."""
  rng = np.random.default_rng(0)
  variables = jax.tree_util.tree_map_with_path(
    lambda path, x: np.ones(x.shape, np.float32) if path[-1].key in ('var', 'scale')
    else rng.standard_normal(x.shape, np.float32),
    abstract_variables(model),
  )  # fmt: skip
  size = [side + 2 * model.margin for side in area]
  rngs = {'dropout': jax.random.key(0)}
  step = functools.partial(model.apply, train=True, mutable=['batch_stats', 'auxiliary'], rngs=rngs)
  _, updated = jax.jit(step)(variables, rng.normal(0, 50, (images, *size, 3)).astype(np.float32))
  norms = updated['batch_stats']['front_end']
  return {name[:-5] for name, at in norms.items() if np.all(at['var'] == np.float32(0.95))}


@pytest.mark.parametrize(
  'name, options, area, images, refused',
  [
    ('deeplab_v3', RESIDUAL, (32, 48), 1, 'aspp_4'),
    ('deeplab_v3', {**RESIDUAL, 'remat': True}, (32, 48), 1, 'aspp_4'),
    ('deeplab_v3', RESIDUAL, (32, 48), 2, None),
    ('pspnet', RESIDUAL, (32, 48), 1, 'pyramid1'),
    ('fcn_resnet', {**RESIDUAL, 'stride': 32}, (32, 32), 1, 'layer4'),
    ('fcn_resnet', {**RESIDUAL, 'stride': 32}, (64, 32), 1, None),
    ('front_end', {**VGG, 'norm': 'batch'}, (4, 4), 1, 'fc6'),
    ('front_end', {**VGG, 'norm': 'batch'}, (4, 8), 1, None),
  ],
)
def test_batch_statistics_of_one_value(name, options, area, images, refused):
  """Refused is what has no variance in a step; a larger crop is advised where it helps."""
  model = models.create(name, 3, **options)
  if refused is None:
    check_statistics(model, area, images)
    assert not without_variance(model, area, images)
    return
  with pytest.raises(InputError, match=rf'^{refused}.* of a single value .*`batch_size`') as raised:
    check_statistics(model, area, images)
  message = str(raised.value)
  assert message.split()[0] in without_variance(model, area, images)
  assert ('`crop`' in message) == (name in ('fcn_resnet', 'front_end'))


def test_without_normalization():
  check_statistics(models.create('front_end', 3, **VGG), (4, 4), 1)


def test_group_statistics_of_one_value():
  """One channel at one place: groups have eight channels or more where there are so many."""
  check_statistics(models.create('front_end', 3, norm='group', **VGG), (4, 4), 1)
  thin = {**VGG, 'fc_channels': 1, 'norm': 'group'}
  with pytest.raises(InputError, match='fc6 normalizes by group statistics of a single value'):
    check_statistics(models.create('front_end', 3, **thin), (4, 4), 8)

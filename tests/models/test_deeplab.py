"""DeepLab, LargeFOV, MSc and v2 on VGG against their layers written out in PyTorch."""

import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.nn import costs, geometry
from tests.models.random_inputs import variables_of

# Of the five blocks of VGG-16, narrow and shallow; the sizes of all layers are as at full width.
NARROW = {'blocks': (1, 1, 1, 1, 1), 'width': 1 / 16, 'fc_channels': 6}


VGG = 14_714_688


@pytest.mark.parametrize(
  'name, options, parameters',
  [
    ('deeplab', {}, 134_346_581),  # 134.3M in Table 2 of the paper.
    ('deeplab_largefov', {}, VGG + 9 * 512 * 1024 + 1024 * 1024 + 2048 + 21 * 1025),  # 20.5M
    (
      'deeplab_msc', {},
      20_505_429 + 640 * 21 + 5 * (128 * 128 + 256) + 9 * 128 * (3 + 64 + 128 + 256 + 512),
    ),
    ('deeplab_v2', {}, VGG + 4 * (20_505_429 - VGG)),
    ('deeplab_v2', {'aspp': 'small'}, VGG + 4 * (20_505_429 - VGG)),
  ],
)  # fmt: skip
def test_parameters_and_sizes(name, options, parameters):
  model = models.create(name, 21, **options)
  images = jax.ShapeDtypeStruct((1, 321, 513, 3), 'float32')
  variables = jax.eval_shape(model.init, jax.random.key(0), images)
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters
  assert costs.num_parameters(model.table) == parameters
  assert jax.eval_shape(model.apply, variables, images).shape == (1, 41, 65, 21)
  assert (
    geometry.output_sizes(model.table, 321)[-1] == 41
    and geometry.valid_size(model.table, 320) == 321
  )
  # Cell i is at pixel 8 i.
  assert (model.stride, model.margin, model.full_size, geometry.offset(model.table)) == (
    8,
    0,
    False,
    0,
  )


def test_window_of_fc6_is_that_of_the_paper():
  """224 pixels of VGG's own grid (Table 2): 7 taps 4 cells apart, as 7 taps of 32 pixels."""
  model = models.create('deeplab', 21)
  fc6 = next(layer for layer in model.table if layer.name == 'fc6')
  assert 8 * fc6.dilation * fc6.kernel == 224


@pytest.mark.parametrize(
  'name, options, words',
  [
    ('deeplab_v2', {'aspp': 'huge'}, "'huge'; choose small or large"),
    (
      'deeplab_v2',
      {'backbone': 'resnet7'},
      "'resnet7'; choose vgg16, resnet18, resnet34, resnet50 or resnet101",
    ),
    ('deeplab', {'fc_kernel': 4}, 'fc_kernel is 4'),
    ('deeplab', {'stride': 5}, 'stride is 5'),
  ],
)
def test_wrong_options(name, options, words):
  with pytest.raises(InputError, match=words):
    models.create(name, 4, **options)


def test_other_strides():
  for stride in (4, 16):
    model = models.create('deeplab_msc', 4, stride=stride, **NARROW)
    images = np.zeros((1, 65, 65, 3), np.float32)
    logits = jax.eval_shape(model.apply, variables_of(model), images)
    assert logits.shape == (1, 64 // stride + 1, 64 // stride + 1, 4)

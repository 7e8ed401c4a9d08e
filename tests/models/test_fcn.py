"""FCN-32s, 16s and 8s against the layers of the reference repository."""

import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.nn import costs, geometry

NARROW = {'blocks': (1, 1, 1, 1, 1), 'width': 1 / 16, 'fc_channels': 6}


@pytest.mark.parametrize(
  'name, stride, shifts, parameters',
  [
    ('fcn32s', 32, [19], 134_346_581),
    ('fcn16s', 16, [5, 27], 134_346_581 + 21 * 513),
    ('fcn8s', 8, [5, 9, 2, 15], 134_346_581 + 21 * 513 + 21 * 257),
  ],
)
def test_shifts_and_parameters(name, stride, shifts, parameters):
  model = models.create(name, 21)
  assert [-layer.padding for layer in model.table if layer.kind == 'crop'] == shifts
  assert costs.num_parameters(model.table) == parameters
  assert (model.stride, model.margin, model.full_size) == (stride, 0, True)
  *_, pixels = geometry.jumps_and_centers(model.table)
  assert pixels == (1, 0)  # Pixel i of the logits is pixel i of the picture.


@pytest.mark.parametrize('fc_kernel, image_padding', [(3, 17), (3, 40), (5, 60)])
def test_other_paddings_stay_aligned(fc_kernel, image_padding):
  for name in ('fcn32s', 'fcn16s', 'fcn8s'):
    options = {**NARROW, 'fc_kernel': fc_kernel, 'image_padding': image_padding}
    model = models.create(name, 4, **options)
    assert geometry.jumps_and_centers(model.table)[-1] == (1, 0)
    assert all(geometry.output_size(model.table, side) >= side for side in range(64, 130))


@pytest.mark.parametrize(
  'options, words',
  [
    ({'blocks': (1, 1, 1)}, 'FCN has five'),
    ({'image_padding': 20}, 'image_padding is 20: too little for fc6'),
    ({'dropout': 1.0}, 'dropout is 1.0'),
    ({'stride': 8}, "no option 'stride'"),
    ({'dilations': (1, 1, 1)}, 'there is no context module'),
  ],
)
def test_wrong_options(options, words):
  with pytest.raises(InputError, match=words):
    models.create('fcn8s', 4, **options)

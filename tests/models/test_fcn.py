"""FCN-32s, 16s and 8s against the layers of the reference repository, written out in PyTorch."""

import pytest
from torch.nn import functional

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.nn import geometry
from tests.models import reference
from tests.models.reference import bilinear

NARROW = {'blocks': (1, 1, 1, 1, 1), 'width': 1 / 16, 'fc_channels': 6}


def pool(x):
  return functional.max_pool2d(x, 2, 2, ceil_mode=True)


def fcn(weights, image, *, stride, blocks, at_once=False, context=None):
  """net.py of voc-fcn32s, 16s and 8s, with its numbers."""
  scales, x = ((0.01, 0.0001) if at_once else (1, 1)), image
  pools = []
  for block, convolutions in enumerate(blocks, 1):
    for i in range(1, convolutions + 1):
      x = weights.relu(x, f'conv{block}_{i}', padding=100 if (block, i) == (1, 1) else 1)
    x = pool(x)
    pools.append(x)
  x = weights.relu(weights.relu(x, 'fc6'), 'fc7')
  x = weights.conv(x, 'score_fr')
  for name, skip, scale, offset in (
    ('pool4', pools[3], scales[0], 5),
    ('pool3', pools[2], scales[1], 9),
  )[: {32: 0, 16: 1, 8: 2}[stride]]:
    x = bilinear(x, 2)
    skip = weights.conv(scale * skip, f'score_{name}')
    x = x + skip[:, :, offset : offset + x.shape[2], offset : offset + x.shape[3]]
  crop = {32: 19, 16: 27, 8: 31}[stride]
  if context:
    x, crop = context(x, crop, image.shape[2:])
  x = bilinear(x, stride)
  return x[:, :, crop : crop + image.shape[2], crop : crop + image.shape[3]]


@pytest.mark.parametrize('size', [(64, 96), (51, 78)])
@pytest.mark.parametrize('stride', [32, 16, 8])
def test_as_the_reference(stride, size):
  def forward(weights, image):
    return fcn(weights, image, stride=stride, blocks=NARROW['blocks'])

  reference.check(f'fcn{stride}s', forward, size, **NARROW)


def test_all_of_vgg_and_at_once():
  options = {**NARROW, 'blocks': (2, 2, 3, 3, 3), 'width': 1 / 32}

  def forward(weights, image):
    return fcn(weights, image, stride=8, blocks=options['blocks'], at_once=True)

  reference.check('fcn8s', forward, (40, 33), at_once=True, **options)


@pytest.mark.parametrize('stride', [32, 16, 8])
def test_context_before_the_upsampling(stride):
  def context(weights):
    def module(x, crop, size):
      # The cells that pixels of the picture are blended from, and no others.
      first = 2 if stride == 8 else 0
      rows, columns = ((crop + side - 1) // stride + 1 for side in size)
      return weights.context(x[:, :, first:rows, first:columns]), crop - stride * first

    return module

  def forward(weights, image):
    blocks = NARROW['blocks']
    return fcn(weights, image, stride=stride, blocks=blocks, context=context(weights))

  reference.check(f'fcn{stride}s', forward, (64, 93), context='basic', **NARROW)


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
  assert geometry.parameters(model) == parameters
  assert (model.stride, model.margin, model.full_size) == (stride, 0, True)
  *_, pixels = geometry.grids(model)
  assert pixels == (1, 0)  # Pixel i of the logits is pixel i of the picture.


@pytest.mark.parametrize('fc_kernel, image_padding', [(3, 17), (3, 40), (5, 60)])
def test_other_paddings_stay_aligned(fc_kernel, image_padding):
  for name in ('fcn32s', 'fcn16s', 'fcn8s'):
    options = {**NARROW, 'fc_kernel': fc_kernel, 'image_padding': image_padding}
    model = models.create(name, 4, **options)
    assert geometry.grids(model)[-1] == (1, 0)
    assert all(geometry.output_size(model, side) >= side for side in range(64, 130))


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

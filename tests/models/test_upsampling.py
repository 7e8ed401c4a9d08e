"""models/upsampling.py: cells of networks and pixels of images, in training and in prediction."""

import jax
import numpy as np
import pytest
import scipy.special

from dilated_jax import inference, models
from dilated_jax.errors import InputError
from dilated_jax.models import upsampling
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn import geometry, ops
from dilated_jax.training import optimizers, stages, step as train_step
from dilated_jax.training.config import OptimizerOptions
from tests.models.random_inputs import variables_of

VGG = {'blocks': (1, 1, 1, 1, 1), 'width': 1 / 32, 'fc_channels': 4}
RESNET = {'blocks': (1, 1, 1, 1), 'width': 1 / 32}
FRONT_END = {'blocks': (1, 1, 1), 'width': 1 / 32, 'fc_kernel': 3, 'fc_channels': 4}
NETWORKS = {
  'front_end': FRONT_END,
  'dilation8': FRONT_END,
  'deeplab': VGG,
  'deeplab_largefov': VGG,
  'deeplab_msc': VGG,
  'deeplab_v2': VGG,
  'deeplab_v3': RESNET,
  'pspnet': RESNET,
  'fcn_resnet': RESNET,
}
MEAN = (100.0, 110.0, 120.0)


def test_the_method_follows_from_the_grid():
  for name, options in NETWORKS.items():
    model = models.create(name, 3, **options)
    methods = [upsampling.of_training(model, labels) for labels in ('grid', 'full')]
    paper = name in ('front_end', 'dilation8')
    assert methods == (['corner', 'deconvolution'] if paper else ['corner_logits'] * 2), name
    offsets = [upsampling.cell_offset(model, method) for method in upsampling.METHODS]
    assert offsets == [0, 0, (model.stride - 1) / 2]


@pytest.mark.parametrize('name', NETWORKS)
def test_a_ramp_over_the_cells_gives_the_pixels_where_the_cells_look(name):
  """Cells that hold the middle of what they see give, between them, the position of each pixel."""
  model = models.create(name, 3, **NETWORKS[name])
  cells, stride = 6, model.stride
  middles = geometry.offset(model.table) - model.margin + stride * np.arange(cells)
  ramp = np.broadcast_to(middles.astype(np.float32)[None, None, :, None], (1, 2, cells, 1))
  method = upsampling.of_training(model, 'full')
  found, ones = (upsampling.upsample(x, stride, method) for x in (ramp, np.ones_like(ramp)))
  inside = slice(stride, -stride)
  pixels = np.arange(cells * stride)
  np.testing.assert_allclose((found / ones)[0, 0, inside, 0], pixels[inside], atol=1e-4)


@pytest.mark.parametrize('method', upsampling.METHODS)
def test_an_impulse_peaks_where_its_cell_lies(method):
  model = models.create('fcn_resnet', 3, **RESNET)
  impulse = np.zeros((1, 5, 5, 1), np.float32)
  impulse[0, 2, 2] = 1
  row = np.asarray(upsampling.upsample(impulse, 8, method)).sum((0, 1, 3))
  center = float(2 * 8 + upsampling.cell_offset(model, method))
  assert row @ np.arange(40) / row.sum() == pytest.approx(center)
  assert row.argmax() in (np.floor(center), np.ceil(center))


def test_cells_of_fcn_lie_where_its_own_upsampling_puts_them():
  model = models.create('fcn8s', 3, **VGG)
  offset = upsampling.cell_offset(model, 'corner')
  assert offset == -7.5
  scores = np.zeros((1, 9, 9, 3), np.float32)
  scores[0, 4, 4] = 1
  row = np.asarray(model.apply({}, scores, method='apply_context'))[0, 24, :, 0]
  assert row @ np.arange(len(row)) / row.sum() == pytest.approx(8 * 4 + float(offset), abs=1e-4)


@pytest.mark.parametrize('name', ['front_end', 'deeplab_largefov', 'fcn8s'])
def test_training_sees_the_labels_as_prediction_gives_them(name):
  """The loss on labels of full size is that of the predicted probabilities, at every pixel."""
  options = {**(NETWORKS | {'fcn8s': VGG})[name], 'dropout': 0.0, 'norm': 'group'}
  model, rng = models.create(name, 3, **options), np.random.default_rng(0)
  image = rng.integers(0, 256, (24, 32, 3), np.uint8)
  label = rng.integers(0, 3, (24, 32)).astype(np.uint8)
  variables = variables_of(model)
  method = upsampling.of_training(model, 'full')
  spec = ModelSpec(name, options, ('a', 'b', 'c'), ((0, 0, 0),) * 3, MEAN, upsampling=method)
  found = inference.predict(Segmenter(model, variables, spec), image)
  rows, columns = np.indices(label.shape)
  expected = -np.log(found.probabilities[rows, columns, label].astype(np.float64)).mean()

  stage, optimizer = stages.STAGES['front_end'], optimizers.create(OptimizerOptions(), 1)
  step = train_step.make_step(model, stage, optimizer, MEAN, loss_resolution='full')
  padded = np.pad(image, (*[(model.margin, model.margin)] * 2, (0, 0)), mode='reflect')
  state = train_step.create_state(variables, stage, optimizer, jax.random.key(0))
  loss = jax.jit(lambda *given: step(*given)[1]['loss'])  # The gradients are not compiled.
  found = loss(state, {'image': padded[None], 'label': label[None]})
  assert float(found) == pytest.approx(expected, rel=1e-4)


def test_crops_of_one_pixel_more():
  """Of 17 x 25 pixels, 3 x 4 cells lie on the corners of their squares: all labels count."""
  options = {**VGG, 'dropout': 0.0}
  model, rng = models.create('deeplab_largefov', 3, **options), np.random.default_rng(1)
  image = rng.integers(0, 256, (1, 17, 25, 3), np.uint8)
  label = rng.integers(0, 3, (1, 17, 25)).astype(np.uint8)
  variables = variables_of(model)
  logits = jax.jit(model.apply)(variables, image - np.array(MEAN, np.float32))
  logits = np.asarray(ops.resize(logits[:, :3, :4], (17, 25), align_corners=True), np.float64)
  expected = -scipy.special.log_softmax(logits, -1)[(*np.indices(label.shape), label)].mean()
  stage, optimizer = stages.STAGES['front_end'], optimizers.create(OptimizerOptions(), 1)
  step = train_step.make_step(model, stage, optimizer, MEAN, loss_resolution='full')
  state = train_step.create_state(variables, stage, optimizer, jax.random.key(0))
  loss = jax.jit(lambda *given: step(*given)[1]['loss'])
  assert float(loss(state, {'image': image, 'label': label})) == pytest.approx(expected, rel=1e-4)


def test_wrong_method():
  model = models.create('front_end', 3, **FRONT_END)
  for call in (
    lambda: upsampling.cell_offset(model, 'nearest'),
    lambda: upsampling.upsample(np.zeros((1, 2, 2, 3), np.float32), 8, 'nearest'),
  ):
    with pytest.raises(InputError, match="'nearest'; choose corner, corner_logits or deconv"):
      call()

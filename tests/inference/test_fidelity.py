"""Published networks against the authors' own steps, done again with OpenCV and NumPy.

Caffe files come from `caffe_files`; OpenCV runs them; `authors_labels` does what predict.py of
github.com/fyu/dilation does around them. The commands under test see nothing but the files.
"""

from absl import flags
import cv2
import jax
import numpy as np
from PIL import Image
import pytest

import dilated_jax
from experiments import convert, predict
from tests import caffe_files, numpy_layers

pytestmark = pytest.mark.usefixtures('compile_fully')
MEANS = {  # BGR, datasets/*.json of the authors.
  'pascal_voc': (102.93, 111.36, 116.52),
  'camvid': (110.70313206, 108.77808759, 105.41212523),
  'kitti': (96.19429688, 95.55136972, 91.34692262),
  'cityscapes': (72.39, 82.91, 73.16),
}
LAST = {'pascal_voc': 'ct_final', 'cityscapes': 'ctx_upsample'}


def run(command, **values):
  """A command, as if from a shell."""
  parsed = flags.FlagValues()
  command.define_flags(parsed)
  parsed(['command', *(f'--{name}={value}' for name, value in values.items())])
  command.main(parsed)


def converted(tmp_path, network, **style):
  (tmp_path / 'file').write_bytes(caffe_files.caffemodel(network, **style))
  run(convert, source=tmp_path / 'file', output=tmp_path / 'weights')
  return tmp_path / 'weights'


def smooth_picture(height, width, seed=0):
  """Noise on several scales: large areas and fine detail, as in photographs."""
  rng = np.random.default_rng(seed)
  total = np.zeros((height, width, 3))
  for cell in (2, 16, 64):
    noise = rng.normal(0, 1, (height // cell + 2, width // cell + 2, 3))
    total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
  return np.clip(128 + 45 * total, 0, 255).astype(np.uint8)


def authors_labels(network, rgb, mean, size, zoom):
  """Labels and probabilities as predict.py makes them; `size` is that of the network's input."""
  margin = 186
  image = rgb[:, :, ::-1].astype(np.float32) - np.float32(mean)
  padded = cv2.copyMakeBorder(image, *[margin] * 4, cv2.BORDER_REFLECT_101)
  steps = [side - 2 * margin for side in size]
  rows = []
  for top in range(0, image.shape[0], steps[0]):
    row = []
    for left in range(0, image.shape[1], steps[1]):
      tile = padded[top : top + size[0], left : left + size[1]]
      missing = size[0] - tile.shape[0], size[1] - tile.shape[1]
      tile = cv2.copyMakeBorder(tile, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101)
      given = tile.transpose(2, 0, 1)[None].copy()
      row.append(caffe_files.run(network, given, ['prob'])[0][0])
    rows.append(np.concatenate(row, axis=2))
  probabilities = np.concatenate(rows, axis=1).transpose(1, 2, 0).astype(np.float64)
  if zoom > 1:
    probabilities = interp_map(probabilities, zoom, *image.shape[:2])
  probabilities = probabilities[: image.shape[0], : image.shape[1]]
  return probabilities.argmax(axis=-1), probabilities


def interp_map(cells, zoom, height, width):
  """util.interp_map: between the cells above and below, then between those left and right.

  In float64, stored as float32: where two classes are equal then, the first one is taken.
  """

  def along(cells, length, axis):
    places = np.arange(length) / zoom
    lower = places.astype(int)
    upper = np.minimum(lower + 1, cells.shape[axis] - 1)
    part = (places - lower).reshape(-1, *[1] * (2 - axis))
    return (1 - part) * cells.take(lower, axis) + part * cells.take(upper, axis)

  return along(along(cells, height, 0), width, 1).astype(np.float32)


@pytest.mark.parametrize(
  'name, size, style',
  [
    ('pascal_voc', (452, 500), dict(version=2)),
    ('camvid', (453, 511), dict(version=1, packing='unpacked')),
    ('kitti', (391, 1640), dict(version=2, dtype=np.float64)),  # 1640: 159 cells, rounded up.
    ('cityscapes', (458, 401), dict(version=2, legacy=True, options=False)),
  ],
)
def test_scores_and_logits(name, size, style, tmp_path):
  network = with_he_weights(caffe_files.published(name, RNG, width=(6, 8, 12, 16, 20, 48, 40)))
  model, variables, _ = dilated_jax.load(converted(tmp_path, network, **style))
  bgr = smooth_picture(*size)[:, :, ::-1].astype(np.float32) - np.float32(MEANS[name])
  names = ['fc-final' if name == 'pascal_voc' else 'final', LAST.get(name, 'ctx_final')]
  given = bgr.transpose(2, 0, 1)[None].copy()
  theirs = caffe_files.run(network, given, names)
  truths = in_float64(network, given)
  rgb = bgr[None, :, :, ::-1]
  scores = jax.jit(lambda v, x: model.apply(v, x, method='apply_front_end'))(variables, rgb)
  logits = jax.jit(model.apply)(variables, rgb)
  for ours, others, truth in zip((scores, logits), theirs, map(truths.get, names)):
    assert relative_error(ours, others) < 1e-5
    assert relative_error(ours, truth) < 1e-5


def test_worst_conditions(tmp_path):
  """Weights whose rows sum to zero cost float32 a digit more; ours no more than others'."""
  network = caffe_files.published('camvid', np.random.default_rng(1), width=1 / 8)
  model, variables, _ = dilated_jax.load(converted(tmp_path, network))
  bgr = smooth_picture(453, 511)[:, :, ::-1].astype(np.float32) - np.float32(MEANS['camvid'])
  given = bgr.transpose(2, 0, 1)[None].copy()
  truth = in_float64(network, given)['ctx_final']
  theirs = caffe_files.run(network, given, ['ctx_final'])[0].transpose(0, 2, 3, 1)
  ours = jax.jit(model.apply)(variables, bgr[None, :, :, ::-1])
  assert relative_error(ours, truth) < 1.5 * relative_error(theirs, truth)


RNG = np.random.default_rng(1)


def with_he_weights(network):
  """Convolutions by He et al.: the usual start of a ReLU network."""

  def renewed(layer):
    if layer.kind != 'Convolution':
      return layer
    kernel, bias = layer.blobs
    spread = np.sqrt(2 / np.prod(kernel.shape[1:]))
    return layer._replace(blobs=(RNG.normal(0, spread, kernel.shape).astype(np.float32), bias))

  return network._replace(layers=tuple(map(renewed, network.layers)))


def relative_error(ours, theirs):
  if ours.shape != theirs.shape:
    theirs = theirs.transpose(0, 2, 3, 1)
  assert ours.shape == theirs.shape
  return np.abs(ours - theirs).max() / np.abs(theirs).max()


def in_float64(network, given):
  """All layers' outputs, N x H x W x C, computed by NumPy in float64."""
  x, outputs = given.transpose(0, 2, 3, 1), {}
  for layer in network.layers:
    blobs = [np.array(blob, np.float64) for blob in layer.blobs]
    options = {key: layer.options.get(key, 0 if key == 'pad' else 1) for key in ('pad', 'dilation')}
    if layer.kind == 'Convolution':
      kernel, bias = blobs[0].transpose(2, 3, 1, 0), blobs[1]
      x = numpy_layers.conv(x, kernel, bias, options['pad'], options['dilation'])
    elif layer.kind == 'Deconvolution':
      x = numpy_layers.deconv(x, blobs[0][:, 0].transpose(1, 2, 0), stride=8, padding=4)
    elif layer.kind == 'Pooling':
      x = numpy_layers.max_pool(x)
    elif layer.kind == 'ReLU':
      x = np.maximum(x, 0)
    outputs[layer.name] = x
  return outputs


@pytest.mark.parametrize(
  'name, size',
  [
    ('pascal_voc', (375, 500)),
    ('camvid', (480, 640)),
    ('kitti', (370, 1226)),
    ('cityscapes', (600, 1500)),  # Two tiles.
    ('pascal_voc', (100, 150)),  # Smaller than the margin.
    ('camvid', (600, 300)),  # Two tiles, the second one small.
  ],
)
def test_label_maps(name, size, tmp_path):
  network = caffe_files.published(name, np.random.default_rng(2), width=1 / 16)
  weights = converted(tmp_path, network)
  picture = smooth_picture(*size, seed=3)
  Image.fromarray(picture).save(tmp_path / 'picture.png')
  run(predict, weights=weights, inputs=tmp_path / 'picture.png', output=tmp_path / 'out',
      save='labels,scores')  # fmt: skip
  with Image.open(tmp_path / 'out/picture.png') as image:
    ours = np.asarray(image)
  zoom = 1 if name == 'cityscapes' else 8
  theirs, probabilities = authors_labels(
    network, picture, MEANS[name], network.input_shape[2:], zoom
  )
  assert len(np.unique(theirs)) > 3
  assert (ours == theirs).mean() >= 0.9999
  np.testing.assert_allclose(
    np.load(tmp_path / 'out/picture.npz')['probabilities'],
    probabilities,
    atol=1e-3,  # Logits of 50 and more, of which float32 knows the fifth digit.
  )

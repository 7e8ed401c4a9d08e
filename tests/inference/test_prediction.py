import types

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import scipy.special

from dilated_jax import evaluation, inference
from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics, run
from dilated_jax.inference import prediction
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn.table import Layer
from dilated_jax.training.validation import Validation
from experiments import compilation_cache

MEAN = (100.0, 110.0, 120.0)
CLASSES = LabelSpec('toys', ('a', 'b', 'c'), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), MEAN)


class Tiny(nn.Module):
  """One valid convolution that loses `margin` a side and answers once for `stride` pixels."""

  num_classes: int = 3
  stride: int = 4
  margin: int = 5
  full_size: bool = False

  parts: tuple = ('front_end',)

  @property
  def table(self):
    return (Layer('conv', kernel=self.stride + 2 * self.margin, stride=self.stride, channels=3),)

  @nn.compact
  def __call__(self, images, train=False, own=None):
    assert not train  # Without padding `own` tells nothing: what lies beyond reaches no own cell.
    step = 1 if self.full_size else self.stride
    kernel = step + 2 * self.margin
    conv = nn.Conv(self.num_classes, (kernel, kernel), step, 'VALID', name='conv')
    return conv(images / 50)


def spec_of(upsampling='corner', image_scale=1.0):
  return types.SimpleNamespace(
    upsampling=upsampling,
    image_scale=image_scale,
    mean=MEAN,
    classes=CLASSES.names,
    input=None,
  )


def variables_of(model):
  side = model.stride + 2 * model.margin
  return model.init(jax.random.key(0), jnp.zeros((1, side, side, 3)))


def picture(height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def interp_map(probabilities, zoom, width, height):
  """The loop of the originals' util.interp_map, with the cells clamped at the end."""
  rows, columns = probabilities.shape[:2]
  result = np.zeros((height, width, probabilities.shape[2]))
  for h in range(height):
    for w in range(width):
      r0, c0 = h // zoom, w // zoom
      r1, c1 = min(r0 + 1, rows - 1), min(c0 + 1, columns - 1)
      rt, ct = h / zoom - r0, w / zoom - c0
      v0 = rt * probabilities[r1, c0] + (1 - rt) * probabilities[r0, c0]
      v1 = rt * probabilities[r1, c1] + (1 - rt) * probabilities[r0, c1]
      result[h, w] = (1 - ct) * v0 + ct * v1
  return result


def deconvolution(logits, zoom):
  """Spreads every cell over 2 * zoom pixels with triangular weights, centered on its own block."""
  rows, columns, classes = logits.shape
  weights = 1 - np.abs(np.arange(2 * zoom) - zoom + 0.5) / zoom
  result = np.zeros((zoom * (rows + 1), zoom * (columns + 1), classes))
  for r in range(rows):
    for c in range(columns):
      part = np.outer(weights, weights)[..., None] * logits[r, c]
      result[r * zoom : (r + 2) * zoom, c * zoom : (c + 2) * zoom] += part
  half = zoom // 2
  return result[half : half + zoom * rows, half : half + zoom * columns]


def logits_of(model, variables, image):
  """The network on a picture padded by NumPy, twice as in the originals."""
  height, width = image.shape[:2]
  m, stride = model.margin, model.stride
  padded = np.pad(image.astype(np.float32) - MEAN, [(m, m), (m, m), (0, 0)], 'reflect')
  extra = [(0, -height % stride), (0, -width % stride), (0, 0)]
  padded = np.pad(padded, extra, 'reflect').astype(np.float32)
  return np.asarray(model.apply(variables, padded[None]))[0].astype(np.float64)


# One picture.


@pytest.mark.parametrize('size', [(16, 24), (13, 22)])
def test_corner_upsamples_probabilities(size):
  model, image = Tiny(), picture(*size)
  variables = variables_of(model)
  logits = logits_of(model, variables, image)
  expected = interp_map(scipy.special.softmax(logits, axis=-1), 4, size[1], size[0])
  result = inference.predict(Segmenter(model, variables, spec_of()), image)
  assert result.logits.shape == (-(-size[0] // 4), -(-size[1] // 4), 3)
  np.testing.assert_allclose(result.logits, logits, atol=1e-4)
  np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)
  np.testing.assert_array_equal(result.labels, result.probabilities.argmax(-1))
  assert [array.dtype for array in result] == [np.uint8, np.float32, np.float32]


@pytest.mark.parametrize('size', [(16, 24), (13, 22)])
def test_deconvolution_upsamples_logits(size):
  model, image = Tiny(), picture(*size)
  variables = variables_of(model)
  logits = logits_of(model, variables, image)
  expected = scipy.special.softmax(deconvolution(logits, 4), axis=-1)[: size[0], : size[1]]
  result = inference.predict(Segmenter(model, variables, spec_of('deconvolution')), image)
  np.testing.assert_allclose(result.logits, logits, atol=1e-4)
  np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)


def test_full_size_networks_are_only_cropped():
  model, image = Tiny(full_size=True), picture(13, 22)
  variables = variables_of(model)
  logits = logits_of(model, variables, image)[:13, :22]
  result = inference.predict(Segmenter(model, variables, spec_of('deconvolution')), image)
  np.testing.assert_allclose(result.logits, logits, atol=1e-4)
  np.testing.assert_allclose(
    result.probabilities, scipy.special.softmax(logits, axis=-1), atol=1e-5
  )


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (3, 2), (17, 5)])
@pytest.mark.parametrize('image_scale', [1.0, 0.5])
def test_any_size_works(size, image_scale):
  model = Tiny(margin=20)
  spec = spec_of(image_scale=image_scale)
  result = inference.predict(Segmenter(model, variables_of(model), spec), picture(*size), flip=True)
  assert result.labels.shape == size and result.probabilities.shape == (*size, 3)
  np.testing.assert_allclose(result.probabilities.sum(-1), 1, atol=1e-5)


def test_image_scale_shrinks_and_enlarges():
  """Against half the picture by 2 x 2 means, and Pillow's bilinear enlargement."""
  model, image = Tiny(), picture(26, 44) // 4 * 4  # Whole means.
  variables = variables_of(model)
  half = image.reshape(13, 2, 22, 2, 3).mean((1, 3)).astype(np.uint8)
  small = inference.predict(Segmenter(model, variables, spec_of()), half)
  result = inference.predict(Segmenter(model, variables, spec_of(image_scale=0.5)), image)
  np.testing.assert_allclose(result.logits, small.logits, atol=1e-4)
  planes = [
    Image.fromarray(plane).resize((44, 26), Image.Resampling.BILINEAR)
    for plane in np.moveaxis(small.probabilities, -1, 0)
  ]
  np.testing.assert_allclose(result.probabilities, np.stack(planes, axis=-1), atol=1e-5)


def test_passes_are_averaged():
  model, image = Tiny(), picture(18, 23)
  variables, spec = variables_of(model), spec_of()
  passes = []
  for scale in (0.5, 1.0, 1.5):
    for step in (1, -1):
      one = inference.predict(Segmenter(model, variables, spec), image[:, ::step], scales=(scale,))
      passes.append(one.probabilities[:, ::step])
  result = inference.predict(
    Segmenter(model, variables, spec), image, scales=(0.5, 1.0, 1.5), flip=True
  )
  np.testing.assert_allclose(result.probabilities, np.mean(passes, axis=0), atol=1e-6)
  np.testing.assert_array_equal(result.labels, result.probabilities.argmax(-1))
  first = inference.predict(Segmenter(model, variables, spec), image, scales=(0.5,))
  np.testing.assert_array_equal(result.logits, first.logits)


def test_a_scale_resizes_the_picture():
  model, image = Tiny(), picture(16, 24)
  variables = variables_of(model)
  large = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR))
  expected = inference.predict(Segmenter(model, variables, spec_of()), large).probabilities
  expected = jax.image.resize(expected, (16, 24, 3), 'linear')
  result = inference.predict(Segmenter(model, variables, spec_of()), image, scales=(2.0,))
  np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)


def test_wrong_pictures_and_cards_are_named():
  model = Tiny()
  variables = variables_of(model)
  for image in (picture(4, 4)[..., 0], picture(4, 4).astype(np.float32), picture(4, 4)[None]):
    with pytest.raises(InputError, match='uint8'):
      inference.predict(Segmenter(model, variables, spec_of()), image)
  with pytest.raises(InputError, match='choose corner, corner_logits or deconvolution'):
    inference.predict(Segmenter(model, variables, spec_of('nearest')), picture(4, 4))


def test_programs_are_shared_and_forgotten():
  model = Tiny(num_classes=4)
  variables, spec = variables_of(model), spec_of()
  prediction._program.cache_clear()
  for height, width in ((9, 9), (9, 12), (12, 10), (11, 11)):
    inference.predict(Segmenter(model, variables, spec), picture(height, width), flip=True)
  assert prediction._program.cache_info().currsize == 1
  assert prediction._program.cache_info().maxsize <= 64


# Many pictures.


def test_label_maps_are_those_of_predict():
  model = Tiny()
  variables = variables_of(model)
  images = np.stack([picture(14, 18, seed) for seed in range(3)])
  for spec in (spec_of(), spec_of('deconvolution', image_scale=0.5)):
    for passes in ({}, {'scales': (1.0, 0.5), 'flip': True}):
      expected = [
        inference.predict(Segmenter(model, variables, spec), image, **passes).labels
        for image in images
      ]
      labels = inference.label_maps(Segmenter(model, variables, spec), images, **passes)
      assert labels.dtype == np.uint8
      np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
  'options, words',
  [
    ({'scales': ()}, r'scales are \(\); give a sequence of numbers above 0'),
    ({'scales': (1.0, -1.0)}, r'scales are \(1.0, -1.0\)'),
    ({'scales': 0.5}, 'scales are 0.5'),
    ({'scales': '1,2'}, "scales are '1,2'"),
    ({'tile': 64}, r"tile is 64; give \(height, width\), 'whole', 'auto' or None"),
    ({'tile': '64'}, "tile is '64'"),
    ({'tile': (64.0, 64.0)}, r'tile is \(64.0, 64.0\)'),
    ({'window': 'whole'}, r"window is 'whole'; give \(height, width\) or None"),
    ({'refine': lambda p, image: None}, r'refine has returned object \(\); .* \(9, 11, 3\)'),
    ({'refine': lambda p, image: p.argmax(-1)}, r'refine has returned int64 \(9, 11\)'),
    ({'refine': lambda p, image: p * np.nan}, 'finite ones'),
  ],
)
def test_ways_to_predict_that_are_none(without_type_checks, options, words):
  model = Tiny()
  segmenter, image = (
    Segmenter(model, variables_of(model), spec_of()),
    np.zeros((9, 11, 3), np.uint8),
  )
  with pytest.raises(InputError, match=words):
    inference.predict(segmenter, image, **options)
  with pytest.raises(InputError, match=words):
    inference.label_maps(segmenter, image[None], **options)
  with pytest.raises(InputError, match=r"'runs/weights' is no segmenter: give what .*load"):
    inference.predict('runs/weights', image)


def test_refine_has_the_last_word():
  model, spec = Tiny(), spec_of()
  variables, images = variables_of(model), np.stack([picture(14, 18, seed) for seed in range(2)])

  def turned(probabilities, image):
    assert probabilities.shape[:2] == image.shape[:2]
    return probabilities[..., ::-1]

  plain = inference.predict(Segmenter(model, variables, spec), images[0])
  refined = inference.predict(Segmenter(model, variables, spec), images[0], refine=turned)
  np.testing.assert_array_equal(refined.probabilities, plain.probabilities[..., ::-1])
  np.testing.assert_array_equal(refined.logits, plain.logits)
  labels = inference.label_maps(Segmenter(model, variables, spec), images, refine=turned)
  np.testing.assert_array_equal(labels[0], refined.labels)


def source_of(sizes):
  rng = np.random.default_rng(1)
  return [
    {
      'image': picture(*size, seed),
      'label': rng.choice(np.array([0, 1, 2, 255], np.uint8), size),
      'name': f'picture{seed}',
    }
    for seed, size in enumerate(sizes)
  ]


@pytest.mark.parametrize('batch_size', [1, 2, 3, 16])
def test_evaluate_counts_every_picture_once(batch_size):
  model, spec = Tiny(), spec_of()
  variables = variables_of(model)
  source = source_of([(12, 16)] * 5 + [(9, 8), (12, 16), (8, 9), (9, 8)])
  total = 0
  for item in source:
    labels = inference.predict(Segmenter(model, variables, spec), item['image']).labels
    total = total + metrics.confusion_matrix(item['label'], labels, 3)
  result = evaluation.evaluate(
    Segmenter(model, variables, spec),
    source,
    CLASSES,
    batch_size=batch_size,
    show_progress=batch_size == 2,
  )
  assert result == metrics.scores(total, CLASSES.names)


def test_scores_at_the_size_that_the_network_sees():
  model, source = Tiny(), source_of([(12, 16)] * 2 + [(18, 12)])
  spec = ModelSpec('front_end', {}, CLASSES.names, CLASSES.palette, MEAN, image_scale=0.5)
  segmenter, total = Segmenter(model, variables_of(model), spec), 0
  for item in source:
    height, width = (n // 2 for n in item['label'].shape)
    blocks = item['image'].reshape(height, 2, width, 2, 3).mean((1, 3))
    image = np.floor(blocks + 0.5).astype(np.uint8)
    seen = Segmenter(model, segmenter.variables, spec_of())
    labels = inference.predict(seen, image).labels
    total = total + metrics.confusion_matrix(item['label'][1::2, 1::2], labels, 3)
  options = {'show_progress': False}
  result = evaluation.evaluate(segmenter, source, CLASSES, score_size='network', **options)
  assert result == metrics.scores(total, CLASSES.names)
  assert result != evaluation.evaluate(segmenter, source, CLASSES, **options)
  # The same in training.
  validation = Validation(source, CLASSES, 'network')
  assert validation.scores(segmenter) == result


def test_images_of_many_sizes_share_programs():
  sizes = [(20, 20), (24, 28), (28, 20), (32, 32)] + [(40 + n, 44 - n) for n in range(6)]
  segmenter = Segmenter(Tiny(), variables_of(Tiny()), spec_of())
  with compilation_cache.counted() as programs:
    evaluation.evaluate(segmenter, source_of(sizes), CLASSES, show_progress=False)
  assert 0 < programs.total < 8


def test_groups_are_bounded_and_whole():
  source = source_of([(size, 4) for size in range(1, 40)] + [(4, 4)] * 5)
  groups = list(run._same_sizes(iter(source), 2))
  names = [item['name'] for group, _ in groups for item in group]
  assert sorted(names) == sorted(item['name'] for item in source)
  assert all(len({item['image'].shape for item in group}) == 1 for group, _ in groups)
  assert groups[-1][1] in (0, 1)


def test_classes_are_matched_by_name():
  model = Tiny()
  variables, source = variables_of(model), source_of([(12, 16)] * 2)
  turned = LabelSpec('toys', ('C', 'a', 'b'), CLASSES.palette, MEAN)
  moved = [
    {**item, 'label': np.array([1, 2, 0] + [255] * 253, np.uint8)[item['label']]} for item in source
  ]
  options = {'show_progress': False}
  result = evaluation.evaluate(Segmenter(model, variables, spec_of()), source, CLASSES, **options)
  other = evaluation.evaluate(Segmenter(model, variables, spec_of()), moved, turned, **options)
  assert other['mean_iou'] == pytest.approx(result['mean_iou'])
  assert other['per_class_iou']['C'] == result['per_class_iou']['c']
  strange = LabelSpec('farm', ('a', 'b', 'cow'), CLASSES.palette, MEAN)
  with pytest.raises(InputError, match='only in the weights: c; only in farm: cow'):
    evaluation.evaluate(Segmenter(model, variables, spec_of()), source, strange, **options)


def test_bad_sources_are_named():
  model = Tiny()
  variables = variables_of(model)
  with pytest.raises(InputError, match='no images'):
    evaluation.evaluate(Segmenter(model, variables, spec_of()), [], CLASSES)
  source = source_of([(12, 16)])
  source[0]['label'] = source[0]['label'][:5]
  with pytest.raises(InputError, match='picture0'):
    evaluation.evaluate(Segmenter(model, variables, spec_of()), source, CLASSES)

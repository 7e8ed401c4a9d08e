"""windows.py: sliding windows against the loops of PSPNet's evaluation, done again in NumPy."""

import jax
import numpy as np
import pytest

from dilated_jax import evaluation, inference, label_spec
from dilated_jax.errors import InputError
from dilated_jax.inference import windows
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn import ops
from tests.models.random_inputs import variables_of

MEAN = (100.0, 110.0, 120.0)
NARROW = {'blocks': (1, 1, 1, 1), 'width': 1 / 32}


def segmenter_of(name='pspnet', options=NARROW):
  colors = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
  spec = ModelSpec(name, options, ('a', 'b', 'c'), colors, MEAN, upsampling='corner_logits')
  model = spec.create()
  return Segmenter(model, variables_of(model), spec)


def picture(height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def by_hand(segmenter, image, side):
  """Windows two thirds apart, the last one moved back; 8 n + 1 pixels have cells at both ends."""
  model, variables, _ = segmenter
  canvas = [max(side, n) for n in image.shape[:2]]
  padded = np.broadcast_to(np.array(MEAN, np.float32), (*canvas, 3)).copy()
  padded[: image.shape[0], : image.shape[1]] = image
  step = int(np.ceil(side * 2 / 3))
  total, counts = np.zeros((*canvas, 3)), np.zeros(canvas)
  apply = jax.jit(model.apply)
  for row in range(int(np.ceil((canvas[0] - side) / step)) + 1):
    for column in range(int(np.ceil((canvas[1] - side) / step)) + 1):
      bottom, right = min(row * step + side, canvas[0]), min(column * step + side, canvas[1])
      place = np.s_[bottom - side : bottom, right - side : right]
      logits = apply(variables, (padded[place] - np.array(MEAN, np.float32))[None])
      logits = ops.resize(logits, (side, side), align_corners=True)
      total[place] += np.asarray(jax.nn.softmax(logits))[0]
      counts[place] += 1
  return (total / counts[..., None])[: image.shape[0], : image.shape[1]]


@pytest.mark.parametrize('size', [(33, 33), (57, 40), (20, 50), (90, 91), (25, 30)])
def test_as_the_authors_do(size):
  segmenter, image = segmenter_of(), picture(*size)
  found = inference.predict(segmenter, image, window=(33, 33))
  expected = by_hand(segmenter, image, 33)
  np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
  np.testing.assert_array_equal(found.labels, found.probabilities.argmax(-1))
  np.testing.assert_allclose(np.exp(found.logits), found.probabilities, atol=1e-6)


def test_windows_cover_every_pixel():
  for length in range(9, 60):
    starts = windows._starts(length, 9)
    assert starts[0] == 0 and starts[-1] == length - 9 and len(starts) == len(set(starts))
    assert max(np.diff([*starts, length]), default=0) <= 9
    assert all(step <= 6 for step in np.diff(starts))


def test_scales_flips_and_scores():
  segmenter, image = segmenter_of(), picture(40, 48)
  found = inference.predict(segmenter, image, window=(33, 33), scales=(1, 0.75), flip=True)
  passes = []
  for scale in (1, 0.75):
    for step in (1, -1):
      given = image[:, ::step]
      one = inference.predict(segmenter, given, window=(33, 33), scales=(scale,))
      passes.append(one.probabilities[:, ::step])
  np.testing.assert_allclose(found.probabilities, np.mean(passes, 0), atol=1e-6)
  classes = label_spec.LabelSpec('toys', ('a', 'b', 'c'), segmenter.spec.palette, MEAN)
  alone = inference.predict(segmenter, image, window=(33, 33))
  source = [{'image': image, 'label': alone.labels, 'name': 'one'}]
  scores = evaluation.evaluate(segmenter, source, classes, window=(33, 33), show_progress=False)
  assert scores['pixel_accuracy'] == 1


def test_what_needs_no_windows():
  image = picture(40, 48)
  front_end = {'blocks': (1,), 'width': 1 / 16, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
  for segmenter, more, words in (
    (segmenter_of('front_end', front_end), {}, 'pads nothing: give `tile`'),
    (segmenter_of(), {'tile': 'whole'}, '`window` and `tile` both'),
    (segmenter_of(options={**NARROW, 'crf': 'rnn'}), {}, 'without a CRF-RNN'),
  ):
    with pytest.raises(InputError, match=words):
      inference.predict(segmenter, image, window=(33, 33), **more)
  with pytest.raises(InputError, match='window 7x33 is too small: give 8 or more'):
    inference.predict(segmenter_of(), image, window=(7, 33))

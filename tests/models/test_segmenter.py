"""segmenter.py: one object of model, variables and spec."""

import dataclasses

import jax
import numpy as np
import pytest

import dilated_jax
from dilated_jax.images import files as image_files
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter, select_parts
from dilated_jax.models.spec import ModelSpec

OPTIONS = {
  'blocks': [1], 'width': 1 / 16, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4,
  'dilations': [1, 2, 1], 'crf': 'rnn',
}  # fmt: skip
SPEC = ModelSpec(
  'dilation8', OPTIONS, ('a', 'b', 'c'), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), (10.0, 20.0, 30.5)
)


@pytest.fixture(scope='module')
def segmenter():
  model, rng = SPEC.create(), np.random.default_rng(0)
  shapes = weights_folder.abstract_variables(model)
  variables = jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)
  return Segmenter.from_spec(SPEC, variables)


def test_it_is_what_load_returns_and_predict_takes(segmenter, tmp_path):
  weights_folder.save_weights(tmp_path / 'weights', SPEC, segmenter.variables)
  loaded = dilated_jax.load(tmp_path / 'weights')
  assert isinstance(loaded, dilated_jax.Segmenter)
  model, variables, spec = loaded
  assert (model, spec) == (segmenter.model, SPEC) and variables is loaded.variables

  image = np.random.default_rng(1).integers(0, 256, (15, 18, 3), np.uint8)
  (tmp_path / 'photo.png').write_bytes(image_files.encode_png(image))
  found = dilated_jax.predict(loaded, image)
  assert isinstance(found, dilated_jax.Prediction)
  assert found.labels.shape == (15, 18) and found.probabilities.shape == (15, 18, 3)
  for path in (tmp_path / 'photo.png', str(tmp_path / 'photo.png')):
    np.testing.assert_array_equal(dilated_jax.predict(loaded, path).labels, found.labels)
  flipped = dilated_jax.predict(loaded, image, flip=True, scales=(1.0, 0.5))
  assert (flipped.probabilities != found.probabilities).any()


def test_an_image_that_is_none_is_one_line(segmenter, tmp_path):
  (tmp_path / 'notes.txt').write_text('no image')
  for image, words in (
    (tmp_path / 'nowhere.png', 'nowhere.png'),
    (tmp_path / 'notes.txt', 'notes.txt'),
    (np.zeros((4, 5, 3)), r'uint8 \(H, W, 3\) RGB, not float64'),
    (np.zeros((4, 5), np.uint8), r'not uint8 \(4, 5\)'),
  ):
    with pytest.raises((dilated_jax.InputError, OSError), match=words) as raised:
      dilated_jax.predict(segmenter, image)
    assert '\n' not in str(raised.value)


def test_without_crf(segmenter):
  plain = segmenter.without_crf()
  assert plain.model == segmenter.model.without_crf() and plain.without_crf() is plain
  assert set(plain.variables['params']) == {'front_end', 'context'}
  assert plain.spec == SPEC.without_crf() and 'crf' not in plain.spec.options
  image = np.random.default_rng(2).integers(0, 256, (9, 14, 3), np.uint8)
  assert (
    dilated_jax.predict(plain, image).logits != dilated_jax.predict(segmenter, image).logits
  ).any()


def test_from_spec_leaves_out_what_the_network_lacks(segmenter):
  front_end = Segmenter.from_spec(SPEC.without_context(), segmenter.variables)
  assert front_end.model.parts == ('front_end',)
  assert set(front_end.variables['params']) == {'front_end'}
  assert dataclasses.replace(SPEC, dataset='x').without_context().dataset == 'x'


def test_on_device(segmenter):
  placed = segmenter.on_device()
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(placed.variables))
  jax.tree.map(np.testing.assert_array_equal, placed.variables, segmenter.variables)


def test_select_parts():
  variables = {'params': {'front_end': 1, 'crf': 2}, 'batch_stats': {'front_end': 3}}
  assert select_parts(variables, ('crf',)) == {'params': {'crf': 2}, 'batch_stats': {}}

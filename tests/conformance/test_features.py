"""Batches of features as the authors' test.py and data layer make them."""

import numpy as np
import pytest

from dilated_jax.label_spec import LabelSpec
from dilated_jax.models.spec import ModelSpec
from dilated_jax.training import stage_run
from dilated_jax.training.config import StageConfig
from tests.conformance import release
from tests.models import random_inputs

MEAN = (100.0, 110.0, 120.0)
CLASSES = LabelSpec('toys', ('a', 'b', 'c'), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), MEAN)
OPTIONS = {
  'blocks': (1, 1, 1), 'width': 1 / 32, 'fc_channels': 4, 'fc_kernel': 3, 'dilations': (1, 2, 1),
}  # fmt: skip
SIZES = [(37, 50), (64, 33), (61, 71)]  # On a canvas of 8 x 9 cells.


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  spec = ModelSpec('dilation8', OPTIONS, CLASSES.names, CLASSES.palette, MEAN)
  variables, rng = random_inputs.variables_of(spec.create()), np.random.default_rng(0)
  source = [
    {'image': rng.integers(0, 256, (*size, 3), dtype=np.uint8),
     'label': rng.choice(np.array([0, 1, 2, 255], np.uint8), size), 'name': f'{size}'}
    for size in SIZES
  ]  # fmt: skip
  config = StageConfig('context', 1, batch_size=2, threads=1)
  folder = tmp_path_factory.mktemp('run')
  return source, stage_run.set_up(config, spec, variables, source, CLASSES, folder)


def released(run, example):
  """The features of a picture as test.py writes and cuts them."""
  model = run.spec.create().without_context()
  canvas = 8, 9
  side = [8 * n + 2 * model.margin for n in canvas]
  image = example['image'].astype(np.float32) - np.float32(MEAN)
  fed = release.tile(image, model.margin, side)
  features = np.asarray(model.apply(run.variables, fed[None]))[0]
  assert features.shape[:2] == canvas
  return release.cut_features(features, example['label'].shape, canvas)


@pytest.mark.parametrize('index', range(len(SIZES)))
def test_features_and_labels_mirrored_and_not(run, index):
  source, stage = run
  features = released(stage, source[index])
  seen = set()
  for seed in range(6):
    found = stage.input.transform(stage.input.source[index], np.random.default_rng(seed))
    mirror = bool((found['features'] != stage.input.source[index]['features']).any())
    seen.add(mirror)
    feature, label = release.bin_label_example(features, source[index]['label'], mirror=mirror)
    np.testing.assert_allclose(found['features'], feature, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found['label'][:, ::8][::8], label)
  assert seen == {True, False}


def test_zeros_beyond_the_picture_are_exact(run):
  _, stage = run
  for index, size in enumerate(SIZES):
    rows, columns = (-(-n // 8) for n in size)
    inside = stage.input.source[index]['inside']
    assert inside[:rows, :columns].all() and inside.sum() == rows * columns
    assert not stage.input.source[index]['features'][~inside].any()

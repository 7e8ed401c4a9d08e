"""Units and scales of what a CRF is given: what is wrong is refused, what is unusual is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.crf import CrfRnn, DenseCrf, checks, dense_crf, pydensecrf as dcrf
from dilated_jax.errors import InputError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (6, 8, 3), np.uint8)
SCORES = RNG.normal(0, 2, (6, 8, 4)).astype(np.float32)
PROBABILITIES = np.asarray(jax.nn.softmax(SCORES))
UNIT = IMAGE / 255
NORMALIZED = (UNIT - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
DARK = IMAGE.astype(np.float32) // 64  # Whole numbers, 0 to 3.


@pytest.mark.parametrize(
  'image',
  [
    UNIT,
    UNIT.astype(np.float16),
    2 * UNIT - 1,
    NORMALIZED,
    (IMAGE > 127).astype(np.float32),
  ],
)
def test_colors_of_another_scale(image):
  with pytest.raises(InputError, match=r'does not tell apart.*scale of 0\.\.255'):
    dense_crf(-np.log(PROBABILITIES), image)
  with pytest.raises(InputError, match=r'scale of 0\.\.255'):
    DenseCrf()(PROBABILITIES, image)
  with pytest.raises(InputError, match=r'scale of 0\.\.255'):
    dcrf.DenseCRF2D(8, 6, 4).addPairwiseBilateral(80, 13, image, 10)
  with pytest.raises(InputError, match=r'scale of 0\.\.255'):
    dcrf.create_pairwise_bilateral((80, 80), (13, 13, 13), image, chdim=2)
  with pytest.raises(InputError, match=r'scale of 0\.\.255'):
    CrfRnn(4).init(jax.random.key(0), SCORES[None], image[None])
  with pytest.raises(InputError, match=r'scale of 0\.\.255'):
    CrfRnn(4).build_kernels(image[None])


@pytest.mark.parametrize(
  'image, srgb',
  [
    (IMAGE, 13),
    (IMAGE.astype(np.float64), 13),
    (IMAGE // 200, 13),  # uint8: nearly black.
    (DARK, 13),
    (IMAGE - np.array([122.68, 116.67, 104.01]), 13),
    (np.zeros((6, 8, 3)), 13),
    (np.full((6, 8, 3), 0.5), 13),  # No contrast.
    (UNIT, 0.05),  # A deviation on the scale of the image.
    (NORMALIZED, 0.3),
  ],
)
def test_scales_that_are_meant(image, srgb):
  checks.check_color_scale(image, srgb)
  marginals = dense_crf(-np.log(PROBABILITIES), image, bilateral=(80, srgb, 10), iterations=1)
  np.testing.assert_allclose(marginals.sum(-1), 1, rtol=1e-5)


def test_colors_of_16_bits():
  image = IMAGE.astype(np.uint16)
  checks.check_color_scale(image, 13)
  checks.check_color_scale(257 * image[..., :1], 1000)  # Depth, say.
  with pytest.raises(InputError, match=r'colors of up to 6\d+: give those of 0\.\.255'):
    dense_crf(-np.log(PROBABILITIES), 257 * image)


def test_colors_do_not_count_without_the_appearance_term():
  dense_crf(-np.log(PROBABILITIES), UNIT, bilateral=None, iterations=1)


@pytest.mark.parametrize('dtype', [np.float64, np.float32, np.float16])
def test_probabilities_in_place_of_energies(dtype):
  with pytest.raises(InputError, match=r'add up to 1 .* give -log p'):
    dense_crf(PROBABILITIES.astype(dtype), IMAGE)
  with pytest.raises(InputError, match='unary energies are log p'):
    dense_crf(np.log(PROBABILITIES).astype(dtype), IMAGE)
  model = dcrf.DenseCRF2D(8, 6, 4)
  with pytest.raises(InputError, match=r'add up to 1 .* give -log p'):
    model.setUnaryEnergy(PROBABILITIES.reshape(-1, 4).T.astype(dtype))


def test_energies_that_are_unusual():
  for unary in (np.zeros((6, 8, 4)), -SCORES, 1 + PROBABILITIES, -np.log(PROBABILITIES) - 100):
    marginals = dense_crf(unary, IMAGE, gaussian=None, bilateral=None)
    np.testing.assert_allclose(marginals, jax.nn.softmax(-unary), rtol=1e-4)
  # Energies of bfloat16, as a network in that precision makes them.
  half = -jnp.log(jnp.asarray(PROBABILITIES, jnp.bfloat16))
  assert np.isfinite(dense_crf(half, IMAGE, iterations=1)).all()


def test_scores_in_place_of_probabilities():
  for wrong in (SCORES, 100 * PROBABILITIES):
    with pytest.raises(InputError, match=r'probabilities go from .* they lie in 0\.\.1'):
      DenseCrf()(wrong, IMAGE)
    with pytest.raises(InputError, match=r'they lie in 0\.\.1'):
      dcrf.unary_from_softmax(wrong)


def test_probabilities_in_place_of_scores():
  layer = CrfRnn(4)
  with pytest.raises(InputError, match='before the softmax'):
    layer.init(jax.random.key(0), PROBABILITIES[None], IMAGE[None])
  layer.init(jax.random.key(0), np.log(PROBABILITIES)[None], IMAGE[None])

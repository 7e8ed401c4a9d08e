"""The module with pydensecrf's names, against its outputs."""

import textwrap

import numpy as np
import pytest

from dilated_jax.crf import pydensecrf as dcrf
from dilated_jax.errors import InputError


def crf_of(reference, compat=(3, 10), normalization=dcrf.NORMALIZE_SYMMETRIC):
  height, width, classes = reference['unary'].shape
  crf = dcrf.DenseCRF2D(width, height, classes)
  crf.setUnaryEnergy(reference['unary'].reshape(-1, classes).T)
  options = {'kernel': dcrf.DIAG_KERNEL, 'normalization': normalization}
  crf.addPairwiseGaussian(sxy=3, compat=compat[0], **options)
  crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=reference['image'], compat=compat[1], **options)
  return crf


def maps(marginals, reference):
  return marginals.T.reshape(reference['unary'].shape)[:, ::2]


@pytest.mark.parametrize(
  'name, compat, normalization',
  [
    ('Q_kk_sym_5', (3, 10), dcrf.NORMALIZE_SYMMETRIC),
    ('Q_kk_after_5', (3, 10), dcrf.NORMALIZE_AFTER),
    ('Q_kk_before_5', (3, 10), dcrf.NORMALIZE_BEFORE),
    ('Q_kk_none_5_w0.01', (0.03, 0.1), dcrf.NO_NORMALIZATION),
    ('Q_kk_sym_5_gdiag', ('compat_diag', 10), dcrf.NORMALIZE_SYMMETRIC),
    ('Q_kk_sym_5_bmatrix', (3, 'compat_matrix'), dcrf.NORMALIZE_SYMMETRIC),
  ],
)
def test_marginals(reference, name, compat, normalization):
  compat = [reference[value] if isinstance(value, str) else value for value in compat]
  crf = crf_of(reference, compat, normalization)
  marginals = crf.inference(5)
  assert abs(maps(marginals, reference) - reference[name]).max() <= 5e-4
  np.testing.assert_array_equal(crf.map(5), marginals.argmax(0))


def test_step_by_step(reference):
  crf = crf_of(reference)
  marginals, *spare = crf.startInference()
  assert crf.klDivergence(marginals) == pytest.approx(reference['kl_kk_sym'][0], rel=1e-5)
  crf.stepInference(marginals, *spare)
  assert crf.klDivergence(marginals) == pytest.approx(reference['kl_kk_sym'][1], rel=1e-5)
  assert abs(maps(marginals, reference) - reference['Q_kk_sym_1']).max() <= 5e-4


def test_features_of_arrays(reference):
  image = reference['image']
  features = dcrf.create_pairwise_bilateral((80, 80), 13, image, chdim=2)
  assert features.shape == (5, image[..., 0].size)
  rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
  np.testing.assert_allclose(features[0], rows.ravel() / 80, rtol=1e-6)
  np.testing.assert_allclose(features[1], columns.ravel() / 80, rtol=1e-6)
  np.testing.assert_allclose(features[2:], image.reshape(-1, 3).T / 13, rtol=1e-6)
  gray = dcrf.create_pairwise_bilateral((2, 4, 8), (5,), np.ones((2, 3, 4)))
  np.testing.assert_allclose(gray[:, -1], [1 / 2, 2 / 4, 3 / 8, 1 / 5])
  np.testing.assert_array_equal(dcrf.create_pairwise_gaussian((2, 4, 8), (2, 3, 4)), gray[:3])


def test_energies_other_than_of_pictures(reference):
  height, width, classes = reference['unary'].shape
  crf = dcrf.DenseCRF(height * width, classes)
  crf.setUnaryEnergy(reference['unary'].reshape(-1, classes).T)
  crf.addPairwiseEnergy(dcrf.create_pairwise_gaussian((3, 3), (height, width)), compat=3)
  features = dcrf.create_pairwise_bilateral((80, 80), (13, 13, 13), reference['image'], 2)
  crf.addPairwiseEnergy(features, compat=10)
  # Rows before columns: another lattice, nearly the same marginals.
  assert abs(maps(crf.inference(5), reference) - reference['Q_kk_sym_5']).mean() < 5e-3


def test_unaries():
  certain = dcrf.unary_from_labels(np.array([[0, 1], [2, 1]]), 2, 0.7)
  expected = [[0.5, 0.7, 0.3, 0.7], [0.5, 0.3, 0.7, 0.3]]
  np.testing.assert_allclose(np.exp(-certain), expected, rtol=1e-6)
  certain = dcrf.unary_from_labels(np.array([[0, 1]]), 3, 0.8, zero_unsure=False)
  np.testing.assert_allclose(np.exp(-certain), [[0.8, 0.1], [0.1, 0.8], [0.1, 0.1]], rtol=1e-6)
  softmax = np.array([[[1.0, 0.25]], [[0.0, 0.75]]])
  np.testing.assert_allclose(
    np.exp(-dcrf.unary_from_softmax(softmax)), [[1, 0.25], [1e-5, 0.75]], rtol=1e-5
  )
  np.testing.assert_allclose(
    np.exp(-dcrf.unary_from_softmax(softmax, scale=0.5)), [[0.75, 0.375], [0.25, 0.625]], rtol=1e-6
  )


def with_unary(crf):
  crf.setUnaryEnergy(np.zeros((2, 6)))
  return crf


@pytest.mark.parametrize(
  'call, words',
  [
    (lambda crf: crf.setUnaryEnergy(np.zeros((6, 2))), r'they are \(2, 6\)'),
    (lambda crf: crf.setUnaryEnergy(np.full((2, 6), np.inf)), 'hold NaN, infinity'),
    (lambda crf: crf.inference(1), 'call setUnaryEnergy first'),
    (lambda crf: crf.addPairwiseEnergy(np.zeros((6, 2)), 1), r'they are \(d, 6\)'),
    (lambda crf: crf.addPairwiseGaussian((3, 0), 1), 'give 2 above 0'),
    (lambda crf: crf.addPairwiseGaussian(3, np.ones(3)), 'compat has shape'),
    (lambda crf: crf.addPairwiseGaussian(3, 1, 0, 'SYMMETRIC'), 'one of the four constants'),
    (lambda crf: crf.addPairwiseBilateral(3, 3, np.zeros((3, 2, 3)), 1), r'it is \(2, 3, 3\)'),
    (lambda crf: with_unary(crf).stepInference(np.ones((6, 2))), r'marginals .* they are \(2, 6\)'),
    (lambda crf: with_unary(crf).klDivergence(np.ones((2, 5))), r'marginals .* they are \(2, 6\)'),
  ],
)
def test_wrong_input(call, words, without_type_checks):
  with pytest.raises(InputError, match=words):
    call(dcrf.DenseCRF2D(3, 2, 2))


def test_programs_for_pydensecrf_run_with_other_imports(reference):
  program = """
    import pydensecrf.densecrf as dcrf
    from pydensecrf.utils import compute_unary, create_pairwise_bilateral
    from pydensecrf.utils import create_pairwise_gaussian, softmax_to_unary
    d = dcrf.DenseCRF(image.shape[0] * image.shape[1], len(softmax))
    d.setUnaryEnergy(softmax_to_unary(softmax))
    d.addPairwiseEnergy(create_pairwise_gaussian(sdims=(3, 3), shape=image.shape[:2]), compat=3,
                        kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NORMALIZE_SYMMETRIC)
    feats = create_pairwise_bilateral(sdims=(80, 80), schan=(13, 13, 13), img=image, chdim=2)
    d.addPairwiseEnergy(feats, compat=10)
    marginals = d.inference(5)
    certain = compute_unary(labels, 2, 0.7)
  """
  softmax = np.exp(-np.moveaxis(reference['unary'].astype(np.float64), -1, 0))
  softmax /= softmax.sum(0)
  names = {'image': reference['image'], 'softmax': softmax, 'labels': np.array([0, 1, 2])}
  program = textwrap.dedent(program).replace('pydensecrf.', 'dilated_jax.crf.pydensecrf.')
  with pytest.warns(DeprecationWarning, match='is deprecated; use unary_from'):
    exec(program, names)
  assert abs(maps(names['marginals'], reference) - reference['Q_kk_sym_5']).mean() < 5e-3
  np.testing.assert_array_equal(names['certain'], dcrf.unary_from_labels(names['labels'], 2, 0.7))


def test_energies_held_by_objects():
  weights, features = np.array([[1.0, 2], [0.5, 4]]), np.arange(12.0).reshape(2, 6)
  for unary, energies in (
    (dcrf.ConstUnary(features), features),
    (dcrf.LogisticUnary(weights, features), weights @ features),
  ):
    crf = dcrf.DenseCRF(6, 2)
    crf.setUnary(unary)
    exponentials = np.exp(-energies)
    np.testing.assert_allclose(crf.inference(0), exponentials / exponentials.sum(0), rtol=1e-5)

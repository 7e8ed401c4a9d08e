"""dense_crf against the marginals of the reference implementation, and against the exact sum."""

import numpy as np
import pytest

from dilated_jax.crf import dense_crf
from dilated_jax.errors import InputError


@pytest.mark.parametrize(
  'name, options',
  [
    ('Q_kk_sym_1', {'iterations': 1}),
    ('Q_kk_sym_10', {'iterations': 10}),
    ('Q_kk_after_5', {'normalization': 'after'}),
    ('Q_kk_before_5', {'normalization': 'before'}),
    ('Q_kk_none_5_w0.01', {
      'normalization': 'none', 'gaussian': (3, 0.03), 'bilateral': (80, 13, 0.1),
    }),
    ('Q_kk_sym_5_gdiag', {'gaussian': (3, 'compat_diag')}),
    ('Q_kk_sym_5_bmatrix', {'bilateral': (80, 13, 'compat_matrix')}),
  ],
)  # fmt: skip
def test_marginals_of_the_reference(reference, name, options):
  options = {'iterations': 5} | options
  for term in ('gaussian', 'bilateral'):
    if isinstance(options.get(term, (0,))[-1], str):
      options[term] = (*options[term][:-1], reference[options[term][-1]])
  marginals = dense_crf(reference['unary'], reference['image'], **options)
  assert marginals.dtype == np.float32 and abs(marginals.sum(-1) - 1).max() < 1e-5
  marginals = marginals[:, ::2]
  assert abs(marginals - reference[name]).max() <= 5e-4
  assert (marginals.argmax(-1) == reference[name].argmax(-1)).mean() >= 0.9999


def test_the_exact_sum(reference):
  marginals = dense_crf(reference['unary'], reference['image'], iterations=5)[:, ::2]
  exact = reference['exact_Q_kk_sym_5']
  assert (marginals.argmax(-1) == exact.argmax(-1)).mean() >= 0.985
  assert abs(marginals - exact).sum(-1).mean() / 2 <= 0.02


def test_any_dtype_and_memory_order(reference):
  unary, image = reference['unary'][:20, :30], reference['image'][:20, :30]
  expected = dense_crf(unary, image, iterations=2)
  other = dense_crf(np.asfortranarray(unary, np.float64), image.astype(np.int32), iterations=2)
  np.testing.assert_array_equal(other, expected)
  image.flags.writeable = False
  np.testing.assert_array_equal(dense_crf(unary, image, iterations=2), expected)


def test_without_terms_it_is_the_softmax(reference):
  unary = reference['unary'][:4, :5]
  marginals = dense_crf(unary, reference['image'][:4, :5], gaussian=None, bilateral=None)
  expected = np.exp(-unary) / np.exp(-unary).sum(-1, keepdims=True)
  np.testing.assert_allclose(marginals, expected, rtol=1e-5)


@pytest.mark.parametrize(
  'change, words',
  [
    ({'unary': np.zeros((4, 5))}, r'unary energies have shape \(4, 5\)'),
    ({'image': np.zeros((5, 4, 3))}, 'height and width must be equal'),
    ({'unary': np.full((4, 5, 2), np.nan)}, 'NaN or infinity'),
    ({'gaussian': (3,)}, r'gaussian is \(3,\); it is \(sxy, compat\)'),
    ({'bilateral': (80, 0, 3)}, 'deviations above 0'),
    ({'gaussian': (3, -3)}, 'compatibility -3 would reward labels that differ; take 3'),
    ({'gaussian': (3, [1, -1])}, 'different signs'),
    ({'gaussian': (3, np.eye(2))}, 'holds costs, .* turn its sign'),
    ({'method': 'fast'}, "method is 'fast'; choose lattice, exact"),
    ({'kernels': [(np.zeros((3, 5, 1)), 1)]}, r'features of a kernel have shape \(3, 5, 1\)'),
    ({'gaussian': (3, [1, 2, 3])}, 'a weight, 2 weights or a 2 x 2 matrix'),
    ({'gaussian': (3, np.nan)}, 'a compatibility holds NaN'),
    ({'normalization': 'mean'}, "normalization is 'mean'; choose none, before"),
    ({'iterations': -1}, 'iterations is -1'),
  ],
)
def test_wrong_input_is_one_line(change, words):
  given = {'unary': np.zeros((4, 5, 2)), 'image': np.zeros((4, 5, 3), np.uint8)} | change
  with pytest.raises(InputError, match=words) as raised:
    dense_crf(given.pop('unary'), given.pop('image'), **given)
  assert '\n' not in str(raised.value)

"""dense_crf against the marginals of the reference implementation, and against the exact sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.crf import dense, dense_crf, lattice, mean_field
from dilated_jax.errors import InputError
from experiments import compilation_cache


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
def test_marginals_of_the_reference(reference, name, options, compile_fully):
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
    ({'unary': np.full((4, 5, 2), np.nan)}, 'unary energies hold NaN, infinity'),
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
    ({'iterations': 2.5}, 'iterations is 2.5; it must be a whole number'),
    ({'tolerance': np.nan}, 'tolerance is nan'),
    ({'gaussian': 3}, 'gaussian is 3; it is'),
    ({'gaussian': ('a', 3)}, r"gaussian is \('a', 3\)"),
    ({'gaussian': (3, 'a')}, "compatibility 'a' is neither"),
    ({'bilateral': (1e-30, 3, 3)}, 'deviations above 0'),
    ({'image': np.zeros((4, 5), np.uint8)}, 'without an axis of colors'),
    ({'image': np.full((4, 5, 3), np.inf), 'method': 'exact'}, 'pixels of the image hold NaN'),
    ({'unary': np.zeros((0, 5, 2)), 'image': np.zeros((0, 5, 3))}, r'have shape \(0, 5, 2\)'),
    ({'unary': np.full((4, 5, 2), 'x')}, 'no real number'),
  ],
)
def test_wrong_input_is_one_line(change, words, without_type_checks):
  given = {'unary': np.zeros((4, 5, 2)), 'image': np.zeros((4, 5, 3), np.uint8)} | change
  with pytest.raises(InputError, match=words) as raised:
    dense_crf(given.pop('unary'), given.pop('image'), **given)
  assert '\n' not in str(raised.value)


def test_further_kernels(reference):
  unary, image = reference['unary'][:20, :30], reference['image'][:20, :30]
  rows, columns = np.mgrid[:20, :30]
  places = np.stack([columns, rows], -1) / 3
  colors = np.concatenate([places * 3 / 80, image / 13.0], -1)
  together = dense_crf(
    unary, image, gaussian=None, bilateral=None, kernels=[(places, 3), (colors, 10)]
  )
  np.testing.assert_allclose(together, dense_crf(unary, image), atol=1e-5)
  # Other numbers than colors, in any number of dimensions.
  depth = image[..., :1].astype(np.float64)
  np.testing.assert_allclose(
    dense_crf(unary, depth, bilateral=(80, 13, 10)),
    dense_crf(
      unary, image, bilateral=None,
      kernels=[(np.concatenate([places * 3 / 80, depth / 13], -1), 10)],
    ),
    atol=1e-5,
  )  # fmt: skip


def test_a_batch_is_its_pictures(reference):
  unary = np.stack([reference['unary'][:20, :30], reference['unary'][20:40, 30:60]])
  image = np.stack([reference['image'][:20, :30], reference['image'][20:40, 30:60]])
  together = dense_crf(unary, image, iterations=2)
  for marginals, u, i in zip(together, unary, image, strict=True):
    np.testing.assert_array_equal(marginals, dense_crf(u, i, iterations=2))


@pytest.mark.parametrize('normalization', mean_field.NORMALIZATIONS)
@pytest.mark.parametrize('tolerance', [0.0, 1e-2])
def test_room_changes_nothing(reference, normalization, tolerance):
  unary, image = reference['unary'][:33, :35], reference['image'][:33, :35]
  options = dict(normalization=normalization)
  if normalization == 'none':
    options |= dict(gaussian=(3, 0.03), bilateral=(80, 13, 0.1))
  exactly = dense.build_problem(unary, image, **options)
  assert len(exactly.unary) == unary[..., 0].size < lattice.room_for(unary[..., 0].size)
  expected = np.asarray(mean_field.solve(exactly, 10, tolerance)).reshape(unary.shape)
  found = dense_crf(unary, image, tolerance=tolerance, **options)
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pictures_of_many_sizes_share_programs(reference):
  unary, image = reference['unary'], reference['image']
  dense_crf(unary[:30, :40], image[:30, :40])
  with compilation_cache.counted() as programs:
    for height, width in ((40, 30), (31, 39), (25, 41), (1, 1025)):
      cut = np.resize(unary, (height, width, unary.shape[-1]))
      dense_crf(cut, np.zeros((height, width, 3), np.uint8))
  assert programs.total == 0


def test_constants_of_a_program(reference):
  unary, image = reference['unary'][:20, :30], reference['image'][:20, :30]
  found = jax.jit(lambda: dense_crf(unary, image, iterations=2))()
  np.testing.assert_allclose(found, dense_crf(unary, image, iterations=2), atol=1e-6)


def test_room_is_for_lattices_outside_of_programs(reference):
  unary, image = reference['unary'][:4, :5], reference['image'][:4, :5]
  with pytest.raises(InputError, match='`room` is for lattices'):
    dense.build_problem(unary, image, method='exact', room=1024)
  with pytest.raises(InputError, match='`room` is for lattices'):
    jax.jit(lambda u: dense.build_problem(u, image, room=1024).unary)(unary)
  with pytest.raises(InputError, match='there is room for 19 pixels'):
    dense.build_problem(unary, image, room=19)


def test_inside_jit_and_grad(reference):
  unary, image = jnp.asarray(reference['unary'][:20, :30]), reference['image'][:20, :30]

  def crf(unary):
    return dense_crf(unary, image, iterations=3)

  marginals = jax.jit(crf)(unary)
  np.testing.assert_allclose(marginals, crf(np.asarray(unary)), atol=1e-5)
  slope = np.asarray(jax.jit(jax.grad(lambda u: (crf(u) ** 2).sum()))(unary))
  step = slope / np.linalg.norm(slope)
  ahead, behind = (
    (crf(np.asarray(unary) + e * step).astype(np.float64) ** 2).sum() for e in (1e-1, -1e-1)
  )
  np.testing.assert_allclose((ahead - behind) / 2e-1, np.linalg.norm(slope), rtol=1e-2)
  batch = jax.jit(lambda u, i: dense_crf(u, i, iterations=3))(unary[None], image[None])
  np.testing.assert_allclose(batch[0], marginals, atol=1e-6)


def test_exact_method(reference):
  unary, image = reference['unary'], reference['image']
  marginals = dense_crf(unary, image, iterations=5, method='exact')
  assert abs(marginals[:, ::2] - reference['exact_Q_kk_sym_5']).max() < 1e-4


def test_free_energy_is_the_divergence_of_the_reference(reference):
  problem = dense.build_problem(reference['unary'], reference['image'])
  found = [
    float(mean_field.free_energy(problem, mean_field.solve(problem, done))) for done in range(11)
  ]
  np.testing.assert_allclose(found, reference['kl_kk_sym'], rtol=1e-5)


def test_early_stop(reference):
  unary, image = reference['unary'], reference['image']
  whole = dense_crf(unary, image, iterations=50)
  stopped = dense_crf(unary, image, iterations=50, tolerance=1e-4)
  assert 0 < abs(whole - stopped).max() < 2e-2
  after_one = dense_crf(unary, image, iterations=1)
  np.testing.assert_array_equal(dense_crf(unary, image, tolerance=1.0), after_one)


def test_gradients_to_features(reference):
  unary, image = reference['unary'][:8, :9], reference['image'][:8, :9]
  features = jnp.asarray(np.random.default_rng(0).normal(size=(8, 9, 3)), jnp.float32)

  @jax.jit
  def loss(features):
    options = dict(gaussian=None, bilateral=None, iterations=2, method='exact')
    return (dense_crf(unary, image, kernels=[(features, 3)], **options) ** 2).sum()

  gradient = jax.grad(loss)(features)
  step = gradient / jnp.linalg.norm(gradient)
  slope = (loss(features + 1e-2 * step) - loss(features - 1e-2 * step)) / 2e-2
  np.testing.assert_allclose(slope, jnp.linalg.norm(gradient), rtol=1e-2)


def test_rough_pictures_have_room_in_the_graph():
  rng = np.random.default_rng(0)
  image, unary = rng.integers(0, 256, (40, 50, 3), np.uint8), rng.uniform(0, 3, (40, 50, 3))
  options = dict(bilateral=(80, 3, 5), iterations=2)
  inside = jax.jit(lambda u, i: dense_crf(u, i, **options))(unary.astype(np.float32), image)
  np.testing.assert_allclose(inside, dense_crf(unary, image, **options), atol=1e-5)

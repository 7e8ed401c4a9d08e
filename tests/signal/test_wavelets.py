"""wavelets: against SciPy in float64, against PyWavelets, and by what the transform promises."""

from hypothesis import given, settings, strategies
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
from scipy import ndimage

from dilated_jax.errors import InputError
from dilated_jax.signal import wavelets

starlet = jax.jit(wavelets.starlet, static_argnums=(1, 2))
reconstruct = jax.jit(wavelets.reconstruct, static_argnums=1)
denoise = jax.jit(
  wavelets.denoise, static_argnums=(1, 2), static_argnames=('mode', 'generation', 'sigma')
)

SHAPES = [(1,), (2,), (33,), (100,), (1, 1), (17, 1), (2, 3), (31, 20)]
GENERATIONS = (1, 2)


def noise(*shape, seed=0):
  return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def by_scipy(x, scales, generation):
  """The definition, with the zeros between the taps written out."""
  h, result = np.array([1, 4, 6, 4, 1]) / 16, []
  kernels = []
  for scale in range(scales):
    taps = np.zeros(4 * 2**scale + 1)
    taps[:: 2**scale] = h
    kernels.append(taps if x.ndim == 1 else np.outer(taps, taps))
  c = np.asarray(x, np.float64)
  for kernel in kernels:
    after = ndimage.convolve(c, kernel, mode='mirror')
    result.append(
      c - (after if generation == 1 else ndimage.convolve(after, kernel, mode='mirror'))
    )
    c = after
  return np.stack([*result, c])


@pytest.mark.parametrize('generation', GENERATIONS)
@pytest.mark.parametrize('shape', SHAPES)
def test_against_scipy(shape, generation):
  """Also where the filter is longer than the signal, which is then mirrored several times."""
  x = noise(*shape)
  found = starlet(x, 5, generation)
  assert found.shape == (6, *shape) and found.dtype == jnp.float32
  np.testing.assert_allclose(found, by_scipy(x, 5, generation), atol=2e-6)


def starlet_of_pywavelets():
  """The first generation as a filter bank for PyWavelets: h, and the difference to a single 1."""
  low = np.array([0, 1, 4, 6, 4, 1]) / 16
  one = np.array([0, 0, 0, 1, 0, 0])
  return pywt.Wavelet('starlet', filter_bank=(low, one - low, one, one))


def test_against_the_stationary_transform_of_pywavelets_1d():
  """Its boundary is periodic. One period of the mirrored signal is n values and n - 2 again."""
  x, scales = noise(49), 4
  period = np.concatenate([x, x[-2:0:-1]]).astype(np.float64)
  found = pywt.swt(period, starlet_of_pywavelets(), scales, trim_approx=True)
  rest, *details = found
  expected = np.stack([*details[::-1], rest])[:, : len(x)]
  np.testing.assert_allclose(starlet(x, scales), expected, atol=2e-6)


def test_against_the_stationary_transform_of_pywavelets_2d():
  """It has three details a scale, by direction; the starlet is their sum, which has none."""
  x, scales = noise(25, 33), 3
  period = np.pad(x.astype(np.float64), ((0, 23), (0, 31)), mode='reflect')
  rest, *details = pywt.swt2(period, starlet_of_pywavelets(), scales, trim_approx=True)
  expected = np.stack([*(sum(bands) for bands in details[::-1]), rest])[:, :25, :33]
  np.testing.assert_allclose(starlet(x, scales), expected, atol=2e-6)


@settings(max_examples=40)
@given(
  seed=strategies.integers(0, 2**32 - 1),
  shape=strategies.sampled_from(SHAPES),
  scales=strategies.integers(1, 6),
  generation=strategies.sampled_from(GENERATIONS),
  power=strategies.integers(-20, 20),
)
def test_reconstruction_is_exact(seed, shape, scales, generation, power):
  x = noise(*shape, seed=seed) * np.float32(2.0**power)
  found = reconstruct(starlet(x, scales, generation), generation)
  np.testing.assert_allclose(found, x, rtol=0, atol=2e-6 * abs(x).max())


@settings(max_examples=40)
@given(
  seed=strategies.integers(0, 2**32 - 1),
  shape=strategies.sampled_from([(33,), (31, 20)]),
  generation=strategies.sampled_from(GENERATIONS),
)
def test_integers_are_reconstructed_to_the_last_bit(seed, shape, generation):
  """8 bits and the filter's sixteenths fit into the 24 bits of float32: nothing is rounded."""
  x = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
  scales = 2 if (len(shape), generation) == (1, 1) else 1
  found = reconstruct(starlet(x, scales, generation), generation)
  np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize('generation', GENERATIONS)
def test_details_of_a_constant_and_of_a_line_are_zero(generation):
  """The filter is symmetric and sums to 1; a line only bends where it is mirrored."""
  details = starlet(jnp.full((40, 30), 7.0), 4, generation)[:-1]
  np.testing.assert_array_equal(details, 0)
  line = starlet(jnp.arange(200.0), 3, generation)[:-1, 30:-30]
  np.testing.assert_allclose(line, 0, atol=1e-4)


def test_wavelets_have_no_holes():
  """B3 dilated by 1, 2, 4 spans 5, 13, 29 samples: without holes, as in a stack of a network."""
  impulse = jnp.zeros(99).at[49].set(1.0)
  widths = [int(jnp.count_nonzero(row)) for row in starlet(impulse, 3)]
  assert widths == [5, 13, 29, 29]


@pytest.mark.parametrize('generation', GENERATIONS)
@pytest.mark.parametrize('dimensions', [1, 2])
def test_noise_factors_are_norms_of_wavelets(dimensions, generation):
  impulse = np.zeros((129,) * dimensions)
  impulse[(64,) * dimensions] = 1
  details = by_scipy(impulse, 4, generation)[:-1].reshape(4, -1)
  found = wavelets.noise_factors(4, dimensions, generation)
  np.testing.assert_allclose(found, np.linalg.norm(details, axis=1), rtol=1e-12)


def test_noise_factors_are_the_published_ones():
  """Starck & Murtagh: Astronomical Image and Data Analysis, the B3 spline in the plane and line."""
  plane = wavelets.noise_factors(7, dimensions=2)
  np.testing.assert_allclose(plane, [0.890, 0.201, 0.086, 0.041, 0.020, 0.010, 0.005], atol=1e-3)
  line = wavelets.noise_factors(5, dimensions=1)
  np.testing.assert_allclose(line, [0.7235, 0.2854, 0.1778, 0.1222, 0.0858], atol=1e-3)


def scene():
  """A smooth hill, a bright disc, a thin line: 96 x 128, values of 0..255."""
  y, x = np.mgrid[:96, :128]
  picture = 60 + 60 * np.exp(-((x - 40) ** 2 + (y - 50) ** 2) / 900)
  picture[(x - 90) ** 2 + (y - 40) ** 2 < 300] = 220
  picture[70:72] = 20
  return picture.astype(np.float32)


@pytest.mark.parametrize('generation', GENERATIONS)
@pytest.mark.parametrize('mode', ['hard', 'soft'])
def test_denoising_lowers_the_error(mode, generation):
  clean = scene()
  noisy = clean + 20 * noise(*clean.shape)
  found = denoise(noisy, 4, mode=mode, generation=generation)
  error = np.sqrt(np.mean((found - clean) ** 2))
  assert error < {'hard': 0.5, 'soft': 0.7}[mode] * 20  # Shrinking costs contrast.
  sigma = wavelets.estimate_noise_std(starlet(noisy, 1, generation)[0], generation)
  assert abs(sigma - 20) < 1.5


def test_denoising_a_signal():
  time = np.linspace(0, 1, 1024, dtype=np.float32)
  clean = np.sin(20 * time) + (time > 0.5)
  noisy = clean + np.float32(0.3) * noise(1024)
  for generation in GENERATIONS:
    found = denoise(noisy, 6, generation=generation)
    assert np.std(found - clean) < 0.5 * np.std(noisy - clean)


def test_pure_noise_goes_but_for_what_a_threshold_lets_through():
  kept = denoise(noise(128, 128), 3, 3.0) - starlet(noise(128, 128), 3)[-1]
  assert float(jnp.std(kept)) < 0.2


def test_the_thresholds():
  """Hard keeps or drops, soft shrinks; no threshold changes nothing, a huge one leaves the rest."""
  x = noise(64)
  details = np.asarray(starlet(x, 2))
  limits = 1.5 * 0.5 * wavelets.noise_factors(2, 1)[:, None]
  hard = np.where(abs(details[:2]) > limits, details[:2], 0)
  soft = np.where(abs(details[:2]) > limits, details[:2] - np.sign(details[:2]) * limits, 0)
  for mode, kept in (('hard', hard), ('soft', soft)):
    found = denoise(x, 2, 1.5, mode=mode, sigma=0.5)
    np.testing.assert_allclose(found, kept.sum(0) + details[2], atol=1e-6)
    np.testing.assert_allclose(denoise(x, 2, 0, mode=mode), x, atol=1e-6)
    np.testing.assert_allclose(denoise(x, 2, 1e9, mode=mode), details[2], atol=1e-6)


def test_under_jit_vmap_and_grad():
  x = noise(3, 20, 30)
  one_by_one = np.stack([denoise(each, 3) for each in x])
  found = jax.jit(jax.vmap(lambda each: denoise(each, 3)))(x)
  np.testing.assert_allclose(found, one_by_one, atol=1e-5)
  # The transform is linear, and adds up to its input: the gradient of the sum is 1 everywhere.
  gradient = jax.grad(lambda each: starlet(each, 3).sum())(x[0])
  np.testing.assert_allclose(gradient, 1, atol=1e-5)


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: wavelets.starlet(np.zeros((2, 3, 4)), 1), r'\(2, 3, 4\)'),
    (lambda: wavelets.starlet(np.zeros((0, 4)), 1), r'\(0, 4\)'),
    (lambda: wavelets.starlet(np.zeros(4), 0), '0 scales'),
    (lambda: wavelets.starlet(np.zeros(4), 1, 3), 'generation is 3'),
    (lambda: wavelets.reconstruct(np.zeros((2, 4)), 0), 'generation is 0'),
    (lambda: wavelets.denoise(np.zeros(4), 1, mode='warm'), "mode is 'warm'"),
    (lambda: wavelets.denoise(np.zeros(4), 1, -1), 'k is -1'),
  ],
)
def test_wrong_input_is_one_line(call, message, without_type_checks):
  with pytest.raises(InputError, match=message) as caught:
    call()
  assert '\n' not in str(caught.value)

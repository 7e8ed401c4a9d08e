"""The algorithme à trous: the starlet transform, which uses dilated convolutions and is not one.

Dilated convolution is sometimes called "algorithme à trous". The paper (section 2, footnote 1)
distinguishes the two, and so does this code. The operator is `ops.dilated_conv`, the one of the
networks, which has nothing to do with wavelets. The algorithm applies it with one fixed low-pass
filter, whose dilation doubles from scale to scale. The differences between neighboring scales are
the wavelet coefficients, which add up to the signal.

>>> import jax.numpy as jnp
>>> from dilated_jax.nn import ops
>>> signal = jnp.zeros(25).at[12].set(1.0)
>>> padded = jnp.pad(signal, 4, mode='reflect').reshape(1, 1, -1, 1)
>>> taps = jnp.array(B3, jnp.float32).reshape(1, 5, 1, 1)
>>> dilated = ops.dilated_conv(padded, taps, dilation=(1, 2))  # The operator,
>>> bool(jnp.array_equal(dilated.ravel(), smooth(signal, 1)))  # which computes the second scale,
True
>>> scales = starlet(signal, 2)  # and the algorithm: a detail for each scale, and the rest.
>>> bool(jnp.allclose(scales.sum(0), signal))
True

Sources: Holschneider, Kronland-Martinet, Morlet & Tchamitchian 1987 and Shensa 1992, as the paper
cites them. Names, filter, both generations and thresholds are those of Starck, Fadili & Murtagh,
"The Undecimated Wavelet Decomposition and its Reconstruction" (2007), and Starck, Murtagh & Fadili,
"Sparse Image and Signal Processing" (2010).

All functions are pure and work under `jit`, `vmap` and `grad`; their options are Python values.
They take one signal (T,) or one image (H, W); use `jax.vmap` for several, or for the channels of a
color image.
"""

import math
import statistics
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Float64, Real
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.nn import ops
from dilated_jax.typing import AnyArray

Generation: TypeAlias = Literal[1, 2]

# The scaling function is the cubic B-spline. Any low-pass filter of odd length whose taps sum to 1
# would do: the reconstruction is exact with all of them.
B3 = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def starlet(
  x: Real[AnyArray, '*size'], scales: int, generation: Generation = 1
) -> Float[jax.Array, ' {scales}+1 *size']:
  """The starlet transform: details from fine to coarse, and the rest.

  With H_j, the filter B3 dilated by 2**j along each axis (`smooth`), c_0 = x and c_{j+1} = H_j c_j,
  the first generation is w_{j+1} = c_j - c_{j+1}, and the second w_{j+1} = c_j - H_j c_{j+1}.

  Args:
    x: one signal or image; integers are converted to float32.
    scales: number J of details, 1 or more.
    generation: 1, whose reconstruction adds up all scales; or 2, whose reconstruction smooths at
      each scale, so that changed or dropped coefficients leave fewer rings.

  Returns:
    w_1 ... w_J, then c_J, of the dtype of `x`.

  Raises:
    InputError: `x` has another rank or is empty, or an option has a value that it cannot have.
  """
  x = _check(x, scales, generation)
  result = []
  for scale in range(scales):
    smoothed = smooth(x, scale)
    result.append(x - (smoothed if generation == 1 else smooth(smoothed, scale)))
    x = smoothed
  return jnp.stack([*result, x])


def reconstruct(
  coefficients: Float[AnyArray, ' scales *size'], generation: Generation = 1
) -> Float[jax.Array, '*size']:
  """Inverts `starlet`, exactly up to rounding.

  Args:
    coefficients: w_1 ... w_J, then c_J.
    generation: that of the transform.

  Returns:
    The sum of c_J and all w_j; in generation 2, each partial sum is smoothed before the next detail
    is added.

  Raises:
    InputError: there is no such generation.
  """
  _check_generation(generation)
  *details, x = coefficients
  for scale in reversed(range(len(details))):
    x = details[scale] + (x if generation == 1 else smooth(x, scale))
  return x


def smooth(x: Float[AnyArray, '*size'], scale: int) -> Float[jax.Array, '*size']:
  """Filters with B3 dilated by 2**scale along every axis: from one scale to the next.

  Beyond the border, the signal is reflected about its first and its last value, as often as the
  filter needs: d c b [a b c d] c b a, which is `mirror` in SciPy and `reflect` in NumPy.

  Args:
    x: one signal or image.
    scale: j, 0 or more.

  Returns:
    The next scale, of the dtype of `x`.
  """
  x = jnp.asarray(x)
  taps = jnp.asarray(B3, x.dtype)
  reach = 2**scale * (len(B3) // 2)
  for axis in range(x.ndim):
    last = jnp.moveaxis(x, axis, -1)
    padded = jnp.pad(last, [(0, 0)] * (x.ndim - 1) + [(reach, reach)], mode='reflect')
    rows = padded.reshape(1, -1, padded.shape[-1], 1)
    with jax.default_matmul_precision('highest'):  # By default, GPUs would round to 10 bits.
      rows = ops.dilated_conv(rows, taps.reshape(1, -1, 1, 1), dilation=(1, 2**scale))
    x = jnp.moveaxis(rows.reshape(last.shape), -1, axis)
  return x


def noise_factors(
  scales: int, dimensions: int, generation: Generation = 1
) -> Float64[np.ndarray, ' {scales}']:
  """Standard deviation of each detail of white noise with standard deviation 1, far from a border.

  That is the norm of the wavelet, the transform of a unit impulse. In two dimensions the wavelet is
  the difference of two products of functions along the axes, so its norm follows from those in one
  dimension.

  Args:
    scales: number J of details.
    dimensions: 1 for signals, 2 for images.
    generation: see `starlet`.

  Returns:
    The factors, from fine to coarse.

  >>> noise_factors(4, dimensions=2).round(4).tolist()
  [0.8908, 0.2007, 0.0855, 0.0412]
  """
  _check_generation(generation)
  before, factors = np.ones(1), []
  for scale in range(scales):
    after = _convolve_dilated(before, scale)
    subtracted = after if generation == 1 else _convolve_dilated(after, scale)
    padded = np.pad(before, (len(subtracted) - len(before)) // 2)
    square = sum(
      sign * np.dot(a, b) ** dimensions
      for sign, a, b in ((1, padded, padded), (-2, padded, subtracted), (1, subtracted, subtracted))
    )
    factors.append(math.sqrt(square))
    before = after
  return np.array(factors)


def _convolve_dilated(x: np.ndarray, scale: int) -> np.ndarray:
  """The full convolution of a signal with B3 dilated by 2**scale."""
  taps = np.zeros(2**scale * (len(B3) - 1) + 1)
  taps[:: 2**scale] = B3
  return np.convolve(x, taps)


def estimate_noise_std(
  details: Float[AnyArray, '*size'], generation: Generation = 1
) -> Float[jax.Array, '']:
  """Estimates the standard deviation of white noise in a signal from its finest details.

  These are nearly all noise, and the few that are not hardly change their median absolute value.
  For a Gaussian, that is 0.6745 standard deviations.

  Args:
    details: w_1 of `starlet`.
    generation: that of the transform.

  Returns:
    The standard deviation, of the dtype of the details.
  """
  of_gaussian = statistics.NormalDist().inv_cdf(0.75)
  factor = float(noise_factors(1, details.ndim, generation)[0])
  return jnp.median(jnp.abs(details)) / (of_gaussian * factor)


def denoise(
  x: Real[AnyArray, '*size'],
  scales: int,
  k: float = 3.0,
  *,
  mode: Literal['hard', 'soft'] = 'hard',
  sigma: Float[ArrayLike, ''] | None = None,
  generation: Generation = 1,
) -> Float[jax.Array, '*size']:
  """Removes white noise, by setting small details to zero.

  Args:
    x: one signal or image; integers are converted to float32.
    scales: number of details; the rest c_J is left as it is.
    k: the threshold, in standard deviations of the noise in each scale; 3 keeps 0.3 % of pure
      noise.
    mode: 'hard' keeps all other details as they are; 'soft' shrinks them by the threshold.
    sigma: standard deviation of the noise in `x`; None estimates it by `estimate_noise_std`.
    generation: see `starlet`.

  Returns:
    The denoised signal, of the dtype of `x` or float32.

  Raises:
    InputError: as for `starlet`, or there is no such mode or threshold.
  """
  if mode not in ('hard', 'soft'):
    raise InputError(f'mode is {mode!r}; choose hard or soft')
  if not 0 <= k < math.inf:
    raise InputError(f'k is {k}; the threshold must be 0 or more')
  coefficients = starlet(x, scales, generation)
  details, rest = coefficients[:-1], coefficients[-1:]
  if sigma is None:
    sigma = estimate_noise_std(details[0], generation)
  factors = k * noise_factors(scales, rest.ndim - 1, generation)
  limits = jnp.asarray(sigma, rest.dtype) * jnp.asarray(factors, rest.dtype)
  limits = limits.reshape(-1, *[1] * (rest.ndim - 1))
  if mode == 'hard':
    details = jnp.where(jnp.abs(details) > limits, details, jnp.zeros_like(details))
  else:
    details = jnp.sign(details) * jnp.maximum(jnp.abs(details) - limits, 0)
  return reconstruct(jnp.concatenate([details, rest]), generation)


def _check(x, scales: int, generation: int) -> jax.Array:
  """The signal as floats."""
  x = jnp.asarray(x)
  if x.ndim not in (1, 2) or not x.size:
    raise InputError(f'an array of shape {x.shape}; a starlet transform is of (T,) or (H, W)')
  if scales < 1:
    raise InputError(f'{scales} scales; there must be 1 or more')
  _check_generation(generation)
  return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def _check_generation(generation: int) -> None:
  if generation not in (1, 2):
    raise InputError(f'generation is {generation}; choose 1 or 2')

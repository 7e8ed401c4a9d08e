"""The algorithme à trous: the starlet transform, which uses dilated convolutions and is not one.

"Algorithme à trous" is often said where "dilated convolution" is meant; the paper (section 2,
footnote 1) takes care to tell the two apart, and so does the code. The operator is the one that the
networks use, `ops.dilated_conv`, and knows nothing of wavelets. The algorithm is what is done with
it: one fixed low-pass filter, dilated twice as much from scale to scale, and the differences
between neighboring scales, which are wavelet coefficients and add up to the signal.

>>> import jax.numpy as jnp
>>> from dilated_jax.nn import ops
>>> signal = jnp.zeros(25).at[12].set(1.0)
>>> padded = jnp.pad(signal, 4, mode='reflect').reshape(1, 1, -1, 1)
>>> taps = jnp.array(B3, jnp.float32).reshape(1, 5, 1, 1)
>>> dilated = ops.dilated_conv(padded, taps, dilation=(1, 2))  # The operator,
>>> bool(jnp.array_equal(dilated.ravel(), smooth(signal, 1)))  # which makes the second scale,
True
>>> scales = starlet(signal, 2)  # and the algorithm: a detail for each scale, and the rest.
>>> bool(jnp.allclose(scales.sum(0), signal))
True

Sources: Holschneider, Kronland-Martinet, Morlet & Tchamitchian 1987 and Shensa 1992, as the paper
cites them. Names, filter, both generations and thresholds are those of Starck, Fadili & Murtagh,
"The Undecimated Wavelet Decomposition and its Reconstruction" (2007), and Starck, Murtagh & Fadili,
"Sparse Image and Signal Processing" (2010).

All functions are pure and work under `jit`, `vmap` and `grad`, their options being Python values.
They take one signal (T,) or one picture (H, W); `jax.vmap` takes several, or the channels of a
color picture.
"""

import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.nn import ops

# The scaling function is the cubic B-spline. Any low-pass filter of odd length that sums to 1 would
# do: the reconstruction is exact whatever it is.
B3 = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def starlet(x, scales: int, generation: int = 1):
  """The starlet transform: details from fine to coarse, and what is left.

  With H_j, the filter B3 dilated by 2**j along each axis (`smooth`), c_0 = x and c_{j+1} = H_j c_j,
  the first generation is w_{j+1} = c_j - c_{j+1}, and the second w_{j+1} = c_j - H_j c_{j+1}.

  Args:
    x: (T,) or (H, W), one signal or picture; integers are taken as float32.
    scales: number J of details, 1 or more.
    generation: 1, whose scales are simply added up again; or 2, whose reconstruction smooths at
      each scale, so that coefficients that were changed or dropped leave fewer rings behind.

  Returns:
    (J + 1, T) or (J + 1, H, W): w_1 ... w_J, then c_J; of the dtype of `x`.

  Raises:
    InputError: `x` has another rank or is empty, or an option has no such value.
  """
  x = _checked(x, scales, generation)
  result = []
  for scale in range(scales):
    smoothed = smooth(x, scale)
    result.append(x - (smoothed if generation == 1 else smooth(smoothed, scale)))
    x = smoothed
  return jnp.stack([*result, x])


def reconstruct(coefficients, generation: int = 1):
  """Undoes `starlet`, exactly but for rounding.

  Args:
    coefficients: (J + 1, T) or (J + 1, H, W), as `starlet` returns them.
    generation: of that transform.

  Returns:
    (T,) or (H, W): c_J and all w_j added up, each partial sum smoothed first in generation 2.

  Raises:
    InputError: the generation is neither.
  """
  _check_generation(generation)
  *details, x = coefficients
  for scale in reversed(range(len(details))):
    x = details[scale] + (x if generation == 1 else smooth(x, scale))
  return x


def smooth(x, scale: int):
  """B3 dilated by 2**scale, along every axis: from one scale to the next.

  Beyond the border the signal is mirrored about its first and its last value, as often as the
  filter needs: d c b [a b c d] c b a, the `mirror` of SciPy and the `reflect` of NumPy.

  Args:
    x: (T,) or (H, W).
    scale: j, 0 or more.

  Returns:
    An array like `x`.
  """
  taps = jnp.asarray(B3, x.dtype)
  reach = 2**scale * (len(B3) // 2)
  for axis in range(x.ndim):
    last = jnp.moveaxis(x, axis, -1)
    padded = jnp.pad(last, [(0, 0)] * (x.ndim - 1) + [(reach, reach)], mode='reflect')
    rows = padded.reshape(1, -1, padded.shape[-1], 1)
    with jax.default_matmul_precision('highest'):  # Five taps; GPUs would round them to 10 bits.
      rows = ops.dilated_conv(rows, taps.reshape(1, -1, 1, 1), dilation=(1, 2**scale))
    x = jnp.moveaxis(rows.reshape(last.shape), -1, axis)
  return x


def noise_factors(scales: int, dimensions: int, generation: int = 1) -> np.ndarray:
  """Standard deviation of each detail of white noise of deviation 1, far from the border.

  That is the norm of the wavelet, which is the transform of a single 1. A wavelet of the plane is
  one product of functions along the axes less another, so it follows from those of the line.

  Args:
    scales: number J of details.
    dimensions: 1 for signals, 2 for pictures.
    generation: see `starlet`.

  Returns:
    (J,) float64.

  >>> noise_factors(4, dimensions=2).round(4).tolist()
  [0.8908, 0.2007, 0.0855, 0.0412]
  """
  _check_generation(generation)
  before, factors = np.ones(1), []
  for scale in range(scales):
    after = _dilated(before, scale)
    taken = after if generation == 1 else _dilated(after, scale)
    kept = np.pad(before, (len(taken) - len(before)) // 2)
    square = sum(
      sign * np.dot(a, b) ** dimensions
      for sign, a, b in ((1, kept, kept), (-2, kept, taken), (1, taken, taken))
    )
    factors.append(math.sqrt(square))
    before = after
  return np.array(factors)


def _dilated(x, scale: int):
  """A signal of finitely many values convolved with the whole of B3 dilated by 2**scale."""
  taps = np.zeros(2**scale * (len(B3) - 1) + 1)
  taps[:: 2**scale] = B3
  return np.convolve(x, taps)


def estimate_noise_std(details, generation: int = 1):
  """Standard deviation of white noise in a signal, from its finest details.

  These are nearly all noise, and their median absolute value is not moved by the few that are not.
  For a Gaussian it is 0.6745 deviations.

  Args:
    details: (T,) or (H, W), w_1 of `starlet`.
    generation: of that transform.

  Returns:
    A scalar of their dtype.
  """
  of_gaussian = statistics.NormalDist().inv_cdf(0.75)
  factor = float(noise_factors(1, details.ndim, generation)[0])
  return jnp.median(jnp.abs(details)) / (of_gaussian * factor)


def denoise(x, scales: int, k: float = 3.0, *, mode='hard', sigma=None, generation: int = 1):
  """Removes white noise: details below k deviations of the noise in their scale go.

  Args:
    x: (T,) or (H, W), one signal or picture; integers are taken as float32.
    scales: number of details; the rest c_J is left as it is.
    k: the threshold, in deviations of the noise; 3 keeps 0.3 % of pure noise.
    mode: 'hard' keeps the other details as they are; 'soft' shrinks them by the threshold.
    sigma: standard deviation of the noise in `x`, a number or a scalar; estimated by
      `estimate_noise_std` if None.
    generation: see `starlet`.

  Returns:
    An array like `x`, of floating point.

  Raises:
    InputError: as for `starlet`, or there is no such mode or threshold.
  """
  if mode not in ('hard', 'soft'):
    raise InputError(f'mode is {mode!r}; choose hard or soft')
  if not 0 <= k < math.inf:
    raise InputError(f'k is {k}; the threshold must be 0 deviations or more')
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


def _checked(x, scales: int, generation: int):
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

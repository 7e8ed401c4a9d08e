"""Initializers of kernels, HWIO, with the signature of `jax.nn.initializers`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, PRNGKeyArray
import numpy as np

from dilated_jax.errors import InputError

# For training without ImageNet weights: keeps the variance through ReLU layers (He et al., 2015).
he = jax.nn.initializers.he_normal()

# The same for a first layer, whose input is 0..255 minus the mean, with a standard deviation of
# about 64. Without normalization layers that factor would reach the class scores, and the first
# loss would be far above ln C.
he_image = jax.nn.initializers.variance_scaling(2.0 / 64**2, 'fan_in', 'truncated_normal')

# For the class scores, which start from almost nothing (authors' network.py: Gaussian of 0.001).
classifier = jax.nn.initializers.normal(0.001)


def identity(groups: int, std: float = 0.01) -> jax.nn.initializers.Initializer:
  """The identity initialization of the context module (paper, equations 4 and 5).

  Input and output channels are divided into `groups` groups of equal size, one per class. The
  center tap between two channels of the same group is groups / outputs. Everything else is noise,
  which breaks the symmetry between the channels of a group. Without noise, a stack of such layers
  passes on non-negative maps unchanged, whatever its widths; equation 4 is the case of equal
  widths.

  Args:
    groups: number of classes C; it must divide the numbers of input and output channels.
    std: standard deviation of the noise, which the paper does not state. The authors' network.py
      has 0.01, in wider layers less, see `Layer.noise`.

  Returns:
    A function (key, shape (kh, kw, in, out), dtype) -> kernel, for odd kh and kw. It raises
    InputError if `groups` does not divide the channels.
  """

  def init(
    key: PRNGKeyArray, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
  ) -> Float[jax.Array, 'kh kw c o']:
    del out_sharding
    height, width, inputs, outputs = shape
    same = _same_group(groups, inputs, outputs)
    kernel = std * jax.random.normal(key, shape, dtype)
    # Replaces the noise, as in the authors' filler, instead of adding to it: the channels of all
    # classes start equal.
    center = kernel[height // 2, width // 2]
    center = jnp.where(same, groups / outputs, center)
    return kernel.at[height // 2, width // 2].set(center.astype(dtype))

  return init


def identity_kernel(groups: int, shape: Sequence[int]) -> Float32[np.ndarray, 'kh kw c o']:
  """The kernel of `identity` without noise.

  Args:
    groups: number of classes C; it must divide the numbers of input and output channels.
    shape: (kh, kw, in, out), kh and kw odd.

  Returns:
    groups / out at the center between two channels of the same group, else 0.

  Raises:
    InputError: `groups` does not divide the channels.
  """
  height, width, inputs, outputs = shape
  kernel = np.zeros(shape, np.float32)
  same = _same_group(groups, inputs, outputs)
  kernel[height // 2, width // 2] = same * np.float32(groups / outputs)
  return kernel


def _same_group(groups: int, inputs: int, outputs: int) -> np.ndarray:
  """Which input and output channels are of the same class; (in, out) bool."""
  if inputs % groups or outputs % groups:
    raise InputError(
      f'identity initialization of {groups} classes; it must divide the {inputs} input '
      f'and {outputs} output channels'
    )
  group_in, group_out = (np.arange(count) * groups // count for count in (inputs, outputs))
  return group_in[:, None] == group_out

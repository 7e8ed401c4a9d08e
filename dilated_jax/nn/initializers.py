"""Initializers of kernels, HWIO, in the form of `jax.nn.initializers`."""

import jax
import jax.numpy as jnp

from dilated_jax.errors import InputError

# For training without ImageNet weights: keeps the variance through ReLU layers (He et al., 2015).
he = jax.nn.initializers.he_normal()

# The same for a first layer that sees 0..255 minus the mean, whose spread is about 64: without
# normalization that factor would come out at the class scores, and the first loss be far off ln C.
he_image = jax.nn.initializers.variance_scaling(2.0 / 64**2, 'fan_in', 'truncated_normal')

# The class scores, from almost nothing (authors' network.py: Gaussian filler of 0.001).
classifier = jax.nn.initializers.normal(0.001)


def identity(groups: int, std: float = 0.01):
  """The identity initialization of the context module (paper, equations 4 and 5).

  Input and output channels are divided into `groups` equal groups, one a class. The center tap of
  every pair of channels of the same group is groups / outputs, and all else is noise, which breaks
  ties between channels of one group. Without noise a stack of such layers passes on non-negative
  maps unchanged, whatever the widths between; equation 4 is the case of equal widths and no noise.

  Args:
    groups: number of classes C; must divide the input and the output channels.
    std: standard deviation of the noise; 0.01 in the authors' code for the basic module. It is
      divided by the widening outputs / groups, since a wider layer starts from smaller weights.

  Returns:
    An initializer (key, shape (kh, kw, in, out), dtype) -> kernel, of odd kh and kw. It raises
    InputError where `groups` does not divide the channels.
  """

  def init(key, shape, dtype=jnp.float32, out_sharding=None):
    del out_sharding
    height, width, inputs, outputs = shape
    if inputs % groups or outputs % groups:
      raise InputError(
        f'identity initialization of {groups} classes; it must divide the {inputs} input '
        f'and {outputs} output channels'
      )
    kernel = std * groups / outputs * jax.random.normal(key, shape, dtype)
    group_in = jnp.arange(inputs) * groups // inputs
    group_out = jnp.arange(outputs) * groups // outputs
    # Overwritten, not added, as in the authors' filler: the classes start exactly equal.
    center = kernel[height // 2, width // 2]
    center = jnp.where(group_in[:, None] == group_out[None], groups / outputs, center)
    return kernel.at[height // 2, width // 2].set(center.astype(dtype))

  return init

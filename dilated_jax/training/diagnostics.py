"""What becomes of single layers in training: gradients, distance from the identity, activations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.images.preprocessing import reflect_pad
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.nn import initializers
from dilated_jax.nn.table import Layer
from dilated_jax.training import optimizers


def gradient_norms(grads) -> jax.Array:
  """The norm of the gradient of each layer; their squares add up to that of the whole.

  Args:
    grads: a tree as of the parameters, by part and layer.

  Returns:
    (L,) float32, in the order of `optimizers.layer_names`.
  """
  squares = dict.fromkeys(optimizers.layer_names(grads), jnp.float32(0))
  for path, gradient in jax.tree_util.tree_leaves_with_path(grads):
    squares[optimizers.layer_of(path)] += jnp.sum(jnp.square(gradient), dtype=jnp.float32)
  return jnp.sqrt(jnp.stack(list(squares.values())))


def identity_drift(model: SegmentationModel, params) -> dict[str, float]:
  """How far each layer that starts as the identity has come from it: ||W - I|| / ||I||.

  W is the kernel, I is that of equations 4 and 5 of the paper without noise, and the norms are
  Frobenius's. A network that has just been made is as far as its noise is large; 1 is as far as a
  kernel of zeros.

  Args:
    model: whose table says which layers these are.
    params: by part and layer; layers that are not there are left out.

  Returns:
    By layer, as in `optimizers.layer_names`; empty where there is no such layer.
  """
  result = {}
  for part, layer in _convolutions(model):
    if layer.init == 'identity' and layer.name in params.get(part, {}):
      kernel = np.asarray(params[part][layer.name]['kernel'], np.float32)
      identity = initializers.identity_kernel(layer.groups, kernel.shape)
      drift = np.linalg.norm((kernel - identity).ravel()) / np.linalg.norm(identity.ravel())
      result[f'{part}/{layer.name}'] = float(drift)
  return result


def _convolutions(model: SegmentationModel) -> Iterator[tuple[str, Layer]]:
  """The part of the network and the row of each convolution, but for those of a CRF-RNN."""
  for part, table in (('front_end', model.front_end_table), ('context', model.context_table)):
    yield from ((part, layer) for layer in table if layer.kind == 'conv')


class Activations:
  """Statistics of the outputs of a network's convolutions on a few images."""

  def __init__(self, model: SegmentationModel, mean, images: Sequence):
    """Takes the network and the images.

    Args:
      model: from `models.create`; its CRF-RNN, if it has one, is left out.
      mean: RGB mean, 0..255, subtracted from the images.
      images: uint8 (H, W, 3) each, at the size at which the network sees them; of several sizes,
        the largest middle that all have is taken.
    """
    model = model.without_crf()
    height, width = (min(sides) for sides in zip(*(x.shape[:2] for x in images), strict=True))
    middle = np.stack([_middle(image, height, width) for image in images])
    self._images = reflect_pad(middle, model.margin, model.stride)
    self._layers = {f'{part}/{layer.name}': layer for part, layer in _convolutions(model)}

    @jax.jit
    def measure(variables, images):
      images = images.astype(jnp.float32) - np.asarray(mean, np.float32).reshape(1, 1, 1, 3)
      _, sown = model.apply(variables, images, mutable=['activations'])
      return jax.tree.map(_statistics, sown['activations'])

    self._measure = measure

  def __call__(self, variables) -> dict[str, dict[str, float]]:
    """Measures the network with these variables, as it predicts.

    Args:
      variables: of the network.

    Returns:
      By layer: 'mean' and 'std' of its outputs; of layers that end in a ReLU also 'zeros', the
      share of outputs that are 0, and 'dead', the share of channels that are 0 at every cell of
      every image.
    """
    wanted = {kind: variables[kind] for kind in ('params', 'batch_stats') if kind in variables}
    found = jax.device_get(self._measure(wanted, self._images))
    result = {}
    for name, layer in self._layers.items():
      part, _, row = name.partition('/')
      # A front end that sees an image at several sizes sows once for each; the first counts.
      mean, std, zeros, dead = found[part][f'{row}_output'][0].tolist()
      result[name] = {'mean': mean, 'std': std}
      if layer.activation == 'relu':
        result[name] |= {'zeros': zeros, 'dead': dead}
    return result


def _statistics(x):
  x = x.astype(jnp.float32)
  zero = x == 0
  dead = zero.all((0, 1, 2))
  return jnp.stack([x.mean(), x.std(), *(each.mean(dtype=jnp.float32) for each in (zero, dead))])


def _middle(image, height: int, width: int):
  top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
  return image[top : top + height, left : left + width]

"""Networks as StableHLO programs by `jax.export`: any batch, one size, every platform of JAX.

  content = export(segmenter, (360, 480))
  labels, probabilities = jax.export.deserialize(content).call(images)  # Needs jax alone.

JAX reads such a program for six months after the version that wrote it, and three weeks before it:
it is for running, not for keeping.
"""

from __future__ import annotations

import importlib.util
from typing import Literal

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.images.preprocessing import reflect_pad
from dilated_jax.inference import tiling, upsampling
from dilated_jax.models.segmenter import Segmenter

PLATFORMS = ('cpu', 'cuda', 'tpu')


def export(
  segmenter: Segmenter,
  size: tuple[int, int],
  contents: Literal['labels', 'network'] = 'labels',
  platforms: tuple[str, ...] = PLATFORMS,
) -> bytes:
  """Writes a network with its weights, and its CRF-RNN if it has one, for images of one size.

  Args:
    segmenter: from `dilated_jax.load`.
    size: height and width of the images; with 'network', of what the network is fed.
    contents: 'labels' takes uint8 (N, H, W, 3) and returns labels, uint8 (N, H, W), and
      probabilities, float32 (N, H, W, C), as `dilated_jax.predict` does for whole images; images
      are given at `spec.image_scale`. 'network' takes float32 (N, H, W, 3), RGB of 0..255 minus
      the mean, with the margin around it, and returns logits, float32 (N, h, w, C).
    platforms: for which it is lowered, see `jax.export`.

  Returns:
    The file.

  Raises:
    InputError: flatbuffers is missing, or the size is too small for the network.
  """
  if importlib.util.find_spec('flatbuffers') is None:
    raise InputError("programs are written with flatbuffers: pip install 'dilated_jax[export]'")
  model, variables, spec = segmenter
  variables = jax.tree.map(np.asarray, variables)
  mean = np.asarray(spec.mean, np.float32)

  def network(images):
    return model.apply(variables, images)

  def labels(images):
    padded = reflect_pad(images, model.margin, model.stride)
    logits = tiling.applied(model, variables, mean, padded)
    found = upsampling.to_labels(model, spec.upsampling, logits)
    return tuple(each[:, : size[0], : size[1]] for each in found)

  function, dtype = {'labels': (labels, jnp.uint8), 'network': (network, jnp.float32)}[contents]
  (batch,) = jax.export.symbolic_shape('batch')
  given = jax.ShapeDtypeStruct((batch, *size, 3), dtype)
  return jax.export.export(jax.jit(function), platforms=platforms)(given).serialize()

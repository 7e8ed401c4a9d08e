"""Networks as StableHLO programs by `jax.export`: any batch, any size, every platform of JAX.

  content = export(segmenter)
  labels, probabilities = jax.export.deserialize(content).call(images)  # Needs jax alone.

JAX reads such a program for six months after the version that wrote it, and three weeks before it:
it is for running, not for keeping.
"""

from __future__ import annotations

from collections.abc import Callable
import importlib.util
import pathlib
from typing import Literal

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.images.preprocessing import reflect_pad
from dilated_jax.inference import tiling, upsampling
from dilated_jax.models.crf_rnn import CrfRnnModel
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.nn import geometry

PLATFORMS = ('cpu', 'cuda', 'tpu')


def export(
  segmenter: Segmenter,
  input_size: tuple[int, int] | None = None,
  contents: Literal['labels', 'network'] = 'labels',
  platforms: tuple[str, ...] = PLATFORMS,
) -> bytes:
  """Writes a network with its weights, and its CRF-RNN if it has one.

  Args:
    segmenter: from `dilated_jax.load`.
    input_size: height and width of the images, with 'network' of what the network is fed; None for
      a program that takes any size. It is compiled anew for each, as every function of JAX.
    contents: 'labels' takes uint8 (N, H, W, 3) and returns labels, uint8 (N, H, W), and
      probabilities, float32 (N, H, W, C), as `dilated_jax.predict` does for whole images; images
      are given at `spec.image_scale`. 'network' takes float32 (N, H, W, 3), RGB of 0..255 minus
      the mean, with the margin around it, and returns logits, float32 (N, h, w, C).
    platforms: for which it is lowered, see `jax.export`.

  Returns:
    The file.

  Raises:
    InputError: flatbuffers is missing, the network is none that labels images or has a CRF-RNN on
      pixels, whose lattice is laid out for one size, or the size is too small for the network.
  """
  if importlib.util.find_spec('flatbuffers') is None:
    raise InputError("programs are written with flatbuffers: pip install 'dilated_jax[export]'")
  model, spec = segmenter.model, segmenter.spec
  if input_size is None and isinstance(model, CrfRnnModel) and model.grid == 'pixels':
    raise InputError(
      f'{spec.model} has a CRF-RNN on pixels, whose lattice is laid out for images of one size: '
      'give `input_size`'
    )

  least = geometry.least_size(model.table) if contents == 'network' else 1
  constraints = [f'{side} >= {least}' for side in ('height', 'width')]
  height, width = ('height', 'width') if input_size is None else input_size
  shape = jax.export.symbolic_shape(
    f'batch, {height}, {width}, 3', constraints=constraints if input_size is None else ()
  )
  given = jax.ShapeDtypeStruct(shape, jnp.uint8 if contents == 'labels' else jnp.float32)
  program = jax.export.export(jax.jit(as_function(segmenter, contents)), platforms=platforms)(given)
  return bytes(program.serialize())


def as_function(segmenter: Segmenter, contents: Literal['labels', 'network'] = 'labels'):
  """What a program computes: a pure function of images, see `export`, to be compiled."""
  model, variables, spec = segmenter
  variables = jax.tree.map(np.asarray, variables)
  mean = np.asarray(spec.mean, np.float32)

  def network(images):
    return model.apply(variables, images)

  def labels(images):
    height, width = images.shape[1:3]
    padded = reflect_pad(images, model.margin, model.stride, xp=jnp)
    logits = tiling.applied(model, variables, mean, padded)
    found = upsampling.to_labels(model, spec.upsampling, logits)
    return tuple(each[:, :height, :width] for each in found)

  return labels if contents == 'labels' else network


def load(path) -> Callable:
  """Reads a program, as `jax.export.deserialize` does, which is all that this needs.

  Args:
    path: of a file that `export` made.

  Returns:
    The function that it holds, of images, see `export`. It raises an InputError too, where only
    compiling shows that JAX does not read the program.

  Raises:
    InputError: it is no program, or one that this version of JAX does not read.
  """
  try:
    program = jax.export.deserialize(bytearray(pathlib.Path(path).read_bytes()))
  except OSError:
    raise
  except Exception as error:  # Of flatbuffers or of JAX: there is no common one.
    raise _not_read(path, error) from None

  def call(images):
    try:
      return program.call(images)
    except ValueError as error:
      if 'refining shapes' not in str(error):
        raise
      raise InputError(
        f'{path}: takes no images of shape {np.shape(images)}: they are smaller than its network '
        'can see, or it was exported for another size'
      ) from None
    except jax.errors.JaxRuntimeError as error:
      if 'Failed to deserialize' not in str(error):
        raise
      raise _not_read(path, error) from None

  return call


def _not_read(path, error: Exception) -> InputError:
  return InputError(
    f'{path}: JAX {jax.__version__} reads no program in it. It reads those of the six months '
    'before itself: export the network again from its weights folder '
    f'({str(error).partition(". ")[0] or type(error).__name__})'
  )

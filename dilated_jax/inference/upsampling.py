"""From the logits of a network to labels and probabilities of every pixel."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.models.upsampling import upsample
from dilated_jax.nn import ops

_ROWS_BYTES = 1 << 28  # Of probabilities that are made at a time.


class Own(NamedTuple):
  """How many rows and columns of a canvas are the image's; (2,) int32 each.

  Attributes:
    pixels: of what the network is fed, with its margins.
    cells: of the logits.
    image: of what the network is fed, without margins and what fills up the last cells.
    result: of the image at its own size.
  """

  pixels: Any
  cells: Any
  image: Any
  result: Any


def to_labels(model: SegmentationModel, method: str, logits, restore=None, own: Own | None = None):
  """Upsamples logits to label maps; a pure function.

  Args:
    model: whose logits they are.
    method: 'corner' interpolates probabilities, 'corner_logits' and 'deconvolution' logits, see
      `models.upsampling`; none of them where the network itself upsamples.
    logits: (N, h, w, C) float32.
    restore: None, or ((h, w), (H, W)): crop to the first size, then resize to the second.
    own: None, or how much of these sizes the images have.

  Returns:
    (labels, probabilities): (N, H, W) uint8 and (N, H, W, C) float32.

  Raises:
    InputError: there is no such method.
  """
  cells = own and own.cells
  if model.full_size:
    probabilities = jax.nn.softmax(logits)
  elif method == 'corner':
    probabilities = upsample(jax.nn.softmax(logits), model.stride, method, cells)
  else:
    probabilities = jax.nn.softmax(upsample(logits, model.stride, method, cells))
  if restore:
    (height, width), size = restore
    probabilities = resized(probabilities[:, :height, :width], size, own)
  return jnp.argmax(probabilities, axis=-1).astype(jnp.uint8), probabilities


def resized(probabilities, size, own: Own | None = None):
  """Probabilities at another size; where that is smaller, the filter widens (no aliasing)."""
  sizes = {} if own is None else {'own': own.image, 'own_size': own.result}
  return ops.resize(probabilities, size, align_corners=False, antialias=True, **sizes)


def by_rows(
  model: SegmentationModel,
  method: str,
  logits,
  restore=None,
  scores: bool = True,
  own: Own | None = None,
):
  """`to_labels` of logits of any size, some rows at a time; NumPy arrays.

  Without `scores`, None stands for the probabilities, of which only those rows are held at a time.
  """
  count, rows, columns, classes = logits.shape
  zoom = 1 if model.full_size else model.stride
  step = max(1, _ROWS_BYTES // (4 * count * columns * classes * zoom**2))
  if restore or step >= rows:
    run = _compiled(model, method, logits.shape, restore)
    labels, probabilities = run(logits, own=own)
    return np.asarray(labels), np.asarray(probabilities) if scores else None
  labels = np.empty((count, rows * zoom, columns * zoom), np.uint8)
  probabilities = np.empty((*labels.shape, classes), np.float32) if scores else None
  for start in range(0, rows, step):
    stop = min(start + step, rows)
    # Pixels of a row of cells depend on the rows before and after it.
    first, last = max(0, start - 1), min(rows, stop + 1)
    part, of_part = logits[:, first:last], None
    if own:
      of_part = own._replace(cells=np.maximum(0, own.cells - np.array([first, 0], np.int32)))
    results = _compiled(model, method, part.shape, None)(part, own=of_part)
    for whole, result in zip((labels, probabilities), results):
      if whole is not None:
        result = np.asarray(result)[:, (start - first) * zoom : (stop - first) * zoom]
        whole[:, start * zoom : stop * zoom] = result
  return labels, probabilities


@functools.lru_cache(maxsize=64)
def _compiled(model, method: str, shape, restore):
  """`to_labels`, compiled for one shape of logits; the last 64 are kept."""
  del shape
  return jax.jit(functools.partial(to_labels, model, method, restore=restore))

"""The logits of a network that is fed tile by tile, in one of two ways.

`independent` is the authors': tiles that overlap by the front end's margin, each by itself. A
context module then sees zeros beyond the tile, as it did when the published scores were made.

`overlapping` gives the logits of the whole image. The front end pads nothing, so tiles
that overlap by its margin make up its scores exactly; the context module then runs over all the
scores, in pieces that overlap by its own receptive field.
"""

from collections.abc import Sequence
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Float, UInt8
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.images.preprocessing import reflect_pad_indices
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.nn import costs, geometry


def independent(
  segmenter: Segmenter, images: UInt8[np.ndarray, 'n h w 3'], tile: tuple[int, int]
) -> Float[np.ndarray, 'n cells_h cells_w c']:
  """Logits of independent tiles, as in the authors' predict.py.

  Args:
    segmenter: the network, without a CRF-RNN.
    images: uint8 (N, H, W, 3) RGB.
    tile: (height, width) of the network's input. The last tiles of a row and a column are filled up
      by reflection.

  Returns:
    (N, h, w, C) float32, the tiles' logits side by side.

  Raises:
    InputError: the tile is smaller than the network's receptive field.

  Source: github.com/fyu/dilation, predict.py.
  """
  model, variables, spec = segmenter
  mean = np.asarray(spec.mean, np.float32)
  check_tile(model, tile)
  run = _compiled(model, '__call__', (len(images), *tile))
  rows, columns = (
    [
      reflect_pad_indices(n, model.margin, side, start)
      for start in range(0, n, side - 2 * model.margin)
    ]
    for n, side in zip(images.shape[1:3], tile)
  )
  tiles = [[run(variables, mean, images[:, r[:, None], c]) for c in columns] for r in rows]
  return np.concatenate([np.concatenate(row, axis=2) for row in tiles], axis=1)


def overlapping(
  segmenter: Segmenter,
  images: UInt8[np.ndarray, 'n h w 3'],
  tile: tuple[int, int],
  canvas: tuple[int, int] | None = None,
  own_cells: Sequence[int] | None = None,
) -> Float[np.ndarray, 'n cells_h cells_w c']:
  """Logits as of the whole images.

  Args:
    segmenter: the network, without a CRF-RNN.
    images: uint8 (N, H, W, 3) RGB.
    tile: (height, width) that the front end's input does not exceed.
    canvas: (height, width) of the input whose answer is wanted, reflected up to that size; None for
      the least that holds the images.
    own_cells: rows and columns of the logits, from the top left, that are the images'; to the
      context module the others lie beyond the border. None: all.

  Returns:
    (N, h, w, C) float32, for the least canvas h = ceil(H / stride); (N, h * stride, w * stride, C)
    where the network itself upsamples.

  Raises:
    InputError: the tile is smaller than the network's receptive field, or the front end pads.
  """
  model, variables, spec = segmenter
  mean = np.asarray(spec.mean, np.float32)
  check_tile(model, tile)
  if geometry.depends_on_border(model.front_end_table):
    raise InputError(
      f'a tile of {tile[0]}x{tile[1]} does not hold the image, and this network, which pads '
      'inside, answers for whole images alone; give a larger tile or a smaller scale'
    )
  stride, margin = model.stride, model.margin
  if canvas is None:
    height, width = (side + 2 * margin + -side % stride for side in images.shape[1:3])
    canvas = height, width
  places = [reflect_pad_indices(n, margin, side) for n, side in zip(images.shape[1:3], canvas)]
  cells = [geometry.output_size(model.front_end_table, side) for side in canvas]
  piece = [_evenly(n, (side - 2 * margin) // stride) for n, side in zip(cells, tile)]
  scores = None
  for top in _starts(cells[0], piece[0]):
    for left in _starts(cells[1], piece[1]):
      # Cut off at the end of a canvas that is no whole number of cells, as the whole would be.
      rows, columns = (
        place[start * stride : (start + n) * stride + 2 * margin]
        for place, start, n in zip(places, (top, left), piece)
      )
      fed = images[:, rows[:, None], columns]
      part = np.asarray(_compiled(model, 'apply_front_end', fed.shape)(variables, mean, fed))
      if scores is None:
        scores = np.empty((len(images), *cells, part.shape[-1]), part.dtype)
      scores[:, top : top + piece[0], left : left + piece[1]] = part
  memory = len(images) * costs.inference_bytes(model.table, *tile)
  return _refined(model, variables, scores, memory, own_cells or cells)


def largest_tile(model, size, memory: int) -> tuple[int, int] | None:
  """The largest tile that can be fed at a time.

  Args:
    model: from `models.create` or `load`.
    size: (height, width) of the image.
    memory: bytes there are for activations.

  Returns:
    (height, width) of the tile; None if the whole image fits, or the network, which pads inside,
    has to see it at once.
  """
  cells = [-(-side // model.stride) for side in size]
  most = max(cells)

  def tile():
    return tuple(min(most, n) * model.stride + 2 * model.margin for n in cells)

  def needed():
    return costs.inference_bytes(model.table, *tile())

  if needed() <= memory or geometry.depends_on_border(model.front_end_table):
    return None
  while most > 1 and needed() > memory:
    most = most * 7 // 8
  return tile()


def check_tile(model, tile) -> None:
  """Raises an InputError if a tile is smaller than the network's receptive field."""
  least = 2 * model.margin + model.stride
  if min(tile) < least:
    raise InputError(f'a tile of {tile[0]}x{tile[1]} is too small; it needs {least} a side or more')


def _evenly(n: int, limit: int) -> int:
  """Size of the fewest equal pieces of n that are no longer than the limit."""
  return math.ceil(n / math.ceil(n / limit))


def _starts(n: int, piece: int) -> list[int]:
  """Where pieces of one size begin; the last is moved back to end with n."""
  return [min(start, n - piece) for start in range(0, n, piece)]


def _refined(model, variables, scores, memory, own_cells) -> np.ndarray:
  """The context module over all scores, in pieces that need no more than `memory` bytes."""
  table = model.context_table
  if not table:
    return scores
  zoom = model.stride if model.full_size else 1
  # What one cell sees on each side; the deconvolution looks one further.
  halo = (geometry.receptive_field(table) - 1) // 2 + model.full_size
  cells = scores.shape[1:3]
  piece = list(cells)

  def seen(axis):
    return min(cells[axis], piece[axis] + 2 * halo)

  def needed():
    return len(scores) * costs.inference_bytes(table, seen(0), seen(1), scores.shape[-1])

  while needed() > memory and max(piece) > 2 * halo:  # Smaller ones would be mostly halo.
    longer = piece.index(max(piece))
    piece[longer] = _evenly(cells[longer], math.ceil(piece[longer] / 2))
  inside = None
  if tuple(own_cells) != cells:
    inside = np.zeros((len(scores), *cells), bool)
    inside[:, : own_cells[0], : own_cells[1]] = True
  result = np.empty(0)
  for top in _starts(cells[0], piece[0]):
    for left in _starts(cells[1], piece[1]):
      rows, columns = (
        slice(max(0, start - halo), min(n, start + length + halo))
        for start, length, n in zip((top, left), piece, cells)
      )
      given = scores[:, rows, columns]
      more = {} if inside is None else {'inside': inside[:, rows, columns]}
      run = _compiled(model, 'apply_context', given.shape)
      part = np.asarray(run(variables, None, given, **more))
      if not result.size:
        shape = (len(scores), cells[0] * zoom, cells[1] * zoom, part.shape[-1])
        result = np.empty(shape, part.dtype)
      inner = part[:, (top - rows.start) * zoom :, (left - columns.start) * zoom :]
      inner = inner[:, : piece[0] * zoom, : piece[1] * zoom]
      result[:, top * zoom :, left * zoom :][:, : inner.shape[1], : inner.shape[2]] = inner
  return result


def applied(model, variables, mean, x, method: str = '__call__', **more):
  """What a method of the model makes of images or scores, to be compiled.

  Args:
    model: from `models.create` or `load`.
    variables: its parameters.
    mean: (3,) RGB, subtracted from images; None for scores.
    x: (N, H, W, C), images of 0..255 or scores.
    method: of the model.
    **more: further arguments of the method.

  Returns:
    (N, h, w, C) float32, on accelerators too, which would take fewer digits by themselves.
  """
  x = x.astype(jnp.float32)
  if mean is not None:
    x = x - mean.reshape(1, 1, 1, 3)
  with jax.default_matmul_precision('float32'):
    return model.apply(variables, x, method=method, **more).astype(jnp.float32)


@functools.lru_cache(maxsize=64)
def _compiled(model, method: str, shape):
  """A method of the model, compiled for one shape; the last 64 are kept."""
  del shape
  return jax.jit(functools.partial(applied, model, method=method))

"""From an image of any size to a label map: pad, apply the network, upsample, crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
import math
import operator
import os
import re
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, UInt8
import numpy as np
from PIL import Image

from dilated_jax.errors import InputError
from dilated_jax.images.checks import as_images
from dilated_jax.images.files import read_image
from dilated_jax.images.preprocessing import downscale_image, reflect_pad
from dilated_jax.inference import tiling, upsampling, windows
from dilated_jax.inference.canvases import Canvases
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.nn import geometry

Tile = tuple[int, int] | Literal['whole', 'auto'] | None
Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Prediction(NamedTuple):
  """What a network predicts for an image of H x W pixels.

  Attributes:
    labels: (H, W) uint8, the most probable class of each pixel.
    probabilities: (H, W, C) float32.
    logits: (h, w, C) float32 on the network's own grid: one cell for `stride` pixels of its input,
      or one for every pixel where the network itself upsamples. With several passes, those of the
      first scale, not flipped; with windows, logarithms of the probabilities.
  """

  labels: UInt8[np.ndarray, 'h w']
  probabilities: Float[np.ndarray, 'h w c']
  logits: Float[np.ndarray, 'cells_h cells_w c']


def predict(
  segmenter: Segmenter,
  image: np.ndarray | str | os.PathLike,
  *,
  scales: Sequence[float] = (1.0,),
  flip: bool = False,
  tile: Tile = None,
  window: tuple[int, int] | None = None,
  refine: Refine | None = None,
  canvases: Canvases | None = None,
) -> Prediction:
  """Labels an image of any size.

  The image is scaled by `spec.image_scale`, the mean is subtracted, and the image is reflected at
  its borders by the network's margin and, at the bottom and right, up to a multiple of the stride.
  The output of the network is upsampled as in training: 'corner' interpolates the *probabilities*
  of cells that lie at pixels 0, stride, 2 * stride, ..., and 'corner_logits' their *logits*;
  'deconvolution' upsamples the *logits* of cells in the middle of their pixels. Then it is cropped
  to the image, and scaled back if the image was scaled.

  What the network is fed at a time:

  * Weights converted from published ones: the image reflected up to `spec.input`, the input size of
    the authors' deploy files, or if it is larger, independent tiles of that size. The published
    scores were made this way. Another `tile` that holds the image replaces `spec.input`.
  * All others: the whole image.

  A `tile` that does not hold the image does not change the result: overlapping tiles are fed that
  make up the whole. (Published weights depend on their independent tiles; with such a `tile` their
  result is that of the whole image.)

  Args:
    segmenter: from `dilated_jax.load`; `mean`, `image_scale`, `upsampling` and `input` of its spec
      count here.
    image: uint8 (H, W, 3) RGB, or the path of an image file.
    scales: the image is labeled at each of these sizes and the probabilities are averaged.
    flip: whether the flipped image takes part in the average too.
    tile: (height, width) of what the network is fed at a time; 'whole' for the whole image at once;
      'auto' for the whole image, in tiles if memory requires it; None for `spec.input`, and 'auto'
      where there is none.
    window: (height, width) of overlapping windows that are labeled each by itself and averaged, as
      PSPNet's authors do; for networks that pad inside. See `windows.averaged`.
    refine: a function of the averaged probabilities (H, W, C) float32 and the image to better
      probabilities (H, W, C), such as `crf.DenseCrf`; None leaves them alone.
    canvases: for images of many sizes, one `Canvases` for all of them: they share programs where
      the network sees whole images. The result is the same but for the rounding of float32. None
      compiles a program for each size, of which the last 64 are kept.

  Returns:
    A Prediction of NumPy arrays.

  Raises:
    InputError: the image is no uint8 RGB image or can't be read, does not fit into the device's
      memory, the tile or the window is too small, or the network is not one for windows.

  Source: paper, section 4; github.com/fyu/dilation, predict.py, test.py, `util.interp_map`.
  """
  if isinstance(image, str | os.PathLike):
    image = read_image(image)
  image = as_images(image)
  _check_ways(segmenter, scales, tile, window)
  batch = _averaged(segmenter, image[None], scales, flip, tile, window, refine, canvases)
  return Prediction(*(array[0] for array in batch))


def label_maps(
  segmenter: Segmenter,
  images: UInt8[np.ndarray, 'n h w 3'],
  *,
  scales: Sequence[float] = (1.0,),
  flip: bool = False,
  tile: Tile = None,
  window: tuple[int, int] | None = None,
  refine: Refine | None = None,
  canvases: Canvases | None = None,
) -> UInt8[np.ndarray, 'n h w']:
  """Labels images of one size; only class ids leave the device.

  Args:
    segmenter: from `dilated_jax.load`.
    images: uint8 (N, H, W, 3) RGB.
    scales: as for `predict`.
    flip: as for `predict`.
    tile: as for `predict`.
    window: as for `predict`.
    refine: as for `predict`.
    canvases: as for `predict`.

  Returns:
    (N, H, W) uint8 class ids.

  Raises:
    InputError: as `predict`.
  """
  images = as_images(images, 'a batch of images', ndim=4)
  _check_ways(segmenter, scales, tile, window)
  if tuple(scales) == (1.0,) and not flip and refine is None:
    result = _apply(segmenter, images, tile=tile, window=window, scores=False, canvases=canvases)
    labels = np.asarray(result.labels)
    return labels[:, : images.shape[1], : images.shape[2]]
  return _averaged(segmenter, images, scales, flip, tile, window, refine, canvases).labels


# One pass of the network.


def _apply(
  segmenter: Segmenter,
  images,
  scale: float = 1.0,
  tile: Tile = None,
  window=None,
  scores: bool = True,
  canvases: Canvases | None = None,
) -> Prediction:
  """Labels (N, H, W, 3) images in one pass; without `scores`, probabilities may be None.

  At their own size they are padded to a multiple of the stride, to a canvas or to whole tiles; the
  caller crops the result, so that images of nearly the same size share a compiled program.
  """
  model, variables, spec = segmenter
  size = images.shape[1:3]
  fed = tuple(max(1, round(side * scale * spec.image_scale)) for side in size)
  if fed != size:
    if scale == 1:  # As in training.
      images = np.stack([downscale_image(image, spec.image_scale) for image in images])
    else:
      images = np.stack([_resized(image, fed) for image in images])
  restore = None if fed == size else (fed, size)
  has_crf = 'crf' in model.parts
  if window:
    windows.check_window(model, window, tile)
  by_tiles, canvas = None, None
  if not window:
    # Tiles are fed to the network without its CRF-RNN, which sees the whole image.
    plain = segmenter.without_crf()
    by_tiles, canvas = _tiling(plain, fed, len(images), tile, canvases)
    if by_tiles and has_crf:  # It refines the logits of the image alone.
      by_tiles, canvas = _tiling(plain, fed, len(images), tile, None)
  own = canvas and _own(model, fed, size)
  if canvas and restore:  # To a canvas that holds all images that are brought to a size on it.
    zoom = scale * spec.image_scale
    restore = canvas, tuple(int((side + 0.5) / zoom) + 1 for side in canvas)
  probabilities: Any
  try:
    if window:
      labels, probabilities, logits = _by_windows(segmenter, images, window, size)
    elif by_tiles:
      logits = by_tiles(images)
      if has_crf:
        logits = _apply_crf(model, variables, images, logits)
      labels, probabilities = upsampling.by_rows(
        model, spec.upsampling, logits, restore, scores, own
      )
    else:
      fill = (canvas[0] - fed[0], canvas[1] - fed[1]) if canvas else (0, 0)
      padded = reflect_pad(images, model.margin, model.stride, fill)
      run = _program(model, spec.upsampling, padded.shape, restore, scores, canvas is not None)
      mean = np.asarray(spec.mean, np.float32)
      labels, probabilities, logits = run(variables, mean, padded, own)
      labels.block_until_ready()
  except (jax.errors.JaxRuntimeError, ValueError) as error:  # XLA's own may be of either.
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    raise InputError(
      f'{len(images)} x {size[0]} x {size[1]} pixels do not fit into the memory of the device: '
      'take smaller tiles, or a smaller batch, scale or image'
    ) from None
  logits = np.asarray(logits)  # What is cut from it in JAX would be a program for each size.
  if own:
    logits = logits[:, : own.cells[0], : own.cells[1]]
  if model.full_size and not window:
    logits = logits[:, : fed[0], : fed[1]]
  if has_crf and not np.isfinite(logits).all():
    raise InputError(
      'the lattice of the CRF-RNN has no room for an image of so many colors in so little space: '
      'smooth it, or train with a larger bandwidth of color (`crf_rnn_bandwidths`)'
    )
  return Prediction(labels, probabilities, logits)


def _own(model, fed, size) -> upsampling.Own:
  """How much of a canvas is that of images, `fed` to the network, of a size of their own."""
  whole = [side + -side % model.stride for side in fed]
  pixels = [side + 2 * model.margin for side in whole]
  cells = fed
  if not model.full_size:
    cells = [geometry.output_size(model.table, side) for side in pixels]
    if 'crf' in model.parts:  # It refines those that have pixels.
      cells = [min(n, side // model.stride) for n, side in zip(cells, whole, strict=True)]
  return upsampling.Own(*(np.asarray(each, np.int32) for each in (pixels, cells, fed, size)))


def _by_windows(segmenter: Segmenter, images, window, size):
  """Labels, probabilities and their logarithms by windows, at another size."""
  model, variables, spec = segmenter
  mean = np.asarray(spec.mean, np.float32)

  def probabilities_of(part):
    run = _program(model, spec.upsampling, part.shape, None)
    return run(variables, mean, part)[1][:, : part.shape[1], : part.shape[2]]

  found = windows.averaged(probabilities_of, images, window, np.rint(mean).astype(np.uint8))
  if found.shape[1:3] != size:
    found = np.asarray(upsampling.resized(found, size))
  labels = np.argmax(found, axis=-1).astype(np.uint8)
  return labels, found, np.log(np.maximum(found, np.finfo(np.float32).tiny))


def _apply_crf(model, variables, images, logits):
  """Refines the logits of tiles by the model's CRF-RNN."""
  images = reflect_pad(images, 0, model.stride)
  step = 1 if model.without_crf().full_size else model.stride
  rows, columns = (side // step for side in images.shape[1:3])
  logits = jnp.asarray(logits[:, :rows, :columns])
  return np.asarray(_compiled_crf(model, logits.shape)(variables, logits, images))


@functools.lru_cache(maxsize=64)
def _compiled_crf(model, shape):
  """The CRF-RNN of a model, compiled for one shape of logits."""
  del shape
  return jax.jit(functools.partial(model.apply, method='apply_crf'))


def _tiling(segmenter: Segmenter, size, count: int, tile: Tile, canvases: Canvases | None):
  """How images are fed: piece by piece or all at once, on which canvas.

  Returns:
    (images -> logits, or None for all at once; height and width of the canvas, or None).
  """
  model, published = segmenter.model, segmenter.spec.input

  def holds(given, size):
    return all(side - 2 * model.margin >= n for side, n in zip(given, size))

  if tile is None:
    tile = published or 'auto'
  by_size = tile not in ('whole', 'auto')
  if by_size and published and (holds(tile, size) or tuple(tile) == published):
    return functools.partial(tiling.independent, segmenter, tile=tile), None
  overlapping = functools.partial(tiling.overlapping, segmenter)
  if by_size and published and holds(published, size):
    return functools.partial(overlapping, tile=tile, canvas=published), None
  canvas = None if canvases is None else canvases.of(size, model.stride, model.margin)
  if by_size and holds(tile, size) and geometry.depends_on_border(model.front_end_table):
    if canvas and not holds(tile, canvas):
      canvas = None
    return None, canvas
  if tile == 'auto':
    tile = tiling.largest_tile(model, canvas or size, memory() // (2 * count))
  if tile in (None, 'whole') or holds(tile, canvas or size):
    return None, canvas
  if canvas:
    fed = canvas[0] + 2 * model.margin, canvas[1] + 2 * model.margin
    table, stride = model.front_end_table, model.stride
    cells = [geometry.output_size(table, n + -n % stride + 2 * model.margin) for n in size]
    return functools.partial(overlapping, tile=tile, canvas=fed, own_cells=cells), canvas
  return functools.partial(overlapping, tile=tile), None


def memory() -> int:
  """Free bytes of memory: of the device, or of this machine where the device does not tell."""
  stats = jax.local_devices()[0].memory_stats()
  if stats:
    return stats['bytes_limit'] - stats['bytes_in_use']
  try:
    with open('/proc/meminfo') as file:
      found = re.search(r'MemAvailable:\s*(\d+)', file.read())
  except OSError:  # Not Linux.
    found = None
  return 1024 * int(found[1]) if found else 4 << 30


@functools.lru_cache(maxsize=64)
def _program(model, method: str, shape, restore, scores: bool = True, on_canvas: bool = False):
  """The compiled pass for one shape of padded images.

  Each shape has a jitted function of its own, so that a folder of images of a thousand sizes
  keeps the programs of the last 64 and no more.

  Args:
    model: a Flax module.
    method: of upsampling, see `models.upsampling`.
    shape: of the padded images; only tells programs apart.
    restore: None, or ((h, w), (H, W)): crop to the first, then resize to the second.
    scores: whether probabilities are returned, which are most of the memory of a large image.
    on_canvas: whether the images are part of what has these shapes.

  Returns:
    A function of variables, mean (3,), uint8 images of `shape` and, on a canvas, their `Own`, to
    labels, probabilities or None, and logits.
  """
  del shape, on_canvas

  @jax.jit
  def run(variables, mean, images, own=None):
    more = {} if own is None else {'own': own.pixels}
    logits = tiling.applied(model, variables, mean, images, **more)
    labels, probabilities = upsampling.to_labels(model, method, logits, restore, own)
    return labels, probabilities if scores else None, logits

  return run


def _check_ways(segmenter, scales, tile, window) -> None:
  """Raises an InputError unless this is a network, and these are scales and sizes."""
  if not isinstance(segmenter, Segmenter):
    raise InputError(f'{segmenter!r:.80} is no segmenter: give what `dilated_jax.load` returns')
  try:
    fits = len(scales) > 0 and all(0 < scale < math.inf for scale in scales)
  except TypeError:
    fits = False
  if not fits:
    raise InputError(f'scales are {scales!r}; give a sequence of numbers above 0, as in (0.5, 1.0)')
  for name, size, words in (('tile', tile, ('whole', 'auto')), ('window', window, ())):
    if size is None or (isinstance(size, str) and size in words):
      continue
    if not _is_size(size):
      also = ''.join(f', {word!r}' for word in words)
      raise InputError(f'{name} is {size!r}; give (height, width){also} or None')


def _is_size(size: Any) -> bool:
  """Whether this is (height, width), whole numbers above 0."""
  try:
    height, width = size
    return operator.index(height) > 0 and operator.index(width) > 0
  except (TypeError, ValueError):
    return False


def _refined(refine: Refine, probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
  """What `refine` makes of the probabilities of an image.

  Raises:
    InputError: it returns something else than probabilities of the same shape.
  """
  refined = np.asarray(refine(probabilities, image))
  if refined.shape != probabilities.shape or not np.isfinite(refined).all():
    raise InputError(
      f'refine has returned {refined.dtype} {refined.shape}; it returns probabilities '
      f'{probabilities.shape}, finite ones, of those and the image'
    )
  return refined


def _averaged(
  segmenter: Segmenter, images, scales, flip, tile, window, refine, canvases
) -> Prediction:
  """Averages the probabilities of several passes over (N, H, W, 3) images; NumPy arrays."""
  height, width = images.shape[1:3]
  total: np.ndarray = np.empty(0)
  passes, logits = 0, np.empty(0)
  for scale in scales:
    for flipped in (False, True) if flip else (False,):
      given = images[:, :, ::-1] if flipped else images
      result = _apply(segmenter, given, scale, tile, window, canvases=canvases)
      probabilities = np.asarray(result.probabilities)[:, :height, :width]
      if not passes:  # One copy, to write to: of a large image it is hundreds of MB.
        total, logits = probabilities.copy(), np.asarray(result.logits)
      else:
        total += probabilities[:, :, ::-1] if flipped else probabilities
      passes += 1
  probabilities = total
  if passes > 1:
    probabilities /= np.float32(passes)
  if refine:
    probabilities = np.stack(
      [_refined(refine, *pair) for pair in zip(probabilities, images, strict=True)]
    )
  labels = np.argmax(probabilities, axis=-1).astype(np.uint8)
  return Prediction(labels, probabilities, logits)


def _resized(image: np.ndarray, size) -> np.ndarray:
  """Bilinear, with a filter that widens when shrinking (no aliasing)."""
  return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))

"""From pictures to label maps: pad, apply, upsample, crop; one picture, a batch, a whole split."""

from __future__ import annotations

from collections.abc import Callable
import functools
import os
import re
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, UInt8
import numpy as np
from PIL import Image

from dilated_jax.errors import InputError
from dilated_jax.images.files import read_image
from dilated_jax.images.preprocessing import downscale_image, reflect
from dilated_jax.inference import tiling
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.nn import ops

Tile = tuple[int, int] | Literal['whole', 'auto'] | None


class Prediction(NamedTuple):
  """What a network says about a picture of H x W pixels.

  Attributes:
    labels: (H, W) uint8, the most probable class of each pixel.
    probabilities: (H, W, C) float32.
    logits: (h, w, C) float32, the network's own grid: one cell for `stride` pixels of what it was
      fed, or every pixel where the network itself upsamples. With several passes, those of the
      first scale, not mirrored.
  """

  labels: UInt8[np.ndarray, 'h w']
  probabilities: Float[np.ndarray, 'h w c']
  logits: Float[np.ndarray, 'cells_h cells_w c']


def predict(
  segmenter: Segmenter,
  image: UInt8[np.ndarray, 'h w 3'] | str | os.PathLike,
  *,
  scales=(1.0,),
  flip: bool = False,
  tile: Tile = None,
  refine: Callable | None = None,
) -> Prediction:
  """Labels a picture of any size.

  The picture is shrunk by `spec.image_scale`, the mean subtracted, and reflected at the borders
  by the network's margin and, at the bottom and right, up to a multiple of its stride. The network
  is applied, and its answer upsampled in the way its weights were trained for: 'corner' blends the
  *probabilities* of cells that sit at pixels 0, stride, 2 * stride, ...; 'deconvolution' upsamples
  the *logits*. Then it is cropped to the picture, and enlarged again if that was shrunk.

  What the network is fed at a time:

  * weights converted from published ones: pictures reflected up to `spec.input`, the size of the
    authors' deploy files, or where they are larger, tiles of that size each by itself. This is what
    the published scores were made with. Another `tile` that holds the picture takes the place of
    `spec.input`.
  * all others: the whole picture.

  A `tile` that does not hold the picture does not change the answer: pieces of it are fed that
  overlap far enough. (Of the published manner with several tiles, whose answer depends on them, the
  answer is then that of the whole picture.)

  Args:
    segmenter: from `dilated_jax.load`; of its spec `mean`, `image_scale`, `upsampling` and `input`
      count here.
    image: uint8 (H, W, 3) RGB, or the path of an image file.
    scales: the picture is labeled at each of these sizes and the probabilities averaged.
    flip: whether mirrored pictures take part in the average too.
    tile: (height, width) of what the network is fed at a time; 'whole' for the whole picture at
      once; 'auto' for the whole picture, in pieces if memory demands it; None for `spec.input`, and
      'auto' where there is none.
    refine: what becomes of the averaged probabilities: a function of (H, W, C) float32 and the
      picture to (H, W, C), such as `crf.DenseCrf`; None leaves them alone.

  Returns:
    a Prediction of NumPy arrays.

  Raises:
    InputError: the picture does not fit into the device's memory, or the tile is too small.

  Source: paper, section 4; github.com/fyu/dilation, predict.py, test.py, `util.interp_map`.
  """
  if isinstance(image, str | os.PathLike):
    image = read_image(image)
  image = np.asarray(image)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise InputError(f'an image is uint8 (H, W, 3) RGB, not {image.dtype} {image.shape}')
  batch = _averaged(segmenter, image[None], scales, flip, tile, refine)
  return Prediction(*(array[0] for array in batch))


def label_maps(
  segmenter: Segmenter,
  images: UInt8[np.ndarray, 'n h w 3'],
  *,
  scales=(1.0,),
  flip: bool = False,
  tile: Tile = None,
  refine: Callable | None = None,
) -> UInt8[np.ndarray, 'n h w']:
  """Labels pictures of one size; only class ids leave the device.

  Args:
    segmenter: from `dilated_jax.load`.
    images: uint8 (N, H, W, 3) RGB.
    scales: as for `predict`.
    flip: as for `predict`.
    tile: as for `predict`.
    refine: as for `predict`.

  Returns:
    (N, H, W) uint8 class ids.
  """
  images = np.asarray(images)
  if tuple(scales) == (1.0,) and not flip and refine is None:
    labels = np.asarray(_apply(segmenter, images, tile=tile).labels)
    return labels[:, : images.shape[1], : images.shape[2]]
  return _averaged(segmenter, images, scales, flip, tile, refine).labels


# One pass of the network.


def _apply(segmenter: Segmenter, images, scale: float = 1.0, tile: Tile = None) -> Prediction:
  """Labels (N, H, W, 3) pictures in one pass.

  At the picture's own size they are padded to a multiple of the stride or to whole tiles, which
  leaves cropping to the caller and lets pictures of nearly the same size share a compiled program.
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
  # Tiles are fed to the network without its CRF-RNN, which sees the whole picture.
  by_tiles = _tiling(segmenter.without_crf(), fed, len(images), tile)
  try:
    if by_tiles:
      logits = by_tiles(images)
      if has_crf:
        logits = _apply_crf(model, variables, images, logits)
      labels, probabilities = _finish_by_rows(model, spec.upsampling, logits, restore)
    else:
      padded = reflect(images, model.margin, model.stride)
      run = _program(model, spec.upsampling, padded.shape, restore)
      labels, probabilities, logits = run(variables, np.asarray(spec.mean, np.float32), padded)
      labels.block_until_ready()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    raise InputError(
      f'{len(images)} x {size[0]} x {size[1]} pixels do not fit into the memory of the device: '
      'take smaller tiles, or a smaller batch, scale or picture'
    ) from None
  if model.full_size:
    logits = logits[:, : fed[0], : fed[1]]
  if has_crf and not np.isfinite(logits).all():
    raise InputError(
      'the CRF-RNN has no room for a picture of so many colors in so little space: smooth it, or '
      'train with a larger deviation of color (`crf_rnn_bandwidths`)'
    )
  return Prediction(labels, probabilities, logits)


def _apply_crf(model, variables, images, logits):
  """Refines the logits of tiles by the model's CRF-RNN."""
  images = reflect(images, 0, model.stride)
  step = 1 if model.without_crf().full_size else model.stride
  rows, columns = (side // step for side in images.shape[1:3])
  logits = jnp.asarray(logits[:, :rows, :columns])
  return np.asarray(_compiled_crf(model, logits.shape)(variables, logits, images))


@functools.lru_cache(maxsize=64)
def _compiled_crf(model, shape):
  """The CRF-RNN of a model, compiled for one shape of logits."""
  del shape
  return jax.jit(functools.partial(model.apply, method='apply_crf'))


def _tiling(segmenter: Segmenter, size, count: int, tile: Tile):
  """How images are fed piece by piece: images -> logits; None for all at once."""
  model, published = segmenter.model, segmenter.spec.input

  def holds(given):
    return all(side - 2 * model.margin >= n for side, n in zip(given, size))

  if tile is None:
    tile = published or 'auto'
  if tile == 'whole':
    return None
  if tile == 'auto':
    tile = tiling.largest_tile(model, size, memory() // (2 * count))
    return tile and functools.partial(tiling.overlapping, segmenter, tile=tile)
  if published and (holds(tile) or tuple(tile) == published):
    return functools.partial(tiling.independent, segmenter, tile=tile)
  if holds(tile):
    return None
  canvas = published if published and holds(published) else None
  return functools.partial(tiling.overlapping, segmenter, tile=tile, canvas=canvas)


def memory() -> int:
  """Bytes that are free: on the device, or where it doesn't tell, in this machine."""
  stats = jax.local_devices()[0].memory_stats()
  if stats:
    return stats['bytes_limit'] - stats['bytes_in_use']
  try:
    with open('/proc/meminfo') as file:
      return 1024 * int(re.search(r'MemAvailable:\s*(\d+)', file.read())[1])
  except (OSError, TypeError):  # Not Linux.
    return 4 << 30


@functools.lru_cache(maxsize=64)
def _program(model, upsampling: str, shape, restore):
  """The compiled pass for one shape of padded pictures.

  Each shape has a jitted function of its own, so that a folder of pictures of a thousand sizes
  keeps the programs of the last 64 and no more.

  Args:
    model: a Flax module.
    upsampling: 'corner' or 'deconvolution'.
    shape: of the padded pictures; only tells programs apart.
    restore: None, or ((h, w), (H, W)): crop to the first, then resize to the second.

  Returns:
    a function of variables, mean (3,) and uint8 pictures of `shape`, which returns labels,
    probabilities and logits.
  """
  del shape

  @jax.jit
  def run(variables, mean, images):
    logits = tiling.applied(model, variables, mean, images)
    return *_finish(model, upsampling, logits, restore), logits

  return run


@functools.lru_cache(maxsize=64)
def _finisher(model, upsampling: str, shape, restore):
  """`_finish`, compiled for one shape of logits."""
  del shape
  return jax.jit(functools.partial(_finish, model, upsampling, restore=restore))


def _finish(model, upsampling: str, logits, restore):
  """From logits to labels and probabilities, see `_program`."""
  if model.full_size:
    probabilities = jax.nn.softmax(logits)
  elif upsampling == 'corner':
    probabilities = ops.resize_corner(jax.nn.softmax(logits), model.stride)
  elif upsampling == 'deconvolution':
    probabilities = jax.nn.softmax(ops.deconvolution(logits, model.stride))
  else:
    raise InputError(f"upsampling is {upsampling!r}: it must be 'corner' or 'deconvolution'")
  if restore:
    (height, width), size = restore
    probabilities = probabilities[:, :height, :width]
    shape = (len(probabilities), *size, probabilities.shape[-1])
    probabilities = jax.image.resize(probabilities, shape, 'linear')
  return jnp.argmax(probabilities, axis=-1).astype(jnp.uint8), probabilities


def _finish_by_rows(model, upsampling: str, logits, restore):
  """`_finish` of logits of any size, some rows at a time; NumPy arrays."""
  count, rows, columns, classes = logits.shape
  zoom = 1 if model.full_size else model.stride
  step = max(1, _ROWS_BYTES // (4 * count * columns * classes * zoom**2))
  if restore or step >= rows:
    run = _finisher(model, upsampling, logits.shape, restore)
    return tuple(np.asarray(result) for result in run(logits))
  labels = np.empty((count, rows * zoom, columns * zoom), np.uint8)
  probabilities = np.empty((*labels.shape, classes), np.float32)
  for start in range(0, rows, step):
    stop = min(start + step, rows)
    # Pixels of a row of cells depend on the rows before and after it.
    first, last = max(0, start - 1), min(rows, stop + 1)
    part = logits[:, first:last]
    results = _finisher(model, upsampling, part.shape, None)(part)
    for whole, result in zip((labels, probabilities), results):
      result = np.asarray(result)[:, (start - first) * zoom : (stop - first) * zoom]
      whole[:, start * zoom : stop * zoom] = result
  return labels, probabilities


_ROWS_BYTES = 1 << 28  # Of probabilities that are made at a time.


def _averaged(segmenter: Segmenter, images, scales, flip, tile, refine) -> Prediction:
  """Averages the probabilities of several passes over (N, H, W, 3) pictures; NumPy arrays."""
  height, width = images.shape[1:3]
  total, passes, logits = 0.0, 0, None
  for scale in scales:
    for mirrored in (False, True) if flip else (False,):
      given = images[:, :, ::-1] if mirrored else images
      result = _apply(segmenter, given, scale, tile)
      probabilities = np.asarray(result.probabilities)[:, :height, :width]
      total = total + (probabilities[:, :, ::-1] if mirrored else probabilities)
      passes += 1
      if logits is None:
        logits = np.asarray(result.logits)
  probabilities = np.ascontiguousarray(total / np.float32(passes))
  if refine:
    probabilities = np.stack([refine(*pair) for pair in zip(probabilities, images, strict=True)])
  labels = np.argmax(probabilities, axis=-1).astype(np.uint8)
  return Prediction(labels, probabilities, logits)


def _resized(image: np.ndarray, size) -> np.ndarray:
  """Bilinear, with a filter that widens when shrinking (no aliasing)."""
  return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))

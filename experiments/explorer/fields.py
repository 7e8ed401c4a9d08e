"""What the logits of a trained network depend on in a photograph: its effective receptive field.

The receptive field says which pixels may matter. How much each does matter is the size of the
derivative of a logit by the pixel; W. Luo, Y. Li, R. Urtasun and R. Zemel, "Understanding the
Effective Receptive Field in Deep Convolutional Neural Networks" (NeurIPS 2016), found it to be a
small part of the field, strongest in the middle.
"""

from __future__ import annotations

import base64
import io
import json
import math
import pathlib
from typing import Any

import numpy as np
import PIL.Image

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.images.preprocessing import downscale_image, reflect_pad_indices
from dilated_jax.models import upsampling
from dilated_jax.nn import costs, geometry

from . import network_data

PHOTO = pathlib.Path(__file__).parent / 'page/photo.jpg'
PHOTO_CREDIT = (
  'Photograph by danielbuechele, flickr.com/photos/danielbuechele/6061409035, CC BY 2.0, resized'
)
# Measured by `measure`, for a page without weights of one's own; its 'provenance' says of what.
SHIPPED = pathlib.Path(__file__).parent / 'page/fields.json'
BLOCK = 4  # Pixels along an axis that share a number, where no more have to:
NUMBERS = 80  # along the longer side, so that a page stays small.
LARGEST = 1024  # Pixels of the longer side: more is more than a page can show.
POINTS, FEW_POINTS = (5, 7), (2, 3)  # Rows and columns of points, and those of a large network.
LARGE = 2e10  # FLOPs of a forward pass.


def shipped() -> dict[str, Any]:
  """The measurement that comes with the package."""
  return json.loads(SHIPPED.read_text('utf-8'))


def measure(
  segmenter: models.Segmenter, image: np.ndarray, title: str, credit: str
) -> dict[str, Any]:
  """Measures effective fields at points of a photograph, with the context module and without.

  A point's logit is that of its most probable class. A pixel counts by the sum over its colors of
  the absolute values of the derivative.

  Args:
    segmenter: a trained network.
    image: uint8 (H, W, 3) RGB.
    title: of the network.
    credit: of the photograph.

  Returns:
    The data of the view: the photograph, the points, and a map for each point and network.

  Raises:
    InputError: the image is too large.
  """
  segmenter = segmenter.without_crf()
  model, spec = segmenter.model, segmenter.spec
  image = downscale_image(image, spec.image_scale)
  height, width = image.shape[:2]
  if max(height, width) > LARGEST:
    raise InputError(
      f'an image of {height}x{width} pixels as the network sees it; fields are measured on up to '
      f'{LARGEST} a side; make it smaller'
    )
  large = costs.flops(model.table, *_padded_size(model, height, width)) > LARGE
  rows, columns = (
    [round((i + 0.5) * size / count) for i in range(count)]
    for size, count in zip((height, width), FEW_POINTS if large else POINTS)
  )
  points = [(row, column) for row in rows for column in columns]
  has_context = bool(geometry.without_upsampling(model.context_table))
  block = max(BLOCK, math.ceil(max(height, width) / NUMBERS))
  parts = ['apply_front_end', None] if has_context else [None]
  return {
    'title': title,
    'credit': credit,
    'photo': _data_url(image, 'JPEG', quality=80),
    'height': height,
    'width': width,
    'block': block,
    'points': points,
    'networks': [_fields(segmenter, image, points, block, part) for part in parts],
  }


def _padded_size(model, height: int, width: int) -> tuple[int, int]:
  return (
    height + 2 * model.margin + -height % model.stride,
    width + 2 * model.margin + -width % model.stride,
  )


def _fields(
  segmenter: models.Segmenter, image: np.ndarray, points, block: int, part: str | None
) -> dict[str, Any]:
  """The maps of one network: of a part of it, or of all."""
  import jax
  import jax.numpy as jnp

  model, variables, spec = segmenter
  table = model.front_end_table if part else model.table
  size = image.shape[:2]
  rows, columns = (
    reflect_pad_indices(side, model.margin, padded)
    for side, padded in zip(size, _padded_size(model, *size))
  )
  full_size = model.full_size and part is None
  stride = 1 if full_size else model.stride
  first = 0 if full_size else float(upsampling.cell_offset(model, spec.upsampling))

  def logits(pixels):
    mean = jnp.asarray(spec.mean, jnp.float32).reshape(1, 1, 1, 3)
    fed = pixels[rows[:, None], columns][None] - mean
    options = {'method': part} if part else {}
    return model.apply(variables, fed, **options)[0]

  pixels = jnp.asarray(image, jnp.float32)
  scores = jax.jit(logits)(pixels)
  # Compiled once for all points; the gradients of all at once would take as many times the memory.
  gradient = jax.jit(
    jax.grad(lambda pixels, row, column, label: logits(pixels)[row, column, label])
  )
  maps, found = [], []
  for point in points:
    cell = [
      min(count - 1, max(0, math.floor((place - first) / stride + 0.5)))
      for place, count in zip(point, scores.shape)
    ]
    label = int(np.argmax(scores[cell[0], cell[1]]))
    weights = np.abs(np.asarray(gradient(pixels, *cell, label))).sum(-1)
    maps.append(_blocks(weights, block))
    at = [int(first + stride * index) for index in cell]
    found.append({'label': spec.classes[label], 'half': _side(weights, at, 0.5)})
  return {
    'context': part is None and bool(geometry.without_upsampling(model.context_table)),
    'field': geometry.receptive_field(table),
    'stride': stride,
    'table': [network_data.row(layer) for layer in geometry.without_upsampling(table)],
    'found': found,
    'maps': _data_url(np.concatenate(maps), 'PNG'),  # One below the other.
    'map_size': maps[0].shape,
  }


def _blocks(weights: np.ndarray, block: int) -> np.ndarray:
  """Sums over blocks, as square roots of shares of the largest, 0 to 255."""
  height, width = weights.shape
  padded = np.pad(weights, ((0, -height % block), (0, -width % block)))
  sums = padded.reshape(padded.shape[0] // block, block, -1, block).sum((1, 3))
  return np.round(255 * np.sqrt(sums / max(sums.max(), 1e-30))).astype(np.uint8)


def _side(weights: np.ndarray, center, share: float) -> int:
  """Side of the square around a pixel that holds this share of all weights."""
  rows, columns = (abs(np.arange(size) - at) for size, at in zip(weights.shape, center))
  distances = np.maximum(rows[:, None], columns)
  by_distance = np.cumsum(np.bincount(distances.ravel(), weights.ravel()))
  return int(2 * np.searchsorted(by_distance, share * by_distance[-1]) + 1)


def _data_url(image: np.ndarray, kind: str, **options: Any) -> str:
  file = io.BytesIO()
  PIL.Image.fromarray(image).save(file, kind, optimize=True, **options)
  return f'data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}'

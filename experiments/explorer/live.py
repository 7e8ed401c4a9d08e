"""What the view *Live* of the page runs: a trained network, and scenes that a visitor changes."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from dilated_jax import models
from dilated_jax.nn import costs, geometry
from dilated_jax.nn.table import Layer, Table, input_indices

# A page is to stay small: a weight takes three bytes, or two where there are many.
MOST_WEIGHTS, MOST_OF_THREE_BYTES = 1_000_000, 300_000
PICTURES = (19, 13, 8, 30)  # Of the test pictures: the landmark stands at one side.
# What a row does where it runs.
_LARGEST = 256 * 32767
_FIELDS = (
  'name',
  'kind',
  'kernel',
  'stride',
  'dilation',
  'padding',
  'channels',
  'activation',
  'round_up',
)


def contents(segmenter: models.Segmenter) -> dict[str, Any]:
  """The data of the view: a network and pictures for it, or why there is none."""
  refused = why_not(segmenter)
  if refused:
    return {'refused': refused}
  return {'network': network(segmenter), 'pictures': [picture(index) for index in PICTURES]}


def why_not(segmenter: models.Segmenter) -> str | None:
  """Why a page does not run a network, as a sentence; None if it does."""
  model = segmenter.model
  count = costs.num_parameters(model.table)
  if 'crf' in model.parts:
    return 'The network has a CRF-RNN, which this page does not run.'
  if len(model.scales) > 1:
    return 'The network sees an image at several scales, which this page does not run.'
  if count > MOST_WEIGHTS:
    return f'The network has {count:,} weights; this page runs networks of up to {MOST_WEIGHTS:,}.'
  return None


def picture(index: int) -> dict[str, Any]:
  """A test picture of `scenes` in pieces, for `scene.js`."""
  from dilated_jax.data.builders import scenes  # With TFDS, which takes a second to import.

  pieces = scenes.pieces(scenes.FIRST_SEED['test'] + index)
  return {
    'width': scenes.WIDTH,
    'height': scenes.HEIGHT,
    'background': _text(pieces.background),
    'light': pieces.light,
    'box': pieces.box,
    'landmarks': {world: _text(cells) for world, cells in pieces.landmarks.items()},
  }


def _text(array: np.ndarray) -> str:
  """The bytes of an array, the low ones first, in base64."""
  little = array.astype(array.dtype.newbyteorder('<'), copy=False)
  return base64.b64encode(little.tobytes()).decode()


def network(segmenter: models.Segmenter) -> dict:
  """A network with its weights, for `engine.js`.

  Normalizations by running statistics become part of the convolutions before them. Kernels are
  stored as integers of 24 bits, or 16 if there are many, with a scale for each output channel. Of
  the labels of 60 test pictures of `scenes` (`make demo`, front end), 2 of a million differ from
  JAX's with 24 bits, 32 with 16, 309 with 12, and 234 with floats of half precision.

  Args:
    segmenter: one that `why_not` has nothing against.

  Returns:
    What JSON can hold: rows of the front end; `heads`, the rows behind it, without the context
    module and, if it has one, with it, and the receptive field of each (None: the whole image); the
    spec; in base64 the `kernels` of all convolutions in the order of the rows, HWIO (`high`: int16
    that count 256 each, and `low`: uint8), and their `vectors` (float32): scales, biases and what a
    group normalization has.
  """
  model, variables, spec = segmenter
  count = costs.num_parameters(model.table)
  without = model.without_context().context_table
  kernels: list[np.ndarray] = []
  vectors: list[np.ndarray] = []

  def rows(table: Table, part: str, channels: int) -> list[dict]:
    found = list(_rows(table, channels))
    for row, layer in zip(found, table, strict=True):
      if layer.kind == 'conv':
        row |= _add_weights(layer, part, variables, kernels, vectors)
    return found

  result = {
    'front_end': rows(model.front_end_table, 'front_end', 3),
    'heads': [
      {
        'rows': rows(table, 'context', model.num_classes),
        'full_size': len(table) > len(geometry.without_upsampling(table)),
        'field': _field(model.front_end_table + table),
      }
      for table in (without, model.context_table)[: len(model.parts)]
    ],
    'upsampler': list(_rows(without, model.num_classes)),
    'parameters': count,
  }
  fields = ('model', 'classes', 'palette', 'mean', 'image_scale', 'upsampling')
  return result | {
    **{field: getattr(spec, field) for field in fields},
    'margin': model.margin,
    'stride': model.stride,
    'kernels': _integers(np.concatenate(kernels, axis=None), fine=count <= MOST_OF_THREE_BYTES),
    'vectors': _text(np.concatenate(vectors, axis=None)),
  }


def _integers(values: np.ndarray, *, fine: bool) -> dict[str, str]:
  """Values of up to `_LARGEST` as integers of 24 bits in two arrays, or of their upper 16 alone."""
  if not fine:
    return {'high': _text(np.rint(values / 256).astype(np.int16)), 'low': ''}
  high, low = np.divmod(np.rint(values), 256)
  return {'high': _text(high.astype(np.int16)), 'low': _text(low.astype(np.uint8))}


def _field(table: Table) -> int | None:
  """The receptive field; None if it is the whole image."""
  try:
    return geometry.receptive_field(table)
  except ValueError:
    return None


def _rows(table: Table, channels: int):
  """Yields what `engine.js` is told of each row; `channels` are those of the input."""
  counts = costs.channel_counts(table, channels)
  for layer, reads in zip(table, input_indices(table), strict=True):
    row = {field: getattr(layer, field) for field in _FIELDS}
    yield row | {'in_channels': counts[reads[0] + 1], 'inputs': reads}


def _add_weights(layer: Layer, part: str, variables, kernels: list, vectors: list) -> dict:
  """Adds the weights of a convolution to the lists; returns what else its row has to say."""

  def array(kind: str, name: str, leaf: str) -> np.ndarray:
    return np.asarray(variables[kind][part][name][leaf], np.float64)

  norm = f'{layer.name}_norm'
  kernel = array('params', layer.name, 'kernel') * layer.input_scale
  bias = array('params', layer.name, 'bias') if layer.bias else np.zeros(layer.channels)
  if layer.norm == 'batch':
    deviation = np.sqrt(array('batch_stats', norm, 'var') + 1e-5)
    factor = array('params', norm, 'scale') / deviation
    kernel = kernel * factor
    bias = (bias - array('batch_stats', norm, 'mean')) * factor + array('params', norm, 'bias')
  scale = (np.abs(kernel).max((0, 1, 2)) / _LARGEST).astype(np.float32)
  scale[scale == 0] = 1
  kernels.append(kernel / scale)
  vectors += [scale, bias.astype(np.float32)]
  if layer.norm != 'group':
    return {}
  vectors += [array('params', norm, leaf).astype(np.float32) for leaf in ('scale', 'bias')]
  from dilated_jax.nn.stack import group_count  # With JAX, which --help does without.

  return {'group_norm': group_count(layer.channels)}

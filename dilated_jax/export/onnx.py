"""Networks as ONNX graphs, written from their tables: one node for each row, sizes left open.

Every network that labels images can be written, except that a CRF-RNN has no operators in ONNX. The
`onnx` package is needed: pip install 'dilated_jax[export]'.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import importlib.metadata
import importlib.util
import json
from typing import Any, Literal

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.models.dilation import Dilation
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.nn import geometry, ops
from dilated_jax.nn.stack import group_count
from dilated_jax.nn.table import Layer, Table, input_indices

OPSET = 21  # The first with group normalization for each channel; ONNX 1.16, 2024.
# Of this one file, a limit of protobuf.
LARGEST = 2**31 - 2**20


def export(segmenter: Segmenter, contents: Literal['labels', 'network'] = 'labels') -> bytes:
  """Writes a network with its weights as an ONNX model, of any batch, height and width.

  Nodes, weights and outputs have the names of the layers, as 'front_end/conv1_1/kernel'. The model
  carries what `spec` says as metadata: classes, palette, mean, margin, stride, upsampling.

  Args:
    segmenter: from `dilated_jax.load`.
    contents: 'network' takes `images`, float32 (N, 3, H, W), RGB of 0..255 minus the mean, with
      the margin around them, and returns `logits` (N, C, h, w), as `model.apply` does. 'labels'
      takes `images`, uint8 (N, H, W, 3), and returns `labels`, uint8 (N, H, W), and
      `probabilities`, float32 (N, C, H, W), as `dilated_jax.predict` does for whole images: mean,
      reflected margin and upsampling are part of the graph. Where `spec.image_scale` is not 1,
      images are given at that scale.

  Returns:
    The file.

  Raises:
    InputError: the network has a CRF-RNN, its weights do not fit into one file, or `onnx` is
      missing.
  """
  if importlib.util.find_spec('onnx') is None:
    raise InputError("ONNX files are written by onnx: pip install 'dilated_jax[export]'")
  model, variables, spec = segmenter
  if not isinstance(model, Dilation):
    what = 'CRF-RNN' if 'crf' in getattr(model, 'parts', ()) else type(model).__name__
    raise InputError(
      f'{spec.model} has a {what}, for which ONNX has no operators; export the network without it'
      if what == 'CRF-RNN'
      else f'{spec.model} is a {what}; ONNX files are written of networks that label images'
    )
  graph = Graph()
  network = _Network(graph, model, variables)
  if contents == 'network':
    logits = network.logits('images')
    given = [('images', np.float32, ('batch', 3, 'height', 'width'))]
    made = [(logits, 'logits', np.float32, ('batch', len(spec.classes), 'rows', 'columns'))]
  else:
    labels, probabilities = _labels(network, spec)
    given = [('images', np.uint8, ('batch', 'height', 'width', 3))]
    made = [
      (labels, 'labels', np.uint8, ('batch', 'height', 'width')),
      (probabilities, 'probabilities', np.float32,
       ('batch', len(spec.classes), 'height', 'width')),
    ]  # fmt: skip
  return graph.serialized(spec.model, given, made, _metadata(segmenter, contents))


def _metadata(segmenter: Segmenter, contents: str) -> dict[str, str]:
  """What a file says of itself; lists and objects as JSON."""
  model, _, spec = segmenter
  about = {
    'contents': contents, 'model': spec.model, 'options': spec.options, 'classes': spec.classes,
    'palette': spec.palette, 'mean': spec.mean, 'channel_order': 'RGB',
    'image_scale': spec.image_scale, 'margin': model.margin, 'stride': model.stride,
    'upsampling': 'none' if model.full_size else spec.upsampling, 'dataset': spec.dataset,
    'source': spec.source,
  }  # fmt: skip
  return {
    name: value if isinstance(value, str) else json.dumps(value)
    for name, value in about.items()
    if value is not None
  }


def _labels(network: _Network, spec) -> tuple[str, str]:
  """Labels and probabilities of uint8 images, as `inference.predict` makes them."""
  graph, model = network.graph, network.model
  x = graph.add('Transpose', 'images', perm=[0, 3, 1, 2])
  height, width = (graph.size(x, axis) for axis in (2, 3))
  for axis, size in ((2, height), (3, width)):
    indices = _reflected(graph, size, model.margin, model.stride)
    x = graph.add('Gather', x, indices, axis=axis)
  x = graph.add('Cast', x, to=graph.dtype(np.float32))
  mean = np.asarray(spec.mean, np.float32).reshape(1, 3, 1, 1)
  logits = network.logits(graph.add('Sub', x, graph.constant(mean, 'mean')))
  if model.full_size:
    values = graph.add('Softmax', logits, axis=1)
  elif spec.upsampling == 'corner':
    values = graph.upsampled(graph.add('Softmax', logits, axis=1), model.stride)
  elif spec.upsampling == 'corner_logits':
    values = graph.add('Softmax', graph.upsampled(logits, model.stride), axis=1)
  else:
    layer = Layer('upsampling', 'deconv', stride=model.stride, padding=model.stride // 2)
    values = graph.add('Softmax', _deconv(graph, layer, logits, model.num_classes), axis=1)
  values = graph.cut(values, height, width)
  best = graph.add('ArgMax', values, axis=1, keepdims=0)
  return graph.add('Cast', best, to=graph.dtype(np.uint8)), values


def _reflected(graph: Graph, size: str, margin: int, stride: int) -> str:
  """The pixel of the image at each place of its padded axis, see `images.preprocessing`."""
  # The margins, and then up to a multiple of the stride: each step reflects what there is.
  rest = graph.add('Mod', graph.add('Neg', size), graph.integer(stride))
  padded = graph.add('Add', size, graph.integer(2 * margin)) if margin else size
  count = graph.add('Add', padded, rest)
  places = graph.range(count)
  if stride > 1:
    places = _folded(graph, places, padded)
  if margin:
    places = _folded(graph, graph.add('Sub', places, graph.integer(margin)), size)
  return places


def _folded(graph: Graph, places: str, size: str) -> str:
  """Integers reflected into 0..size-1, without the border twice."""
  one = graph.integer(1)
  last = graph.add('Sub', size, one)
  period = graph.add('Max', one, graph.add('Add', last, last))
  rest = graph.add('Mod', places, period)
  return graph.add('Min', rest, graph.add('Sub', period, rest))


class _Network:
  """A network as nodes of a graph: N x C x H x W, float32."""

  def __init__(self, graph: Graph, model: Dilation, variables):
    self.graph, self.model = graph, model
    self._params, self._stats = variables['params'], variables.get('batch_stats', {})

  def logits(self, images: str) -> str:
    """What `model.apply` returns, of images with their margin."""
    graph, model = self.graph, self.model
    scores = self._scores(images, model.scales[0], '')
    for index, scale in enumerate(model.scales[1:], 2):
      more = self._scores(images, scale, f'scale{index}/')
      more = graph.resized(more, 'half_pixel', graph.size(scores, 2, 4))
      scores = graph.add('Max', scores, more)
    if model.upsampling and not model.margin:  # FCN: cells that no pixel is blended from.
      layer, *crops = model.upsampling
      ahead = layer.padding - sum(crop.padding for crop in crops)  # Theirs is below 0.
      needed = []
      for axis in (2, 3):  # The last pixel reads no cell behind this one.
        last = graph.add('Add', graph.size(images, axis), graph.integer(ahead - 1))
        cell = graph.add('Div', last, graph.integer(layer.stride))
        needed.append(graph.add('Add', cell, graph.integer(1)))
      scores = graph.cut(scores, *needed)
    if model.context_table:
      scores = self._rows('context', model.context_table, scores, model.num_classes)
    if model.full_size and not model.margin:
      scores = graph.cut(scores, *(graph.size(images, axis) for axis in (2, 3)))
    return scores

  def _scores(self, images: str, scale: float, prefix: str) -> str:
    """The class scores of the images at a scale."""
    graph = self.graph
    if scale != 1:
      sizes = []
      for axis in (2, 3):
        scaled = graph.add('Cast', graph.size(images, axis), to=graph.dtype(np.float32))
        scaled = graph.add('Mul', scaled, graph.constant(np.float32([scale])))
        whole = graph.add('Cast', graph.add('Round', scaled), to=graph.dtype(np.int64))
        sizes.append(graph.add('Max', whole, graph.integer(1)))
      images = graph.resized(images, 'half_pixel', *sizes)
    return self._rows('front_end', self.model.front_end_table, images, 3, prefix)

  def _rows(self, part: str, table: Table, x: str, channels: int, prefix: str = '') -> str:
    """All layers of a part of the network."""
    outputs, widths = {-1: x}, {-1: channels}
    for row, (layer, reads) in enumerate(zip(table, input_indices(table), strict=True)):
      inputs = [outputs[index] for index in reads]
      width = widths[reads[0]]
      with self.graph.named(f'{prefix}{part}/{layer.name}'):
        outputs[row] = self._row(part, table, row, layer, inputs, width)
      widths[row] = layer.channels or width
      if layer.kind == 'concat':
        widths[row] = sum(widths[index] for index in reads)
    return outputs[len(table) - 1]

  def _row(self, part: str, table: Table, row: int, layer: Layer, inputs: list, width: int) -> str:
    """The output of one layer."""
    graph, x = self.graph, inputs[0]
    window: dict[str, Any] = dict(
      kernel_shape=[layer.kernel] * 2, strides=[layer.stride] * 2, pads=[layer.padding] * 4
    )
    if layer.kind == 'conv':
      x = self._conv(part, layer, x, window)
    elif layer.kind == 'max_pool':
      # Runtimes differ in windows that begin behind the input, of which there are none.
      assert layer.kernel - layer.padding >= layer.stride, layer
      x = graph.add('MaxPool', x, ceil_mode=int(layer.round_up), **window)
    elif layer.kind == 'avg_pool':
      x = graph.add('AveragePool', x, count_include_pad=1, ceil_mode=int(layer.round_up), **window)
    elif layer.kind == 'adaptive_avg_pool':
      x = _adaptive_avg_pool(graph, x, layer.kernel)
    elif layer.kind == 'deconv':
      x = _deconv(graph, layer, x, width)
    elif layer.kind == 'resize':
      x = graph.resized(x, 'align_corners', graph.size(inputs[1], 2, 4))
    elif layer.kind == 'crop':
      x = graph.sliced(x, [-layer.padding] * 2, [2**31 - 1] * 2)
    else:
      if _sizes_may_differ(table, row):
        sides = [graph.add('Min', *(graph.size(one, axis) for one in inputs)) for axis in (2, 3)]
        inputs = [graph.cut(one, *sides) for one in inputs]
      kind = {'sum': ('Sum', {}), 'concat': ('Concat', {'axis': 1})}[layer.kind]
      x = graph.add(kind[0], *inputs, **kind[1])
    return graph.add('Relu', x) if layer.activation == 'relu' else x

  def _conv(self, part: str, layer: Layer, x: str, window: dict) -> str:
    """A convolution, and the normalization behind it."""
    graph, own = self.graph, self._params[part][layer.name]
    kernel = np.asarray(own['kernel'], np.float32).transpose(3, 2, 0, 1) * layer.input_scale
    weights = [graph.constant(kernel, f'{part}/{layer.name}/kernel')]
    if layer.bias:
      bias = np.asarray(own['bias'], np.float32)
      weights.append(graph.constant(bias, f'{part}/{layer.name}/bias'))
    x = graph.add('Conv', x, *weights, dilations=[layer.dilation] * 2, **window)
    if layer.norm == 'none':
      return x
    name = f'{layer.name}_norm'
    values = dict(self._params[part][name])
    if layer.norm == 'batch':
      values |= self._stats[part][name]
    scale, bias, *statistics = (
      graph.constant(np.asarray(values[key], np.float32), f'{part}/{name}/{key}')
      for key in ('scale', 'bias', 'mean', 'var')
      if key in values
    )
    if layer.norm == 'batch':
      return graph.add('BatchNormalization', x, scale, bias, *statistics, epsilon=1e-5)
    groups = group_count(len(values['scale']))
    return graph.add('GroupNormalization', x, scale, bias, num_groups=groups, epsilon=1e-6)


def _sizes_may_differ(table: Table, row: int) -> bool:
  """Whether the inputs of a row have different sizes for some size of the image."""
  least = geometry.valid_size(table)
  reads = input_indices(table)[row]
  for size in range(least, least + 2 * max(2, geometry.stride(table)) ** 2 + 2):
    sizes = {-1: size} | dict(enumerate(geometry.output_sizes(table, size)))
    if len({sizes[index] for index in reads}) > 1:
      return True
  return False


def _deconv(graph: Graph, layer: Layer, x: str, channels: int) -> str:
  """The fixed bilinear upsampling, one transposed convolution for each channel."""
  if layer.stride == 1:
    return x
  side = 2 * layer.stride
  one = ops.deconvolution(np.ones((1, 1, 1, 1), np.float32), layer.stride, padding=0)
  kernel = np.broadcast_to(np.asarray(one)[0, :, :, 0], (channels, 1, side, side))
  return graph.add(
    'ConvTranspose', x, graph.constant(kernel, f'bilinear{layer.stride}_{channels}'),
    group=channels, kernel_shape=[side] * 2, strides=[layer.stride] * 2, pads=[layer.padding] * 4,
  )  # fmt: skip


def _adaptive_avg_pool(graph: Graph, x: str, count: int) -> str:
  """Means over count x count windows that cover a map of any size: a matrix for each axis."""
  if count == 1:
    return graph.add('GlobalAveragePool', x)
  number, next_number = (graph.constant(np.arange(count)[:, None] + i) for i in (0, 1))
  total = graph.integer(count)
  down, across = (graph.size(x, axis) for axis in (2, 3))
  matrices = []
  for size in (down, across):
    first = graph.add('Div', graph.add('Mul', number, size), total)
    ahead = graph.add('Mul', next_number, size)
    last = graph.add('Div', graph.add('Add', ahead, graph.integer(count - 1)), total)
    cells = graph.range(size)
    inside = graph.add(
      'And', graph.add('GreaterOrEqual', cells, first), graph.add('Less', cells, last)
    )
    inside = graph.add('Cast', inside, to=graph.dtype(np.float32))
    length = graph.add('Cast', graph.add('Sub', last, first), to=graph.dtype(np.float32))
    matrices.append(graph.add('Div', inside, length))
  x = graph.add('MatMul', matrices[0], x)
  return graph.add('MatMul', x, graph.add('Transpose', matrices[1], perm=[1, 0]))


class Graph:
  """Nodes and constants of an ONNX graph in the making; values are known by their names."""

  def __init__(self):
    from onnx import helper, numpy_helper

    self._helper, self._numpy = helper, numpy_helper
    self._nodes, self._constants, self._taken, self._prefix = [], {}, {'images'}, ''
    self._known = {}

  def add(self, kind: str, *inputs: str, **attributes) -> str:
    """Adds a node, unless there is the same, and returns the name of its output."""
    key = kind, inputs, str(attributes)
    if key not in self._known:
      name = self._known[key] = self._unused(self._prefix or kind)
      self._nodes.append(self._helper.make_node(kind, inputs, [name], name=name, **attributes))
    return self._known[key]

  @contextlib.contextmanager
  def named(self, prefix: str):
    """A context in which nodes are named after a layer."""
    before, self._prefix = self._prefix, prefix
    try:
      yield
    finally:
      self._prefix = before

  def constant(self, value: np.ndarray | np.generic, name: str | None = None) -> str:
    """A constant; those of the same name, or without one of the same value, are one."""
    value = np.asarray(value)
    key = name or (value.dtype.str, value.shape, value.tobytes())
    if key not in self._constants:
      name = self._unused(name or 'constant')
      self._constants[key] = name, self._numpy.from_array(np.ascontiguousarray(value), name)
    return self._constants[key][0]

  def integer(self, value: int) -> str:
    """One integer, (1,)."""
    return self.constant(np.int64([value]))

  def size(self, x: str, axis: int, end: int | None = None) -> str:
    """The length of an axis, (1,); or the lengths of those before `end`."""
    return self.add('Shape', x, start=axis, end=end or axis + 1)

  def range(self, count: str) -> str:
    """0, 1, ... up to before `count`, which is (1,)."""
    scalar = self.add('Squeeze', count)
    return self.add('Range', self.constant(np.int64(0)), scalar, self.constant(np.int64(1)))

  def cut(self, x: str, height: str, width: str) -> str:
    """The top left part of maps."""
    ends = self.add('Concat', height, width, axis=0)
    return self.add('Slice', x, self.constant(np.int64([0, 0])), ends, self._both_axes())

  def sliced(self, x: str, starts: Sequence[int], ends: Sequence[int]) -> str:
    """A part of maps, of known places."""
    places = (self.constant(np.int64(list(each))) for each in (starts, ends))
    return self.add('Slice', x, *places, self._both_axes())

  def resized(self, x: str, mode: str, *sizes: str) -> str:
    """Bilinear interpolation to a size, without a filter; `mode` says what lies on what."""
    whole = self.add('Concat', self.size(x, 0, 2), *sizes, axis=0)
    options = dict(mode='linear', coordinate_transformation_mode=mode)
    return self.add('Resize', x, '', '', whole, **options)

  def upsampled(self, x: str, factor: int) -> str:
    """`ops.resize_corner`: cell i at pixel factor * i."""
    scales = self.constant(np.float32([1, 1, factor, factor]))
    options = dict(mode='linear', coordinate_transformation_mode='asymmetric')
    return self.add('Resize', x, '', scales, **options)

  def dtype(self, dtype) -> int:
    """The number that ONNX has for a dtype."""
    return self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

  def serialized(self, name: str, given, made, metadata: dict[str, str]) -> bytes:
    """The file.

    Args:
      name: of the graph.
      given: name, dtype and shape of each input.
      made: value, name, dtype and shape of each output.
      metadata: texts by name.

    Raises:
      InputError: it is too large for one file.
    """
    helper = self._helper
    outputs, names = [], {value: called for value, called, *_ in made}
    for node in self._nodes:
      for values in (node.input, node.output):
        values[:] = [names.get(value, value) for value in values]
    for _, called, dtype, shape in made:
      outputs.append(helper.make_tensor_value_info(called, self.dtype(dtype), shape))
    inputs = [helper.make_tensor_value_info(x, self.dtype(kind), shape) for x, kind, shape in given]
    tensors = [tensor for _, tensor in self._constants.values()]
    size = sum(len(tensor.raw_data) for tensor in tensors)
    if size > LARGEST:
      raise InputError(f'{size / 2**30:.1f} GiB of weights: an ONNX file holds less than 2 GiB')
    model = helper.make_model(
      helper.make_graph(self._nodes, name, inputs, outputs, tensors),
      opset_imports=[helper.make_opsetid('', OPSET)],
      ir_version=10,
      producer_name='dilated_jax',
      producer_version=importlib.metadata.version('dilated_jax'),
    )
    helper.set_model_props(model, metadata)
    return model.SerializeToString()

  def _both_axes(self) -> str:
    return self.constant(np.int64([2, 3]))

  def _unused(self, name: str) -> str:
    """The name, or with a number."""
    found, number = name, 1
    while found in self._taken:
      number += 1
      found = f'{name}:{number}'
    self._taken.add(found)
    return found

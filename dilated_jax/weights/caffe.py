"""Reads Caffe's .caffemodel files without Caffe.

A .caffemodel is a NetParameter of BVLC's caffe.proto. Three generations of layers are in
circulation: in field 100 with their types as words (V2), in field 2 with types as numbers (V1: the
VGG files of 2014), and in field 1 of those with other words (V0).
"""

import collections
from collections.abc import Mapping
import dataclasses
import math

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.weights import protobuf
from dilated_jax.weights.mapped import MappedFile
from dilated_jax.weights.protobuf import BYTES, FIXED32, FIXED64, VARINT


@dataclasses.dataclass(frozen=True, eq=False)
class CaffeLayer:
  """One layer of a Caffe network.

  Attributes:
    name: its name.
    kind: its type in Caffe's present words: 'Convolution', 'InnerProduct', 'Pooling', 'ReLU', ...
    blobs: float32 or float64, read-only. Of a Convolution or Deconvolution, weights (out,
      in / group, height, width) or (in, out / group, height, width), and bias (out,); of an
      InnerProduct, (out, in) and (out,); of other kinds as stored.
    options: what the file says of num_output and group (int), kernel, stride, pad and dilation
      (tuple of ints: vertical, horizontal), bias_term (bool) and, of an Input, shape (tuple of
      ints). What it leaves to Caffe's defaults is not there.
  """

  name: str
  kind: str
  blobs: tuple[np.ndarray, ...]
  options: dict


@dataclasses.dataclass(frozen=True, eq=False)
class Net:
  """A Caffe network.

  Attributes:
    name: its name, often empty.
    layers: all layers in the order of the file, those without blobs too.
    input_shape: of the first input, as a rule (N, C, H, W); None where the file does not say.
  """

  name: str
  layers: tuple[CaffeLayer, ...]
  input_shape: tuple[int, ...] | None


def matches(file: MappedFile) -> bool:
  """Whether a file looks like a .caffemodel: it starts with fields of a network, then a layer."""
  net, at = protobuf.whole(file, 'the network'), 0
  try:
    for _ in range(100):
      tag, at = net.varint(at)
      value, at = net.varint(at)
      field = tag >> 3, tag & 7
      if field in (_LAYERS, _LAYER):
        # It starts with a name, type, bottom, top or V0 layer: fields 1 to 4, none of them empty.
        first, length = file.bytes(at, 2, 'the first layer')
        return first in b'\x0a\x12\x1a\x22' and length > 0
      if field in (_NAME, _INPUT):
        if not net._replace(start=at, end=at + value).text().isprintable():
          return False
      elif field not in _BEFORE_LAYERS:
        return False
      at += value if field[1] == BYTES else 0
  except InputError:
    pass
  return False


def read(file: MappedFile) -> Net:
  """Reads a .caffemodel.

  Args:
    file: the file.

  Returns:
    The network. Its arrays are views of the file; only a blob stored in several pieces is copied.

  Raises:
    InputError: the file is damaged; or a blob has no values, or more or fewer than its shape says.

  Source: NetParameter in BVLC/caffe, src/caffe/proto/caffe.proto; src/caffe/util/upgrade_proto.cpp.
  """
  name, old, new, shapes, sides = '', [], [], [], []
  for field, value in protobuf.whole(file, 'the network').fields():
    if field == _NAME:
      name = value.text()
    elif field == _LAYERS:
      old.append(_layer(value._replace(what=f'layer number {len(old) + 1}'), _V1))
    elif field == _LAYER:
      new.append(_layer(value._replace(what=f'layer number {len(new) + 1}'), _V2))
    elif field == _INPUT_SHAPE:
      shapes.append(_sides(value))
    elif field[0] == _INPUT_DIM[0]:
      sides += protobuf.integers(value)
  # As in Caffe, new layers do not count beside old ones.
  layers = tuple(old or new)
  if not layers:
    raise file.fail('holds no layers of a Caffe network: it is something else, or damaged')
  shapes += [sides[:4], *(layer.options.get('shape', ()) for layer in layers)]
  return Net(name, layers, next((tuple(shape) for shape in shapes if shape), None))


# Fields are numbers and wire types. Those of a network:
_NAME, _LAYERS, _LAYER = (1, BYTES), (2, BYTES), (100, BYTES)
_INPUT, _INPUT_DIM, _INPUT_SHAPE = (3, BYTES), (4, VARINT), (8, BYTES)
# force_backward, state, debug_info.
_BEFORE_LAYERS = {_INPUT_DIM, _INPUT_SHAPE, (5, VARINT), (6, BYTES), (7, VARINT)}

# Options kept of ConvolutionParameter, InnerProductParameter and PoolingParameter.
_CONVOLUTION = {
  **{1: 'num_output', 2: 'bias_term', 3: 'pad', 4: 'kernel', 5: 'group', 6: 'stride'},
  **{9: 'pad_h', 10: 'pad_w', 11: 'kernel_h', 12: 'kernel_w', 13: 'stride_h', 14: 'stride_w'},
  **{18: 'dilation'},
}
_INNER_PRODUCT = {1: 'num_output', 2: 'bias_term', 6: 'transpose'}
_POOLING = {
  **{2: 'kernel', 3: 'stride', 4: 'pad', 5: 'kernel_h', 6: 'kernel_w'},
  **{7: 'stride_h', 8: 'stride_w', 9: 'pad_h', 10: 'pad_w'},
}


@dataclasses.dataclass(frozen=True)
class _Version:
  """Where a generation of layers keeps what.

  Attributes:
    name: field.
    kind: field.
    blobs: field.
    kinds: from what stands in the field `kind` to Caffe's present words.
    own: options among the layer's own fields, by number.
    messages: messages of options among them, by number.
  """

  name: tuple[int, int]
  kind: tuple[int, int]
  blobs: tuple[int, int]
  kinds: Mapping
  own: Mapping = dataclasses.field(default_factory=dict)
  messages: Mapping = dataclasses.field(default_factory=dict)


_V2 = _Version(
  name=(1, BYTES),
  kind=(2, BYTES),
  blobs=(7, BYTES),
  kinds={},
  messages={106: _CONVOLUTION, 117: _INNER_PRODUCT, 121: _POOLING},
)

_V1_KINDS = """
Accuracy BNLL Concat Convolution Data Dropout EuclideanLoss Flatten HDF5Data HDF5Output Im2col
ImageData InfogainLoss InnerProduct LRN MultinomialLogisticLoss Pooling ReLU Sigmoid Softmax
SoftmaxWithLoss Split TanH WindowData Eltwise Power SigmoidCrossEntropyLoss HingeLoss MemoryData
ArgMax Threshold DummyData Slice MVN AbsVal Silence ContrastiveLoss Exp Deconvolution"""

_V1 = _Version(
  name=(4, BYTES),
  kind=(5, VARINT),
  blobs=(6, BYTES),
  kinds=dict(enumerate(_V1_KINDS.split(), 1)),
  messages={10: _CONVOLUTION, 17: _INNER_PRODUCT, 19: _POOLING},
)

_V0 = _Version(
  name=(1, BYTES),
  kind=(2, BYTES),
  blobs=(50, BYTES),
  kinds={
    **{'accuracy': 'Accuracy', 'bnll': 'BNLL', 'concat': 'Concat', 'conv': 'Convolution'},
    **{'data': 'Data', 'dropout': 'Dropout', 'euclidean_loss': 'EuclideanLoss'},
    **{'flatten': 'Flatten', 'hdf5_data': 'HDF5Data', 'hdf5_output': 'HDF5Output'},
    **{'im2col': 'Im2col', 'images': 'ImageData', 'infogain_loss': 'InfogainLoss'},
    **{'innerproduct': 'InnerProduct', 'lrn': 'LRN', 'padding': 'Padding', 'pool': 'Pooling'},
    **{'multinomial_logistic_loss': 'MultinomialLogisticLoss', 'relu': 'ReLU'},
    **{'sigmoid': 'Sigmoid', 'softmax': 'Softmax', 'softmax_loss': 'SoftmaxWithLoss'},
    **{'split': 'Split', 'tanh': 'TanH', 'window_data': 'WindowData'},
  },
  own={3: 'num_output', 4: 'bias_term', 7: 'pad', 8: 'kernel', 9: 'group', 10: 'stride'},
)


def _layer(message, version):
  name, kind, blobs, shapes, inner = '', '', [], [], None
  found = collections.defaultdict(list)
  for field, value in message.fields():
    number, wire = field
    if version is _V1 and field == (1, BYTES):
      inner = value
    elif field == version.name:
      name = value.text()
    elif field == version.kind:
      kind = value if wire == VARINT else value.text()
    elif field == version.blobs:
      blobs.append(value)
    elif number in version.own:
      found[version.own[number]].extend(protobuf.integers(value))
    elif number in version.messages and wire == BYTES:
      for (option, _), given in value.fields():
        if option in version.messages[number]:
          found[version.messages[number][option]].extend(protobuf.integers(given))
    elif version is _V2 and field == (143, BYTES):  # input_param
      shapes += [_sides(shape) for given, shape in value.fields() if given == (1, BYTES)]
  if inner:
    return _layer(inner, _V0)
  kind = version.kinds.get(kind, str(kind))
  arrays = [
    _blob(blob._replace(what=f'layer {name!r}, blob {index}'), kind, index)
    for index, blob in enumerate(blobs)
  ]
  found = {option: given for option, given in found.items() if given}
  if arrays and kind == 'InnerProduct' and found.get('transpose', [0])[-1]:
    arrays[0] = arrays[0].T
  options = _options(found)
  if shapes:
    options['shape'] = tuple(shapes[0])
  return CaffeLayer(name, kind, tuple(arrays), options)


def _options(found):
  """Of repeated settings the last holds; one side is that of both directions."""
  result = {option: found[option][-1] for option in ('num_output', 'group') if option in found}
  if 'bias_term' in found:
    result['bias_term'] = bool(found['bias_term'][-1])
  for option in ('kernel', 'stride', 'pad', 'dilation'):
    sides = found.get(option, [])
    if f'{option}_h' in found or f'{option}_w' in found:
      sides = [found.get(f'{option}_{side}', [0])[-1] for side in 'hw']
    if sides:
      result[option] = tuple(sides * 2 if len(sides) == 1 else sides)
  return result


# Sides of weights and biases.
_SIDES = {'Convolution': (4, 1), 'Deconvolution': (4, 1), 'InnerProduct': (2, 1)}


def _blob(message, kind, index):
  legacy, shape, single, double, gradient = {}, [], [], [], False
  for (number, wire), value in message.fields():
    if number in (1, 2, 3, 4) and wire == VARINT:  # num, channels, height, width
      legacy[number] = value
    elif number == 5 and wire in (BYTES, FIXED32):  # data
      single.append(value.packed(4) if wire == BYTES else value)
    elif number == 8 and wire in (BYTES, FIXED64):  # double_data
      double.append(value.packed(8) if wire == BYTES else value)
    elif number == 7 and wire == BYTES:
      shape += _sides(value)
    elif number in (6, 9):  # diff, double_diff
      gradient = True

  # As in Caffe, the old dimensions count before a shape, and doubles before singles.
  if legacy:
    shape = [legacy.get(number, 0) for number in (1, 2, 3, 4)]
  dtype, runs = '<f8', [run for run in double if run.count]
  if not runs:
    dtype, runs = '<f4', [run for run in single if run.count]
  if not runs:
    raise message.fail(
      ('has no values, only a gradient (diff)' if gradient else 'has no values (data)')
      + ': have Caffe save the network again'
    )
  count = sum(run.count for run in runs)
  if len(shape) > 32 or min(shape, default=1) < 0 or math.prod(shape) != count:
    raise message.fail(
      f'has {count} values, which do not make the shape {tuple(shape[:32])}: the file is damaged; '
      'fetch it again'
    )
  if index < len(_SIDES.get(kind, ())):
    sides = _SIDES[kind][index]
    # The old dimensions are always four, the spare ones first.
    while len(shape) > sides and shape[0] == 1:
      shape = shape[1:]
    if len(shape) != sides:
      raise message.fail(f'of kind {kind} has shape {tuple(shape)}; {sides} sides are supported')
  return protobuf.array(message.file, runs, dtype).reshape(shape)


def _sides(message):
  """The numbers of a BlobShape."""
  return [
    side
    for (number, _), value in message.fields()
    if number == 1
    for side in protobuf.integers(value)
  ]

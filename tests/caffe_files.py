"""Writes Caffe files and runs them in OpenCV: the independent side of the tests of weights.

Encoder and networks are written by hand after BVLC's caffe.proto and the deploy files of
github.com/fyu/dilation; nothing here knows the package's readers or tables.

    network = published('camvid', np.random.default_rng(0), width=1 / 16)
    path.write_bytes(caffemodel(network))
    scores, prob = run(network, pictures, ['ctx_final', 'prob'])
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np


class Layer(NamedTuple):
  """One layer of a Caffe network.

  Attributes:
    name: its name.
    kind: its type, in V2 words.
    blobs: weights and biases.
    options: num_output, kernel, stride, pad, dilation (each one int, or two: vertical, horizontal),
      kernel_h, kernel_w and so on, group (int), bias_term, transpose (bool), ratio (of Dropout).
  """

  name: str
  kind: str
  blobs: tuple[np.ndarray, ...] = ()
  options: dict = {}


class Network(NamedTuple):
  """A chain of layers.

  Attributes:
    name: of the network.
    layers: each reads the one before; ReLU and Dropout work in place.
    input_shape: (N, C, H, W) of the deploy file.
  """

  name: str
  layers: tuple[Layer, ...]
  input_shape: tuple[int, ...]

  def arrays(self) -> dict[str, tuple[np.ndarray, ...]]:
    """The blobs of the layers that have any, by name."""
    return {layer.name: layer.blobs for layer in self.layers if layer.blobs}


# Networks.

# Classes, and height and width of the input, in the deploy files.
DEPLOY = {
  'pascal_voc': (21, 900, 900),
  'camvid': (11, 900, 1100),
  'kitti': (11, 852, 1640),
  'cityscapes': (19, 1396, 1396),
}

_VGG = (64, 128, 256, 512, 512, 4096, 4096)


def published(
  name: str,
  rng: np.random.Generator,
  *,
  width: float | Sequence[int] = 1 / 16,
  num_classes: int | None = None,
  front_end: bool = False,
) -> Network:
  """A network that Yu and Koltun published, with random weights.

  Args:
    name: 'pascal_voc', 'camvid', 'kitti' or 'cityscapes'.
    rng: of the weights.
    width: part of the channels of VGG, or the channels of conv1 to conv5, fc6 and fc7.
    num_classes: None: as published.
    front_end: whether it ends after the front end (and softmax).
  """
  classes, *size = DEPLOY[name]
  classes = num_classes or classes
  channels = _channels(width)
  layers, inputs = _vgg_convolutions(rng, channels, pad=None, pools=3, dilations={5: 2})
  layers += _conv(rng, 'fc6', inputs, channels[5], 7, 'relu6', dilation=4)
  layers.append(Layer('drop6', 'Dropout', options={'ratio': 0.5}))
  layers += _conv(rng, 'fc7', channels[5], channels[6], 1, 'relu7')
  layers.append(Layer('drop7', 'Dropout', options={'ratio': 0.5}))
  final = 'fc-final' if name == 'pascal_voc' else 'final'
  layers += _conv(rng, final, channels[6], classes, 1)
  if not front_end:
    layers += (_large_context if name == 'pascal_voc' else _basic_context)(rng, name, classes)
  layers.append(Layer('prob', 'Softmax'))
  return Network(name, tuple(layers), (1, 3, *size))


def vgg16(
  rng: np.random.Generator, *, width: float | Sequence[int] = 1 / 16, num_classes: int = 1000
) -> Network:
  """VGG_ILSVRC_16_layers: padded convolutions, five poolings, fc6 to fc8 dense.

  Args:
    rng: of the weights.
    width: part of the channels, or the channels of conv1 to conv5, fc6 and fc7.
    num_classes: of fc8.
  """
  channels = _channels(width)
  layers, inputs = _vgg_convolutions(rng, channels, pad=1, pools=5, dilations={})
  outputs = (channels[5], channels[6], num_classes)
  inputs *= 7 * 7
  for number, count in zip((6, 7, 8), outputs):
    blobs = _weights(rng, (count, inputs)), _bias(rng, count)
    layers.append(Layer(f'fc{number}', 'InnerProduct', blobs, {'num_output': count}))
    inputs = count
    if number < 8:
      layers.append(Layer(f'relu{number}', 'ReLU'))
      layers.append(Layer(f'drop{number}', 'Dropout', options={'ratio': 0.5}))
  layers.append(Layer('prob', 'Softmax'))
  return Network('VGG_ILSVRC_16_layers', tuple(layers), (10, 3, 224, 224))


def _channels(width):
  if isinstance(width, (int, float)):
    return [max(1, round(width * count)) for count in _VGG]
  return list(width)


def _vgg_convolutions(rng, channels, pad, pools, dilations):
  layers, inputs = [], 3
  for block, (count, outputs) in enumerate(zip((2, 2, 3, 3, 3), channels), 1):
    options = {'pad': pad} if pad else {}
    if block in dilations:
      options['dilation'] = dilations[block]
    for index in range(1, count + 1):
      name = f'{block}_{index}'
      layers += _conv(rng, f'conv{name}', inputs, outputs, 3, f'relu{name}', **options)
      inputs = outputs
    if block <= pools:
      layers.append(Layer(f'pool{block}', 'Pooling', options={'kernel': 2, 'stride': 2}))
  # Pixels are some 60 either side of the mean, neighbors much alike.
  weights, bias = layers[0].blobs
  layers[0] = layers[0]._replace(blobs=(weights / 16, bias))
  return layers, inputs


def _large_context(rng, name, classes):
  rows = [
    ('conv1_1', 2, 1, 33), ('conv1_2', 2, 1, 0), ('conv2_1', 4, 2, 0), ('conv3_1', 8, 4, 0),
    ('conv4_1', 16, 8, 0), ('conv5_1', 32, 16, 0), ('fc1', 32, 1, 0),
  ]  # fmt: skip
  layers, inputs = [], classes
  for row, multiple, dilation, pad in rows:
    relu = 'ct_fc1_relu' if row == 'fc1' else f'ct_{row.replace("conv", "relu")}'
    options = {} if dilation == 1 else {'dilation': dilation}
    if row in ('conv1_1', 'conv1_2'):
      options['pad'] = pad
    layers += _conv(rng, f'ct_{row}', inputs, multiple * classes, 3, relu, 3, **options)
    inputs = multiple * classes
  return layers + _conv(rng, 'ct_final', inputs, classes, 1)


def _basic_context(rng, name, classes):
  rows = {'conv1_1': 1, 'conv1_2': 1, 'conv2_1': 2, 'conv3_1': 4, 'conv4_1': 8}
  rows |= {
    'camvid': {'conv5_1': 16},
    'kitti': {},
    'cityscapes': {'conv5_1': 16, 'conv6_1': 32, 'conv7_1': 64},
  }[name] | {'fc1': 1}
  layers = []
  for row, dilation in rows.items():
    relu = 'ctx_fc1_relu' if row == 'fc1' else f'ctx_{row.replace("conv", "relu")}'
    options = {'pad': dilation} | ({} if dilation == 1 else {'dilation': dilation})
    layers += _conv(rng, f'ctx_{row}', classes, classes, 3, relu, 3, **options)
  layers += _conv(rng, 'ctx_final', classes, classes, 1)
  if name == 'cityscapes':
    line = np.array([1, 3, 5, 7, 9, 11, 13, 15, 15, 13, 11, 9, 7, 5, 3, 1], np.float32) / 16
    kernel = np.tile(np.outer(line, line), (classes, 1, 1, 1))
    options = {'num_output': classes, 'bias_term': False, 'pad': 4, 'kernel': 16}
    options |= {'group': classes, 'stride': 8}
    layers.append(Layer('ctx_upsample', 'Deconvolution', (kernel,), options))
  return layers


def _conv(rng, name, inputs, outputs, kernel, relu=None, middle=1, **options):
  """A convolution with its ReLU if it has one."""
  weights = _weights(rng, (outputs, inputs, kernel, kernel), middle)
  options = {'num_output': outputs, 'kernel': kernel, **options}
  layer = Layer(name, 'Convolution', (weights, _bias(rng, outputs)), options)
  return [layer, Layer(relu, 'ReLU')] if relu else [layer]


def _weights(rng, shape, middle=1):
  """Weights under which what passes through layers and ReLUs keeps its spread over the picture.

  As in He's initialization, save that those of an output sum to zero: otherwise the mean that each
  ReLU adds prevails, and what differs from place to place fades. For x normal around 0, relu(x) has
  0.341 times its variance. With `middle` above 1 the middle tap weighs more: under large dilations
  the others see little but padding.
  """
  weights = rng.standard_normal(shape)
  if len(shape) == 4:
    weights[:, :, shape[2] // 2, shape[3] // 2] *= middle
  rows = weights.reshape(len(weights), -1)
  if rows.shape[1] > 1:
    rows -= rows.mean(1, keepdims=True)
  rows /= np.sqrt(0.341 * np.sum(rows**2, 1).mean())
  return weights.astype(np.float32)


def _bias(rng, count):
  return (0.1 * rng.standard_normal(count)).astype(np.float32)


# Protobuf by hand: a function gives one whole field.


def varint(value: int) -> bytes:
  """An integer, seven bits a byte; a negative one as its 64-bit complement."""
  value, result = value % 2**64, bytearray()
  while value > 127:
    result.append(value & 127 | 128)
    value >>= 7
  return bytes([*result, value])


def integer(number: int, value: int) -> bytes:
  return varint(number << 3) + varint(value)


def message(number: int, *parts: bytes) -> bytes:
  """What has a length: a message of these fields, a text, a packed list."""
  length = sum(map(len, parts))
  return b''.join([varint(number << 3 | 2), varint(length), *parts])


def numbers(number: int, values: np.ndarray, packing: str = 'packed') -> bytes:
  """Floats or doubles: 'packed', 'unpacked' (a tag each) or in 'pieces' (three packed lists)."""
  values = np.asarray(values, values.dtype.newbyteorder('<')).ravel()
  if packing == 'packed':
    return message(number, values.tobytes())
  if packing == 'pieces':
    return b''.join(message(number, part.tobytes()) for part in np.array_split(values, 3))
  tag = varint(number << 3 | {4: 5, 8: 1}[values.itemsize])
  return b''.join(tag + value.tobytes() for value in values)


def blob(number: int, array: np.ndarray, *, packing: str = 'packed', legacy: bool = False) -> bytes:
  """A BlobProto; float64 goes to double_data.

  Args:
    number: of its field in the layer.
    array: the values.
    packing: see `numbers`.
    legacy: whether the shape is four numbers, ones first, as before 2015, or a BlobShape.
  """
  values = numbers(8 if array.dtype == np.float64 else 5, array, packing)
  if not legacy:
    return message(number, values, message(7, message(1, *map(varint, array.shape))))
  shape = (1,) * (4 - array.ndim) + array.shape
  return message(number, *(integer(i, side) for i, side in enumerate(shape, 1)), values)


def caffemodel(
  network: Network,
  *,
  version: int = 2,
  packing: str = 'packed',
  dtype=np.float32,
  legacy: bool | None = None,
  options: bool = True,
) -> bytes:
  """A .caffemodel, its fields in the order in which Caffe writes them.

  Args:
    network: the network.
    version: of the layers: 2; 1: types as numbers; 0: layers in layers, without dilation.
    packing: of the values, see `numbers`.
    dtype: of the values.
    legacy: see `blob`; also states the input as four numbers. None: where the version is not 2.
    options: whether layers tell more than names, types and blobs.
  """
  legacy = version != 2 if legacy is None else legacy
  layers = [
    _LAYERS[version](
      layer._replace(options=layer.options if options else {}),
      bottom,
      top,
      [
        blob(_BLOBS[version], array.astype(dtype), packing=packing, legacy=legacy)
        for array in layer.blobs
      ],
    )
    for layer, bottom, top in _chain(network)
  ]
  if legacy:
    given = [integer(4, side) for side in network.input_shape]
  else:
    given = [message(8, message(1, *map(varint, network.input_shape)))]
  head, given = message(1, network.name.encode()), [message(3, b'data'), *given]
  return b''.join([head, *given, *layers] if version == 2 else [head, *layers, *given])


def _chain(network):
  """Layers with the names of what they read and write."""
  bottom = 'data'
  for layer in network.layers:
    top = bottom if layer.kind in ('ReLU', 'Dropout') else layer.name
    yield layer, bottom, top
    bottom = top


_BLOBS = {2: 7, 1: 6, 0: 50}

_CONVOLUTION = {
  **{'num_output': 1, 'bias_term': 2, 'pad': 3, 'kernel': 4, 'group': 5, 'stride': 6},
  **{'pad_h': 9, 'pad_w': 10, 'kernel_h': 11, 'kernel_w': 12, 'stride_h': 13, 'stride_w': 14},
  **{'dilation': 18},
}
_PARAMETERS = {
  'Convolution': _CONVOLUTION,
  'Deconvolution': _CONVOLUTION,
  'InnerProduct': {'num_output': 1, 'bias_term': 2, 'transpose': 6},
  'Pooling': {
    **{'kernel': 2, 'stride': 3, 'pad': 4, 'kernel_h': 5, 'kernel_w': 6},
    **{'stride_h': 7, 'stride_w': 8, 'pad_h': 9, 'pad_w': 10},
  },
  'Dropout': {'ratio': 1},
}
_V0_PARAMETERS = {
  **{'num_output': 3, 'bias_term': 4, 'pad': 7, 'kernel': 8, 'group': 9, 'stride': 10},
  **{'ratio': 12},
}


def _settings(options, table):
  fields = {}
  for option, value in options.items():
    number = table[option]
    if isinstance(value, float):
      fields[number] = numbers(number, np.float32([value]), 'unpacked')
    else:
      each = value if isinstance(value, tuple) else (value,)
      fields[number] = b''.join(integer(number, int(one)) for one in each)
  return [fields[number] for number in sorted(fields)]


def _texts(first, *texts):
  return [message(number, text.encode()) for number, text in enumerate(texts, first)]


def _v2(layer, bottom, top, blobs):
  texts = _texts(1, layer.name, layer.kind, bottom, top)
  options = []
  if layer.options:
    settings = _settings(layer.options, _PARAMETERS[layer.kind])
    options = [message(_V2_NUMBERS[layer.kind], *settings)]
  return message(100, *texts, *blobs, integer(10, 1), *options)


def _v1(layer, bottom, top, blobs):
  kind, number = _V1_NUMBERS[layer.kind]
  options = []
  if layer.options:
    options = [message(number, *_settings(layer.options, _PARAMETERS[layer.kind]))]
  return message(2, *_texts(2, bottom, top, layer.name), integer(5, kind), *blobs, *options)


def _v0(layer, bottom, top, blobs):
  texts = _texts(1, layer.name, _V0_WORDS[layer.kind])
  inner = message(1, *texts, *_settings(layer.options, _V0_PARAMETERS), *blobs)
  return message(2, inner, *_texts(2, bottom, top))


# Numbers of the messages of options; in V1, of the type and of these; words of V0.
_V2_NUMBERS = {
  **{'Convolution': 106, 'Deconvolution': 106, 'InnerProduct': 117, 'Pooling': 121},
  **{'Dropout': 108},
}
_V1_NUMBERS = {
  **{'Convolution': (4, 10), 'Data': (5, 11), 'Dropout': (6, 12), 'InnerProduct': (14, 17)},
  **{'Pooling': (17, 19), 'ReLU': (18, 30), 'Softmax': (20, 39), 'SoftmaxWithLoss': (21, 42)},
  **{'Deconvolution': (39, 10)},
}
_V0_WORDS = {
  **{'Convolution': 'conv', 'Data': 'data', 'Dropout': 'dropout', 'Pooling': 'pool'},
  **{'InnerProduct': 'innerproduct', 'ReLU': 'relu', 'Softmax': 'softmax'},
  **{'SoftmaxWithLoss': 'softmax_loss'},
}
_LAYERS = {2: _v2, 1: _v1, 0: _v0}


# The text file, and OpenCV.


def prototxt(network: Network, input_shape: Sequence[int] | None = None) -> str:
  """The deploy file of a network, V2.

  Args:
    network: the network; its Data layers are left out.
    input_shape: (N, C, H, W) in place of the published one.
  """
  shape = ' '.join(f'dim: {side}' for side in input_shape or network.input_shape)
  lines = [f'name: "{network.name}"', 'input: "data"', f'input_shape {{ {shape} }}']
  for layer, bottom, top in _chain(network):
    options = ''.join(
      f' {_TEXT_NAMES.get(option, option)}: {str(value).lower()}'
      for option, values in layer.options.items()
      for value in (values if isinstance(values, tuple) else (values,))
    )
    parameters = f' {_TEXT_PARAMETERS[layer.kind]} {{{options} }}' if options else ''
    lines.append(
      f'layer {{ name: "{layer.name}" type: "{layer.kind}" bottom: "{bottom}" top: "{top}"'
      f'{parameters} }}'
    )
  return '\n'.join(lines) + '\n'


_TEXT_NAMES = {'kernel': 'kernel_size', 'ratio': 'dropout_ratio'}
_TEXT_PARAMETERS = {
  'Convolution': 'convolution_param',
  'Deconvolution': 'convolution_param',
  'InnerProduct': 'inner_product_param',
  'Pooling': 'pooling_param',
  'Dropout': 'dropout_param',
}


def opencv(network: Network, model: bytes | None = None, input_shape=None) -> cv2.dnn.Net:
  """A network as OpenCV reads it.

  Args:
    network: for the text file.
    model: the .caffemodel; None: `caffemodel(network)`.
    input_shape: (N, C, H, W) in place of the published one.
  """
  text = prototxt(network, input_shape).encode()
  buffers = [np.frombuffer(data, np.uint8) for data in (text, model or caffemodel(network))]
  net = cv2.dnn.readNetFromCaffe(*buffers)
  # So that every layer's output is its own, in plain float32 sums.
  net.enableFusion(False)
  net.enableWinograd(False)
  return net


def run(network: Network, images: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
  """What layers give for pictures, computed by OpenCV.

  Args:
    network: the network.
    images: (N, C, H, W) float32, BGR, the mean subtracted.
    names: of layers; a convolution's output is that before its ReLU, which is a layer itself.

  Returns:
    For each name (N, C, H, W) float32.
  """
  net = opencv(network, input_shape=images.shape)
  net.setInput(images)
  return [np.array(output) for output in net.forward(list(names))]

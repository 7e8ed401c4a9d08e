"""Which layer of a network of ours each array of a file is, and how it lies there."""

import dataclasses
import itertools
import math
import re
from typing import NamedTuple

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.models.fcn import AT_ONCE
from dilated_jax.nn import table as tables
from dilated_jax.weights import caffe, keras, safetensors, torch
from dilated_jax.weights.mapped import MappedFile


class SourceArray(NamedTuple):
  """One array of a file, found to be part of a layer.

  Attributes:
    source: what the file calls it.
    layer: our name of the layer; '' where it has no place in our networks.
    part: 'kernel' or 'bias'; of a normalization 'scale', 'bias', 'mean' or 'var'; where `layer` is
      '', why it has no place.
    array: the kernel as (height, width, in, out), or another part (out,); a view of the file.
  """

  source: str
  layer: str
  part: str
  array: np.ndarray


class Contents(NamedTuple):
  """What a file of weights holds.

  Attributes:
    format: 'caffemodel', 'pth', 'safetensors' or 'h5'.
    blobs: all its arrays.
    bgr: whether the first layer expects BGR.
    input_shape: (N, C, H, W) of the input, where the file states it.
    layers: all layers of a Caffe file, in its order, under our names.
    by_order: whether its names tell nothing, and its layers were told by their order.
  """

  format: str
  blobs: list[SourceArray]
  bgr: bool
  input_shape: tuple[int, ...] | None = None
  layers: tuple[caffe.CaffeLayer, ...] = ()
  by_order: bool = False


def read(file: MappedFile) -> Contents:
  """Reads a file in whichever format it is, told by its content.

  Raises:
    InputError: it is in none, is damaged, or holds arrays of another network.
  """
  if torch.matches(file):
    return _of_arrays('pth', file, torch.read(file), _of_torch, _oihw)
  if keras.matches(file):
    return _of_arrays('h5', file, keras.read(file), _of_keras, lambda array: array)
  if safetensors.matches(file):
    return _of_arrays('safetensors', file, safetensors.read(file), _of_torch, _oihw)
  if caffe.matches(file):
    net = caffe.read(file)
    return Contents(
      'caffemodel',
      _of_caffe(file, net),
      bgr=True,
      input_shape=net.input_shape,
      layers=tuple(dataclasses.replace(layer, name=_caffe_name(layer)) for layer in net.layers),
    )
  raise file.fail(
    'is neither a .caffemodel nor a PyTorch, Keras or safetensors file; it begins with '
    f'{file.bytes(0, min(file.size, 8), "the file")!r}'
  )


# Names of VGG and ResNet in any file that is read by name.
_NAMES = re.compile(
  r'(^|[./])(features\.\d|classifier\.\d|pre_logits\.|block\d+_conv\d|fc1/|backbone\.'
  r'|layer\d+\.\d+\.)'
)
# What programs put before all names: DataParallel, torch.compile, Lightning and others.
_PREFIXES = ('module.', '_orig_mod.', 'model.', 'backbone.', 'encoder.')


def _of_arrays(format, file, arrays, by_name, as_ours) -> Contents:
  """A file of named arrays: by their names, or as VGG-16 under names that nobody knows."""
  bgr = format == 'h5'
  while arrays and (prefix := _shared_prefix(arrays)):
    arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
  try:
    return Contents(format, by_name(file, arrays), bgr)
  except InputError:
    if format != 'pth':  # Such files are in the order of the alphabet, PyTorch's in that of use.
      arrays = dict(sorted(arrays.items(), key=lambda item: _numbers_as_such(item[0])))
    blobs = None if any(map(_NAMES.search, arrays)) else _in_order(arrays, as_ours)
    if not blobs:
      raise
    return Contents(format, blobs, bgr, by_order=True)


def _shared_prefix(names) -> str | None:
  """What a program has put before all names."""
  return next((p for p in _PREFIXES if all(name.startswith(p) for name in names)), None)


def _in_order(arrays, as_ours) -> list[SourceArray] | None:
  """The 13 convolutions of VGG-16 whatever they are called, or None.

  The first 3x3 kernels must have the channels of VGG-16, of any width. Arrays without a kernel in
  their module, such as those of a normalization, make it another network.

  Args:
    arrays: by name, in the order of the layers.
    as_ours: makes a kernel (height, width, in, out).
  """
  modules = {}
  for source, array in arrays.items():
    if array.ndim:  # A count of steps, say, is no layer.
      modules.setdefault(re.sub(r'[/.][^/.]*$', '', source), []).append(source)
  trunk = []
  for sources in modules.values():
    kernels = [source for source in sources if arrays[source].ndim in (2, 4)]
    biases = [source for source in sources if arrays[source].ndim == 1]
    if len(kernels) != 1 or len(biases) > 1:
      return None
    kernel = as_ours(arrays[kernels[0]])
    if kernel.ndim == 4 and kernel.shape[:2] == (3, 3):
      trunk.append((kernel, kernels[0], *biases))
  convolutions = [layer for layer in tables.vgg(2) if layer.name.startswith('conv')]
  trunk = trunk[: len(convolutions)]
  width = trunk[0][0].shape[-1] if trunk else 0
  channels = [3, *(layer.channels * width // 64 for layer in convolutions)]
  if [kernel.shape[2:] for kernel, *_ in trunk] != list(itertools.pairwise(channels)):
    return None
  blobs = []
  for layer, (kernel, source, *bias) in zip(convolutions, trunk, strict=True):
    blobs.append(SourceArray(source, layer.name, 'kernel', kernel))
    blobs += [SourceArray(source, layer.name, 'bias', arrays[source]) for source in bias]
  taken = {blob.source for blob in blobs}
  return blobs + [
    SourceArray(source, '', 'none of the 13 convolutions of VGG-16', array)
    for source, array in arrays.items()
    if source not in taken
  ]


def _numbers_as_such(name: str) -> list:
  """A key that sorts conv2 before conv10."""
  return [(int(part), '') if part.isdigit() else (-1, part) for part in re.split(r'(\d+)', name)]


# Why an array has no place.
_CLASSIFIER = 'classifies ImageNet; final takes its place'
UPSAMPLING = 'the fixed bilinear upsampling, made anew'
SKIP_SCALE = 'the fixed factor on a skip, made anew'


def _of_caffe(file, net) -> list[SourceArray]:
  """Caffe: kernels are (out, in, height, width), dense ones (out, in)."""
  blobs = []
  for layer in net.layers:
    name = _caffe_name(layer)
    for index, array in enumerate(layer.blobs):
      source = f'{layer.name}[{index}]'
      if layer.kind == 'Deconvolution':
        _check_bilinear(file, source, array)
        blobs.append(SourceArray(source, '', UPSAMPLING, _oihw(array)))
      elif layer.kind == 'Scale' and name.removeprefix('scale_') in AT_ONCE:
        if index or not np.allclose(array, AT_ONCE[name.removeprefix('scale_')]):
          raise file.fail(f'{source} is not the fixed factor that FCN at once has there')
        blobs.append(SourceArray(source, '', SKIP_SCALE, array))
      elif name == 'fc8':
        blobs.append(SourceArray(source, '', _CLASSIFIER, _oihw(array)))
      elif layer.kind not in ('Convolution', 'InnerProduct') or index > 1:
        raise file.fail(f'{source}, of a {layer.kind}, has no place in VGG or the paper')
      elif index:
        blobs.append(SourceArray(source, name, 'bias', array))
      else:
        blobs.append(SourceArray(source, name, 'kernel', _oihw(array)))
  return _with_unfolded_fc6(file, blobs, 'CHW')


def _caffe_name(layer) -> str:
  """The network for VOC has fc-final and ct_conv1_1 where the others have final and ctx_conv1_1."""
  return {'fc-final': 'final'}.get(layer.name, re.sub('^ct_', 'ctx_', layer.name))


def _of_torch(file, tensors) -> list[SourceArray]:
  """Torchvision and timm: kernels are (out, in, height, width), dense ones (out, in)."""
  if any(re.match(r'(roi_heads|rpn|backbone\.(body|fpn)|head\.classification_head)\.', name)
         for name in tensors):  # fmt: skip
    raise file.fail('is a detection network; give the classifier that it was started from')
  if any(name.startswith('backbone.') for name in tensors):
    return _of_segmentation(file, tensors)
  if any(name.startswith('layer1.') for name in tensors):
    return _of_resnet(file, tensors)
  known = _vgg_names(tensors) | {
    'classifier.0': 'fc6', 'classifier.3': 'fc7', 'classifier.6': 'fc8',
    'pre_logits.fc1': 'fc6', 'pre_logits.fc2': 'fc7', 'head.fc': 'fc8',
  }  # fmt: skip
  blobs = _by_module(file, tensors, known.get, _CLASSIFIERS)
  return _with_unfolded_fc6(file, blobs, 'CHW')


_CLASSIFIERS = 'VGG (features.N, classifier.N) or ResNet (conv1, bn1, layer1.0.conv1, fc)'

# Modules of ResNet: our layers, and the normalizations behind them.
_RESNET = {
  r'conv1': 'conv1',
  r'bn1': 'conv1_norm',
  r'layer(\d+)\.(\d+)\.conv(\d+)': r'layer\1_\2_conv\3',
  r'layer(\d+)\.(\d+)\.bn(\d+)': r'layer\1_\2_conv\3_norm',
  r'layer(\d+)\.(\d+)\.downsample\.0': r'layer\1_\2_downsample',
  r'layer(\d+)\.(\d+)\.downsample\.1': r'layer\1_\2_downsample_norm',
}
# Those of timm's with three 3x3 convolutions at first.
_DEEP_STEM = {
  r'conv1\.0': 'conv1_1',
  r'conv1\.1': 'conv1_1_norm',
  r'conv1\.3': 'conv1_2',
  r'conv1\.4': 'conv1_2_norm',
  r'conv1\.6': 'conv1_3',
  r'bn1': 'conv1_3_norm',
}
# And those of torchvision's segmentation networks.
_HEADS = {
  'fcn': {r'classifier\.0': 'head', r'classifier\.1': 'head_norm'},
  'deeplab': {
    r'classifier\.0\.convs\.([0-3])\.0': r'aspp_\1',
    r'classifier\.0\.convs\.([0-3])\.1': r'aspp_\1_norm',
    r'classifier\.0\.convs\.4\.1': 'aspp_4',
    r'classifier\.0\.convs\.4\.2': 'aspp_4_norm',
    r'classifier\.0\.project\.0': 'project',
    r'classifier\.0\.project\.1': 'project_norm',
    r'classifier\.1': 'head',
    r'classifier\.2': 'head_norm',
  },
}
_SEGMENTATION = {rf'backbone\.{module}': layer for module, layer in _RESNET.items()} | {
  r'classifier\.4': 'final',
  r'aux_classifier\.0': 'aux',
  r'aux_classifier\.1': 'aux_norm',
  r'aux_classifier\.4': 'aux_final',
}


def _of_segmentation(file, tensors) -> list[SourceArray]:
  """Torchvision's fcn_resnet50, 101 and deeplabv3_resnet50, 101."""
  pyramid = any(name.startswith('classifier.0.convs.') for name in tensors)
  names = _SEGMENTATION | _HEADS['deeplab' if pyramid else 'fcn']
  return _by_module(file, tensors, _matching(names), 'a segmentation network of torchvision')


def _of_resnet(file, tensors) -> list[SourceArray]:
  """ResNet of torchvision and timm: a classifier."""
  if any('.downsample.2.' in name for name in tensors):
    raise file.fail(
      'is a ResNet-D: it averages before its shortcuts, which no network here does; give a plain '
      'ResNet, such as resnet50 or resnet50s'
    )
  if not any(name.endswith('.running_mean') for name in tensors):
    raise file.fail('normalizes without statistics; give a ResNet with batch normalization')
  names = _RESNET | {'fc': 'fc8'}
  if any(name.startswith('conv1.') and name.count('.') == 2 for name in tensors):
    names |= _DEEP_STEM
  return _by_module(file, tensors, _matching(names), 'ResNet (conv1, bn1, layer1.0.conv1, fc)')


def _matching(names):
  """The function from a module to its layer, or None, by patterns of modules."""

  def layer_of(module: str) -> str | None:
    found = ((re.fullmatch(pattern, module), name) for pattern, name in names.items())
    return next((match.expand(name) for match, name in found if match), None)

  return layer_of


_PARTS = {'bias': 'bias', 'running_mean': 'mean', 'running_var': 'var'}


def _by_module(file, tensors, layer_of, network: str) -> list[SourceArray]:
  """The arrays of PyTorch's modules.

  Args:
    file: for errors.
    tensors: by name.
    layer_of: from the name of a module to our layer; of a normalization it ends in _norm.
    network: what they should be of, for errors.
  """
  blobs = []
  for source, array in tensors.items():
    module, _, part = source.rpartition('.')
    layer = layer_of(module)
    if layer and part == 'num_batches_tracked':
      blobs.append(SourceArray(source, '', 'how many batches it was trained on', array))
    elif not layer or part not in ('weight', *_PARTS):
      raise file.fail(f'{source} has no place in {network}')
    elif layer == 'fc8':
      blobs.append(SourceArray(source, '', _CLASSIFIER, _oihw(array)))
    elif part == 'weight' and not layer.endswith('_norm'):
      blobs.append(SourceArray(source, layer, 'kernel', _oihw(array)))
    else:
      blobs.append(SourceArray(source, layer, _PARTS.get(part, 'scale'), array))
  return blobs


def _of_keras(file, datasets) -> list[SourceArray]:
  """Keras: kernels are (height, width, in, out), dense ones (in, out)."""
  blobs, counted = [], _counted_names(datasets)
  for source, array in datasets.items():
    name, part = counted.get(source) or _keras_name(source)
    array = array[None, None] if array.ndim == 2 else array
    if source.startswith('optimizer'):
      blobs.append(SourceArray(source, '', 'state of an optimizer', array))
    elif not name:
      raise file.fail(f'{source} has no place in VGG as Keras names its layers (block1_conv1, fc1)')
    elif name == 'fc8':
      blobs.append(SourceArray(source, '', _CLASSIFIER, array))
    else:
      blobs.append(SourceArray(source, name, part, array))
  return _with_unfolded_fc6(file, blobs, 'HWC')


def _keras_name(source: str) -> tuple[str, str]:
  """Layer and part of block1_conv1/block1_conv1_W_1:0, .../fc1/kernel:0; '' for none."""
  layer = re.search(r'(?:^|/)(block(\d+)_conv(\d+)|fc1|fc2|predictions)/', source)
  part = re.search(r'(?:^|[/_])(kernel|bias|W|b)(?:_\d+)?(?::0)?$', source)
  if not layer or not part:
    return '', ''
  dense = {'fc1': 'fc6', 'fc2': 'fc7', 'predictions': 'fc8'}
  name = dense.get(layer[1]) or f'conv{layer[2]}_{layer[3]}'
  return name, 'kernel' if part[1] in ('kernel', 'W') else 'bias'


def _counted_names(datasets) -> dict:
  """Keras 3 counts layers instead of naming them: layers/conv2d_3/vars/0."""
  pattern = r'(?:.*/)?layers/(conv2d|dense)(?:_(\d+))?/vars/([01])'
  matches = {source: re.fullmatch(pattern, source) for source in datasets}
  if not datasets or not all(matches.values()):
    return {}
  convolutions = {int(match[2] or 0) for match in matches.values() if match[1] == 'conv2d'}
  # The blocks can't be told from shapes; these are the networks of Simonyan & Zisserman.
  blocks = {8: (1, 1, 2, 2, 2), 10: (2,) * 5, 13: (2, 2, 3, 3, 3), 16: (2, 2, 4, 4, 4)}
  if convolutions != set(range(len(convolutions))) or len(convolutions) not in blocks:
    return {}
  names = [
    f'conv{block}_{i}'
    for block, count in enumerate(blocks[len(convolutions)], 1)
    for i in range(1, count + 1)
  ]
  result = {}
  for source, match in matches.items():
    number = int(match[2] or 0)
    name = names[number] if match[1] == 'conv2d' else f'fc{number + 6}'
    result[source] = (name, ('kernel', 'bias')[int(match[3])])
  return result


def _vgg_names(tensors) -> dict[str, str]:
  """Our layers by the modules of torchvision's `features`, from their places.

  A convolution takes two places with its ReLU, and a third with its normalization; one that comes
  later has a pooling before it.
  """
  places = [(re.fullmatch(r'features\.(\d+)\.(weight|running_var)', name), tensors[name])
            for name in tensors]  # fmt: skip
  normalizations = {int(place[1]) for place, _ in places if place and place[2] == 'running_var'}
  kernels = sorted(
    int(place[1])
    for place, array in places
    if place and place[2] == 'weight' and int(place[1]) not in normalizations
  )
  names, block, index, end = {}, 1, 0, 0
  for number in kernels:
    block, index = (block, index + 1) if number == end else (block + 1, 1)
    names[f'features.{number}'] = f'conv{block}_{index}'
    normalized = number + 1 in normalizations
    if normalized:
      names[f'features.{number + 1}'] = f'conv{block}_{index}_norm'
    end = number + 2 + normalized
  return names


def _oihw(array):
  """A kernel of Caffe or PyTorch as ours; dense ones as 1x1."""
  array = array[:, :, None, None] if array.ndim == 2 else array
  return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _with_unfolded_fc6(file, blobs, order) -> list[SourceArray]:
  """Turns a dense fc6 into a convolution: its inputs are a map, flattened in `order`."""
  convolutions = [b for b in blobs if b.part == 'kernel' and b.layer.startswith('conv')]
  last = max(convolutions, key=lambda blob: blob.layer, default=None)
  result = []
  for blob in blobs:
    array = blob.array
    if (blob.layer, blob.part) == ('fc6', 'kernel') and array.shape[:2] == (1, 1) and last:
      channels, (inputs, outputs) = last.array.shape[-1], array.shape[2:]
      side = math.isqrt(inputs // channels)
      if side * side * channels != inputs:
        raise file.fail(
          f'{blob.source} takes {inputs} values, which is no square map of the {channels} channels '
          f'of {last.source}'
        )
      if side > 1 and order == 'CHW':
        array = array[0, 0].T.reshape(outputs, channels, side, side).transpose(2, 3, 1, 0)
      elif side > 1:
        array = array[0, 0].reshape(side, side, channels, outputs)
    result.append(blob._replace(array=array))
  return result


def _check_bilinear(file, source, kernel) -> None:
  """Our networks upsample by the fixed bilinear kernels of the published ones, and by no other.

  Dilation10 has one for each class, FCN one for each pair, zero but for the same class twice.
  """
  side = kernel.shape[-1]
  tent = 1 - np.abs(np.arange(side) - (side - 1) / 2) / (side / 2)
  expected = np.outer(tent, tent)
  if kernel.ndim == 4 and kernel.shape[0] == kernel.shape[1] > 1:
    expected = np.eye(len(kernel))[:, :, None, None] * expected
  elif kernel.ndim != 4 or kernel.shape[1] != 1:
    side = 1
  if side % 2 or kernel.shape[2] != side or not np.abs(kernel - expected).max() < 1e-4:
    raise file.fail(
      f'{source}, of shape {kernel.shape}, is not a bilinear upsampling of every class by itself; '
      'ours is fixed, as in the published network'
    )

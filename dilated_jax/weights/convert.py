"""From a published file of weights to a network of ours, every number accounted for.

What a file holds is told by its content. From the shapes of its arrays follow the network and its
options: classes, widths, kernels, context module. Every array goes somewhere or is named in an
error. What no array can tell (names of the classes, mean, size of the input) is that of the
published network of the same structure, and the notes say so.
"""

from collections.abc import Callable
import dataclasses
import hashlib
from typing import NamedTuple

import jax
import numpy as np

from dilated_jax.data import registry as datasets
from dilated_jax.data.label_specs import VOC, voc_color
from dilated_jax.errors import InputError
from dilated_jax.models import trunk as trunks
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn import costs, initializers
from dilated_jax.weights import layouts, published, structure
from dilated_jax.weights.layouts import SourceArray
from dilated_jax.weights.mapped import MappedFile


class Conversion(NamedTuple):
  """A converted file.

  Attributes:
    spec: what the weights are, for `models.save_weights`.
    variables: of `spec.create()`; NumPy arrays, as far as possible views of the file.
    moved: of each array of the file its name there, its shape as ours, and its name in the network
      or, in brackets, why it has none.
    notes: what was recognized, and what was decided without the file.
    release: lets go of the file's pages in memory, see `MappedFile.release`.
  """

  spec: ModelSpec
  variables: dict
  moved: list[tuple[str, tuple[int, ...], str]]
  notes: list[str]
  release: Callable[[], None]


def convert(
  path,
  *,
  fc: str = 'auto',
  dataset: str | None = None,
  data_dir: str | None = None,
  mean: tuple[float, float, float] | None = None,
  normalization: str | None = None,
  channel_order: str | None = None,
) -> Conversion:
  """Reads a file of published weights.

  Args:
    path: a .caffemodel of a network of the paper (front end, Dilation7, 8 or 10) or of FCN-32s, 16s
      or 8s; VGG from Caffe, torchvision (.pth), timm (.safetensors) or Keras (.h5); ResNet-18, 34,
      50 or 101 from torchvision or timm; a segmentation network of torchvision (fcn_resnet50, 101,
      deeplabv3_resnet50, 101). Told by content, not by name.
    fc: 'random' starts fc6 and fc7 of a VGG afresh, for files without them; 'auto' wants them;
      'optional' takes them where the file has them.
    dataset: one of `datasets.ORDERS`, or 'folder', whose classes the network tells apart; None: as
      published. A classifier gets untrained last layers for them (None: voc).
    data_dir: of the data set 'folder', see `datasets.classes`.
    mean: RGB mean, 0..255, that the network wants subtracted from pictures; None: as published.
    normalization: of a classifier, a key of `published.NORMALIZATIONS`; None: by checksum, else by
      format.
    channel_order: 'rgb' or 'bgr', which of the two a classifier was trained to see; None: as usual
      in its format (BGR in Caffe and Keras).

  Returns:
    The Conversion.

  Raises:
    InputError: the file is none of these or is damaged; an array is missing, left over, of another
      shape than the others ask for, or not finite.
  """
  table = datasets.classes(dataset, data_dir) if dataset else None
  file = MappedFile(path)
  contents = layouts.read(file)
  if channel_order:
    contents = contents._replace(bgr=channel_order == 'bgr')
  sha256 = _checksum(file, hashlib.sha256())
  digest = sha256[:8]
  if contents.format == 'h5':
    digest = _checksum(file, hashlib.md5(usedforsecurity=False))
  title, trained_with = published.CHECKSUMS.get(digest, (None, None))
  notes = [f'{title}, by its checksum' if title else 'no known checksum: taken by its content']
  if contents.by_order:
    order = 'BGR' if contents.bgr else 'RGB'
    notes.append(
      f'names unknown: the 13 convolutions of VGG-16 by the order of their shapes; taken as {order}'
    )
  parts = _by_layer(file, contents.blobs)
  kernels = _kernels(file, parts)
  try:
    residual = any(layer.startswith('layer') for layer in kernels)
    trained = {*kernels} & {'final', 'score_fr', 'head', 'aux', 'aspp_0'}
    fresh = ()
    if trained:
      _refuse_options_of_classifiers(file, fc, channel_order, None if residual else normalization)
      if residual:
        normalization = normalization or 'torchvision'
        spec = _residual(file, kernels, table, normalization, notes)
      elif 'score_fr' in kernels:
        spec = _fcn(file, contents, kernels, table, notes)
      else:
        spec = _network(file, contents, kernels, table, notes)
    else:
      if residual:
        spec, fresh = _residual_classifier(file, kernels, fc, table, notes)
      else:
        spec, fresh = _vgg(file, kernels, parts, fc, table, notes)
      normalization = normalization or trained_with or _usual(contents, notes)
      spec = dataclasses.replace(spec, mean=_mean(normalization))
    model = spec.create()
  except InputError as error:
    known = str(error).startswith(f'{file.path}: ')
    raise (error if known else file.fail(str(error))) from None
  if mean:
    spec = dataclasses.replace(spec, mean=mean)
    notes.append('mean: as told')
  spec = dataclasses.replace(spec, source=f'{file.path.name}, SHA-256 {sha256}')
  parts = {key: blob for key, blob in parts.items() if key[0] not in fresh}
  spec = dataclasses.replace(spec, untrained=tuple(fresh))
  variables = {}
  for number, (key, shape) in enumerate(_checked(file, spec.model, model, parts, fresh).items()):
    kind, module, layer, part = _path(*key)
    if layer in fresh:
      array = _fresh(layer, part, shape, number)
    else:
      array = _array(file, key, parts[key], contents.bgr, normalization or 'caffe')
    variables.setdefault(kind, {}).setdefault(module, {}).setdefault(layer, {})[part] = array
  places = {blob.source: '/'.join(_path(*key)[1:]) for key, blob in parts.items()}
  moved = [
    (blob.source, blob.array.shape, places.get(blob.source) or f'({_reason(blob)})')
    for blob in contents.blobs
  ]
  return Conversion(spec, variables, moved, notes, file.release)


def _refuse_options_of_classifiers(file, fc, channel_order, normalization) -> None:
  given = {'fc': fc == 'random', 'channel_order': channel_order, 'normalization': normalization}
  names = [name for name, value in given.items() if value]
  if names:
    raise file.fail(f'is a whole network; {" and ".join(names)} can be told of classifiers alone')


def _reason(blob) -> str:
  """Why an array has no place."""
  return 'left out, as told' if blob.layer else blob.part


def _checksum(file, checksum) -> str:
  """A checksum of the whole file, in hexadecimal digits."""
  for start in range(0, file.size, 1 << 24):
    checksum.update(file.data[start : start + (1 << 24)])
    file.release()
  return checksum.hexdigest()


def _by_layer(file, blobs) -> dict[tuple[str, str], SourceArray]:
  """The arrays that have a place, by layer and part."""
  parts = {}
  for blob in blobs:
    other = parts.get((blob.layer, blob.part))
    if other and blob.layer:
      raise file.fail(f'{other.source} and {blob.source} are both the {blob.part} of {blob.layer}')
    if blob.layer:
      parts[blob.layer, blob.part] = blob
  return parts


def _kernels(file, parts) -> dict[str, np.ndarray]:
  """The kernels by layer; that they and the biases have as many axes as such have."""
  for blob in parts.values():
    axes = 4 if blob.part == 'kernel' else 1
    if blob.array.ndim != axes:
      raise file.fail(f'{blob.source} has {blob.array.ndim} axes; a {blob.part} has {axes}')
  return {layer: blob.array for (layer, part), blob in parts.items() if part == 'kernel'}


# What kind of network.


def _network(file, contents, kernels, chosen, notes) -> ModelSpec:
  """The spec of a network of the paper."""
  num_classes = kernels['final'].shape[-1]
  model, options = 'front_end', structure.front_end_options(file, kernels)
  if any(layer.startswith('ctx_') for layer in kernels):
    model, more = structure.context_options(file, contents, kernels, num_classes)
    options |= more
  alone = (published.BY_COUNT.get(num_classes, VOC), None)
  table, size = published.NETWORKS.get((model, options.get('context')), alone)
  upsampling = [blob.array.shape[0] for blob in contents.blobs if blob.part == layouts.UPSAMPLING]
  spec = ModelSpec(
    model=model,
    options=options,
    upsampling='deconvolution' if upsampling or model == 'dilation10' else 'corner',
    input=size,
    **_classes(file, num_classes, chosen, table, notes),
  )
  network = spec.create()
  shape, least = contents.input_shape or (), 2 * network.margin + network.stride
  if len(shape) == 4 and shape[1] == 3 and min(shape[2:]) >= least:
    spec = dataclasses.replace(spec, input=tuple(shape[2:]))
  stride = network.stride
  if upsampling and upsampling != [2 * stride]:
    raise file.fail(f'upsamples by kernels of {upsampling}; this network does by {2 * stride}')
  if model == 'dilation10' and not upsampling:
    notes.append('the file has no ctx_upsample: the fixed one of the published network is used')
  structure.check_statements(file, contents, network.table)
  if not any('dilation' in layer.options for layer in contents.layers):
    notes.append('the file does not state dilations: those of the paper')
  if model != 'front_end' and not any('pad' in layer.options for layer in contents.layers):
    notes.append('the file does not state paddings: those of the paper for layers of such names')
  return spec


def _classes(file, num_classes, chosen, published_table, notes) -> dict:
  """What a spec says of classes and mean; of own data, what the network was not trained with."""
  table = chosen or published_table
  known = _described(table)
  if num_classes == table.num_classes:
    if not chosen:
      notes.append(f'classes and mean: those of the published network for {known["dataset"]}')
    elif chosen.name == 'folder':
      known['mean'] = published_table.mean
    return known
  if chosen:
    raise file.fail(
      f'tells {num_classes} classes apart, and {chosen.name} has {table.num_classes}; `dataset` is '
      'what the network was trained for. To train it for other classes, convert it without, and '
      'start training from that'
    )
  notes.append(
    f'{num_classes} classes without names; mean: that of the published one for {known["dataset"]}'
  )
  return dict(
    classes=tuple(f'class {index}' for index in range(num_classes)),
    palette=tuple(map(voc_color, range(num_classes))),
    mean=table.mean,
  )


def _described(table) -> dict:
  """What a spec says of the classes of a table."""
  data = published.DATA_SETS.get(table.name, table.name)
  return dict(classes=table.names, palette=table.palette, mean=table.mean, dataset=data)


def _vgg(file, kernels, parts, fc, chosen, notes) -> tuple[ModelSpec, list[str]]:
  """The spec of a front end made of VGG, and which of its layers are to be started afresh."""
  valid = {'fc6', 'fc7'} <= kernels.keys() and not np.isnan(kernels['fc7']).any()
  if fc == 'auto' and not valid:
    raise file.fail("has no valid fc6 and fc7; `fc='random'` starts them afresh")
  fresh = ['final'] if valid and fc != 'random' else ['fc6', 'fc7', 'final']
  last = max((layer for layer in kernels if layer.startswith('conv')), default=None)
  # fc6 and fc7 are eight times as wide as conv5 in VGG.
  width = kernels[last].shape[-1] if last else 1
  options = structure.front_end_options(file, kernels, default_fc=8 * width)
  if any(layer.endswith('_norm') for layer, _ in parts):
    options['norm'] = 'batch'
    fresh = ['fc6_norm', 'fc7_norm', *fresh]  # Which VGG has not: they begin as the identity.
  return ModelSpec(
    model='front_end', options=options, **_untrained(chosen, ', '.join(fresh), notes)
  ), fresh


def _untrained(chosen, what: str, notes) -> dict:
  """What a spec says of the classes of a network whose last layer starts afresh."""
  table = chosen or VOC
  notes.append(f'untrained: {what}, for the classes of {table.name}')
  return _described(table)


def _fcn(file, contents, kernels, chosen, notes) -> ModelSpec:
  """The spec of FCN-32s, 16s or 8s as Caffe files have them."""
  skips = ['score_pool4' in kernels, 'score_pool3' in kernels]
  options = structure.front_end_options(file, kernels)
  scaled = sum(layer.kind == 'Scale' for layer in contents.layers)
  if scaled:
    known = [blob.part for blob in contents.blobs].count(layouts.SKIP_SCALE)
    if not known == scaled == sum(skips):
      raise file.fail(f'scales {scaled} of {sum(skips)} skips; FCN at once scales each')
    options['at_once'] = True
  spec = ModelSpec(
    model=('fcn32s', 'fcn16s', 'fcn8s')[sum(skips)],
    options=options,
    upsampling='deconvolution',
    **_classes(file, kernels['score_fr'].shape[-1], chosen, VOC, notes) | {'mean': _FCN_MEAN},
  )
  notes.append('mean: that of the reference repository of FCN')
  table = spec.create().table
  found = [blob.array.shape[0] for blob in contents.blobs if blob.part == layouts.UPSAMPLING]
  wanted = [layer.kernel for layer in table if layer.kind == 'deconv']
  if found and found != wanted:
    raise file.fail(f'upsamples by kernels of {found}; {spec.model} does by {wanted}')
  structure.check_statements(file, contents, table, joins=True)
  return spec


_FCN_MEAN = (122.67892, 116.66877, 104.00699)


def _residual(file, kernels, chosen, normalization, notes) -> ModelSpec:
  """The spec of a segmentation network of torchvision."""
  options = structure.residual_options(file, kernels)
  if 'final' not in kernels:
    raise file.fail('has no classifier.4, the layer of the scores')
  model = 'fcn_resnet'
  if 'aux' in kernels:
    options['auxiliary'] = True
  if 'aspp_0' in kernels:
    model, options = 'deeplab_v3', {'variant': 'torchvision', 'stride': 8} | options
  about = _classes(file, kernels['final'].shape[-1], chosen, VOC, notes)
  notes.append('mean and upsampling: those of torchvision')
  if model == 'deeplab_v3':
    notes.append('dilations of the pyramid: 12, 24, 36, as in torchvision; the file has none')
  return ModelSpec(
    model=model,
    options=options,
    upsampling='deconvolution',
    **about | {'mean': _mean(normalization)},
  )


def _residual_classifier(file, kernels, fc, chosen, notes) -> tuple[ModelSpec, list[str]]:
  """The spec of a network on a ResNet, and its other layers, which are to be started afresh.

  FCN has the ResNet of torchvision and timm; PSPNet the one with three 3x3 convolutions at first.
  """
  if fc == 'random':
    raise file.fail('is a ResNet, which has no fc6 and fc7; leave out fc')
  spec = ModelSpec(
    model='pspnet' if 'conv1_1' in kernels else 'fcn_resnet',
    options=structure.residual_options(file, kernels),
    upsampling='deconvolution',
    **_untrained(chosen, 'all that is not of the ResNet', notes),
  )
  network = spec.create()
  whole = network.front_end_table + network.auxiliary_table
  body = trunks.trunk(whole)
  assert body
  fresh = [layer for layer, part in _shapes(whole, 3) if part in ('kernel', 'scale')]
  fresh = [layer for layer in fresh if layer.removesuffix('_norm') not in body.layers]
  return spec, fresh


def _mean(normalization: str) -> tuple[float, ...]:
  """RGB mean, 0..255, of a normalization."""
  scale, mean, _ = published.NORMALIZATIONS[normalization]
  return tuple(round(scale * value, 5) for value in mean)


def _usual(contents, notes) -> str:
  """How the VGG of a format is usually fed."""
  if contents.format in ('caffemodel', 'h5'):
    return 'caffe'
  if any(np.isnan(blob.array).any() for blob in contents.blobs if not blob.layer):
    return 'features'  # torchvision's file of this kind has no valid classifier.
  notes.append('normalization: that of torchvision, (v / 255 - mean) / std')
  return 'torchvision'


# Everything in its place.


def _checked(file, name, model, parts, fresh) -> dict[tuple[str, str], tuple[int, ...]]:
  """The arrays that a network has, with their shapes; those of the file must be the same."""
  shapes = _shapes(model.front_end_table + model.auxiliary_table, 3)
  shapes |= _shapes(model.context_table, model.num_classes)
  wanted = {key: shape for key, shape in shapes.items() if key[0] not in fresh}
  problems = [f'{layer} has no {part}' for layer, part in wanted if (layer, part) not in parts]
  problems += [
    f'{parts[key].source} {parts[key].array.shape} is left over' for key in parts.keys() - wanted
  ]
  problems = problems or [
    f'{parts[key].source} is {parts[key].array.shape} as height, width, in, out, not {shape}'
    for key, shape in wanted.items()
    if parts[key].array.shape != shape
  ]
  if problems:
    more = f'; and {len(problems) - 4} more' if len(problems) > 4 else ''
    raise file.fail(f'does not fit a {name}: {"; ".join(sorted(problems)[:4])}{more}')
  return shapes


def _shapes(table, channels: int) -> dict[tuple[str, str], tuple[int, ...]]:
  """The arrays of a table's layers, by layer and part."""
  shapes = {}
  for _, layer, inputs, outputs in costs.convolutions(table, channels):
    shapes[layer.name, 'kernel'] = (layer.kernel, layer.kernel, inputs, outputs)
    if layer.bias:
      shapes[layer.name, 'bias'] = (outputs,)
    if layer.norm == 'batch':
      shapes |= {(f'{layer.name}_norm', part): (outputs,) for part in _NORM}
  return shapes


_NORM = ('scale', 'bias', 'mean', 'var')


def _path(layer: str, part: str) -> tuple[str, str, str, str]:
  """Where an array stands in the variables."""
  kind = 'batch_stats' if part in ('mean', 'var') else 'params'
  return kind, 'context' if layer.startswith('ctx_') else 'front_end', layer, part


def _array(file, key, blob, bgr, normalization) -> np.ndarray:
  """An array of the file as float32, for RGB of 0..255."""
  array = blob.array
  with np.errstate(over='ignore', invalid='ignore'):  # What is not finite is found below.
    if key in (('conv1_1', 'kernel'), ('conv1', 'kernel')):
      array = _for_rgb(array, bgr, normalization)
    if array.dtype != np.float32:
      array = array.astype(np.float32)
  for start in range(0, array.shape[-1], 256):  # Piece by piece, to let go of what was read.
    if not np.isfinite(array[..., start : start + 256]).all():
      raise file.fail(f'{blob.source} holds values that are infinite or not numbers')
    file.release()
  return array


def _for_rgb(kernel, bgr, normalization):
  """The first kernel for RGB of 0..255 minus a mean.

  Exact, because no other zero than that of the mean is ever padded.
  """
  scale, _, std = published.NORMALIZATIONS[normalization]
  factor = 1 / (scale * np.asarray(std, np.float64))
  kernel = kernel[:, :, ::-1] if bgr else kernel
  return kernel if np.allclose(factor, 1, 0, 1e-12) else kernel * factor[:, None]


def _fresh(layer: str, part: str, shape, seed: int) -> np.ndarray:
  """An array as at the start of training."""
  if part != 'kernel':
    return np.full(shape, part in ('scale', 'var'), np.float32)
  init = initializers.classifier if layer == 'final' else initializers.he
  return np.asarray(jax.jit(init, static_argnums=1)(jax.random.key(seed), shape))

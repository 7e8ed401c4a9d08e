"""Turns a published weight file into a weights folder for predict, evaluate and train.

  dilated-jax convert --source=dilation8_pascal_voc.caffemodel --output=voc
  dilated-jax convert --source=vgg16-397923af.pth --output=vgg --dataset=camvid

Known are the networks of the paper (front end, Dilation7, 8 and 10, of any width and number of
classes) and FCN-32s, 16s and 8s as .caffemodel; VGG-11, 13, 16 and 19 from Caffe (.caffemodel),
torchvision (.pth), timm (.safetensors) and Keras (.h5), or any of these files whose 3x3 kernels in
order are those of VGG-16, whatever they are called; ResNet-18, 34, 50 and 101 from torchvision and
timm; torchvision's fcn_resnet50, 101, deeplabv3_resnet50 and 101. What a file holds is told by its
content. Neither Caffe nor PyTorch nor Keras is needed, and nothing in a file is executed. `train
--init=FILE` takes the same files.

The report lists every array of the file and where it went; one that is missing, left over or of the
wrong shape is an error, and nothing is written then. What the file can't tell, such as the names of
the classes, is taken from the published network of that structure; the last lines say so. Weights
that --output holds already are replaced.

  dilated-jax convert --source=TVG_CRFRNN.caffemodel --attach_crf_to=voc --output=voc_rnn
"""

import math
import pathlib

from absl import flags

from dilated_jax import data, models, nn, weights
from dilated_jax.errors import InputError

from . import cli, path_flags


def define_flags(values=flags.FLAGS):
  string = {'flag_values': values}
  path_flags.define('source', None, 'File of weights.', required=True, **string)
  path_flags.define('output', None, 'Weights folder to write.', required=True, **string)
  path_flags.define(
    'attach_crf_to', None, 'Weights folder of a network: puts the CRF-RNN of the file '
    '(a .caffemodel) behind it.', **string,
  )  # fmt: skip
  flags.DEFINE_enum(
    'dataset', None, [*data.ORDERS, 'folder'],
    'Data set whose classes the network tells apart; as published if not given. A classifier of '
    'ImageNet gets untrained layers for them.', **string,
  )  # fmt: skip
  path_flags.define('data_dir', None, 'Your own images and labels, for --dataset=folder.', **string)
  flags.DEFINE_enum(
    'fc', 'auto', ['auto', 'random'],
    'random: start fc6 and fc7 of a VGG afresh, for files without them.', **string,
  )  # fmt: skip
  flags.DEFINE_list(
    'mean', None, 'R,G,B that the network wants subtracted from pictures of 0..255; as published '
    'if not given.', **string,
  )  # fmt: skip
  flags.DEFINE_enum(
    'normalization', None, list(weights.published.NORMALIZATIONS),
    'How a classifier was trained to see pictures; by its checksum or format if not given.',
    **string,
  )  # fmt: skip
  flags.DEFINE_enum(
    'channel_order', None, ['rgb', 'bgr'],
    'Order of the channels that a classifier was trained to see; as usual in its format if not '
    'given.', **string,
  )  # fmt: skip


def main(values=flags.FLAGS):
  output = pathlib.Path(values.output)
  models.weights_folder.check_weights_folder(output)
  if values.attach_crf_to:
    for name in ('dataset', 'data_dir', 'mean', 'normalization', 'channel_order', 'fc'):
      if values[name].present:
        raise InputError(f'--{name} is of a network; with --attach_crf_to the network is as it was')
    segmenter = models.weights_folder.load_weights(values.attach_crf_to)
    source = pathlib.Path(values.source)
    _, variables, spec = weights.crf_rnn.attach_crf_rnn(segmenter, source)
    models.weights_folder.save_weights(output, spec, variables)
    size = len(spec.classes)
    print(f'{spec.model} with a CRF-RNN: spatial, bilateral, compatibility of {size} x {size}')
    print(f'weights: {output}')
    return
  if values.data_dir and values.dataset != 'folder':
    raise InputError('--data_dir is for --dataset=folder')
  result = weights.convert.convert(
    pathlib.Path(values.source),
    fc=values.fc,
    dataset=values.dataset,
    data_dir=values.data_dir,
    mean=_mean(values.mean),
    normalization=values.normalization,
    channel_order=values.channel_order,
  )
  models.weights_folder.save_weights(output, result.spec, result.variables, result.release)
  print(report(result))
  print(f'weights: {output}')


def report(result) -> str:
  """Every array and where it went, then what the network is."""
  rows = [('in the file', 'height, width, in, out', 'in the network')]
  rows += [(name, ', '.join(map(str, shape)), target) for name, shape, target in result.moved]
  widths = [max(len(row[column]) for row in rows) for column in range(2)]
  lines = [f'{a.ljust(widths[0])}  {b.ljust(widths[1])}  {c}' for a, b, c in rows]
  spec, moved = result.spec, [shape for _, shape, target in result.moved if target[0] != '(']
  model = spec.create()
  options = ''.join(f' --{name}={_listed(value)}' for name, value in spec.options.items())
  of = f' of {spec.dataset}' if spec.dataset else ''
  lines += [
    '',
    f'{len(moved)} arrays, {sum(map(math.prod, moved)):,} numbers moved, '
    f'{len(result.moved) - len(moved)} arrays without a place; '
    f'the network has {nn.costs.num_parameters(model.table):,} parameters',
    f'{spec.model}{options}: mean RGB {spec.mean}, '
    + (f'input {spec.input[0]}x{spec.input[1]}, ' if spec.input else '')
    + f'upsampling {spec.upsampling}',
    f'{len(spec.classes)} classes{of}: {", ".join(spec.classes)}',
    *result.notes,
  ]
  return '\n'.join(lines)


def _listed(value) -> str:
  return ','.join(map(str, value)) if isinstance(value, list) else str(value)


def _mean(texts):
  if texts is None:
    return None
  try:
    mean = tuple(float(text) for text in texts)
  except ValueError:
    mean = ()
  if len(mean) != 3 or not all(0 <= value <= 255 for value in mean):
    raise InputError(f'--mean={",".join(texts)}: give three numbers of 0 to 255, red, green, blue')
  return mean


if __name__ == '__main__':
  define_flags()
  cli.run(main)

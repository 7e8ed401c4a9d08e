"""Exported files beside JAX: what they compute, how large they are, how fast onnxruntime is.

Weights are drawn at random, so that classes are about as sure as in a trained network. First every
network, narrow, on pictures of several sizes; then the size of its files at full width; then whole
predictions timed, from bytes to labels.
"""

from collections.abc import Iterator
import importlib.util
from typing import Any

from absl import flags
import jax
import jax.export
import numpy as np

from dilated_jax import inference, models
from dilated_jax.errors import InputError
from dilated_jax.export import onnx, stablehlo
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.nn import geometry

from .. import flag_files, networks, train
from .timing import compare

_VGG = dict(width=1 / 32, fc_channels=16)
_RESNET = dict(width=1 / 16, blocks=(1, 1, 1, 1))
NARROW = {
  'front_end': ('front_end', _VGG),
  'front_end, batch norm': ('front_end', _VGG | dict(norm='batch')),
  'front_end, group norm': ('front_end', _VGG | dict(norm='group', width=1 / 4)),
  'front_end, CRF-RNN': ('front_end', _VGG | dict(crf='rnn')),
  'dilation7': ('dilation7', _VGG),
  'dilation8, basic': ('dilation8', _VGG),
  'dilation8, large': ('dilation8', _VGG | dict(context='large')),
  'dilation10': ('dilation10', _VGG),
  'fcn32s': ('fcn32s', _VGG),
  'fcn16s': ('fcn16s', _VGG),
  'fcn8s': ('fcn8s', _VGG),
  'fcn8s at once, context': ('fcn8s', _VGG | dict(at_once=True, context='basic')),
  'fcn_resnet': ('fcn_resnet', _RESNET),
  'deeplab': ('deeplab', _VGG),
  'deeplab_largefov': ('deeplab_largefov', _VGG),
  'deeplab_largefov, context': ('deeplab_largefov', _VGG | dict(context='basic')),
  'deeplab_msc': ('deeplab_msc', _VGG),
  'deeplab_v2, VGG-16': ('deeplab_v2', _VGG),
  'deeplab_v2, ResNet, three scales': (
    'deeplab_v2', _RESNET | dict(backbone='resnet101', multi_scale=True),
  ),
  'deeplab_v3': ('deeplab_v3', _RESNET),
  'pspnet': ('pspnet', _RESNET),
}  # fmt: skip
SIZES = ((64, 96), (61, 77), (17, 9))
# Whole predictions: name, flags of a network, size of the pictures.
TIMED = (
  ('scenes, context', 'preset:scenes', (240, 320)),
  ('scenes_resnet', 'preset:scenes_resnet', (240, 320)),
  ('scenes_deeplab', 'preset:scenes_deeplab', (240, 320)),
  ('scenes_fcn', 'preset:scenes_fcn', (240, 320)),
  ('front_end, full width', '--model=front_end', (64, 96)),
)
_CLASSES = 5


def run(values) -> Iterator[dict]:
  """Rows of differences, of file sizes and of times."""
  for module in ('onnx', 'onnxruntime', 'flatbuffers'):
    if importlib.util.find_spec(module) is None:
      raise InputError(f'{module} is missing: pip install "dilated_jax[export]" onnxruntime')
  for what, (name, options) in NARROW.items():
    yield {'part': 'narrow network', 'what': what} | differences(segmenter(name, options))
  for name in models.NAMES:
    yield {'part': 'full width', 'what': name} | file_sizes(name)
  yield from times(values)


def differences(network: Segmenter) -> dict:
  """The largest differences of probabilities, and how many labels differ, over all sizes."""
  files = {'stablehlo': _by_jax(stablehlo.export(network))}
  if 'crf' not in network.model.parts:
    files['onnx'] = _by_onnxruntime(onnx.export(network))
  result: dict[str, Any] = {'labels': 0}
  for size in SIZES:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    expected = inference.predict(network, image, tile='whole')
    result['labels'] += expected.labels.size
    for name, run_file in sorted(files.items()):
      labels, probabilities = run_file(image[None])
      off = float(np.abs(probabilities[0] - expected.probabilities).max())
      off_by, differ = f'{name}_off_by', f'{name}_labels_that_differ'
      result[off_by] = max(result.get(off_by, 0.0), off)
      result[differ] = result.get(differ, 0) + int((labels[0] != expected.labels).sum())
  return result


def file_sizes(name: str) -> dict[str, float]:
  """Megabytes of the files of a network as the papers have it, of 21 classes."""
  model = models.create(name, 21)
  shapes = weights_folder.abstract_variables(model)
  rng = np.random.default_rng(0)  # What repeats itself would be compressed.
  weights = jax.tree.map(lambda x: rng.random(x.shape, x.dtype), shapes)
  network = _segmenter(name, {}, 21, weights)
  return {
    'parameters_millions': sum(x.size for x in jax.tree.leaves(shapes['params'])) / 1e6,
    'onnx_mb': len(onnx.export(network)) / 1e6,
    'stablehlo_mb': len(stablehlo.export(network)) / 1e6,
  }


def times(values) -> Iterator[dict]:
  """Predictions timed in turn: JAX beside onnxruntime, and beside a program for any size."""
  for what, flag, size in TIMED:
    given = flags.FlagValues()
    train.define_flags(given)
    given(
      [
        'train',
        *flag_files.expand([f'--flagfile={flag}' if ':' in flag else flag, '--workdir=none']),
      ]
    )
    network = segmenter(given.model, networks.options(given))
    images = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.uint8)
    ours = jax.jit(stablehlo.as_function(network))
    program = jax.jit(jax.export.deserialize(bytearray(stablehlo.export(network))).call)
    session = _session(onnx.export(network))
    for theirs, function in (
      ('onnxruntime', lambda images, session=session: session.run(None, {'images': images})),
      ('StableHLO of any size', program),
    ):
      name = f'{what}, {"x".join(map(str, size))}'
      yield {'part': 'prediction'} | compare(
        name, theirs, ours, function, (images,), values.repeats
      )


def segmenter(name: str, options: dict, classes: int = _CLASSES) -> Segmenter:
  """A network of random weights whose scores have a standard deviation of about 2."""
  model = models.create(name, classes, **options)
  rng = np.random.default_rng(0)

  def drawn(path, like):
    if path[-1].key == 'kernel':
      return rng.normal(0, np.sqrt(2 / np.prod(like.shape[:3])), like.shape).astype(np.float32)
    if path[0].key == 'params' and path[1].key == 'crf':
      return np.eye(classes, dtype=np.float32)
    low, high = (0.5, 1.5) if path[-1].key in ('scale', 'var') else (-0.1, 0.1)
    return rng.uniform(low, high, like.shape).astype(np.float32)

  variables = jax.tree_util.tree_map_with_path(drawn, weights_folder.abstract_variables(model))
  plain = model.without_crf()
  least = geometry.valid_size(plain.table, 2 * plain.margin + 64)
  images = rng.normal(0, 60, (1, least, least, 3)).astype(np.float32)
  apply = jax.jit(plain.apply)
  heads = [
    variables['params']['front_end'][layer.name]
    for layer in plain.front_end_table
    if layer.kind == 'conv' and layer.channels == classes
  ]
  for _ in range(3):  # With biases, and activations behind them, in several steps.
    spread = float(np.std(np.asarray(apply(variables, images))))
    for head in heads:
      head['kernel'] = head['kernel'] * np.float32(2 / spread)
  return _segmenter(name, options, classes, variables)


def _segmenter(name: str, options: dict, classes: int, variables) -> Segmenter:
  names = tuple(f'class {i}' for i in range(classes))
  palette = tuple((i, i, i) for i in range(classes))
  model = models.create(name, classes, **options)
  upsampling = models.upsampling.of_training(model, 'grid')
  spec = models.ModelSpec(
    name, options, names, palette, (120.0, 110.0, 100.0), upsampling=upsampling
  )
  return Segmenter.from_spec(spec, variables)


def _by_jax(content: bytes):
  program = jax.export.deserialize(bytearray(content))
  return lambda images: [np.asarray(each) for each in program.call(images)]


def _session(content: bytes):
  import onnxruntime

  return onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])


def _by_onnxruntime(content: bytes):
  session = _session(content)

  def labels_and_probabilities(images):
    labels, probabilities = session.run(None, {'images': images})
    return labels, probabilities.transpose(0, 2, 3, 1)

  return labels_and_probabilities

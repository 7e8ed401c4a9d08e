"""Writes a network with its weights as one file that other runtimes run.

  dilated-jax export --weights=DIR --output=network.onnx
  dilated-jax export --weights=DIR --output=network.stablehlo

The name says the format (pip install 'dilated_jax[export]'); either file takes any batch, height
and width. ONNX: every network without a CRF-RNN. StableHLO, by jax.export: CRF-RNN included, for
CPUs, CUDA and TPUs; JAX of the next six months reads it. A CRF-RNN on pixels needs
--input_size=HxW, and that file takes this size alone.

--contents=labels takes pictures as bytes and returns label maps and probabilities: mean, reflected
margin and upsampling are part of the file. --contents=network takes what the network itself takes
and returns its logits. A file is run beside JAX before it is written (ONNX where onnxruntime is
installed). Nothing here reads such files back: keep the weights folder.
"""

import dataclasses
import importlib.util

from absl import flags
import numpy as np

import dilated_jax
from dilated_jax import files, inference, models
from dilated_jax.errors import InputError

from . import cli, path_flags

FORMATS = ('.onnx', '.stablehlo')


def define_flags(values=flags.FLAGS):
  path_flags.define('weights', None, 'Weights folder.', required=True, flag_values=values)
  path_flags.define(
    'output', None, 'File to write; its name ends in .onnx or .stablehlo.', required=True,
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_enum(
    'contents', 'labels', ['labels', 'network'],
    'Pictures in and labels out, or what the network itself takes and returns.', flag_values=values,
  )  # fmt: skip
  flags.DEFINE_string(
    'input_size', None, 'The one size of pictures that a .stablehlo file takes, HxW; with '
    '--contents=network of what the network is fed, margins included. Unset: any size.',
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_bool(
    'crf', True, 'With the CRF-RNN of the weights; --nocrf leaves it out.', flag_values=values
  )


def main(values=flags.FLAGS):
  ending = next((end for end in FORMATS if values.output.endswith(end)), None)
  if not ending:
    raise InputError(f'--output={values.output}: the name must end in {" or ".join(FORMATS)}')
  if values.input_size and ending == '.onnx':
    raise InputError('--input_size is not read: ONNX files take any size')
  path_flags.check_file(values, 'output')
  size = cli.parsed('input_size', values.input_size, cli.size) if values.input_size else None
  if size and min(size) < 1:
    raise InputError(f'--input_size={values.input_size}: both sides must be positive')
  segmenter = models.load_weights(values.weights)
  if not values.crf:
    segmenter = segmenter.without_crf()
  elif 'crf' in segmenter.model.parts and ending == '.onnx':
    raise InputError(
      f'{values.weights}: has a CRF-RNN, for which ONNX has no operators; --nocrf leaves it out'
    )
  if ending == '.stablehlo':
    content = dilated_jax.export.stablehlo.export(segmenter, size, values.contents)
    about = f'StableHLO, {" ".join(dilated_jax.export.stablehlo.PLATFORMS)}'
    run, runtime = _by_jax(content), 'the program'
  else:
    content = dilated_jax.export.onnx.export(segmenter, values.contents)
    about = f'ONNX opset {dilated_jax.export.onnx.OPSET}'
    run, runtime = _by_onnxruntime(content), 'onnxruntime'
  if run:
    print(beside_jax(segmenter, size, values.contents, run, runtime))
  else:
    print('not run: pip install onnxruntime, and the file is run beside JAX before it is written')
  files.write_atomic(values.output, content)
  print(f'{len(content) / 1e6:.1f} MB, {about}: {values.output}')


def _by_jax(content: bytes):
  """Runs a StableHLO program: images to the list of its outputs."""
  import jax.export

  call = jax.export.deserialize(bytearray(content)).call

  def run(images):
    found = call(images)
    return [np.asarray(each) for each in (found if isinstance(found, list | tuple) else (found,))]

  return run


def _by_onnxruntime(content: bytes):
  """Runs an ONNX file, in the order of axes that JAX has; None without onnxruntime."""
  if not importlib.util.find_spec('onnxruntime'):
    return None
  import onnxruntime

  session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])

  def run(images):
    given = images if images.dtype == np.uint8 else images.transpose(0, 3, 1, 2)
    found = session.run(None, {'images': given})
    return [each.transpose(0, 2, 3, 1) if each.ndim == 4 else each for each in found]

  return run


def beside_jax(segmenter, size, contents: str, run, runtime: str) -> str:
  """Runs a file on a random picture, and says how far its answer is from that of JAX.

  Raises:
    InputError: it is another answer.
  """
  model, spec, rng = segmenter.model, segmenter.spec, np.random.default_rng(0)
  # If not told, no multiple of the stride, so that padding and cropping are part of it.
  height, width = size or (8 * model.stride + 3, 10 * model.stride + 1)
  if contents == 'labels':
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    as_given = segmenter._replace(spec=dataclasses.replace(spec, image_scale=1.0))
    expected = inference.predict(as_given, image, tile='whole')
    labels, found = run(image[None])
    wrong = int((labels[0] != expected.labels).sum())
    found, expected = found[0], expected.probabilities
    about = f'labels differ in {wrong} of {labels.size:,} pixels, probabilities by'
  else:
    sides = size or [side - side % model.stride + 2 * model.margin for side in (height, width)]
    images = rng.normal(0, 60, (1, *sides, 3)).astype(np.float32)
    expected = np.asarray(model.apply(segmenter.variables, images))
    (found,) = run(images)
    found, expected = (array / np.abs(expected).max() for array in (found, expected))
    about = 'logits differ, relative to the largest, by'
  off = float(np.abs(found - expected).max())
  if not off < 1e-3:
    raise InputError(f'{runtime} gives another answer than JAX: {about} {off:.1g}')
  return f'{runtime} beside JAX: {about} {off:.1g}'


if __name__ == '__main__':
  define_flags()
  cli.run(main)

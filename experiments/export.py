"""Writes a network with its weights as one file that other runtimes run.

  dilated-jax export --weights=DIR --output=network.onnx
  dilated-jax export --weights=DIR --output=network.onnx --contents=network

ONNX (pip install 'dilated_jax[onnx]') of any batch, height and width; every network that labels
pictures, without a CRF-RNN. --contents=labels takes pictures as bytes and returns label maps and
probabilities: mean, reflected margin and upsampling are part of the file. --contents=network takes
what the network itself takes and returns its logits. Layers keep their names, and the file says its
classes, palette, mean and margin. Where onnxruntime is installed, the file is run beside JAX before
it is written.

Nothing here reads such files back: keep the weights folder.
"""

import importlib.util

from absl import flags
import numpy as np

import dilated_jax
from dilated_jax import files, inference, models
from dilated_jax.errors import InputError

from . import cli, path_flags


def define_flags(values=flags.FLAGS):
  path_flags.define('weights', None, 'Weights folder.', required=True, flag_values=values)
  path_flags.define(
    'output', None, 'File to write; its name ends in .onnx.', required=True, flag_values=values
  )
  flags.DEFINE_enum(
    'contents', 'labels', ['labels', 'network'],
    'Pictures in and labels out, or what the network itself takes and returns.', flag_values=values,
  )  # fmt: skip
  flags.DEFINE_bool(
    'crf', True, 'With the CRF-RNN of the weights; --nocrf leaves it out.', flag_values=values
  )


def main(values=flags.FLAGS):
  if not values.output.endswith('.onnx'):
    raise InputError(f'--output={values.output}: the name must end in .onnx')
  segmenter = models.load_weights(values.weights)
  if not values.crf:
    segmenter = segmenter.without_crf()
  elif 'crf' in segmenter.model.parts:
    raise InputError(
      f'{values.weights}: has a CRF-RNN, for which ONNX has no operators; --nocrf leaves it out'
    )
  content = dilated_jax.export.onnx.export(segmenter, values.contents)
  if importlib.util.find_spec('onnxruntime'):
    print(beside_jax(segmenter, content, values.contents))
  else:
    print('not run: pip install onnxruntime, and the file is run beside JAX before it is written')
  files.write_atomic(values.output, content)
  print(f'{len(content) / 1e6:.1f} MB, ONNX opset {dilated_jax.export.onnx.OPSET}: {values.output}')


def beside_jax(segmenter, content: bytes, contents: str) -> str:
  """Runs a file by onnxruntime, and says how far its answer is from that of JAX.

  Raises:
    InputError: it is another answer.
  """
  import onnxruntime

  session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
  model, rng = segmenter.model, np.random.default_rng(0)
  # Not a multiple of the stride, so that padding and cropping are part of it.
  image = rng.integers(0, 256, (8 * model.stride + 3, 10 * model.stride + 1, 3)).astype(np.uint8)
  if contents == 'labels':
    spec = segmenter.spec
    whole = segmenter._replace(spec=models.ModelSpec(**vars(spec) | {'image_scale': 1.0}))
    expected = inference.predict(whole, image, tile='whole')
    labels, found = session.run(None, {'images': image[None]})
    wrong = int((labels[0] != expected.labels).sum())
    found, expected = found[0].transpose(1, 2, 0), expected.probabilities
    about = f'labels differ in {wrong} of {labels.size} pixels, probabilities by'
  else:
    sides = [side - side % model.stride + 2 * model.margin for side in image.shape[:2]]
    given = rng.normal(0, 60, (1, *sides, 3)).astype(np.float32)
    expected = np.asarray(model.apply(segmenter.variables, given))
    (found,) = session.run(None, {'images': given.transpose(0, 3, 1, 2)})
    found, about = found.transpose(0, 2, 3, 1), 'logits differ, of the largest, by'
    expected, found = (array / np.abs(expected).max() for array in (expected, found))
  off = float(np.abs(found - expected).max())
  if not off < 1e-3:
    raise InputError(f'onnxruntime {onnxruntime.__version__} gives another answer: {about} {off:g}')
  return f'onnxruntime {onnxruntime.__version__} beside JAX: {about} {off:.1g}'


if __name__ == '__main__':
  define_flags()
  cli.run(main)

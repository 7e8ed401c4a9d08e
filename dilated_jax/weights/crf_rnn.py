"""The parameters of a published CRF-RNN, from the .caffemodel of the network that it ended."""

import dataclasses

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.weights import caffe
from dilated_jax.weights.mapped import MappedFile


def read(path) -> dict[str, np.ndarray]:
  """Reads the layer of kind MultiStageMeanfield of a .caffemodel.

  Args:
    path: the file; of its other layers nothing is wanted.

  Returns:
    `spatial`, `bilateral` and `compatibility`, (C, C) float32, as `crf.CrfRnn` has them. Caffe's
    layer subtracts what ours adds, so the compatibility changes its sign.

  Raises:
    InputError: there is no such layer or it holds something else; the file is damaged.

  Source: github.com/torrvision/crfasrnn, multi_stage_meanfield.cpp.
  """
  file = MappedFile(path)
  if not caffe.matches(file):
    raise file.fail('is no .caffemodel; the parameters of a CRF-RNN are read from such')
  found = [layer for layer in caffe.read(file).layers if layer.kind == 'MultiStageMeanfield']
  if len(found) != 1:
    raise file.fail(f'has {len(found)} layers of kind MultiStageMeanfield; one is wanted')
  blobs = [blob.reshape([n for n in blob.shape if n > 1] or [1]) for blob in found[0].blobs]
  shapes = [blob.shape for blob in blobs]
  if (
    len(set(shapes)) != 1 or len(shapes) != 3 or len(shapes[0]) != 2 or shapes[0][0] != shapes[0][1]
  ):
    raise file.fail(
      f'{found[0].name} has arrays {shapes}; three square ones of one size are wanted'
    )
  spatial, bilateral, compatibility = (np.array(blob, np.float32) for blob in blobs)
  if not all(np.isfinite(array).all() for array in (spatial, bilateral, compatibility)):
    raise file.fail(f'{found[0].name} holds values that are infinite or not numbers')
  return {'spatial': spatial, 'bilateral': bilateral, 'compatibility': -compatibility}


def attach_crf_rnn(segmenter: Segmenter, path) -> Segmenter:
  """Puts a published CRF-RNN behind a network: on pixels, with its deviations of 160 and 3.

  Args:
    segmenter: the network; a CRF-RNN that it has is replaced.
    path: the .caffemodel of the CRF-RNN.

  Returns:
    The network with it.

  Raises:
    InputError: as `read`, or it is of another number of classes.
  """
  params = read(path)
  classes = len(params['spatial'])
  spec = segmenter.spec.without_crf()
  if classes != len(spec.classes):
    raise InputError(
      f'{path}: its CRF-RNN tells {classes} classes apart, and the network {len(spec.classes)}'
    )
  options = {
    **spec.options,
    'crf': 'rnn',
    'crf_rnn_grid': 'pixels',
    'crf_rnn_upsampling': spec.upsampling,
  }
  if spec.create().full_size:
    del options['crf_rnn_upsampling']
  variables = segmenter.variables
  variables = {**variables, 'params': {**variables['params'], 'crf': params}}
  return Segmenter.from_spec(dataclasses.replace(spec, options=options), variables)

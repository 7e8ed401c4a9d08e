"""Multi-Scale Context Aggregation by Dilated Convolutions (Yu & Koltun, ICLR 2016) in JAX.

  import dilated_jax

  segmenter = dilated_jax.load('runs/camvid/weights')
  prediction = dilated_jax.predict(segmenter, 'street.jpg')
  prediction.labels  # uint8 (H, W): the class of each pixel, see segmenter.spec.classes

Packages, each imported when it is first used:

  nn          networks as tables of layers, their geometry, dilated convolution and its relatives
  models      every network by name; weights folders
  crf         dense CRF and CRF-RNN on the permutohedral lattice
  signal      WaveNet and the algorithme à trous
  images      reading, writing, pairing, preprocessing and drawing images
  data        data sets, batches, audit
  training    the stages of the paper: loop, step, devices, checkpoints
  inference   from an image of any size to a label map
  evaluation  mean IoU and the protocols of the benchmarks
  weights     published weight files of other frameworks
  export      networks as files for other runtimes: ONNX, StableHLO
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from dilated_jax import xla_flags

if TYPE_CHECKING:
  import numpy as np

  from dilated_jax import (
    crf,
    data,
    evaluation,
    export,
    images,
    inference,
    models,
    nn,
    signal,
    training,
    weights,
  )
  from dilated_jax.errors import InputError
  from dilated_jax.inference import Prediction
  from dilated_jax.models import Segmenter
  from dilated_jax.models.protocol import Network

__version__ = '0.1.0'

xla_flags.set_defaults()  # Before JAX makes its first array.

__all__ = [
  'InputError',
  'Prediction',
  'Segmenter',
  '__version__',
  'create_model',
  'crf',
  'data',
  'evaluation',
  'export',
  'images',
  'inference',
  'load',
  'models',
  'nn',
  'predict',
  'signal',
  'training',
  'weights',
]
__getattr__, _, _ = lazy_loader.attach(
  __name__,
  [
    'crf',
    'data',
    'evaluation',
    'export',
    'images',
    'inference',
    'models',
    'nn',
    'signal',
    'training',
    'weights',
  ],
  {
    'errors': ['InputError'],
    'inference.prediction': ['Prediction'],
    'models.segmenter': ['Segmenter'],
  },
)


def __dir__() -> list[str]:
  return __all__


def load(folder) -> Segmenter:
  """Loads a weights folder.

  Args:
    folder: path of a folder that training or conversion wrote.

  Returns:
    A `Segmenter(model, variables, spec)`, which `predict` and everything else takes. For the pure
    function use `segmenter.model.apply(segmenter.variables, images)`, see `create_model`.

  Raises:
    InputError: the folder is no weights folder, is damaged, or doesn't fit its own description.
  """
  from dilated_jax.models import weights_folder

  return weights_folder.load_weights(folder)


def predict(segmenter: Segmenter, image: np.ndarray | str, **options) -> Prediction:
  """Labels an image of any size.

  Args:
    segmenter: from `load`.
    image: uint8 (H, W, 3) RGB, or the path of an image file.
    **options: `scales`, `flip`, `tile` and `refine`, see `inference.predict`.

  Returns:
    A `Prediction` of NumPy arrays: `labels` uint8 (H, W), `probabilities` float32 (H, W, C) and
    `logits` float32 on the network's own grid.

  Raises:
    InputError: the image can't be read, is no uint8 RGB image, or doesn't fit into memory.
  """
  from dilated_jax import inference

  return inference.predict(segmenter, image, **options)


def create_model(name: str, num_classes: int, **options) -> Network:
  """Makes a network by its name; the same as `models.create`.

  Args:
    name: 'front_end', 'dilation7', 'dilation8', 'dilation10', or another of `models.NAMES`.
    num_classes: number of classes.
    **options: such as `context='large'`, see `models.create`.

  Returns:
    A Flax module: `model.init(key, images) -> variables`, `model.apply(variables, images) ->
    logits`, for images float32 (N, H, W, 3), RGB of 0..255 minus the RGB mean.

  Raises:
    InputError: there is no such network or option.
  """
  from dilated_jax import models

  return models.create(name, num_classes, **options)

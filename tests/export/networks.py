"""One network of each kind of layer, narrow and of random weights."""

import jax
import numpy as np

from dilated_jax import models
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter

VGG = dict(width=1 / 32, blocks=(1, 1, 1, 1), fc_channels=16)
RESNET = dict(width=1 / 16, blocks=(1, 1, 1, 1))
NETWORKS = {
  'front end, groups': ('front_end', VGG | dict(norm='group', width=1 / 4, fc_kernel=3)),
  'front end, batch': ('front_end', VGG | dict(norm='batch', stride=4)),
  'large context': ('dilation8', VGG | dict(context='large', fc_kernel=3)),
  'own upsampling': ('dilation10', VGG | dict(fc_kernel=3)),
  'skips at once': ('fcn8s', dict(width=1 / 32, at_once=True, context='basic', fc_channels=8)),
  'poolings of 3x3': ('deeplab_msc', VGG | dict(blocks=(1, 1, 1, 1, 1))),
  'three scales': ('deeplab_v2', dict(VGG, blocks=(1, 1, 1, 1, 1), multi_scale=True)),
  'image mean': ('deeplab_v3', RESNET),
  'pyramid of means': ('pspnet', RESNET | dict(auxiliary=False)),
}


def segmenter(name, upsampling=None, classes=3, gain=1.0, **options) -> Segmenter:
  """A network of random weights, biases and statistics; `gain` is of each kernel."""
  model = models.create(name, classes, **options)
  rng = np.random.default_rng(0)

  def drawn(path, like):
    if path[-1].key == 'kernel':
      deviation = gain * np.sqrt(2 / np.prod(like.shape[:3]))
      return rng.normal(0, deviation, like.shape).astype(np.float32)
    return rng.uniform(0.1, 1, like.shape).astype(np.float32)

  variables = jax.tree_util.tree_map_with_path(drawn, weights_folder.abstract_variables(model))
  names = tuple(f'class {i}' for i in range(classes))
  spec = models.ModelSpec(
    name, options, names, ((1, 2, 3),) * classes, (120.0, 110.0, 100.0),
    upsampling=upsampling or models.upsampling.of_training(model, 'grid'),
  )  # fmt: skip
  return Segmenter.from_spec(spec, variables)

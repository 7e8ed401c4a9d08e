"""Variables and images drawn by NumPy."""

import jax
import numpy as np

from dilated_jax.models import weights_folder


def variables_of(model, seed=0):
  """Variables drawn by NumPy, none zero; compiling `model.init` takes many seconds."""
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    name, normal = path[-1].key, rng.standard_normal(shape.shape, np.float32)
    if name == 'kernel':
      return normal * np.float32(np.sqrt(2 / np.prod(shape.shape[:3])))
    if name in ('scale', 'var'):
      return rng.uniform(0.5, 1.5, shape.shape).astype(np.float32)
    return normal * np.float32(0.1)

  return jax.tree_util.tree_map_with_path(leaf, weights_folder.abstract_variables(model))


def pictures(height, width, count=2, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(-2, 2, (count, height, width, 3)).astype(np.float32)

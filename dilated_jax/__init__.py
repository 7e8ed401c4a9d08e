"""Multi-Scale Context Aggregation by Dilated Convolutions (Yu & Koltun, ICLR 2016) in JAX."""


def load(folder):
  """Opens a weights folder.

  Args:
    folder: with an Orbax checkpoint and `model.json`, as training and conversion leave it.

  Returns:
    (model, variables), ready for `model.apply(variables, images)`; see `models.create` for what
    images are. `checkpoints.load_spec(folder)` tells the classes, the palette and the mean.

  Raises:
    errors.InputError: it is not such a folder, or damaged.
  """
  from dilated_jax.models import weights_folder

  spec, variables = weights_folder.load_weights(folder)
  return spec.create(), variables

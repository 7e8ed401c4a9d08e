"""Which modules have their dtypes and shapes checked by the tests, at every call."""

import jaxtyping

MODULES = (
  'dilated_jax.crf',
  'dilated_jax.evaluation.boundaries',
  'dilated_jax.evaluation.metrics',
  'dilated_jax.evaluation.protocols',
  'dilated_jax.nn.costs',
  'dilated_jax.nn.geometry',
  'dilated_jax.nn.initializers',
  'dilated_jax.nn.ops',
  'dilated_jax.nn.stack',
  'dilated_jax.signal',
  'dilated_jax.training.losses',
)


def check() -> None:
  """Wraps the functions of these modules when they are imported."""
  # A whole number will do for a float, as for Python's static checkers.
  checker = 'beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))'
  jaxtyping.install_import_hook(MODULES, checker)

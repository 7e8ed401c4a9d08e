"""The flags that say how a picture is labeled, for every command that labels pictures."""

import functools
import math

from absl import flags

from dilated_jax import crf
from dilated_jax.errors import InputError

from . import cli

flags.disclaim_key_flags()  # They are flags of the command that calls `define_flags`.

NAMES = (
  'scales', 'flip', 'tile', 'window', 'crf', 'crf_gaussian', 'crf_bilateral', 'crf_iterations',
)  # fmt: skip


def define_flags(values):
  """Defines them; --help tells of them as flags of the command that calls this."""
  flags.DEFINE_list(
    'scales', ['1.0'], 'Average the probabilities of the picture at these sizes.',
    flag_values=values,
  )  # fmt: skip
  flags.register_validator(
    'scales', _are_scales, 'takes numbers above 0 and up to 8, as in 0.75,1,1.25',
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_bool('flip', False, 'Average with the mirrored picture.', flag_values=values)
  flags.DEFINE_string(
    'tile', None, 'HxW: size of what the network is fed at a time; or whole: the whole picture, or '
    'auto: as much of it as fits into memory. Published size for converted weights, else auto.',
    flag_values=values,
  )  # fmt: skip
  flags.register_validator(
    'tile', _is_tile, 'takes HxW, as in 900x900, or whole or auto', flag_values=values
  )
  flags.DEFINE_string(
    'window', None, 'HxW: average overlapping windows of this size, as for PSPNet.',
    flag_values=values,
  )  # fmt: skip
  flags.register_validator('window', _is_size, 'takes HxW, as in 473x473', flag_values=values)
  flags.DEFINE_enum(
    'crf',
    'none',
    ('none', 'dense'),
    'Refine the labels by a dense CRF. (A CRF-RNN is part of the weights, and always runs.)',
    flag_values=values,
  )
  flags.DEFINE_list(
    'crf_gaussian', ['3', '3'], 'Its smoothness: deviation in pixels, weight.', flag_values=values
  )
  flags.DEFINE_list(
    'crf_bilateral', ['80', '13', '10'],
    'Its appearance: deviation in pixels and in color (0..255), weight.', flag_values=values,
  )  # fmt: skip
  for flag, count in (('crf_gaussian', 2), ('crf_bilateral', 3)):
    flags.register_validator(
      flag, functools.partial(_are_positive, count=count),
      f'takes {count} numbers above 0', flag_values=values,
    )  # fmt: skip
  flags.DEFINE_integer('crf_iterations', 10, 'Its mean field.', lower_bound=1, flag_values=values)


def options(values) -> dict:
  """The keyword arguments of `inference.predict` that the flags stand for."""
  tile = values.tile if values.tile in (None, 'whole', 'auto') else cli.size(values.tile)
  window = None if values.window is None else cli.size(values.window)
  scales = tuple(map(float, values.scales))
  return dict(scales=scales, flip=values.flip, tile=tile, window=window, refine=refinement(values))


def refinement(values):
  """The `crf.DenseCrf` that --crf asks for, or None."""
  if values.crf == 'none':
    for name in ('crf_gaussian', 'crf_bilateral', 'crf_iterations'):
      if values[name].present:
        raise InputError(f'--{name} is of the dense CRF; give --crf=dense too')
    return None
  terms = {
    kind: tuple(map(float, values[f'crf_{kind}'].value)) for kind in ('gaussian', 'bilateral')
  }
  return crf.DenseCrf(**terms, iterations=values.crf_iterations)


def _are_positive(texts, count):
  try:
    return len(texts) == count and all(0 < float(text) < math.inf for text in texts)
  except ValueError:
    return False


def _is_tile(text):
  return text in ('whole', 'auto') or _is_size(text)


def _is_size(text):
  try:
    return text is None or min(cli.size(text)) > 0
  except ValueError:
    return False


def _are_scales(texts):
  try:
    return bool(texts) and all(0 < float(text) <= 8 for text in texts)
  except ValueError:
    return False

"""The flags that say how a picture is labeled, for every command that labels pictures."""

import functools
import math

from absl import flags

from dilated_jax import crf
from dilated_jax.errors import InputError

from . import cli

flags.disclaim_key_flags()  # They are flags of the command that calls `define_flags`.

PASSES = ('scales', 'flip', 'tile', 'window')
NAMES = (*PASSES, 'crf', 'crf_gaussian', 'crf_bilateral', 'crf_iterations')


def define_passes(values):
  """Defines those of what the network is fed; --help tells of them as flags of the caller."""
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


def define_flags(values):
  """Defines all of them, as `define_passes`."""
  define_passes(values)
  flags.DEFINE_enum(
    'crf',
    'none',
    ('none', 'dense'),
    'Refine the labels by a dense CRF. (A CRF-RNN is part of the weights, and always runs.)',
    flag_values=values,
  )
  flags.DEFINE_list(
    'crf_gaussian', ['3', '3'],
    'Its smoothness: deviation in pixels, weight; or none, which spares what is thin.',
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_list(
    'crf_bilateral', ['80', '13', '10'],
    'Its appearance: deviation in pixels and in color (0..255), weight; or none.',
    flag_values=values,
  )  # fmt: skip
  for flag, count in (('crf_gaussian', 2), ('crf_bilateral', 3)):
    flags.register_validator(
      flag, functools.partial(_is_term, count=count),
      f'takes {count} numbers above 0, or none', flag_values=values,
    )  # fmt: skip
  flags.DEFINE_integer('crf_iterations', 10, 'Its mean field.', lower_bound=1, flag_values=values)


def options(values) -> dict:
  """The keyword arguments of `inference.predict` that the flags stand for."""
  return passes(values) | {'refine': refinement(values)}


def passes(values) -> dict:
  """Those of them that `define_passes` is about."""
  tile = values.tile if values.tile in (None, 'whole', 'auto') else cli.size(values.tile)
  window = None if values.window is None else cli.size(values.window)
  scales = tuple(map(float, values.scales))
  return dict(scales=scales, flip=values.flip, tile=tile, window=window)


def refinement(values):
  """The `crf.DenseCrf` that --crf asks for, or None."""
  if values.crf == 'none':
    for name in ('crf_gaussian', 'crf_bilateral', 'crf_iterations'):
      if values[name].present:
        raise InputError(f'--{name} is of the dense CRF; give --crf=dense too')
    return None
  terms: dict = {kind: _term(values[f'crf_{kind}'].value) for kind in ('gaussian', 'bilateral')}
  if not any(terms.values()):
    raise InputError('--crf_gaussian=none --crf_bilateral=none leaves no CRF: drop one, or --crf')
  return crf.DenseCrf(**terms, iterations=values.crf_iterations)


def _term(texts) -> tuple[float, ...] | None:
  return None if texts == ['none'] else tuple(map(float, texts))


def _is_term(texts, count):
  try:
    term = _term(texts)
  except ValueError:
    return False
  return term is None or (len(term) == count and all(0 < number < math.inf for number in term))


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

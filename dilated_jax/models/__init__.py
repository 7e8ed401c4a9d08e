"""Networks by name. A model is a Flax module; see `Dilation` and `WaveNet` for how to apply it."""

import functools
import inspect

import jax.numpy as jnp

from dilated_jax import layers
from dilated_jax.errors import InputError
from dilated_jax.models import wavenet
from dilated_jax.models.dilation import Dilation
from dilated_jax.models.structured import Structured

_FRONT_END = {
  name for function in (layers.front_end, layers.vgg) for name in
  inspect.signature(function).parameters
} - {'num_classes', 'vgg_options'}  # fmt: skip
_CONTEXT = {'padding', 'dilations', 'context_channels'}
_RUN = {'dtype', 'remat', 'axis_name'}
# Of the CRF-RNN: the option, and the attribute of `Structured`.
_CRF = {
  'crf_grid': 'grid',
  'crf_upsampling': 'upsampling',
  'crf_train_iterations': 'iterations',
  'crf_iterations': 'test_iterations',
  'crf_bilateral': 'bilateral',
  'crf_train_bandwidths': 'train_bandwidths',
}


def _dilation(num_classes, *, context_layers=0, upsample=False, context='basic', **options):
  def take(names):
    return {name: options[name] for name in names & options.keys()}

  front_end = layers.front_end(num_classes, **take(_FRONT_END))
  context_table = ()
  if context_layers:
    context_table = layers.context(
      num_classes, layers=context_layers, kind=context, **take(_CONTEXT)
    )
  if upsample:
    context_table += layers.upsample(options.get('stride', 8))
  return Dilation(num_classes, front_end, context_table, **take(_RUN))


_MODELS = {
  'front_end': _dilation,
  'dilation7': functools.partial(_dilation, context_layers=7),
  'dilation8': functools.partial(_dilation, context_layers=8),
  'dilation10': functools.partial(_dilation, context_layers=10, upsample=True),
}
NAMES = tuple(_MODELS)  # Of the networks of pictures: what commands offer. WaveNet hears.


def front_end_options(options: dict) -> dict:
  """Those options of a network that its front end alone has too."""
  return {name: value for name, value in options.items() if name in _FRONT_END | _RUN}


def without_crf(options: dict) -> dict:
  """The options of the network that a CRF-RNN refines."""
  return {name: value for name, value in options.items() if name != 'crf' and name not in _CRF}


def create(name: str, num_classes: int, **options):
  """Makes a network of the paper, or its relative that hears.

  Args:
    name: 'front_end' alone, or with the context module of 'dilation7' (KITTI), 'dilation8' (VOC,
      CamVid) or 'dilation10' (Cityscapes; ends in its deconvolution, so its logits are full size);
      or 'wavenet', whose options are those of `wavenet.create`.
    num_classes: number of classes; of a WaveNet, of codes, as a rule 256.
    **options: `context` ('basic' or 'large'), `padding` ('same' or 'buffer'), `dilations` and
      `context_channels`, see `layers.context`; `stride`, `width`, `blocks`, `norm`, `fc_channels`,
      `fc_kernel`, `channels` and `dropout`, see `layers.front_end`; `dtype` ('float32' or
      'bfloat16'), `remat` and `axis_name`, see `Dilation`; `crf` ('none' or 'rnn'), and with the
      latter `crf_grid`, `crf_upsampling`, `crf_bilateral`, `crf_iterations`,
      `crf_train_iterations` and `crf_train_bandwidths`, see `Structured`. The defaults are the
      paper's.

  Returns:
    A Flax module, see `Dilation` and `wavenet.WaveNet`.

  Raises:
    InputError: there is no such network or option.

  >>> import jax
  >>> model = create('dilation8', 21, context='large', width=1 / 16)
  >>> images = jax.numpy.zeros((1, 388, 388, 3))
  >>> variables = jax.jit(model.init)(jax.random.key(0), images)
  >>> jax.jit(model.apply)(variables, images).shape
  (1, 2, 2, 21)
  """
  crf = options.pop('crf', 'none')
  if crf not in ('none', 'rnn'):
    raise InputError(f'crf is {crf!r}; choose none or rnn')
  if crf == 'rnn' and name == 'wavenet':
    raise InputError('a WaveNet has no CRF-RNN: it labels no pictures')
  if crf == 'rnn':
    refining = {_CRF[key]: options.pop(key) for key in _CRF.keys() & options.keys()}
    return _structured(create(name, num_classes, **options), refining)
  if name not in (*NAMES, 'wavenet'):
    raise InputError(f'model is {name!r}; choose one of {", ".join(NAMES)} or wavenet')
  known = _FRONT_END | _RUN
  if name == 'wavenet':
    known = wavenet.OPTIONS
  elif name != 'front_end':
    known = known | _CONTEXT | {'context'}
  for option in options:
    if option in _CRF:
      raise InputError(f'{option} is of a CRF-RNN; give --crf=rnn too')
    if option not in known:
      raise InputError(f'model {name} has no option {option!r}; it has {", ".join(sorted(known))}')
  if name != 'wavenet' and not 2 <= num_classes <= 255:
    raise InputError(
      f'a model of {num_classes} classes; it can have 2 to 255, the ids of an 8-bit label map'
    )
  # Lists come from JSON; tables must be hashable.
  options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
  if 'dtype' in options:
    try:
      options['dtype'] = jnp.dtype(options['dtype'])
    except TypeError as error:
      raise InputError(f'dtype is {options["dtype"]!r}; choose float32 or bfloat16') from error
  if name == 'wavenet':
    return wavenet.create(num_classes, **options)
  return _MODELS[name](num_classes, **options)


def _structured(network, refining: dict) -> Structured:
  """The network with a CRF-RNN behind it."""
  checks = {
    'grid': ('cells or pixels', lambda v: v in ('cells', 'pixels')),
    'upsampling': ('corner or deconvolution', lambda v: v in ('corner', 'deconvolution')),
    'iterations': ('a whole number, 0 or more', lambda v: type(v) is int and v >= 0),
    'test_iterations': ('a whole number, 0 or more', lambda v: type(v) is int and v >= 0),
    'bilateral': ('two deviations above 0', lambda v: len(v) == 2 and all(0 < d < 1e9 for d in v)),
    'train_bandwidths': ('true or false', lambda v: type(v) is bool),
  }
  names = {attribute: option for option, attribute in _CRF.items()}
  for name, value in refining.items():
    wanted, fits = checks[name]
    try:
      good = fits(value)
    except TypeError:
      good = False
    if not good:
      raise InputError(f'{names[name]} is {value!r}; give {wanted}')
  if 'bilateral' in refining:
    refining['bilateral'] = tuple(map(float, refining['bilateral']))
  return Structured(network, **refining)

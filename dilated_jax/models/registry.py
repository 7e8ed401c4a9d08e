"""Networks by name. A model is a Flax module; see `Dilation` and `WaveNet` for how to apply it."""

import inspect
from typing import NamedTuple

import jax.numpy as jnp

from dilated_jax.errors import InputError
from dilated_jax.models import deeplab, fcn, pspnet, resnet
from dilated_jax.models.crf_rnn import CrfRnnModel
from dilated_jax.models.dilation import Architecture, Dilation
from dilated_jax.nn import table as tables
from dilated_jax.signal import wavenet

# Of the CRF-RNN: the option, and the attribute of `CrfRnnModel`.
_CRF = {
  'crf_rnn_grid': 'grid',
  'crf_rnn_upsampling': 'upsampling',
  'crf_rnn_train_iterations': 'iterations',
  'crf_rnn_iterations': 'test_iterations',
  'crf_rnn_bandwidths': 'bilateral',
  'crf_rnn_train_bandwidths': 'train_bandwidths',
}


def _front_end(num_classes, **options) -> Architecture:
  return Architecture(tables.front_end(num_classes, **options))


def _names(*functions) -> frozenset[str]:
  """Names of the options of functions that make tables."""
  names = {name for function in functions for name in inspect.signature(function).parameters}
  return frozenset(name for name in names if not name.endswith(('num_classes', '_options')))


_VGG = _names(tables.vgg)
_FRONT_END = _VGG | _names(tables.front_end)
_RESNET = frozenset({'backbone', 'blocks', 'width', 'norm'})
_CONTEXT = frozenset({'padding', 'dilations', 'context_channels'})
_RUN = frozenset({'dtype', 'remat', 'axis_name'})


class _Kind(NamedTuple):
  """How a network of a name is made.

  Attributes:
    scorer: makes its tables from the number of classes and options.
    options: names of those that one may give it.
    defaults: of its options, where they are not those of `architecture`.
    fixed: options that its name says.
    context: its context module unless told otherwise; None: it has none.
    context_layers: of its context module.
    upsample: whether the context module ends in an upsampling.
  """

  architecture: object
  options: frozenset[str]
  defaults: dict = {}
  fixed: dict = {}
  context: str | None = 'none'
  context_layers: int = 8
  upsample: bool = False


_FCN = _VGG | {'image_padding', 'at_once', 'dropout'}
_LARGE_FOV = frozenset({
  'blocks', 'width', 'norm', 'fc_kernel', 'fc_dilation', 'fc_channels', 'dropout', 'stride',
})  # fmt: skip
_MODELS = {
  'front_end': _Kind(_front_end, _FRONT_END, context=None),
  'dilation7': _Kind(_front_end, _FRONT_END, context='basic', context_layers=7),
  'dilation8': _Kind(_front_end, _FRONT_END, context='basic'),
  'dilation10': _Kind(
    _front_end, _FRONT_END, context='basic', context_layers=10, upsample=True
  ),
  'fcn32s': _Kind(fcn.fcn, _FCN, fixed={'stride': 32}),
  'fcn16s': _Kind(fcn.fcn, _FCN, fixed={'stride': 16}),
  'fcn8s': _Kind(fcn.fcn, _FCN, fixed={'stride': 8}),
  'fcn_resnet': _Kind(fcn.fcn_resnet, _RESNET | {'stride', 'auxiliary'}),
  'deeplab': _Kind(
    deeplab.large_fov, _LARGE_FOV, {'fc_kernel': 7, 'fc_dilation': 4},
    fixed={'fc_width': 4096, 'average': False},
  ),
  'deeplab_largefov': _Kind(deeplab.large_fov, _LARGE_FOV),
  'deeplab_msc': _Kind(deeplab.large_fov, _LARGE_FOV, fixed={'multi_scale_features': True}),
  'deeplab_v2': _Kind(
    deeplab.v2, _RESNET | {'aspp', 'multi_scale', 'dropout', 'stride', 'fc_channels'}
  ),
  'deeplab_v3': _Kind(
    deeplab.v3, _RESNET | {'variant', 'stride', 'multi_grid', 'auxiliary'}
  ),
  'pspnet': _Kind(pspnet.pspnet, _RESNET | {'stride', 'auxiliary', 'dropout'}),
}  # fmt: skip
NAMES = tuple(_MODELS)  # Of the networks of pictures: what commands offer. WaveNet hears.
BACKBONES = ('vgg16', *resnet.BLOCKS)


def front_end_options(options: dict) -> dict:
  """Those options of a network that its front end alone has too."""
  return {name: value for name, value in options.items() if name in _FRONT_END | _RUN}


def without_crf(options: dict) -> dict:
  """The options of the network that a CRF-RNN refines."""
  return {name: value for name, value in options.items() if name != 'crf' and name not in _CRF}


def without_context(name: str, options: dict) -> tuple[str, dict]:
  """Name and options of a network without its context module: of the paper's, the front end.

  >>> without_context('dilation8', {'context': 'large', 'width': 0.5})
  ('front_end', {'width': 0.5})
  """
  if name not in _MODELS or _MODELS[name].architecture is _front_end:
    return 'front_end', front_end_options(options)
  left = options.keys() - _CONTEXT - {'context'}
  return name, {option: value for option, value in options.items() if option in left}


def create(name: str, num_classes: int, **options):
  """Makes a network of the paper, or one of those that it is compared with.

  All but `front_end` can have a context module between their scores and what upsamples them. The
  defaults are the papers'.

  Args:
    name: 'front_end' alone, or with the context module of 'dilation7' (KITTI), 'dilation8' (VOC,
      CamVid) or 'dilation10' (Cityscapes; ends in its deconvolution, so its logits are full size);
      'fcn32s', 'fcn16s', 'fcn8s' (full size too); 'fcn_resnet'; 'deeplab' (fc6 of 7x7),
      'deeplab_largefov', 'deeplab_msc' (multi-scale features), 'deeplab_v2', 'deeplab_v3';
      'pspnet'; or 'wavenet', whose options are those of `wavenet.create`.
    num_classes: number of classes; of a WaveNet, of codes, as a rule 256.
    **options: `context` ('basic' or 'large'; 'none', which all but the networks of the paper have
      unless told), `padding` ('same' or 'buffer'), `dilations` and `context_channels`, see
      `layers.context`; of a scorer on VGG `stride`, `width`, `blocks`, `norm`, `fc_channels`,
      `fc_kernel`, `channels` and `dropout`, see `layers.front_end`, `fcn.fcn`, `deeplab.large_fov`;
      of others see `deeplab.v2`, `deeplab.v3`, `fcn.fcn_resnet` and `pspnet.pspnet`; `dtype`
      ('float32' or 'bfloat16'), `remat` and `axis_name`, see `Dilation`; `crf` ('none' or 'rnn'),
      and with the latter `crf_rnn_grid`, `crf_rnn_upsampling`, `crf_rnn_bandwidths`,
      `crf_rnn_iterations`, `crf_rnn_train_iterations` and `crf_rnn_train_bandwidths`, see
      `CrfRnnModel`.

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
  if name == 'wavenet':
    return _wavenet(num_classes, options)
  crf = options.pop('crf', 'none')
  if crf not in ('none', 'rnn'):
    raise InputError(f'crf is {crf!r}; choose none or rnn')
  if crf == 'rnn':
    refining = {_CRF[key]: options.pop(key) for key in _CRF.keys() & options.keys()}
    return _with_crf_rnn(create(name, num_classes, **options), refining)
  if name not in _MODELS:
    raise InputError(f'model is {name!r}; choose one of {", ".join(NAMES)} or wavenet')
  kind = _MODELS[name]
  known = kind.options | _RUN
  if kind.context:
    known |= _CONTEXT | {'context'}
  for option in options:
    if option in _CRF:
      raise InputError(f'{option} is of a CRF-RNN; give --crf=rnn too')
    if option not in known:
      raise InputError(f'model {name} has no option {option!r}; it has {", ".join(sorted(known))}')
  if not 2 <= num_classes <= 255:
    raise InputError(
      f'a model of {num_classes} classes; it can have 2 to 255, the ids of an 8-bit label map'
    )
  # Lists come from JSON; tables must be hashable.
  options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
  options = _with_dtype(options)

  def take(names):
    return {option: options[option] for option in names & options.keys()}

  architecture = kind.architecture(num_classes, **kind.defaults | take(kind.options) | kind.fixed)
  context, module = (), options.get('context', kind.context)
  if module not in (None, 'none'):
    context = tables.context(num_classes, layers=kind.context_layers, kind=module, **take(_CONTEXT))
  elif take(_CONTEXT):
    raise InputError(f'{", ".join(sorted(take(_CONTEXT)))}: there is no context module to have it')
  if kind.upsample:
    context += tables.upsample(options.get('stride', 8))
  return Dilation(
    num_classes,
    architecture.table,
    context + architecture.upsampling,
    architecture.auxiliary,
    architecture.scales,
    **take(_RUN),
  )


def _wavenet(num_classes, options):
  """The network that hears."""
  for option in options:
    if option not in wavenet.OPTIONS:
      raise InputError(
        f'model wavenet has no option {option!r}; it has {", ".join(sorted(wavenet.OPTIONS))}'
      )
  options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
  return wavenet.create(num_classes, **_with_dtype(options))


def _with_dtype(options: dict) -> dict:
  if 'dtype' not in options:
    return options
  try:
    return options | {'dtype': jnp.dtype(options['dtype'])}
  except TypeError as error:
    raise InputError(f'dtype is {options["dtype"]!r}; choose float32 or bfloat16') from error


def _with_crf_rnn(network, refining: dict) -> CrfRnnModel:
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
  return CrfRnnModel(network, **refining)

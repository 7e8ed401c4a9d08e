"""Networks by name. A model is a Flax module; see `Dilation` and `WaveNet` for how to apply it.

Which networks and options there are is known without JAX: `create` alone imports it.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import numbers
from typing import Any

from dilated_jax.errors import InputError
from dilated_jax.models import deeplab, fcn, front_end, pspnet, resnet
from dilated_jax.models.architecture import Architecture
from dilated_jax.models.options import (
  ComputeOptions,
  ContextOptions,
  CrfRnnOptions,
  NetworkOptions,
  WaveNetOptions,
)
from dilated_jax.nn import table as tables
from dilated_jax.options import Option, Options, describe


@dataclasses.dataclass(frozen=True)
class Network:
  """How a network of a name is made.

  Attributes:
    build: makes its tables from the number of classes and its options.
    options: the dataclass of its options.
    defaults: of its options, where they are not those of the dataclass.
    fixed: options that its name says, which can't be given.
    context_layers: of its context module.
    upsample: whether the context module ends in an upsampling.
  """

  build: Callable[[int, Any], Architecture]
  options: type[NetworkOptions]
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  context_layers: int = 8
  upsample: bool = False


_BASIC = {'context': 'basic'}
_NETWORKS = {
  'front_end': Network(front_end.front_end, front_end.FrontEndOptions),
  'dilation7': Network(
    front_end.front_end, front_end.DilationOptions, _BASIC, context_layers=7
  ),
  'dilation8': Network(front_end.front_end, front_end.DilationOptions, _BASIC),
  'dilation10': Network(
    front_end.front_end, front_end.DilationOptions, _BASIC, context_layers=10, upsample=True
  ),
  'fcn32s': Network(fcn.fcn, fcn.FcnOptions, fixed={'stride': 32}),
  'fcn16s': Network(fcn.fcn, fcn.FcnOptions, fixed={'stride': 16}),
  'fcn8s': Network(fcn.fcn, fcn.FcnOptions, fixed={'stride': 8}),
  'fcn_resnet': Network(
    fcn.fcn_resnet, resnet.ResnetOptions, {'dropout': 0.1}, fixed={'variant': 'torchvision'}
  ),
  'deeplab': Network(
    functools.partial(deeplab.large_fov, fc_width=4096, average=False),
    deeplab.LargeFovOptions, {'fc_dilation': 4},
  ),
  'deeplab_largefov': Network(deeplab.large_fov, deeplab.LargeFovOptions, {'fc_kernel': 3}),
  'deeplab_msc': Network(
    functools.partial(deeplab.large_fov, multi_scale_features=True),
    deeplab.LargeFovOptions, {'fc_kernel': 3},
  ),
  'deeplab_v2': Network(
    deeplab.v2, deeplab.DeepLabV2Options, {'backbone': 'vgg16'},
    fixed={'fc_kernel': 3, 'auxiliary': False},
  ),
  'deeplab_v3': Network(
    deeplab.v3, deeplab.DeepLabV3Options, {'stride': 16}, fixed={'dropout': 0.5}
  ),
  'pspnet': Network(pspnet.pspnet, resnet.ResnetOptions, {'dropout': 0.1, 'auxiliary': True}),
}  # fmt: skip
NAMES = tuple(_NETWORKS)  # Of the networks that label images. WaveNet is an audio network.


def all_options() -> dict[str, Option]:
  """The options of all networks that label images, by name: what commands offer."""
  return {
    name: about
    for network in _NETWORKS.values()
    for name, about in describe(network.options).items()
  }


def parse_options(name: str, given: Mapping[str, Any]) -> Options:
  """The options of a network, checked.

  Args:
    name: of the network.
    given: options by name; lists will do for tuples.

  Returns:
    The dataclass of the network's options; what is not given has the network's default.

  Raises:
    InputError: there is no such network, or it has no such option or not with this value.
  """
  cls, defaults, fixed = _options_of(name)
  known = describe(cls).keys() - fixed.keys()
  for option in given:
    if option not in known:
      others = [other for other in NAMES if option in describe(_NETWORKS[other].options)]
      hint = f'; it is one of {", ".join(others)}' if others and name not in others else ''
      listed = ', '.join(sorted(known))
      raise InputError(f'model {name} has no option {option!r}; it has {listed}{hint}')
  options = cls(**{**defaults, **given, **fixed})
  for part, switch, missing, value in (
    (CrfRnnOptions, 'crf', 'CRF-RNN', 'rnn'),
    (ContextOptions, 'context', 'context module', 'basic'),
  ):
    useless = sorted(describe(part).keys() & given.keys() - {switch})
    if useless and isinstance(options, part) and getattr(options, switch) == 'none':
      names = ', '.join(useless)
      raise InputError(f'{names}: there is no {missing}; give `{switch}={value!r}` too')
  return options


def changed_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
  """Those options of a network that are not its defaults, checked; `json.dumps` can write them.

  >>> changed_options('dilation8', {'context': 'basic', 'blocks': [1, 1], 'stride': 2})
  {'blocks': (1, 1), 'stride': 2}
  """
  return parse_options(name, given).changes(parse_options(name, {}))


def without_crf(options: Mapping[str, Any]) -> dict[str, Any]:
  """The options of the network that a CRF-RNN refines."""
  return {name: options[name] for name in options if name not in describe(CrfRnnOptions)}


def without_context(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
  """Name and options of a network without its context module: of the paper's, the front end.

  >>> without_context('dilation8', {'context': 'large', 'width': 0.5})
  ('front_end', {'width': 0.5})
  """
  if _NETWORKS[name].build is front_end.front_end:
    name = 'front_end'
  return name, {
    option: options[option] for option in options if option not in describe(ContextOptions)
  }


def create(name: str, num_classes: int, **options: Any):
  """Makes a network of the paper, or one of those that it is compared with.

  All but `front_end` can have a context module between their scores and what upsamples them. The
  defaults are the papers'.

  Args:
    name: 'front_end' alone, or with the context module of 'dilation7' (KITTI), 'dilation8' (VOC,
      CamVid) or 'dilation10' (Cityscapes; ends in its deconvolution, so its logits are full size);
      'fcn32s', 'fcn16s', 'fcn8s' (full size too); 'fcn_resnet'; 'deeplab' (fc6 of 7x7),
      'deeplab_largefov', 'deeplab_msc' (multi-scale features), 'deeplab_v2', 'deeplab_v3';
      'pspnet'; or 'wavenet'.
    num_classes: number of classes; of a WaveNet, of codes, as a rule 256.
    **options: such as `context='large'`, `width=0.5` or `dtype='bfloat16'`. Those of all networks
      are the fields of `models.options.NetworkOptions`, those of the context module of
      `ContextOptions`; of single networks see `FrontEndOptions`, `FcnOptions`, `ResnetOptions`,
      `LargeFovOptions`, `DeepLabV2Options`, `DeepLabV3Options` and `WaveNetOptions`.

  Returns:
    A Flax module, see `Dilation` and `wavenet.WaveNet`.

  Raises:
    InputError: there is no such network or option, or the option can't have this value.

  >>> import jax
  >>> model = create('dilation8', 21, context='large', width=1 / 16)
  >>> images = jax.numpy.zeros((1, 388, 388, 3))
  >>> variables = jax.jit(model.init)(jax.random.key(0), images)
  >>> jax.jit(model.apply)(variables, images).shape
  (1, 2, 2, 21)
  """
  if not isinstance(num_classes, numbers.Integral):
    raise InputError(f'a model of {num_classes!r} classes; give a whole number')
  parsed: Any = parse_options(name, options)
  if name == 'wavenet':
    return _wavenet(num_classes, parsed)
  if not 2 <= num_classes <= 255:
    raise InputError(
      f'a model of {num_classes} classes; it can have 2 to 255, the ids of an 8-bit label map'
    )
  from dilated_jax.models.dilation import Dilation

  network = _NETWORKS[name]
  architecture = network.build(num_classes, parsed)
  model = Dilation(
    num_classes,
    architecture.table,
    _context_table(num_classes, network, parsed) + architecture.upsampling,
    architecture.auxiliary,
    architecture.scales,
    dtype=_dtype(parsed),
    remat=parsed.remat,
    axis_name=parsed.axis_name,
  )
  return model if parsed.crf == 'none' else _with_crf_rnn(model, parsed)


def _options_of(name: str) -> tuple[type[Options], Mapping[str, Any], Mapping[str, Any]]:
  """The dataclass of a network's options, its defaults, and what its name fixes."""
  if name == 'wavenet':
    return WaveNetOptions, {}, {}
  if name not in _NETWORKS:
    raise InputError(f'model is {name!r}; choose one of {", ".join(NAMES)} or wavenet')
  network = _NETWORKS[name]
  return network.options, network.defaults, network.fixed


def _context_table(num_classes: int, network: Network, options: NetworkOptions) -> tables.Table:
  """The context module, and the upsampling in which it may end."""
  table = ()
  if isinstance(options, ContextOptions) and options.context != 'none':
    table = tables.context(
      num_classes,
      layers=network.context_layers,
      kind=options.context,
      padding=options.padding,
      dilations=options.dilations,
      context_channels=options.context_channels,
    )
  return table + (tables.upsample(options.stride) if network.upsample else ())


def _with_crf_rnn(model, options: CrfRnnOptions):
  """The network with a CRF-RNN behind it."""
  from dilated_jax.models.crf_rnn import CrfRnnModel

  return CrfRnnModel(
    model,
    grid=options.crf_rnn_grid,
    upsampling=options.crf_rnn_upsampling,
    iterations=options.crf_rnn_train_iterations,
    test_iterations=options.crf_rnn_iterations,
    bilateral=options.crf_rnn_bandwidths,
    train_bandwidths=options.crf_rnn_train_bandwidths,
  )


def _wavenet(num_classes: int, options: WaveNetOptions):
  """The audio network."""
  if not 2 <= num_classes <= 65536:
    raise InputError(f'a WaveNet of {num_classes} codes; it can have 2 to 65536')
  from dilated_jax.signal import wavenet

  dilations = options.dilations or options.blocks * tuple(2**i for i in range(options.layers))
  table = wavenet.stack(dilations, options.channels, options.skip_channels, num_classes)
  return wavenet.WaveNet(num_classes, table, _dtype(options))


def _dtype(options: ComputeOptions):
  import jax.numpy as jnp

  return jnp.dtype(options.dtype)

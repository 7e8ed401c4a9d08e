"""The flags that say which network, for every command that makes one."""

from absl import flags

from dilated_jax import models

from . import cli

# What is not given is as in the paper.
OPTIONS = (
  'context', 'padding', 'dilations', 'width', 'blocks', 'stride', 'fc_channels', 'fc_kernel',
  'dropout', 'norm', 'dtype', 'remat', 'backbone', 'variant', 'multi_grid', 'aspp', 'multi_scale',
  'auxiliary', 'fc_dilation', 'image_padding', 'at_once', 'crf', 'crf_rnn_grid',
  'crf_rnn_bandwidths', 'crf_rnn_train_iterations', 'crf_rnn_iterations',
  'crf_rnn_train_bandwidths',
)  # fmt: skip
FLAGS = ('model', *OPTIONS)


def define_flags(values):
  """Defines --model and its options; `flags.declare_key_flag` makes --help tell of them."""
  into = {'flag_values': values}
  flags.DEFINE_enum('model', 'dilation8', models.NAMES, 'Network.', **into)
  flags.DEFINE_enum('context', None, ('none', 'basic', 'large'), 'Context module.', **into)
  flags.DEFINE_enum('padding', None, ('same', 'buffer'), 'Padding of the context module.', **into)
  flags.DEFINE_list('dilations', None, 'Dilations of the 3x3 layers of the context module.', **into)
  flags.DEFINE_float(
    'width', None, 'Factor on the channels of the front end.', lower_bound=0.001, **into
  )
  flags.DEFINE_list('blocks', None, 'Convolutions in each block of the front end.', **into)
  flags.DEFINE_integer(
    'stride', None, 'Pixels between cells of the output grid.', lower_bound=1, **into
  )
  flags.DEFINE_integer('fc_channels', None, 'Channels of fc6 and fc7.', lower_bound=1, **into)
  flags.DEFINE_integer('fc_kernel', None, 'Taps per axis of fc6.', lower_bound=1, **into)
  flags.DEFINE_float('dropout', None, 'Share of fc6 and fc7 dropped.', 0.0, 1.0, **into)
  flags.DEFINE_enum(
    'norm', None, ('none', 'group', 'batch'), 'Normalization of the front end.', **into
  )
  flags.DEFINE_enum('dtype', None, ('float32', 'bfloat16'), 'Of the computation.', **into)
  flags.DEFINE_enum('crf', None, ('none', 'rnn'), 'CRF-RNN behind the network.', **into)
  flags.DEFINE_enum(
    'crf_rnn_grid', None, ('cells', 'pixels'), 'Where it works: on the network grid, or on pixels.',
    **into,
  )  # fmt: skip
  flags.DEFINE_list(
    'crf_rnn_bandwidths', None, 'Its deviations of appearance, in pixels and in color.', **into
  )
  flags.DEFINE_integer(
    'crf_rnn_train_iterations', None, 'Its iterations in training.', lower_bound=0, **into
  )
  flags.DEFINE_integer(
    'crf_rnn_iterations', None, 'Its iterations otherwise.', lower_bound=0, **into
  )
  flags.DEFINE_bool('crf_rnn_train_bandwidths', None, 'Train its deviations too.', **into)
  flags.DEFINE_bool(
    'remat', None, 'Recompute activations in the backward pass: less memory.', **into
  )
  flags.DEFINE_enum(
    'backbone', None, models.BACKBONES, 'Of deeplab_v2, deeplab_v3, fcn_resnet and pspnet.', **into
  )
  flags.DEFINE_enum('variant', None, ('paper', 'torchvision'), 'Which deeplab_v3 is meant.', **into)
  flags.DEFINE_list(
    'multi_grid', None, 'Factors on dilations in the last group of deeplab_v3.', **into
  )
  flags.DEFINE_enum('aspp', None, ('small', 'large'), 'Dilations of deeplab_v2.', **into)
  flags.DEFINE_bool('multi_scale', None, 'deeplab_v2 sees the picture at three sizes.', **into)
  flags.DEFINE_bool(
    'auxiliary', None, 'A second loss in training, of the third group of a ResNet.', **into
  )
  flags.DEFINE_integer('fc_dilation', None, 'Of fc6 of DeepLab.', lower_bound=1, **into)
  flags.DEFINE_integer(
    'image_padding', None, 'Zeros around the picture of fcn32s, 16s, 8s.', lower_bound=0, **into
  )
  flags.DEFINE_bool('at_once', None, 'fcn16s and 8s scale their skips down at first.', **into)


def options(values) -> dict:
  """The network's options of the flags, as `models.create` takes them."""
  given = {name: values[name].value for name in OPTIONS if values[name].value is not None}
  for name in ('dilations', 'blocks', 'multi_grid'):
    if name in given:
      given[name] = [cli.parsed(name, text, cli.count) for text in given[name]]
  if 'crf_rnn_bandwidths' in given:
    given['crf_rnn_bandwidths'] = [
      cli.parsed('crf_rnn_bandwidths', text, float) for text in given['crf_rnn_bandwidths']
    ]
  return given

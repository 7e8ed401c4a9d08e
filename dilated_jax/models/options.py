"""The options that several networks share; those of one family stand in its own file.

Each option is one field of one class, and a network's options are a class that inherits those that
it has. None is a value where what is published depends on the network or on another option.
"""

import dataclasses
from typing import Literal

from dilated_jax.options import Options, option

Norm = Literal['none', 'group', 'batch']


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
  """Of all networks, the audio network included."""

  dtype: Literal['float32', 'bfloat16'] = option('float32', 'Type of the computation.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrfRnnOptions(Options):
  """A CRF-RNN behind a network, see `crf_rnn.CrfRnnModel`."""

  crf: Literal['none', 'rnn'] = option('none', 'CRF-RNN behind the network.')
  crf_rnn_grid: Literal['cells', 'pixels'] = option(
    'cells', 'Where the CRF-RNN works: on the network grid, or on pixels.'
  )
  # No flag: the network has to be upsampled as it was trained, which its command knows.
  crf_rnn_upsampling: Literal['corner', 'corner_logits', 'deconvolution'] = option(
    'corner', 'How logits are upsampled for a CRF-RNN on pixels.', flag=False
  )
  crf_rnn_bandwidths: tuple[float, float] = option(
    (160.0, 3.0), 'Standard deviations of the appearance kernel of the CRF-RNN, in pixels and in '
    'color.', above=0, high=1_000_000,
  )  # fmt: skip
  crf_rnn_train_iterations: int = option(
    5, 'Iterations of the CRF-RNN in training.', low=0, high=1000
  )
  crf_rnn_iterations: int = option(10, 'Iterations of the CRF-RNN otherwise.', low=0, high=1000)
  crf_rnn_train_bandwidths: bool = option(
    False, 'Train the standard deviations of the CRF-RNN too.'
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextOptions(Options):
  """The context module, see `nn.table.context`."""

  context: Literal['none', 'basic', 'large'] = option('none', 'Context module.')
  padding: Literal['same', 'buffer'] | None = option(
    None, 'Padding of the context module: of each layer, or all of it at once.'
  )
  dilations: tuple[int, ...] | None = option(
    None, 'Dilations of the 3x3 layers of the context module.', low=1, high=1 << 15
  )
  context_channels: tuple[int, ...] | None = option(
    None, 'Channels of the 3x3 layers of the context module.', low=1, high=1 << 14
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions(CrfRnnOptions, ComputeOptions):
  """Of all networks that label images."""

  blocks: tuple[int, ...] | None = option(
    None,
    'Convolutions in each block of VGG, or residual units in each group of ResNet.',
    low=1,
    high=200,
  )
  width: float = option(1.0, 'Factor on the channels of the front end.', above=0, high=1000)
  norm: Norm | None = option(None, 'Normalization; as published, none in VGG and batch in ResNet.')
  stride: int = option(8, 'Pixels between cells of the output grid.', low=1, high=1 << 10)
  dropout: float = option(
    0.5, 'Share of the last hidden layers dropped in training.', low=0, below=1
  )
  remat: bool = option(False, 'Recompute activations in the backward pass: less memory.')
  # No flag: the training step sets it.
  axis_name: str | None = option(
    None, 'Axis of devices over which batch normalization averages.', flag=False
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VggOptions(NetworkOptions):
  """Of networks on VGG-16."""

  fc_channels: int | None = option(None, 'Channels of fc6 and fc7.', low=1, high=1 << 20)
  fc_kernel: int = option(7, 'Taps per axis of fc6.', low=1, high=1000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveNetOptions(ComputeOptions):
  """Of the audio network, see `signal.wavenet`."""

  # Flags of other names: those of these names are of networks that label images.
  blocks: int = option(3, 'Blocks of dilations 1, 2, 4, ...', low=1, high=1000, flag='num_blocks')
  layers: int = option(
    10, 'Layers of a block; the dilation doubles in each.', low=1, high=24, flag='num_layers'
  )
  dilations: tuple[int, ...] | None = option(
    None, 'Dilations of all layers, instead.', low=1, high=1 << 24, flag=False
  )
  channels: int = option(32, 'Channels between the layers.', low=1, high=1 << 20)
  skip_channels: int = option(128, 'Channels into the head.', low=1, high=1 << 20)

"""The front end of the paper (section 4): VGG-16, dilated."""

import dataclasses

from dilated_jax.models.architecture import Architecture
from dilated_jax.models.options import ContextOptions, VggOptions
from dilated_jax.nn import table as tables
from dilated_jax.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontEndOptions(VggOptions):
  """Of the front end alone."""

  channels: tuple[int, ...] | None = option(
    None, 'Channels of each layer from conv1_1 to fc7, instead of those that the width gives.',
    low=1, high=1 << 20, flag='layer_channels',
  )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class DilationOptions(ContextOptions, FrontEndOptions):
  """Of the front end and its context module."""


def front_end(num_classes: int, options: FrontEndOptions) -> Architecture:
  """The front end, see `nn.table.front_end`."""
  table = tables.front_end(
    num_classes, stride=options.stride, dropout=options.dropout, **vgg_arguments(options)
  )
  return Architecture(table)


def vgg_arguments(options: FrontEndOptions) -> dict:
  """What `nn.table.vgg` takes of the options; what is None is left to it."""
  arguments = dict(
    blocks=options.blocks,
    width=options.width,
    norm=options.norm,
    fc_channels=options.fc_channels,
    fc_kernel=options.fc_kernel,
    channels=options.channels,
  )
  return {name: value for name, value in arguments.items() if value is not None}

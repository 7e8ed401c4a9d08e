"""What a network is made of besides its context module and its CRF-RNN."""

from typing import NamedTuple

from dilated_jax.nn.table import Table


class Architecture(NamedTuple):
  """The tables of a network without a context module.

  Attributes:
    table: up to the class scores.
    upsampling: behind them, up to full size; may be empty.
    auxiliary: rows behind `table` whose last is an auxiliary answer, for training; may be empty.
    scales: at which the network sees the image, see `Dilation`.
  """

  table: Table
  upsampling: Table = ()
  auxiliary: Table = ()
  scales: tuple[float, ...] = (1.0,)

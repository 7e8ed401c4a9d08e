"""The layers of a table as a module of PyTorch, in this process."""

from dilated_jax.nn.table import Table

from ..peers import layers_of, torch_networks


def TorchStack(table: Table, channels: int = 3) -> torch_networks.TorchStack:
  """The network, for inputs of `channels`; (N, C, H, W) in and out."""
  return torch_networks.TorchStack(layers_of(table, channels))

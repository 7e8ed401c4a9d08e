"""The layers of a table as a module of PyTorch."""

import torch
from torch import nn
from torch.nn import functional

from dilated_jax.nn import costs
from dilated_jax.nn.stack import group_count
from dilated_jax.nn.table import Layer, Table, input_indices, last_uses


class TorchStack(nn.Module):
  """Runs a table as `nn.stack.Stack` does; (N, C, H, W) in and out, `channels` of them in."""

  def __init__(self, table: Table, channels: int = 3):
    super().__init__()
    self.table = table
    self.convolutions, self.norms = nn.ModuleDict(), nn.ModuleDict()
    for _, layer, inputs, outputs in costs.convolutions(table, channels):
      self.convolutions[layer.name] = nn.Conv2d(
        inputs, outputs, layer.kernel, layer.stride, layer.padding, layer.dilation, bias=layer.bias
      )
      if layer.norm == 'batch':
        self.norms[layer.name] = nn.BatchNorm2d(outputs, momentum=0.05)
      elif layer.norm == 'group':
        self.norms[layer.name] = nn.GroupNorm(group_count(outputs), outputs, eps=1e-6)

  def forward(self, x):
    reads, last_use, outputs = input_indices(self.table), last_uses(self.table), {-1: x}
    for row, layer in enumerate(self.table):
      outputs[row] = self._run(layer, [outputs[index] for index in reads[row]])
      for index in set(reads[row]):
        if last_use[index] == row:
          del outputs[index]
    return outputs[len(self.table) - 1]

  def _run(self, layer: Layer, inputs: list):
    x, window = inputs[0], (layer.kernel, layer.stride, layer.padding)
    if layer.kind == 'conv':
      x = self.convolutions[layer.name](x * layer.input_scale if layer.input_scale != 1 else x)
      if layer.name in self.norms:
        x = self.norms[layer.name](x)
    elif layer.kind == 'max_pool':
      x = functional.max_pool2d(x, *window, ceil_mode=layer.round_up)
    elif layer.kind == 'avg_pool':
      x = functional.avg_pool2d(x, *window, ceil_mode=layer.round_up)
    elif layer.kind == 'adaptive_avg_pool':
      x = functional.adaptive_avg_pool2d(x, layer.kernel)
    elif layer.kind == 'deconv':
      x = bilinear(x, layer.stride, layer.padding)
    elif layer.kind == 'resize':
      x = functional.interpolate(x, inputs[1].shape[2:], mode='bilinear', align_corners=True)
    elif layer.kind == 'crop':
      x = x[:, :, -layer.padding :, -layer.padding :]
    else:
      rows, columns = (min(x.shape[axis] for x in inputs) for axis in (2, 3))
      inputs = [x[:, :, :rows, :columns] for x in inputs]
      x = torch.cat(inputs, 1) if layer.kind == 'concat' else sum(inputs[1:], inputs[0])
    if layer.activation == 'relu':
      x = functional.relu(x)
    return functional.dropout(x, layer.dropout, self.training) if layer.dropout else x


def bilinear(x, stride: int, padding: int):
  """The fixed upsampling of FCN and Dilation10: a transposed convolution of each channel."""
  size = 2 * stride - stride % 2
  tent = 1 - (torch.arange(size, device=x.device) - (size - 1) / 2).abs() / stride
  kernel = torch.outer(tent, tent).to(x.dtype).expand(x.shape[1], 1, -1, -1)
  return functional.conv_transpose2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])

"""Networks in PyTorch, from the layers of a table as plain data; imports nothing of ours.

Layers come from `peers.layers_of`. Functions make a call of no arguments, channels last, on a GPU
where there is one and else on every core.
"""

import contextlib
import ctypes
import os

import torch
from torch import nn
from torch.nn import functional

MEAN = 115.0


def version():
  """Of what is measured."""
  return 'PyTorch ' + torch.__version__


def wait():
  """Waits for what is queued on a GPU."""
  if torch.cuda.is_available():
    torch.cuda.synchronize()


def device_peak_mib(call):
  """MiB of a GPU's memory that a call takes at its peak; None without a GPU."""
  if not torch.cuda.is_available():
    return None
  torch.cuda.reset_peak_memory_stats()
  before = torch.cuda.memory_allocated()
  call()
  wait()
  return (torch.cuda.max_memory_allocated() - before) / 2**20


def plain(result):
  """A tensor as dtype, shape and bytes; several as a list."""
  if isinstance(result, (list, tuple)):
    return [plain(each) for each in result]
  result = result.detach().cpu().float().contiguous()
  content = ctypes.string_at(result.data_ptr(), result.numel() * result.element_size())
  return 'array', 'float32', tuple(result.shape), content


def tensor(given):
  """A tensor, from an array of NumPy or from what `plain` makes of one."""
  if isinstance(given, (list, tuple)):
    _, dtype, shape, content = given
    return torch.frombuffer(bytearray(content), dtype=getattr(torch, dtype)).reshape(shape)
  return torch.from_numpy(given)


def product(a, b):
  """The product of two matrices."""
  return elementary(torch.matmul, a, b)


def triad(a, b):
  """A + 3 b, as one operation."""
  return elementary(lambda a, b: torch.add(a, b, alpha=3), a, b)


def elementary(function, a, b):
  """A function of two tensors."""
  device = use_device()
  a, b = tensor(a).to(device), tensor(b).to(device)

  def call():
    with torch.inference_mode():
      return function(a, b)

  return call


def forward(layers, x, **how):
  """The outputs of a network for x, float32 (N, H, W, C)."""
  run, _, x, precision = prepared(layers, x, training=False, **how)

  def call():
    with torch.inference_mode(), precision():
      return run(x)

  return call


def gradients(layers, x, wrt=('x', 'weights'), **how):
  """The mean of the squared outputs, with its gradients to x, to the weights or to both."""
  run, network, x, precision = prepared(layers, x, training=False, **how)
  weights = list(network.parameters()) if 'weights' in wrt else []
  if not weights:
    network.requires_grad_(False)
  of = [x.requires_grad_()] if 'x' in wrt else []

  def call():
    with precision():
      loss = (run(x).float() ** 2).mean()
    return torch.autograd.grad(loss, of + weights)

  return call


def training_step(
  layers, images, label, optimizer='sgd', learning_rate=1e-4, momentum=0.9, weight_decay=5e-4,
  upsampling=1, class_weights=None, **how
):  # fmt: skip
  """One step of a network: cross-entropy, its gradient and the update; returns the loss.

  images: uint8 (N, H, W, 3), of which the mean is subtracted in the step, or float32 features.
  label: integers (N, h, w) at the size of the outputs, which may be larger; 255 is ignored.
  upsampling: factor by which the outputs are enlarged before they meet the labels.
  """
  run, network, images, precision = prepared(layers, images, training=True, **how)
  label = tensor(label).long().to(images.device)
  weights, decayed = network.parameters(), {'weight_decay': weight_decay, 'fused': True}
  if class_weights is not None:
    class_weights = tensor(class_weights).to(images.device)
  if optimizer == 'sgd':
    update = torch.optim.SGD(weights, learning_rate, momentum, **decayed)
  else:
    update = torch.optim.AdamW(weights, learning_rate, **decayed)

  def call():
    update.zero_grad()
    with precision():
      scores = run(images if images.is_floating_point() else images.float() - MEAN)
    scores = scores.float()
    if upsampling != 1:
      scores = functional.interpolate(scores, scale_factor=upsampling, mode='bilinear')
    rows, columns = (min(a, b) for a, b in zip(scores.shape[2:], label.shape[1:]))
    loss = functional.cross_entropy(
      scores[:, :, :rows, :columns], label[:, :rows, :columns], class_weights, ignore_index=255
    )
    loss.backward()
    update.step()
    return loss.detach()

  return call


def prepared(layers, x, training, dtype='float32', compiled=False):
  """What runs (the network, or compiled), the network, x and a context of the precision."""
  torch.manual_seed(0)
  device = use_device()
  x = tensor(x).to(device).permute(0, 3, 1, 2)
  network = TorchStack(layers).to(device, memory_format=torch.channels_last).train(training)

  def precision():
    if dtype == 'bfloat16':
      return torch.autocast(device, torch.bfloat16)
    return contextlib.nullcontext()

  return torch.compile(network) if compiled else network, network, x, precision


def use_device():
  """'cuda' with TF32 where there is a GPU, else 'cpu' with as many threads as it may use cores."""
  if torch.cuda.is_available():
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    return 'cuda'
  allowed = hasattr(os, 'sched_getaffinity')
  torch.set_num_threads(len(os.sched_getaffinity(0)) if allowed else os.cpu_count())
  return 'cpu'


class TorchStack(nn.Module):
  """Runs layers as `nn.stack.Stack` does; (N, C, H, W) in and out."""

  def __init__(self, layers):
    super().__init__()
    self.layers = layers
    self.convolutions, self.norms = nn.ModuleDict(), nn.ModuleDict()
    for layer in layers:
      if layer['kind'] != 'conv':
        continue
      window = (layer[name] for name in ('kernel', 'stride', 'padding', 'dilation'))
      outputs = layer['out_channels']
      self.convolutions[layer['name']] = nn.Conv2d(
        layer['in_channels'], outputs, *window, bias=layer['bias']
      )
      if layer['norm'] == 'batch':
        self.norms[layer['name']] = nn.BatchNorm2d(outputs, momentum=0.05)
      elif layer['norm'] == 'group':
        self.norms[layer['name']] = nn.GroupNorm(layer['norm_groups'], outputs, eps=1e-6)

  def forward(self, x):
    outputs = {-1: x}
    for row, layer in enumerate(self.layers):
      outputs[row] = self._run(layer, [outputs[index] for index in layer['reads']])
      for index in layer['last_reads']:
        del outputs[index]
    return outputs[len(self.layers) - 1]

  def _run(self, layer, inputs):
    x, kind = inputs[0], layer['kind']
    window = (layer['kernel'], layer['stride'], layer['padding'])
    if kind == 'conv':
      scale = layer['input_scale']
      x = self.convolutions[layer['name']](x * scale if scale != 1 else x)
      if layer['name'] in self.norms:
        x = self.norms[layer['name']](x)
    elif kind == 'max_pool':
      x = functional.max_pool2d(x, *window, ceil_mode=layer['round_up'])
    elif kind == 'avg_pool':
      x = functional.avg_pool2d(x, *window, ceil_mode=layer['round_up'])
    elif kind == 'adaptive_avg_pool':
      x = functional.adaptive_avg_pool2d(x, layer['kernel'])
    elif kind == 'deconv':
      x = bilinear(x, layer['stride'], layer['padding'])
    elif kind == 'resize':
      x = functional.interpolate(x, inputs[1].shape[2:], mode='bilinear', align_corners=True)
    elif kind == 'crop':
      x = x[:, :, -layer['padding'] :, -layer['padding'] :]
    else:
      rows, columns = (min(x.shape[axis] for x in inputs) for axis in (2, 3))
      inputs = [x[:, :, :rows, :columns] for x in inputs]
      x = torch.cat(inputs, 1) if kind == 'concat' else sum(inputs[1:], inputs[0])
    if layer['activation'] == 'relu':
      x = functional.relu(x)
    return functional.dropout(x, layer['dropout'], self.training) if layer['dropout'] else x


def bilinear(x, stride, padding):
  """The fixed upsampling of FCN and Dilation10: a transposed convolution of each channel."""
  size = 2 * stride - stride % 2
  tent = 1 - (torch.arange(size, device=x.device) - (size - 1) / 2).abs() / stride
  kernel = torch.outer(tent, tent).to(x.dtype).expand(x.shape[1], 1, -1, -1)
  return functional.conv_transpose2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])

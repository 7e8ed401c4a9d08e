"""VGG and ResNet with the modules, and so the names, of torchvision and timm, of any width."""

import torch
from torch import nn
from torch.nn import functional


def conv(inputs, outputs, kernel=1, **options):
  options = dict(bias=False, padding=options.get('dilation', 1) * (kernel // 2)) | options
  return nn.Conv2d(inputs, outputs, kernel, **options)


def normed(inputs, outputs, kernel=1, **options):
  return nn.Sequential(conv(inputs, outputs, kernel, **options), nn.BatchNorm2d(outputs), nn.ReLU())


class BasicBlock(nn.Module):
  """Two 3x3 convolutions, of which the first steps; torchvision's is never dilated."""

  expansion = 1

  def __init__(self, inputs, planes, stride, dilation, after):
    super().__init__()
    self.conv1 = conv(inputs, planes, 3, stride=stride, dilation=dilation)
    self.conv2 = conv(planes, planes, 3, dilation=after)
    self.bn1, self.bn2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)
    self.downsample = None
    if stride > 1 or dilation != after or inputs != planes:
      self.downsample = normed(inputs, planes, stride=stride)[:2]

  def forward(self, x):
    y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
    return (y + (self.downsample(x) if self.downsample else x)).relu()


class Bottleneck(nn.Module):
  expansion = 4

  def __init__(self, inputs, planes, stride, dilation, after):
    super().__init__()
    del after
    self.conv1, self.bn1 = conv(inputs, planes), nn.BatchNorm2d(planes)
    self.conv2 = conv(planes, planes, 3, stride=stride, dilation=dilation)
    self.bn2 = nn.BatchNorm2d(planes)
    self.conv3, self.bn3 = conv(planes, 4 * planes), nn.BatchNorm2d(4 * planes)
    self.downsample = None
    if inputs != 4 * planes:
      self.downsample = normed(inputs, 4 * planes, stride=stride)[:2]

  def forward(self, x):
    y = self.bn1(self.conv1(x)).relu()
    y = self.bn3(self.conv3(self.bn2(self.conv2(y)).relu()))
    return (y + (self.downsample(x) if self.downsample else x)).relu()


class ResNet(nn.Module):
  """Up to the fourth group.

  Args:
    unit: BasicBlock or Bottleneck.
    dilated: as torchvision's replace_stride_with_dilation=(False, True, True).
    deep: three 3x3 convolutions at first, as resnet50s of timm.
    classes: of the classifier, of which the weights are kept and nothing is asked; None: none.
  """

  def __init__(self, blocks, width, unit=Bottleneck, dilated=True, deep=False, classes=None):
    super().__init__()
    inputs = round(64 * width)
    self.conv1 = conv(3, inputs, 7, stride=2)
    if deep:
      self.conv1 = nn.Sequential(
        *normed(3, inputs, 3, stride=2), *normed(inputs, inputs, 3), conv(inputs, 2 * inputs, 3)
      )
      inputs *= 2
    self.bn1 = nn.BatchNorm2d(inputs)
    dilation = 1
    for group, units in enumerate(blocks, 1):
      planes, stride, before = round(64 * width) * 2 ** (group - 1), min(group, 2), dilation
      if group > 2 and dilated:
        stride, dilation = 1, dilation * 2
      layer = []
      for index in range(units):
        steps = (stride, before) if index == 0 else (1, dilation)
        layer.append(unit(inputs, planes, *steps, dilation))
        inputs = unit.expansion * planes
      self.add_module(f'layer{group}', nn.Sequential(*layer))
    if classes:
      self.fc = nn.Linear(inputs, classes)

  def forward(self, x):
    """What the third and the fourth group return."""
    x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
    third = self.layer3(self.layer2(self.layer1(x)))
    return third, self.layer4(third)


class Vgg(nn.Module):
  """Of torchvision's names; its dense layers see 7 x 7 cells."""

  def __init__(self, blocks, channels, dense, normalized, classes):
    super().__init__()
    layers, inputs = [], 3
    for count, outputs in zip(blocks, channels, strict=True):
      for _ in range(count):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        layers += [nn.BatchNorm2d(outputs)] if normalized else []
        layers.append(nn.ReLU())
        inputs = outputs
      layers.append(nn.MaxPool2d(2, 2))
    self.features = nn.Sequential(*layers)
    self.classifier = nn.Sequential(
      nn.Linear(49 * inputs, dense), nn.ReLU(), nn.Dropout(),
      nn.Linear(dense, dense), nn.ReLU(), nn.Dropout(), nn.Linear(dense, classes),
    )  # fmt: skip


def randomized(network, seed=0):
  """The network for evaluation, with statistics and scales of normalizations drawn too."""
  generator = torch.Generator().manual_seed(seed)
  for module in network.modules():
    if isinstance(module, nn.Conv2d | nn.Linear):
      nn.init.kaiming_normal_(module.weight, nonlinearity='relu', generator=generator)
      if module.bias is not None:
        nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    if isinstance(module, nn.BatchNorm2d):
      nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
      nn.init.normal_(module.bias, 0, 0.1, generator=generator)
      nn.init.normal_(module.running_mean, 0, 0.1, generator=generator)
      nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)
  return network.eval()

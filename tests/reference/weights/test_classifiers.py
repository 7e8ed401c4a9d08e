"""Classifiers of ImageNet as trunks, against the same modules run by PyTorch.

The modules are those of tests/reference/torch_networks.py, narrow, and where torchvision and timm
can be imported, their own at full width too.
"""

import contextlib
import importlib

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.models import trunk, weights_folder
from dilated_jax.nn.stack import Stack
from dilated_jax.weights.convert import convert
from tests.reference.torch_networks import BasicBlock, Bottleneck, ResNet, Vgg, randomized

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BLOCKS = (1, 2, 2, 1)
VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def saved(network, path):
  if path.suffix == '.safetensors':
    safetensors.torch.save_file(network.state_dict(), path)
  else:
    torch.save(network.state_dict(), path)
  return path


def resnet(backbone, width=1 / 16, **options):
  unit = BasicBlock if backbone in ('resnet18', 'resnet34') else Bottleneck
  network = randomized(ResNet(BLOCKS, width, unit, classes=7, **options))
  return network, dict(backbone=backbone, blocks=[*BLOCKS], width=width)


def body(spec, variables, images):
  """What the trunk of a network returns, of images of 0 to 255."""
  table = spec.create().front_end_table
  names = trunk.trunk(table).layers
  last = max(index for index, layer in enumerate(table) if layer.name in names)
  after = [i for i, layer in enumerate(table) if layer.kind == 'sum' and i == last + 1]
  stack = Stack(table[: max([last, *after]) + 1])
  own = {kind: parts['front_end'] for kind, parts in variables.items()}
  return jax.jit(stack.apply)(own, (images - np.array(spec.mean)).astype(np.float32))


def started(result, model, **options):
  """A network that starts from a converted file."""
  classes = ('a', 'b', 'c')
  spec = models.ModelSpec(model, options, classes, ((0, 0, 0),) * 3, result.spec.mean)
  network = spec.create()
  shapes = weights_folder.abstract_variables(network)
  variables = jax.tree.map(lambda x: np.full(x.shape, 0.5, np.float32), shapes)
  weights = models.Segmenter(result.spec.create(), result.variables, result.spec)
  return spec, models.load_pretrained(spec, variables, 'a file', weights=weights)


def assert_same_trunk(spec, variables, network, size=(65, 88)):
  """The answer of the last layer of the trunk, and that of PyTorch in float64."""
  images = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.float64)
  with torch.no_grad():
    fed = torch.tensor((images / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    expected = network.double()(fed)
  expected = (expected[-1] if isinstance(expected, tuple) else expected).permute(0, 2, 3, 1).numpy()
  found = body(spec, variables, images)
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
  'backbone, name',
  [
    ('resnet18', 'fcn_resnet'),
    ('resnet18', 'pspnet'),
    ('resnet50', 'deeplab_v3'),
    ('resnet50', 'pspnet'),
  ],
)
def test_resnet(backbone, name, tmp_path):
  """Dilated as torchvision does it."""
  network, options = resnet(backbone)
  result = convert(saved(network, tmp_path / 'a file'))
  assert (result.spec.model, result.spec.options) == ('fcn_resnet', options)
  assert result.spec.untrained == ('head', 'head_norm', 'final')
  moved = {source: target for source, _, target in result.moved}
  assert moved['fc.weight'] == '(classifies ImageNet; final takes its place)'
  options |= {'stride': 8} | ({} if name == 'fcn_resnet' else {'variant': 'torchvision'})
  spec, (variables, fresh) = started(result, name, **options)
  assert not any('layer' in layer or 'conv1' in layer for layer in fresh)
  assert_same_trunk(spec, variables, network)


@pytest.mark.parametrize('backbone', ['resnet18', 'resnet50'])
def test_classifier_stays_what_it_was(backbone, tmp_path):
  """At stride 32 nothing is dilated; from safetensors, in half precision and nested, too."""
  network, options = resnet(backbone, dilated=False)
  result = convert(saved(network, tmp_path / 'a.safetensors'))
  spec = models.ModelSpec(
    'fcn_resnet', options | {'stride': 32}, result.spec.classes, result.spec.palette,
    result.spec.mean,
  )  # fmt: skip
  assert_same_trunk(spec, result.variables, network)
  network = nn.DataParallel(network.half())
  torch.save({'epoch': 3, 'state_dict': network.state_dict()}, tmp_path / 'pytorch_model.bin')
  halved = convert(tmp_path / 'pytorch_model.bin')
  assert halved.spec.options == options
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, 1e-3, 1e-6),
    result.variables, halved.variables,
  )  # fmt: skip


def test_deep_stem_is_pspnets(tmp_path):
  network, options = resnet('resnet50', deep=True, dilated=False)
  result = convert(saved(network, tmp_path / 'a.safetensors'))
  assert (result.spec.model, result.spec.options) == ('pspnet', options)
  assert {'pyramid1', 'pyramid6_norm', 'head', 'final', 'aux_final'} <= {*result.spec.untrained}
  spec, (variables, _) = started(result, 'pspnet', **options, stride=32)
  assert_same_trunk(spec, variables, network)


@pytest.mark.parametrize('normalized', [False, True])
@pytest.mark.parametrize('depth', VGG)
def test_vgg(depth, normalized, tmp_path):
  """Padded as torchvision pads it: the trunk of DeepLab v2, undilated; and fc6 and fc7."""
  network = randomized(Vgg(VGG[depth], (4, 8, 16, 32, 32), 16, normalized, 7))
  result = convert(saved(network, tmp_path / 'a file'))
  norm = {'norm': 'batch'} if normalized else {}
  expected = {} if depth == 16 else {'blocks': list(VGG[depth])}
  assert (
    result.spec.model == 'front_end' and result.spec.options.items() >= (expected | norm).items()
  )
  norms = ('fc6_norm', 'fc7_norm') if normalized else ()
  assert result.spec.untrained == (*norms, 'final')
  front_end = result.variables['params']['front_end']
  dense = network.classifier[0].weight.detach().numpy().reshape(16, 32, 7, 7)
  np.testing.assert_array_equal(front_end['fc6']['kernel'], dense.transpose(2, 3, 1, 0))
  options = {'blocks': VGG[depth], 'width': 1 / 16} | norm
  spec, (variables, fresh) = started(result, 'fcn16s', image_padding=97, **options)
  assert not any('conv' in layer for layer in fresh)
  # FCN pads at first what is given here as part of the picture, for sizes that no pooling rounds.
  trunk_alone = network.features[:-1]
  images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype(np.float64)
  shifted = np.pad(images - np.array(spec.mean), ((0, 0), (96, 96), (96, 96), (0, 0)))
  with torch.no_grad():
    scaled = torch.tensor(shifted / 255 / STD).permute(0, 3, 1, 2)
    wanted = trunk_alone.double()(scaled).permute(0, 2, 3, 1).numpy()
  found = body(spec, variables, images)
  assert found.shape == wanted.shape
  np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


# What is wrong with a file.


@pytest.mark.parametrize(
  'change, words',
  [
    ({'layer2.0.conv2.weight': None}, 'layer2_0_conv2 has no kernel'),
    ({'bn1.running_var': None}, 'conv1_norm has no var'),
    ({'layer3.0.se.fc1.weight': torch.zeros(4, 4, 1, 1)}, r'se.fc1.weight has no place in ResNet'),
    ({'layer1.0.downsample.2.weight': torch.zeros(16)}, 'a ResNet-D: it averages before'),
    ({'layer1.0.conv1.weight': torch.zeros(8, 4, 1, 1)}, 'as a ResNeXt or Wide ResNet'),
    ({'conv1.weight': torch.full((4, 3, 7, 7), torch.inf)}, 'infinite or not numbers'),
    ({'rpn.head.conv.weight': torch.zeros(4, 4, 1, 1)}, 'is a detection network'),
  ],
)
def test_what_is_wrong_is_named(change, words, tmp_path):
  tensors = resnet('resnet50')[0].state_dict() | change
  torch.save({k: v for k, v in tensors.items() if v is not None}, tmp_path / 'a file')
  with pytest.raises(InputError, match=words) as error:
    convert(tmp_path / 'a file')
  assert '\n' not in str(error.value)


def test_a_stem_that_no_network_has(tmp_path):
  tensors = resnet('resnet50', deep=True)[0].state_dict()
  tensors['conv1.0.weight'] = torch.zeros(2, 3, 3, 3)
  torch.save(tensors, tmp_path / 'a file')
  with pytest.raises(
    InputError, match=r'convolutions of 2, 4, 8 channels; those of PSPNet.* 4, 4, 8'
  ):
    convert(tmp_path / 'a file')


def test_other_trunks(tmp_path):
  result = convert(saved(resnet('resnet50')[0], tmp_path / 'a file'))
  for model, options, words in (
    ('pspnet', dict(backbone='resnet101'), 'bottleneck blocks 1,2,2,1, and .* blocks 3,4,23,3'),
    ('pspnet', dict(backbone='resnet34'), 'stands on a ResNet of basic blocks 3,4,6,3'),
    ('front_end', dict(fc_channels=4), 'holds a ResNet of .*stands on a VGG of blocks 2,2,3,3,3'),
  ):
    with pytest.raises(InputError, match=words):
      started(result, model, width=1 / 16, **options)


# The packages themselves.


def installed(package):
  """torchvision or timm, or a skipped test."""
  # torchvision's operators may be built for another torch: a RuntimeError.
  with contextlib.suppress(ImportError, RuntimeError):
    return importlib.import_module(package)
  pytest.skip(f'{package} is not installed')


@pytest.mark.parametrize('backbone', ['resnet18', 'resnet34', 'resnet50', 'resnet101'])
def test_torchvisions_own(backbone, tmp_path):
  package = installed('torchvision').models
  dilated = {} if backbone in ('resnet18', 'resnet34') else {
    'replace_stride_with_dilation': [False, True, True]}  # fmt: skip
  network = randomized(getattr(package, backbone)(**dilated))
  result = convert(saved(network, tmp_path / 'a file'))
  assert result.spec.options == {'backbone': backbone}
  trunk_alone = nn.Sequential(*list(network.children())[:-2])
  for model in ('deeplab_v3', 'pspnet'):
    options = dict(backbone=backbone, stride=8 if dilated else 32, variant='torchvision')
    spec, (variables, _) = started(result, model, **options)
    assert_same_trunk(spec, variables, trunk_alone)


@pytest.mark.parametrize('name', ['resnet18', 'resnet50', 'resnet50s'])
def test_timms_own(name, tmp_path):
  network = randomized(installed('timm').create_model(name))
  result = convert(saved(network, tmp_path / 'a.safetensors'))
  backbone = name.removesuffix('s')
  assert result.spec.options == {'backbone': backbone}
  more = {} if name.endswith('s') else {'variant': 'torchvision'}
  spec, (variables, _) = started(result, 'pspnet', backbone=backbone, stride=32, **more)
  trunk_alone = nn.Sequential(*list(network.children())[:-2])
  assert_same_trunk(spec, variables, trunk_alone)


@pytest.mark.parametrize('package', ['torchvision', 'timm'])
@pytest.mark.parametrize('name', ['vgg11', 'vgg13_bn', 'vgg16_bn', 'vgg19'])
def test_vgg_of_the_packages(package, name, tmp_path):
  module = installed(package)
  network = (
    getattr(module.models, name)() if package == 'torchvision' else module.create_model(name)
  )
  network = randomized(network)
  result = convert(saved(network, tmp_path / 'a.safetensors'))
  depth = int(name[3:5])
  expected = {} if depth == 16 else {'blocks': list(VGG[depth])}
  assert result.spec.options == expected | ({'norm': 'batch'} if 'bn' in name else {})
  sizes = {key: module.weight for key, module in network.features.named_children()
           if isinstance(module, nn.Conv2d)}  # fmt: skip
  kernels = [layer['kernel'] for name, layer in result.variables['params']['front_end'].items()
             if name.startswith('conv') and 'kernel' in layer]  # fmt: skip
  assert len(kernels) == len(sizes)
  for kernel, weight in zip(kernels[1:], list(sizes.values())[1:], strict=True):
    np.testing.assert_array_equal(kernel, weight.detach().numpy().transpose(2, 3, 1, 0))

"""Segmentation networks of torchvision: their state dicts, by the same modules built here."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import dilated_jax
from dilated_jax import inference
from dilated_jax.data.label_specs import VOC
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.nn import costs
from dilated_jax.weights.convert import convert
from tests.reference.torch_networks import ResNet, normed, randomized

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
WIDTH, BLOCKS = 1 / 16, (2, 1, 2, 2)


class Pooling(nn.Sequential):
  def forward(self, x):
    size = x.shape[2:]
    return functional.interpolate(super().forward(x), size, mode='bilinear', align_corners=False)


class Pyramid(nn.Module):
  def __init__(self, inputs, outputs):
    super().__init__()
    convs = [normed(inputs, outputs)]
    convs += [normed(inputs, outputs, 3, dilation=rate) for rate in (12, 24, 36)]
    convs.append(Pooling(nn.AdaptiveAvgPool2d(1), *normed(inputs, outputs)))
    self.convs = nn.ModuleList(convs)
    self.project = nn.Sequential(*normed(5 * outputs, outputs), nn.Dropout(0.5))

  def forward(self, x):
    return self.project(torch.cat([branch(x) for branch in self.convs], 1))


def fcn_head(inputs, classes):
  return nn.Sequential(
    *normed(inputs, inputs // 4, 3), nn.Dropout(0.1), nn.Conv2d(inputs // 4, classes, 1)
  )


class Segmentation(nn.Module):
  def __init__(self, kind, classes=21, blocks=BLOCKS, width=WIDTH, auxiliary=True):
    super().__init__()
    self.backbone, last = ResNet(blocks, width), round(64 * width) * 32
    if kind == 'fcn_resnet':
      self.classifier = fcn_head(last, classes)
    else:
      middle = round(256 * width)
      rest = (*normed(middle, middle, 3), nn.Conv2d(middle, classes, 1))
      self.classifier = nn.Sequential(Pyramid(last, middle), *rest)
    if auxiliary:
      self.aux_classifier = fcn_head(last // 2, classes)

  def forward(self, x):
    """The scores before upsampling, and the auxiliary ones."""
    third, last = self.backbone(x)
    return self.classifier(last), self.aux_classifier(third) if self.aux_classifier else None


def made(kind, **options):
  """One with random weights and statistics, for evaluation."""
  torch.manual_seed(0)
  return randomized(Segmentation(kind, **options))


@pytest.mark.parametrize('kind', ['deeplab_v3', 'fcn_resnet'])
def test_scores_and_labels(kind, tmp_path):
  network = made(kind)
  torch.save(network.state_dict(), tmp_path / 'a file')
  result = convert(tmp_path / 'a file')
  assert result.spec.model == kind and result.spec.classes == VOC.names
  assert result.spec.mean == pytest.approx(255 * MEAN)
  targets = {target for *_, target in result.moved}
  assert {'front_end/layer1_0_downsample/kernel', 'front_end/aux_norm/mean'} <= targets
  assert {'front_end/conv1_norm/scale', '(how many batches it was trained on)'} <= targets
  weights_folder.save_weights(tmp_path / 'weights', result.spec, result.variables)
  model, variables, _ = dilated_jax.load(tmp_path / 'weights')
  whole = model.front_end_table + model.auxiliary_table
  assert costs.num_parameters(whole) == sum(p.numel() for p in network.parameters())

  picture = np.random.default_rng(0).integers(0, 256, (72, 88, 3), np.uint8)
  network = network.double()
  with torch.no_grad():
    fed = torch.tensor((picture / 255 - MEAN) / STD)[None].permute(0, 3, 1, 2)
    scores, auxiliary = network(fed)
    theirs = functional.interpolate(scores, fed.shape[2:], mode='bilinear', align_corners=False)
  prediction = inference.predict(Segmenter(model, variables, result.spec), picture)
  expected = scores[0].permute(1, 2, 0).numpy()
  np.testing.assert_allclose(prediction.logits, expected, atol=1e-5 * np.abs(expected).max())
  found = (prediction.labels == theirs[0].argmax(0).numpy()).mean()
  assert found >= 0.9999

  images = (picture - np.float32(result.spec.mean))[None].astype(np.float32)
  if kind == 'fcn_resnet':  # Its auxiliary answer too; dropout off by its mean.
    still = model.clone(
      auxiliary_table=tuple(without_training(row) for row in model.auxiliary_table),
      front_end_table=tuple(without_training(row) for row in model.front_end_table),
    )
    _, updated = jax.jit(still.apply, static_argnames=('train', 'mutable'))(
      variables, images, train=True, mutable=('batch_stats', 'auxiliary')
    )
    (answer,) = jax.tree.leaves(updated['auxiliary'])
    network.train()
    for module in network.modules():
      if isinstance(module, nn.Dropout):
        module.eval()
    with torch.no_grad():
      _, auxiliary = network(fed)
    expected = auxiliary[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(answer[0], expected, atol=1e-4 * np.abs(expected).max())


def without_training(row):
  return dataclasses.replace(row, dropout=0.0)


@pytest.mark.parametrize(
  'kind, blocks, backbone',
  [('deeplab_v3', (3, 4, 6, 3), 'resnet50'), ('fcn_resnet', (3, 4, 23, 3), 'resnet101')],
)
def test_published_depths_are_known(kind, blocks, backbone, tmp_path):
  network = made(kind, blocks=blocks, width=1 / 64, auxiliary=False, classes=5)
  torch.save({'model': network.state_dict()}, tmp_path / 'a file')
  spec = convert(tmp_path / 'a file').spec
  assert spec.options['backbone'] == backbone and 'blocks' not in spec.options
  assert 'auxiliary' not in spec.options and spec.classes == tuple(f'class {i}' for i in range(5))


@pytest.mark.parametrize('kind', ['deeplab_v3', 'fcn_resnet'])
def test_full_width_has_torchvisions_parameters(kind):
  with torch.device('meta'):
    network = Segmentation(kind, blocks=(3, 4, 6, 3), width=1)
  count = sum(p.numel() for p in network.parameters())
  assert count == {'deeplab_v3': 42_004_074, 'fcn_resnet': 35_322_218}[kind]


@pytest.mark.parametrize(
  'change, words',
  [
    ({'classifier.4.weight': None, 'classifier.4.bias': None}, 'has no classifier.4'),
    ({'backbone.bn1.running_var': None}, 'conv1_norm has no var'),
    ({'backbone.layer2.0.conv1.weight': None}, 'not all four groups'),
    ({'backbone.layer9.0.conv1.weight': torch.zeros(4, 4, 1, 1)}, 'has layer9.0'),
    ({'backbone.fc.weight': torch.zeros(4, 4)}, 'backbone.fc.weight has no place in a segm'),
    ({'backbone.layer1.0.conv1.bias': torch.zeros(4)}, 'is left over'),
    ({'backbone.bn1.weight': torch.zeros(3)}, r'is \(3,\)'),
    ({'backbone.bn1.weight': torch.full((4,), torch.nan)}, 'infinite or not numbers'),
  ],
)
def test_what_is_wrong_is_named(change, words, tmp_path):
  tensors = made('fcn_resnet', auxiliary=False).state_dict() | change
  torch.save({k: v for k, v in tensors.items() if v is not None}, tmp_path / 'a file')
  with pytest.raises(InputError, match=words):
    convert(tmp_path / 'a file')


def test_no_option_of_vgg(tmp_path):
  torch.save(made('fcn_resnet').state_dict(), tmp_path / 'a file')
  with pytest.raises(InputError, match='a whole network; fc can be told of classifiers alone'):
    convert(tmp_path / 'a file', fc='random')

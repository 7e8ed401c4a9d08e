"""Every kind of network on a canvas that is larger than the image."""

import pytest

from tests.inference.test_canvases import SHORT, VGG, assert_same, segmenter_of

RESNET = {'blocks': (1, 1, 1, 1), 'width': 1 / 32}
BASIC = SHORT | {'context': 'basic'}
NETWORKS = {
  'zeros in every layer': ('dilation8', VGG | SHORT, 'corner'),
  'its own upsampling': ('dilation10', VGG | SHORT, 'deconvolution'),
  'cropped skips': ('fcn8s', VGG | BASIC | {'fc_kernel': 7}, 'deconvolution'),
  'padded poolings': ('deeplab_msc', VGG, 'corner_logits'),
  'several sizes': (
    'deeplab_v2', RESNET | {'backbone': 'resnet50', 'multi_scale': True}, 'corner_logits',
  ),
  'mean and groups': (
    'deeplab_v3', RESNET | {'norm': 'group', 'width': 1 / 4, 'stride': 8}, 'corner_logits',
  ),
  'pyramid of means': ('pspnet', RESNET | BASIC, 'corner_logits'),
  'CRF-RNN on pixels': (
    'dilation8', VGG | SHORT | {'crf': 'rnn', 'crf_rnn_grid': 'pixels'}, 'corner',
  ),
  'CRF-RNN on cells': ('dilation8', VGG | SHORT | {'crf': 'rnn'}, 'corner'),
}  # fmt: skip


@pytest.mark.attack
@pytest.mark.parametrize('kind', NETWORKS)
def test_the_answer_is_that_of_the_image_alone(kind):
  name, options, upsampling = NETWORKS[kind]
  assert_same(segmenter_of(name, options, upsampling))

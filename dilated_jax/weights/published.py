"""What is known of the files that others have published, and that no file tells."""

from dilated_jax.data.label_specs import CAMVID_DILATION8, CITYSCAPES, KITTI, VOC

# What the authors' networks were trained for, and the input of their deploy files, by model and
# context module (github.com/fyu/dilation, models/ and datasets/).
NETWORKS = {
  ('dilation8', 'large'): (VOC, (900, 900)),
  ('dilation8', 'basic'): (CAMVID_DILATION8, (900, 1100)),
  ('dilation7', 'basic'): (KITTI, (852, 1640)),
  ('dilation10', 'basic'): (CITYSCAPES, (1396, 1396)),
}
BY_COUNT = {21: VOC, 19: CITYSCAPES, 11: CAMVID_DILATION8}  # Of a front end alone.
DATA_SETS = {CAMVID_DILATION8.name: 'camvid'}  # Of which a table is another order.

# How a classifier was trained to see RGB values v of 0..255: (v / scale - mean) / std.
NORMALIZATIONS = {
  'caffe': (1, (123.68, 116.779, 103.939), (1, 1, 1)),
  'torchvision': (255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  'features': (255, (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
}

# Files by their MD5 (Keras) or the first digits of their SHA-256 (torchvision).
CHECKSUMS = {
  '8a719046': ('torchvision vgg11, IMAGENET1K_V1', 'torchvision'),
  '6002323d': ('torchvision vgg11_bn, IMAGENET1K_V1', 'torchvision'),
  '19584684': ('torchvision vgg13, IMAGENET1K_V1', 'torchvision'),
  'abd245e5': ('torchvision vgg13_bn, IMAGENET1K_V1', 'torchvision'),
  '397923af': ('torchvision vgg16, IMAGENET1K_V1', 'torchvision'),
  '88682ab5': ('torchvision vgg16, IMAGENET1K_FEATURES', 'features'),
  '6c64b313': ('torchvision vgg16_bn, IMAGENET1K_V1', 'torchvision'),
  'dcbb9e9d': ('torchvision vgg19, IMAGENET1K_V1', 'torchvision'),
  'c79401a0': ('torchvision vgg19_bn, IMAGENET1K_V1', 'torchvision'),
  'f37072fd': ('torchvision resnet18, IMAGENET1K_V1', 'torchvision'),
  'b627a593': ('torchvision resnet34, IMAGENET1K_V1', 'torchvision'),
  '0676ba61': ('torchvision resnet50, IMAGENET1K_V1', 'torchvision'),
  '11ad3fa6': ('torchvision resnet50, IMAGENET1K_V2', 'torchvision'),
  '63fe2227': ('torchvision resnet101, IMAGENET1K_V1', 'torchvision'),
  'cd907fc2': ('torchvision resnet101, IMAGENET1K_V2', 'torchvision'),
  '1167a1af': ('torchvision fcn_resnet50, COCO_WITH_VOC_LABELS_V1', 'torchvision'),
  '7ecb50ca': ('torchvision fcn_resnet101, COCO_WITH_VOC_LABELS_V1', 'torchvision'),
  'cd0a2569': ('torchvision deeplabv3_resnet50, COCO_WITH_VOC_LABELS_V1', 'torchvision'),
  '586e9e4e': ('torchvision deeplabv3_resnet101, COCO_WITH_VOC_LABELS_V1', 'torchvision'),
  '64373286793e3c8b2b4e3219cbf3544b': ('Keras vgg16', 'caffe'),
  '6d6bbae143d832006294945121d1f1fc': ('Keras vgg16 without its dense layers', 'caffe'),
}

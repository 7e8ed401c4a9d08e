"""PSPNet as a table.

Source: Zhao et al., "Pyramid Scene Parsing Network" (CVPR 2017); github.com/hszhao/PSPNet.
"""

from dilated_jax.models import resnet
from dilated_jax.models.architecture import Architecture
from dilated_jax.models.resnet import ResnetOptions
from dilated_jax.nn import table as tables
from dilated_jax.nn.table import Layer

BINS = (1, 2, 3, 6)


def pspnet(num_classes: int, options: ResnetOptions) -> Architecture:
  """Dilated ResNet with three 3x3 convolutions at first, and means over 1, 4, 9 and 36 windows.

  Each grid of means is projected to a quarter of the channels, enlarged to the map and concatenated
  with it (section 3.2).

  Args:
    num_classes: output channels.
    options: `dropout` is the share of the outputs of the last hidden layer dropped in training;
      with `auxiliary` the third group of ResNet answers too in training (section 3.3); with
      `variant` 'torchvision' the ResNet begins with 7x7 taps and is dilated as torchvision's.

  Returns:
    The architecture.
  """
  norm = options.norm
  body = resnet.backbone(options, strided='kept 3x3', stem='3x3')
  given, quarter = body[-1].name, resnet.quarter(body[-2])
  table, maps = list(body), [given]
  for count in BINS:
    table += [
      Layer(f'bins{count}', 'adaptive_avg_pool', kernel=count, inputs=(given,)),
      resnet.normed(f'pyramid{count}', quarter, norm),
      tables.merge(f'pyramid{count}_up', 'resize', f'pyramid{count}', given),
    ]
    maps.append(f'pyramid{count}_up')
  table += [
    tables.merge('pyramid', 'concat', *maps),
    resnet.normed('head', quarter, norm, kernel=3, padding=1, dropout=0.1),
    Layer('final', kernel=1, channels=num_classes, init='classifier'),
  ]
  return Architecture(
    tables.with_dropout(tuple(table), options.dropout),
    auxiliary=resnet.auxiliary(body, num_classes, options),
  )

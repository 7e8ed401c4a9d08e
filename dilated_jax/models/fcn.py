"""FCN-32s, 16s and 8s, and FCN on a dilated ResNet, as tables.

Source: Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic Segmentation" (CVPR
2015); github.com/shelhamer/fcn.berkeleyvision.org, whose layers have the same names.
"""

import dataclasses

from dilated_jax.errors import InputError
from dilated_jax.models import resnet
from dilated_jax.models.architecture import Architecture
from dilated_jax.models.front_end import DilationOptions, vgg_arguments
from dilated_jax.models.resnet import ResnetOptions
from dilated_jax.nn import geometry, table as tables
from dilated_jax.nn.table import Layer
from dilated_jax.options import option

AT_ONCE = {'pool4': 1e-2, 'pool3': 1e-4}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FcnOptions(DilationOptions):
  """Of FCN-32s, 16s and 8s."""

  image_padding: int = option(
    100, 'Zeros around the image of fcn32s, 16s, 8s.', low=0, high=1 << 15
  )
  at_once: bool = option(
    False, 'Scale the skips of fcn16s and fcn8s down at first, to train all of them at once.'
  )


def fcn(num_classes: int, options: FcnOptions) -> Architecture:
  """VGG-16 with all its poolings, whose scores meet those of earlier, finer layers.

  The convolutions pad as VGG's do, the first by so much that fc6, which doesn't, has a map to look
  at. Where the grids of two layers differ, the finer one is cropped; how far follows from the
  tables: for 100 pixels of padding and fc6 of 7x7 by 5 and 9 cells, and at the end by 19, 27 or 31
  pixels (16 of the 31 as two cells ahead of the upsampling). All upsamplings are bilinear and
  fixed, and all scores begin at zero.

  Args:
    num_classes: output channels.
    options: `stride` is 32, 16 (with the scores of pool4) or 8 (and of pool3); conv1_1 pads
      `image_padding` zeros on each side; `at_once` scales pool4 and pool3 by 0.01 and 0.0001
      before they are scored, to train all skips at once and not each finer network from the
      coarser; `blocks` must be five.

  Returns:
    The architecture; it ends in its upsampling to full size.

  Raises:
    InputError: an option has no such value.
  """
  if options.blocks and len(options.blocks) != 5:
    raise InputError(f'blocks is {options.blocks}; FCN has five, behind five poolings')
  image_padding = options.image_padding
  table = tables.vgg(num_classes, **vgg_arguments(options))
  table = tables.with_dropout(table, options.dropout)
  table = [_padded(layer, image_padding) for layer in table[:-1]]
  table.append(Layer('score_fr', kernel=1, channels=num_classes, init='zeros'))
  for pool in ('pool4', 'pool3'):
    if geometry.stride(tuple(table)) == options.stride:
      break
    finer = 'upscore2' if pool == 'pool4' else 'upscore_pool4'
    table.append(Layer(finer, 'deconv', kernel=4, stride=2))
    shift = _difference(table, pool, image_padding)
    scale = AT_ONCE[pool] if options.at_once else 1.0
    table += [
      Layer(
        f'score_{pool}',
        kernel=1,
        channels=num_classes,
        init='zeros',
        inputs=(pool,),
        input_scale=scale,
      ),
      tables.merge(f'score_{pool}c', 'crop', f'score_{pool}', padding=-shift),
      tables.merge(f'fuse_{pool}', 'sum', finer, f'score_{pool}c'),
    ]
  # Cells that no pixel of the picture is blended from are cut off.
  kernel = 2 * options.stride
  upsampling = Layer('upscore', 'deconv', kernel=kernel, stride=options.stride)
  first = _difference([*table, upsampling], None, image_padding)
  unused = geometry.window((upsampling,), first)[0]
  if unused > 0:
    table.append(Layer('score_grid', 'crop', kernel=1, padding=-unused))
  shift = _difference([*table, upsampling], None, image_padding)
  crop = Layer('score', 'crop', kernel=1, padding=-shift)
  return Architecture(tuple(table), upsampling=(upsampling, crop))


def _padded(layer: Layer, image_padding: int) -> Layer:
  if layer.name == 'conv1_1':
    return dataclasses.replace(layer, padding=image_padding)
  return dataclasses.replace(layer, padding=1) if layer.name.startswith('conv') else layer


def _difference(table, name: str | None, image_padding: int) -> int:
  """How many cells of a layer, or pixels of the input, lie before the last layer's first cell.

  Args:
    table: the layers.
    name: of the layer; None for the input, whose first pixel then has to lie behind that cell.
    image_padding: for the error.
  """
  grids = geometry.jumps_and_centers(tuple(table))
  jump, center = grids[-1]
  if name is None:
    cells = -center
  else:
    cells = (center - dict(zip((layer.name for layer in table), grids))[name][1]) / jump
  if cells < 0:
    raise InputError(
      f'image_padding is {image_padding}: too little for fc6, whose map would not reach the border '
      'of the picture'
    )
  return int(cells)


def fcn_resnet(num_classes: int, options: ResnetOptions) -> Architecture:
  """ResNet at stride 8 and two convolutions, as torchvision's `fcn_resnet50` and 101.

  Args:
    num_classes: output channels.
    options: of ResNet; `variant` is 'torchvision', with the stride in its 3x3 convolutions.

  Returns:
    The architecture.

  Source: github.com/pytorch/vision, torchvision/models/segmentation/fcn.py.
  """
  body = resnet.backbone(options)
  head = resnet.head(body, num_classes, group=4, norm=options.norm)
  return Architecture(
    body + tables.with_dropout(head, options.dropout),
    auxiliary=resnet.auxiliary(body, num_classes, options),
  )

"""What a weights folder says about itself, in `model.json`."""

import dataclasses
import pathlib
from typing import cast

from dilated_jax.checksums import check_checksums
from dilated_jax.errors import InputError, first_line
from dilated_jax.files import decode_json, read_small
from dilated_jax.label_spec import IGNORE
from dilated_jax.models import registry, upsampling
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.temporary import finish_replacement


@dataclasses.dataclass(frozen=True)
class ModelSpec:
  """What a weights folder says about itself, in `model.json`: all that prediction needs.

  Attributes:
    model: name for `models.create`.
    options: its options.
    classes: names of the classes, in the order of the logits.
    palette: their RGB colors.
    mean: RGB mean that is subtracted from images, 0..255.
    channel_order: 'RGB'.
    image_scale: size at which the network sees images, relative to theirs.
    upsampling: 'corner', 'corner_logits' or 'deconvolution', as the network was trained; see
      `models.upsampling`.
    dataset: what it was trained on; for people.
    input: (height, width) of the input that the published network is fed, tile by tile; None where
      it takes whole images.
    source: the file that the weights were converted from; for people.
    untrained: layers that the file did not have and that `convert` has started afresh.
  """

  model: str
  options: dict
  classes: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  mean: tuple[float, float, float]
  channel_order: str = 'RGB'
  image_scale: float = 1.0
  upsampling: str = 'corner'
  dataset: str = ''
  input: tuple[int, int] | None = None
  source: str = ''
  untrained: tuple[str, ...] = ()

  def create(self) -> SegmentationModel:
    """The network, from `models.create`."""
    model = registry.create(self.model, len(self.classes), **self.options)
    return cast(SegmentationModel, model)  # `load_spec` refuses others.

  def to_json(self) -> dict:
    """What `model.json` holds: of the options those that are not the network's defaults.

    Raises:
      InputError: an option can't have its value.
    """
    options = registry.changed_options(self.model, self.options)
    return dataclasses.asdict(self) | {'options': options}

  def without_context(self) -> 'ModelSpec':
    """The spec of the network without context module and CRF-RNN."""
    plain = self.without_crf()
    model, options = registry.without_context(plain.model, plain.options)
    return dataclasses.replace(self, model=model, options=options)

  def without_crf(self) -> 'ModelSpec':
    """The spec of the network that a CRF-RNN refines; of one without, the same."""
    return dataclasses.replace(self, options=registry.without_crf(self.options))


def load_spec(folder) -> ModelSpec:
  """Reads `model.json` of a weights folder.

  Raises:
    InputError: there is none, or it is damaged, or it is not what `save_weights` writes, or of no
      network of ours.
  """
  finish_replacement(folder)
  path = pathlib.Path(folder) / 'model.json'
  if path.parent.suffix in ('.onnx', '.stablehlo'):
    raise InputError(
      f'{folder}: such files are for other runtimes and are not read back; give the weights folder '
      'that it was exported from'
    )
  if not path.is_file():  # A pipe is none: a read might never end.
    raise InputError(
      f'{folder}: is not a weights folder (it has no model.json); training leaves one, named '
      'weights, in the folder of the run, and so does `weights.convert`'
    )
  check_checksums(path.parent, {path.name})
  try:
    content = decode_json(read_small(path).decode())
    content['classes'] = tuple(content['classes'])
    content['palette'] = tuple(tuple(color) for color in content['palette'])
    content['mean'] = tuple(content['mean'])
    content['untrained'] = tuple(content.get('untrained', ()))
    if content.get('input') is not None:
      content['input'] = tuple(content['input'])
    spec = ModelSpec(**content)
    _check(spec)
    return spec
  except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
    raise InputError(f'{path}: not a description of weights ({first_line(error)})') from error


def _check(spec) -> None:
  """Raises a ValueError or TypeError where a spec says what it can't."""
  if spec.channel_order != 'RGB':
    raise ValueError(f'channel_order is {spec.channel_order!r}, not RGB')
  if spec.upsampling not in upsampling.METHODS:
    raise ValueError(f'upsampling is {spec.upsampling!r}, none of {", ".join(upsampling.METHODS)}')
  if not 0 < spec.image_scale <= 1:
    raise ValueError(f'image_scale is {spec.image_scale}, not above 0 and at most 1')
  if not all(isinstance(name, str) and name.isprintable() for name in spec.classes):
    raise ValueError('a class has no name that can be printed')
  if not 0 < len(spec.classes) < IGNORE:
    raise ValueError(f'{len(spec.classes)} classes, not 1 to {IGNORE - 1}')
  for about in (spec.dataset, spec.source):
    if not isinstance(about, str) or not about.isprintable():
      raise ValueError(f'{about!r} is no text that can be printed')
  if not all(isinstance(name, str) for name in spec.untrained):
    raise ValueError(f'untrained is {spec.untrained}, not names of layers')
  if len(spec.palette) != len(spec.classes):
    raise ValueError(f'{len(spec.classes)} classes and {len(spec.palette)} colors')
  for color in spec.palette:
    if len(color) != 3 or not all(value in range(256) for value in color):
      raise ValueError(f'{color} is no RGB color')
  if len(spec.mean) != 3 or not all(0 <= value <= 255 for value in spec.mean):
    raise ValueError(f'mean is {spec.mean}, not three numbers of 0 to 255')
  if spec.model == 'wavenet':
    raise ValueError('a WaveNet is for sound; it labels no images')
  model = spec.create()
  least = 2 * model.margin + model.stride
  if spec.input and not (
    len(spec.input) == 2 and all(side in range(least, 1 << 16) for side in spec.input)
  ):
    raise ValueError(f'input is {spec.input}, not a height and a width of {least} or more')

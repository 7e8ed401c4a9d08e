"""The networks that the explorer's page shows: their tables and all that is derived from them."""

from collections.abc import Iterator
import dataclasses
from typing import Any

from dilated_jax import models
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.nn import geometry
from dilated_jax.nn.table import Layer
from dilated_jax.weights import published

from . import description

# Fields of a layer that the page needs, and what they are where a row does not say.
FIELDS = ('name', 'kind', 'kernel', 'stride', 'dilation', 'padding', 'channels', 'inputs')
FIELDS += ('norm', 'bias', 'round_up')
_TITLES = {
  'dilation8 large': 'Dilation8 with the large module, Pascal VOC',
  'dilation8 basic': 'Dilation8, CamVid',
  'dilation7 basic': 'Dilation7, KITTI',
  'dilation10 basic': 'Dilation10, Cityscapes',
}
_DEFAULTS = dataclasses.asdict(Layer(''))


@dataclasses.dataclass(frozen=True)
class Network:
  """A network to show.

  Attributes:
    title: what the page calls it.
    name: as `models.create` knows it.
    options: as `models.create` takes them.
    model: made of these.
    size: (height, width) of its input.
  """

  title: str
  name: str
  options: dict[str, Any]
  model: SegmentationModel
  size: tuple[int, int]


def all_networks() -> Iterator[Network]:
  """Every network that there is, the published ones with their classes and inputs."""
  kept = {'dilation7', 'dilation8', 'dilation10'}
  for (name, context), (spec, size) in published.NETWORKS.items():
    options = {'context': context}
    model = models.create(name, spec.num_classes, **options)
    yield Network(_TITLES[f'{name} {context}'], name, options, model, size)
  for name in models.NAMES:
    if name not in kept:
      model = models.create(name, 21)
      side = geometry.valid_size(model.table, 512 + 2 * model.margin)
      yield Network(name, name, {}, model, (side, side))


def entry(network: Network) -> dict[str, Any]:
  """What the page is told of a network."""
  told = description.describe(network.model, *network.size)
  front_end = len(network.model.front_end_table)
  return {
    'title': network.title,
    'name': network.name,
    'options': network.options,
    'input': told['input'],
    'front_end': front_end,  # Rows of it; those of the context module follow.
    'network': told['network'],
    'notes': told['notes'],
    'table': [row(layer) for layer in network.model.table],
    # By layer, in columns.
    'derived': {
      key: [layer[key] for layer in told['layers']]
      for key in ('channels', 'field', 'read', 'jump', 'offset', 'parameters', 'height', 'width')
    },
  }


def row(layer: Layer) -> dict[str, Any]:
  """A row of a table, without what is as everywhere."""
  return {
    field: getattr(layer, field)
    for field in FIELDS
    if getattr(layer, field) != _DEFAULTS[field] or field == 'name'
  }

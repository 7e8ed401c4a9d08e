"""The text of the view *The lesson*, with its numbers derived from the networks' tables."""

import pathlib

from dilated_jax import models
from dilated_jax.nn import costs, geometry, table as tables
from dilated_jax.nn.table import Layer, Table

TEXT = pathlib.Path(__file__).parent / 'page' / 'lesson.html'
CLASSES = 21  # Of VOC.


def contents() -> dict[str, str]:
  """The data of the view."""
  return {'text': TEXT.read_text('utf-8').partition('-->')[2].format_map(numbers())}


def numbers() -> dict[str, str]:
  """What stands in the text in braces."""
  found = _small_stacks() | _vgg() | _context() | _scenes() | _wavenets()
  return {name: f'{value:,}' if isinstance(value, int) else value for name, value in found.items()}


def _stack(*rates: int, kernel: int = 3) -> Table:
  return tuple(Layer(f'layer{i}', kernel=kernel, dilation=rate) for i, rate in enumerate(rates))


def _small_stacks() -> dict[str, int | str]:
  rates = (1, 2, 4, 8, 16)
  fields = [geometry.receptive_field(_stack(*rates[: i + 1])) for i in range(len(rates))]
  plain = 1
  while geometry.receptive_field(_stack(*[1] * plain)) < fields[-1]:
    plain += 1
  _, counts = geometry.path_counts(_stack(2, 2, 2))
  return {
    'rates': _listed(rates),
    'spans': _listed([layer.effective_kernel for layer in _stack(*rates)]),
    'doubled_fields': ', '.join(map(str, fields)),
    'fifth_field': fields[-1],
    'plain_layers': plain,
    'gridding_field': len(counts),
    'gridding_read': int((counts > 0).sum()),
    'gridding_field_square': len(counts) ** 2,
    'gridding_read_square': int((counts > 0).sum()) ** 2,
  }


def _vgg() -> dict[str, int | str]:
  size = 224
  classifier = tables.vgg(1000)
  pool5 = classifier[: [layer.name for layer in classifier].index('pool5') + 1]
  front_end = tables.front_end(CLASSES)
  return {
    'vgg_input': size,
    'pool5_field': geometry.receptive_field(pool5),
    'pool5_jump': geometry.stride(pool5),
    'pool5_cells': size // geometry.stride(pool5),
    'front_end_field': geometry.receptive_field(front_end),
    'front_end_weights': f'{costs.num_parameters(front_end) / 1e6:.1f} million',
    'stride': geometry.stride(front_end),
    'margin': geometry.margin(front_end),
    'twice_margin': 2 * geometry.margin(front_end),
    'voc_input': 900,
    'voc_cells': geometry.output_size(front_end, 900),
  }


def _context() -> dict[str, int | str]:
  def weights(table):
    return sum(layer.kernel**2 * a * b for _, layer, a, b in costs.convolutions(table, CLASSES))

  basic, large = (tables.context(CLASSES, kind=kind) for kind in ('basic', 'large'))
  field = geometry.receptive_field(basic)
  fields = {
    f'{name}_field': geometry.receptive_field(models.create(name, CLASSES).table)
    for name in ('dilation7', 'dilation8', 'dilation10')
  }
  return fields | {
    'context_field': field,
    'context_reach': field // 2,
    'basic_weights': weights(basic),
    'basic_biases': costs.num_parameters(basic, CLASSES) - weights(basic),
    'large_weights': weights(large),
    'context_table': _context_table(basic, large),
  }


def _context_table(basic: Table, large: Table) -> str:
  """Table 1 of the paper."""

  def row(title: str, values) -> str:
    return f'<tr><th scope="row">{title}</th>{"".join(f"<td>{x}</td>" for x in values)}</tr>'

  def channels(table: Table):
    multiples = [(layer.channels or 0) // CLASSES for layer in table]
    return ['<var>C</var>' if n == 1 else f'{n}<var>C</var>' for n in multiples]

  head = ''.join(f'<th scope="col">{i}</th>' for i in range(1, len(basic) + 1))
  rows = [
    row('kernel', [f'{layer.kernel} × {layer.kernel}' for layer in basic]),
    row('rate', [layer.dilation for layer in basic]),
    row('field, in cells', [field.size for field in geometry.receptive_fields(basic)]),
    row('ReLU', ['yes' if layer.activation else 'no' for layer in basic]),
    row('channels, basic', channels(basic)),
    row('channels, large', channels(large)),
  ]
  return (
    f'<table><thead><tr><th scope="col">layer</th>{head}</tr></thead>'
    f'<tbody>{"".join(rows)}</tbody></table>'
  )


def _scenes() -> dict[str, int]:
  """The networks of `make demo`; see the preset `scenes`."""
  options = {'blocks': (1, 1, 1), 'width': 0.25, 'fc_channels': 64, 'fc_kernel': 3}
  front_end = tables.front_end(7, **options)
  return {
    'scenes_field': geometry.receptive_field(front_end),
    'scenes_basic_field': geometry.receptive_field(front_end + tables.context(7)),
    'control_field': geometry.receptive_field(front_end + tables.context(7, dilations=[1] * 7)),
  }


def _wavenets() -> dict[str, int]:
  fields = [
    geometry.receptive_field(_stack(*[2**i for i in range(10)] * blocks, kernel=2))
    for blocks in (1, 3)
  ]
  return {'wavenet_field': fields[0], 'wavenet_three_fields': fields[1]}


def _listed(values) -> str:
  *first, last = map(str, values)
  return f'{", ".join(first)} and {last}'

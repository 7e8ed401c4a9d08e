"""Windows, paths, fields and sizes against the gradients of PyTorch's layers."""

from fractions import Fraction

from hypothesis import given, settings, strategies as st
import numpy as np
import torch
from torch.nn import functional

from dilated_jax.nn import geometry, table as tables
from tests.nn.test_geometry import any_convolutions, any_poolings

deconvolutions = st.builds(
  lambda kernel, stride, padding: tables.Layer(
    'deconv', 'deconv', kernel=kernel, stride=stride, padding=min(padding, kernel - 1)
  ),
  kernel=st.integers(1, 5),
  stride=st.integers(1, 3),
  padding=st.integers(0, 2),
).filter(lambda layer: layer.kernel >= layer.stride)  # Else it leaves cells that nothing reaches.


any_tables = st.lists(any_convolutions | any_poolings | deconvolutions, min_size=1, max_size=4)


def sums(table, size):
  """PyTorch's layers along one axis, all taps 1 and poolings sums: gradients count the paths.

  Returns:
    the input, the output, and the size after each layer.
  """
  x = first = torch.ones(1, 1, size, dtype=torch.float64, requires_grad=True)
  found = []
  for layer in table:
    ones = torch.ones(1, 1, layer.kernel, dtype=torch.float64)
    options = dict(stride=layer.stride, padding=layer.padding)
    if layer.kind == 'deconv':
      x = functional.conv_transpose1d(x, ones, **options)
    elif layer.kind == 'conv':
      x = functional.conv1d(x, ones, dilation=layer.dilation, **options)
    else:
      size = functional.max_pool1d(x, layer.kernel, ceil_mode=True, **options).shape[-1]
      rest = (size - 1) * layer.stride + layer.kernel - x.shape[-1]
      x = functional.conv1d(functional.pad(x, (0, rest)), ones, **options)
    found.append(x.shape[-1])
  return first, x[0, 0], found


@settings(max_examples=50)
@given(any_tables)
def test_paths_windows_fields_and_sizes_are_those_of_pytorch(table):
  table, side = tuple(table), 1001
  first, x, found = sums(table, side)
  assert geometry.output_sizes(table, side) == found
  phases = int(np.prod([layer.stride for layer in table if layer.kind == 'deconv']))
  lengths = []
  for cell in range(len(x) // 2, len(x) // 2 + phases):
    (gradient,) = torch.autograd.grad(x[cell], first, retain_graph=True)
    (pixels,) = np.nonzero(gradient[0, 0].numpy())
    assert geometry.window(table, cell) == (pixels[0], pixels[-1])
    start, ways = geometry.path_counts(table, cell)
    assert start == pixels[0]
    assert ways.tolist() == gradient[0, 0, start : pixels[-1] + 1].tolist()
    lengths.append(len(ways))
  *_, field = geometry.receptive_fields(table)
  assert field.size == max(lengths)
  ahead = geometry.window(table, len(x) // 2 + phases)
  start = geometry.window(table, len(x) // 2)
  assert ahead[0] - start[0] == ahead[1] - start[1] == phases * field.jump
  if phases == 1:
    assert field.center == Fraction(sum(geometry.window(table, 0)), 2)


@st.composite
def branched(draw):
  """Two branches of stride 1 behind a strided layer, joined."""

  def row(name, inputs=(), stride=1):
    kernel, dilation = draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 3))
    options = dict(padding=dilation * (kernel - 1) // 2, channels=1, inputs=inputs, stride=stride)
    return tables.Layer(name, kernel=kernel, dilation=dilation, **options)

  left = [row(f'left{i}') for i in range(draw(st.integers(1, 3)))]
  right = [row('right0', ('body',))] + [row(f'right{i}') for i in range(1, draw(st.integers(1, 3)))]
  joined = tables.merge('sum', 'sum', left[-1].name, right[-1].name)
  return (row('body', stride=draw(st.integers(1, 3))), *left, *right, joined, row('last'))


@settings(max_examples=30)
@given(branched())
def test_windows_and_paths_of_branches_are_those_of_pytorch(table):
  side = 301
  outputs = {}
  x = first = torch.ones(1, 1, side, dtype=torch.float64, requires_grad=True)
  for layer in table:
    if layer.kind == 'sum':
      x = outputs[layer.inputs[0]] + outputs[layer.inputs[1]]
    else:
      x = outputs[layer.inputs[0]] if layer.inputs else x
      ones = torch.ones(1, 1, layer.kernel, dtype=torch.float64)
      options = dict(stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
      x = functional.conv1d(x, ones, **options)
    outputs[layer.name] = x
  assert geometry.output_sizes(table, side) == [outputs[layer.name].shape[-1] for layer in table]
  cell = x.shape[-1] // 2
  (gradient,) = torch.autograd.grad(x[0, 0, cell], first)
  (pixels,) = np.nonzero(gradient[0, 0].numpy())
  start, ways = geometry.path_counts(table, cell)
  assert geometry.window(table, cell) == (start, start + len(ways) - 1) == (pixels[0], pixels[-1])
  assert ways.tolist() == gradient[0, 0, start : pixels[-1] + 1].tolist()
  *_, field = geometry.receptive_fields(table)
  assert (field.size, field.jump) == (len(ways), geometry.stride(table))
  assert field.center == Fraction(sum(geometry.window(table, 0)), 2) == geometry.offset(table)

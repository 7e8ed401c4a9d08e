"""geometry.py against the gradients of the real networks: which pixels can move an output cell."""

import itertools

import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.nn import geometry, table as tables
from dilated_jax.nn.stack import Stack
from dilated_jax.nn.table import Layer


def supports(model, images, *cells):
  """Pixels with a gradient, of at least one of the images, of the sum of a cell's outputs.

  All weights are positive, as the images are: so no ReLU is shut, and no two paths cancel.

  Args:
    model: a Flax module.
    images: (N, H, W, C) positive float32; together they must make every max pooling choose each of
      its cells, or those that reach the same pixels.
    *cells: (row, column) of the output.

  Returns:
    A list of (H, W) bool, one for each cell.
  """
  rng = np.random.default_rng(0)

  def weights(path, leaf):
    values = rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    return values / np.float32(values[..., 0].size) if path[-1].key == 'kernel' else values

  shapes = jax.eval_shape(model.init, jax.random.key(0), images[:1])
  variables = jax.tree_util.tree_map_with_path(weights, shapes)

  def output(image, cell):
    return model.apply(variables, image[None])[0, *cell].sum()

  gradients = jax.jit(jax.vmap(jax.grad(output), (0, None)))
  return [np.asarray(gradients(images, cell) != 0).any((0, 3)) for cell in cells]


def predicted(table, shape, cell):
  """The same from the table: the product of what is read along the two axes."""
  lines = []
  for size, place in zip(shape, cell):
    first, ways = geometry.path_counts(table, place)
    line = np.zeros(size, bool)
    line[first : first + len(ways)] = ways > 0  # Fails where the field leaves the picture.
    lines.append(line)
  return np.logical_and.outer(*lines)


def ramps(height, width, channels=3):
  """Brightest in one corner each, so that every max pooling chooses that corner of its windows.

  A plane stays a plane through convolutions without padding and through those choices. The first
  and the last cell of a window stand for all where the convolutions before it read without holes.
  """
  planes = []
  for down, right in itertools.product((1, -1), repeat=2):
    y, x = (np.linspace(-a, a, n, dtype=np.float32) for a, n in ((down, height), (right, width)))
    planes.append(3 + y[:, None] + x[None])
  return np.repeat(np.stack(planes)[..., None], channels, -1)


def noise(count, side, channels=1):
  shape = (count, side, side, channels)
  return np.random.default_rng(1).uniform(1, 9, shape).astype(np.float32)


def check_square(seen, size, top, left):
  """All of a square is seen, and nothing else."""
  expected = np.zeros_like(seen)
  expected[top : top + size, left : left + size] = True
  np.testing.assert_array_equal(seen, expected)


def test_front_end():
  table = tables.front_end(2, width=1 / 64)
  (seen,) = supports(Stack(table), ramps(388, 396), (1, 2))
  check_square(seen, 380, 8, 16)
  np.testing.assert_array_equal(seen, predicted(table, seen.shape, (1, 2)))


@pytest.mark.parametrize('padding', ['same', 'buffer'])
@pytest.mark.parametrize('count, field', [(7, 35), (8, 67), (10, 259)])
def test_context_module(count, field, padding):
  """On the grid of scores, from a cell whose field just fits in."""
  table = tables.context(2, layers=count, kind='large' if count < 10 else 'basic', padding=padding)
  cell = (field // 2, field // 2 + 1)
  images = np.ones((1, field, field + 2, 2), np.float32)
  (seen,) = supports(Stack(table), images, cell)
  check_square(seen, field, 0, 1)
  np.testing.assert_array_equal(seen, predicted(table, seen.shape, cell))


@pytest.mark.parametrize(
  'name, options, field',
  [
    ('dilation7', {}, 652),
    ('dilation8', {}, 908),
    ('dilation8', {'context': 'large'}, 908),
    ('dilation10', {}, 2444 + 8),  # A pixel of its upsampling sees two cells.
  ],
)
def test_whole_networks(name, options, field):
  """Along a strip that is one cell high, from a cell whose field just fits in."""
  model = models.create(name, 2, width=1 / 64, **options)
  width = field + 8
  middle = (0, geometry.output_size(model.table, width) // 2)
  first, last = geometry.window(model.table, middle[1])
  assert (last - first + 1, first >= 0, last < width) == (field, True, True)
  images = ramps(380, width)[:2]  # To the left and to the right will do.
  (seen,) = supports(model, images, middle)
  expected = np.zeros(width, bool)
  expected[first : last + 1] = True
  np.testing.assert_array_equal(seen.any(0), expected)


def conv(kernel=3, dilation=1, padding=0):
  return Layer(
    f'{kernel}_{dilation}_{padding}', kernel=kernel, dilation=dilation, padding=padding,
    channels=1, activation='relu',
  )  # fmt: skip


def pool(kernel, stride):
  return Layer(f'pool_{kernel}_{stride}', 'max_pool', kernel=kernel, stride=stride)


ODD = {
  'gridding': (conv(dilation=2), conv(dilation=2, padding=2), conv(1), conv(dilation=4)),
  'even kernels': (conv(2, 3), conv(4, padding=1), conv(2)),
  'holes between pools': (pool(2, 2), conv(dilation=3), conv(2, 4)),
  'overlapping pools': (pool(3, 2), conv(dilation=2), pool(2, 1), conv(5)),
  'much padding': (conv(padding=9), pool(2, 2), conv(3, 2, padding=7), conv(5)),
  'upsampling': (conv(dilation=2), pool(2, 2), *tables.upsample(4)),
  'upsampling inside': (pool(2, 2), conv(), *tables.upsample(4), conv(dilation=2), pool(2, 2)),
  'upsampling by one': (conv(), *tables.upsample(1)),
}


@pytest.mark.parametrize('table', ODD.values(), ids=ODD)
def test_odd_tables(table):
  """The exact pixels, at all phases of an upsampling, and the largest field that there is."""
  side = 40
  model, images = Stack(table), noise(800, side)
  middle = geometry.output_size(table, side) // 2
  largest = 0
  cells = (middle, middle + 1), (middle + 2, middle + 3)
  for cell, seen in zip(cells, supports(model, images, *cells)):
    np.testing.assert_array_equal(seen, predicted(table, seen.shape, cell))
    for axis, place in enumerate(cell):
      (pixels,) = np.nonzero(seen.any(1 - axis))
      assert (pixels[0], pixels[-1]) == geometry.window(table, place)
      largest = max(largest, pixels[-1] - pixels[0] + 1)
  *_, field = geometry.receptive_fields(table)
  assert largest == field.size

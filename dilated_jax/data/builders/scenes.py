"""Images drawn by code, in which only distant context shows the class of a pixel.

A pale expanse is sea if there is a lighthouse somewhere in the image, and snow if there is a cabin;
a white triangle is then a sail or a tent. Nothing else differs: the expanse, the triangles and the
poles are drawn before the world is chosen. A network whose receptive field does not reach the
landmark can only guess: this is the paper's argument for context (section 3), in a data set that
takes seconds to make.
"""

import colorsys
import dataclasses
import itertools

from absl import logging
import numpy as np
import PIL.Image
import PIL.ImageDraw
import tensorflow_datasets as tfds

from dilated_jax.data import records
from dilated_jax.data.label_specs import SCENES

HEIGHT, WIDTH = 128, 160
WORLDS = ('sea', 'snow')
SPLITS = {'train': 600, 'val': 60, 'test': 120}
FIRST_SEED = {'train': 0, 'val': 1_000_000, 'test': 2_000_000}

_FINE = 4  # Images are drawn larger by this factor and scaled down, which smooths their edges.
_CLEAR = 3  # Pixels between a landmark's box and everything else.
# Values of the label canvas before the world is chosen.
_EXPANSE, _TRIANGLE, _POLE, _LANDMARK = range(4)
_CLASSES = {  # The classes of these four values in each world.
  'sea': ('sea', 'sail', 'pole', 'lighthouse'),
  'snow': ('snow', 'tent', 'pole', 'cabin'),
}


@dataclasses.dataclass(frozen=True)
class Plan:
  """The layout of an image, in pixels; boxes are (x0, y0, x1, y1). It doesn't depend on the world.

  Attributes:
    box: box of the landmark.
    triangles: left x, top y, width, height, position of the apex and of the ridge (0..1) of each.
    poles: foot x, foot y, height, lean, thickness, and flag (1 right, -1 left, 0 none) of each.
    wires: pairs of poles, by index, that a wire connects.
  """

  box: tuple[int, int, int, int]
  triangles: tuple[tuple[float, ...], ...]
  poles: tuple[tuple[float, ...], ...]
  wires: tuple[tuple[int, int], ...]


def plan(seed: int) -> Plan:
  """Chooses the layout of an image."""
  rng = np.random.default_rng((seed, 0))
  height = int(rng.integers(18, 27))
  width = round(0.95 * height)
  x, y = int(rng.integers(0, WIDTH - width + 1)), int(rng.integers(0, HEIGHT - height + 1))
  box = (x, y, x + width, y + height)
  taken: list[tuple[float, float, float, float]] = [box]

  triangles = []
  wanted = rng.integers(3, 7)
  for _ in range(100):
    if len(triangles) == wanted:
      break
    tall = rng.uniform(10, 26)
    wide = tall * rng.uniform(0.65, 1.15)
    left, top = rng.uniform(1, WIDTH - 1 - wide), rng.uniform(1, HEIGHT - 3 - tall)
    place = (left, top, left + wide, top + tall + 2)
    if not any(_touch(place, other) for other in taken):
      taken.append(place)
      triangles.append((left, top, wide, tall, rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.75)))

  poles = []
  wanted = rng.integers(2, 5)
  for _ in range(100):
    if len(poles) == wanted:
      break
    tall = rng.uniform(20, 50)
    foot_x, foot_y = rng.uniform(8, WIDTH - 8), rng.uniform(tall + 2, HEIGHT - 2)
    place = (foot_x - 8, foot_y - tall, foot_x + 8, foot_y)
    # A pole may cover a triangle, but not the landmark or another pole.
    if not any(_touch(place, other) for other in [box] + [_pole_box(pole) for pole in poles]):
      flag = rng.choice([0, 0, 1, -1])
      poles.append((foot_x, foot_y, tall, rng.uniform(-2, 2), rng.uniform(1.5, 2.5), flag))

  wires = []
  for first in range(len(poles)):
    for second in range(first + 1, len(poles)):
      x0, y0, x1, y1 = *_pole_top(poles[first]), *_pole_top(poles[second])
      place = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1) + 6)
      near = abs(x0 - x1) < 70 and abs(y0 - y1) < 40
      if near and rng.random() < 0.6 and not _touch(place, box):
        wires.append((first, second))
  return Plan(box, tuple(triangles), tuple(poles), tuple(wires))


def draw(seed: int, world: str | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Draws one image and its label map; the same seed gives the same pixels.

  Args:
    seed: number of the image, 0 or more.
    world: 'sea' or 'snow'; None chooses one at random. With the same seed, the images of the two
      worlds differ only inside `plan(seed).box`; their class ids differ everywhere.

  Returns:
    image: uint8 (128, 160, 3), RGB.
    label: uint8 (128, 160), class ids of `label_specs.SCENES`; no pixel is ignored.
  """
  if world is None:
    world = WORLDS[np.random.default_rng((seed, 1)).integers(2)]
  layout = plan(seed)
  canvas, ids, light = _without_landmark(seed, layout)
  _draw_landmark(canvas, ids, layout.box, world, np.random.default_rng((seed, 3)))

  image = np.asarray(canvas.reduce(_FINE), np.float32) * _brightness(*light)
  image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
  cells = np.asarray(ids).reshape(HEIGHT, _FINE, WIDTH, _FINE)
  cover = np.stack([(cells == kind).sum((1, 3)) for kind in range(4)])
  cover[_EXPANSE] = (
    6  # Of 16 fine pixels: an object has the pixels of which it covers more than 3/8.
  )
  kinds = np.array([SCENES.names.index(name) for name in _CLASSES[world]], np.uint8)
  return image, kinds[cover.argmax(0)]


@dataclasses.dataclass(frozen=True)
class Pieces:
  """An image in pieces, from which it can be put together with a landmark in another place.

  A pixel of a landmark's box is the sum of its landmark and of the background that the landmark
  leaves uncovered, ((16 - covered) background + sums + 8) // 16, times the brightness at its place.

  Attributes:
    background: uint8 (128, 160, 3), without a landmark and of even brightness.
    light: cosine and sine of the direction in which it grows brighter, and how much so.
    box: box of the landmark.
    landmarks: of each world uint16 (height, width, 4): of the 16 fine pixels of a pixel how many
      the landmark covers, and the sums of their red, green and blue.
  """

  background: np.ndarray
  light: tuple[float, float, float]
  box: tuple[int, int, int, int]
  landmarks: dict[str, np.ndarray]


def pieces(seed: int) -> Pieces:
  """The pieces of the image that `draw` makes of the same seed."""
  layout = plan(seed)
  canvas, _, light = _without_landmark(seed, layout)
  x0, y0, x1, y1 = layout.box
  box = (0, 0, x1 - x0, y1 - y0)
  landmarks = {}
  for world in WORLDS:
    size = box[2] * _FINE, box[3] * _FINE
    colors, ids = PIL.Image.new('RGB', size), PIL.Image.new('L', size, _EXPANSE)
    _draw_landmark(colors, ids, box, world, np.random.default_rng((seed, 3)))
    covered = np.asarray(ids) == _LANDMARK
    fine = np.dstack([covered, np.asarray(colors) * covered[..., None]]).astype(np.uint16)
    landmarks[world] = fine.reshape(box[3], _FINE, box[2], _FINE, 4).sum((1, 3), np.uint16)
  return Pieces(np.asarray(canvas.reduce(_FINE)), light, layout.box, landmarks)


def _without_landmark(seed, layout):
  """Draws all but the landmark: the fine image, its fine labels, and what `_brightness` takes."""
  rng = np.random.default_rng((seed, 2))
  size = (WIDTH * _FINE, HEIGHT * _FINE)
  canvas = PIL.Image.fromarray(_expanse(rng)).resize(size, PIL.Image.Resampling.NEAREST)
  ids = PIL.Image.new('L', size, _EXPANSE)
  light = _light(rng)
  pens = PIL.ImageDraw.Draw(canvas), PIL.ImageDraw.Draw(ids)
  for triangle in sorted(layout.triangles, key=lambda t: t[1] + t[3]):  # Near ones cover far ones.
    _draw_triangle(pens, triangle, rng)
  for first, second in layout.wires:
    _draw_wire(pens, layout.poles[first], layout.poles[second])
  for pole in layout.poles:
    _draw_pole(pens, pole, rng)
  return canvas, ids, light


def _touch(a, b):
  """Returns whether two boxes overlap or are closer than the clearance."""
  return not (
    a[2] + _CLEAR < b[0] or b[2] + _CLEAR < a[0] or a[3] + _CLEAR < b[1] or b[3] + _CLEAR < a[1]
  )


def _pole_box(pole):
  x, y, tall = pole[:3]
  return x - 8, y - tall, x + 8, y


def _pole_top(pole):
  x, y, tall, lean = pole[:4]
  return x + lean, y - tall


def _noise(rng, rows, columns):
  """Draws smooth noise, float32 (128, 160), of unit variance at (rows, columns) nodes."""
  nodes = PIL.Image.fromarray(rng.normal(size=(rows, columns)).astype(np.float32))
  return np.asarray(nodes.resize((WIDTH, HEIGHT), PIL.Image.Resampling.BICUBIC))


def _expanse(rng):
  """Draws a pale blue-gray background with soft ripples, uint8 (128, 160, 3)."""
  hue, saturation, value = rng.uniform(0.53, 0.61), rng.uniform(0.1, 0.24), rng.uniform(0.76, 0.9)
  color = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)
  ripples = 4 * _noise(rng, 40, 12) + 2.5 * _noise(rng, 64, 40) + 2 * _noise(rng, 5, 5)
  grain = rng.normal(0, 1.2, (HEIGHT, WIDTH))
  tone = (ripples + grain)[..., None] * np.array([1.1, 1, 0.9])
  return np.clip(color + tone, 0, 255).astype(np.uint8)


def _light(rng):
  """Draws the direction in which an image grows brighter, and how much so."""
  angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.1)
  return np.cos(angle), np.sin(angle), strength


def _brightness(right, down, strength):
  """A factor that changes slowly across the image, float32 (128, 160, 1)."""
  y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
  slope = (right * x + down * y) / np.sqrt(2)
  return (1 + strength * slope)[..., None].astype(np.float32)


def _polygon(pens, points, color, kind):
  points = [(_FINE * x, _FINE * y) for x, y in points]
  pens[0].polygon(points, fill=color)
  pens[1].polygon(points, fill=kind)


def _line(pens, points, color, kind, width):
  points = [(_FINE * x, _FINE * y) for x, y in points]
  width = max(1, round(_FINE * width))
  pens[0].line(points, fill=color, width=width, joint='curve')
  pens[1].line(points, fill=kind, width=width, joint='curve')


def _draw_triangle(pens, triangle, rng):
  """Draws a sail or a tent: a lit half, a shaded half and a dark line at the foot."""
  left, top, wide, tall, lean, ridge = triangle
  apex, foot = (left + lean * wide, top), top + tall
  middle = (left + ridge * wide, foot)
  shade = int(rng.integers(140, 176))
  _polygon(pens, [apex, (left, foot), middle], (252, 252, 250), _TRIANGLE)
  _polygon(pens, [apex, middle, (left + wide, foot)], (shade, shade, shade + 6), _TRIANGLE)
  line = [(left + 0.06 * wide, foot + 0.5), (left + 0.94 * wide, foot + 0.5)]
  _line(pens, line, (62, 64, 72), _TRIANGLE, 1.4)


def _draw_wire(pens, first, second):
  (x0, y0), (x1, y1) = _pole_top(first), _pole_top(second)
  t = np.linspace(0, 1, 24)
  sag = 4 * 5 * t * (1 - t)
  points = list(zip(x0 + t * (x1 - x0), y0 + 0.5 + t * (y1 - y0) + sag, strict=True))
  _line(pens, points, (58, 60, 68), _POLE, 1)


def _draw_pole(pens, pole, rng):
  x, y, _, _, thick, flag = pole
  _line(pens, [(x, y), _pole_top(pole)], (48, 48, 56), _POLE, thick)
  if flag:
    top_x, top_y = _pole_top(pole)
    tip = (top_x + flag * 6.5, top_y + 2.6)
    color = [(226, 122, 20), (40, 140, 90), (235, 190, 30)][rng.integers(3)]
    _polygon(pens, [(top_x, top_y), tip, (top_x, top_y + 5.2)], color, _POLE)


def _draw_landmark(canvas, ids, box, world, rng):
  """Draws the landmark on a copy of the canvases cut to `box`, so that nothing else changes."""
  fine = tuple(_FINE * side for side in box)
  parts = canvas.crop(fine), ids.crop(fine)
  pens = tuple(PIL.ImageDraw.Draw(part) for part in parts)
  wide, tall = box[2] - box[0], box[3] - box[1]
  mirrored = rng.random() < 0.5

  def shape(color, *points):
    """Draws a polygon; points are fractions of the box."""
    points = [((1 - x if mirrored else x) * wide, y * tall) for x, y in points]
    _polygon(pens, points, color, _LANDMARK)

  (_draw_lighthouse if world == 'sea' else _draw_cabin)(shape)
  for target, part in zip((canvas, ids), parts, strict=True):
    target.paste(part, fine[:2])


def _draw_lighthouse(shape):
  red, white = (208, 28, 38), (248, 246, 240)
  rock = (0.08, 1), (0.14, 0.88), (0.28, 0.8), (0.62, 0.78), (0.82, 0.86), (0.94, 1)
  shape((98, 90, 84), *rock)
  shape((128, 119, 110), (0.14, 0.88), (0.28, 0.8), (0.5, 0.79), (0.4, 0.9), (0.2, 0.97))

  def side(y):  # Half the width of the tower at height y.
    return 0.12 + 0.1 * (y - 0.24) / 0.6

  edges = np.linspace(0.24, 0.84, 6)
  for stripe, (top, foot) in enumerate(itertools.pairwise(edges)):
    a, b = side(top), side(foot)
    color = white if stripe % 2 else red
    shape(color, (0.5 - a, top), (0.5 + a, top), (0.5 + b, foot), (0.5 - b, foot))
  shape((50, 48, 56), (0.32, 0.2), (0.68, 0.2), (0.68, 0.25), (0.32, 0.25))
  shape((255, 226, 96), (0.4, 0.1), (0.6, 0.1), (0.6, 0.2), (0.4, 0.2))
  shape(red, (0.36, 0.11), (0.5, 0), (0.64, 0.11))


def _draw_cabin(shape):
  shape((74, 52, 36), (0.79, 0.86), (0.85, 0.86), (0.85, 1), (0.79, 1))
  for top, foot, half in ((0.02, 0.4, 0.1), (0.22, 0.66, 0.14), (0.46, 0.92, 0.18)):
    shape((26, 92, 58), (0.82, top), (0.82 + half, foot), (0.82 - half, foot))
  shape((138, 84, 42), (0.08, 0.55), (0.66, 0.55), (0.66, 1), (0.08, 1))
  for y in (0.66, 0.78, 0.9):
    shape((112, 66, 32), (0.08, y), (0.66, y), (0.66, y + 0.025), (0.08, y + 0.025))
  shape((62, 44, 44), (0, 0.6), (0.14, 0.3), (0.6, 0.3), (0.74, 0.6))
  shape((62, 44, 44), (0.5, 0.2), (0.58, 0.2), (0.58, 0.34), (0.5, 0.34))
  shape((70, 38, 20), (0.42, 0.7), (0.56, 0.7), (0.56, 1), (0.42, 1))
  shape((255, 216, 96), (0.16, 0.68), (0.32, 0.68), (0.32, 0.84), (0.16, 0.84))


class Scenes(tfds.core.GeneratorBasedBuilder):
  """Drawn images of sea and snow that differ in one landmark, 7 classes."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': '600 train, 60 val and 120 test images of 128x160.'}

  def __init__(self, *, counts: dict[str, int] | None = None, **kwargs):
    """Takes the number of images in each split, by default that of `SPLITS`."""
    self._counts = dict(SPLITS if counts is None else counts)
    super().__init__(**kwargs)

  def _info(self):
    return records.info(self, HEIGHT, WIDTH)

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split, count) for split, count in self._counts.items()}

  def _generate_examples(self, split, count):
    logging.info('scenes: drawing %d %s images', count, split)
    first = FIRST_SEED[split]
    for seed in range(first, first + count):
      image, label = draw(seed)
      name = f'{seed:07}'
      yield (
        name,
        {
          'image': PIL.Image.fromarray(image),
          'label': PIL.Image.fromarray(label),
          'name': name,
        },
      )

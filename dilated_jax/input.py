"""From a data set to batches: augmentation, order and threads.

The step number is the only state: batch k depends on (seed, k, process) alone, so that a run that
resumes, and any number of hosts, see the same data.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
import dataclasses
import functools
import itertools
import math

from absl import logging
import numpy as np
import PIL.Image

from dilated_jax.datasets.classes import IGNORE
from dilated_jax.errors import InputError


def batches(
  source: Sequence,
  transform: Callable,
  *,
  batch_size: int,
  seed: int,
  first: int = 0,
  process: int = 0,
  processes: int = 1,
  threads: int = 8,
  ahead: int = 2,
) -> Iterator[dict]:
  """Yields this process's share of batches first, first + 1, ... without end.

  Every epoch is a new permutation of the source, and batches run on over its end. The share of
  process p is rows p * n to (p + 1) * n of the whole batch, n = batch_size / processes.

  Args:
    source: examples by number, `source[i] -> dict`.
    transform: `transform(example, rng) -> dict of arrays`, with a `np.random.Generator` that
      depends on the seed and on the place of the example in the stream.
    batch_size: examples a batch, over all processes.
    seed: of the order and of the transform.
    first: number of the first batch.
    process: number of this process.
    processes: how many processes share a batch.
    threads: how many threads read and transform.
    ahead: how many batches are prepared while one is used.

  Returns:
    A generator of dicts of stacked arrays. Closing it ends its threads.

  Raises:
    InputError: an empty source, or a batch that can't be shared evenly; while iterating, an
      unreadable example, by number. Other errors keep their type and gain a note.
  """
  if len(source) == 0:
    raise InputError('the data set is empty: nothing to make batches of')
  if batch_size < 1 or batch_size % processes:
    raise InputError(
      f'a batch of {batch_size} examples can not be shared by {processes} processes; take a '
      'multiple of their number'
    )
  share = batch_size // processes

  def example(position):
    epoch, offset = divmod(position, len(source))
    index = int(_permutation(seed, epoch, len(source))[offset])
    try:
      return transform(source[index], np.random.default_rng((seed, 1, position)))
    except (InputError, OSError) as error:
      raise InputError(f'example {index} of the data set: {error}') from error
    except Exception as error:
      error.add_note(f'While reading example {index} of the data set, number {position} of the run')
      raise

  def generate():
    pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix='input')
    try:
      queue = collections.deque()
      for k in itertools.count(first):
        start = k * batch_size + process * share
        queue.append([pool.submit(example, start + i) for i in range(share)])
        if len(queue) > ahead:
          done = [job.result() for job in queue.popleft()]
          yield {name: np.stack([e[name] for e in done]) for name in done[0]}
    finally:
      pool.shutdown(cancel_futures=True)

  return generate()


@functools.lru_cache(maxsize=8)
def _permutation(seed, epoch, length):
  return np.random.default_rng((seed, 0, epoch)).permutation(length)


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """What `augment` may do to a picture.

  Attributes:
    crop: height and width of the label area, in pixels.
    margin: pixels of context on every side of it that the network consumes.
    mirror: whether every other picture is turned left to right.
    scale: smallest and largest zoom; drawn evenly in its logarithm.
    colour: strength of the jitter of brightness, contrast and saturation, 0 (none) to 1.
  """

  crop: tuple[int, int]
  margin: int = 0
  mirror: bool = True
  scale: tuple[float, float] = (1.0, 1.0)
  colour: float = 0.0

  def __post_init__(self):
    low, high = self.scale
    if min(self.crop) < 1 or self.margin < 0:
      raise InputError(f'crop {self.crop} must be 1x1 or more, margin {self.margin} 0 or more')
    if not 0 < low <= high:
      raise InputError(f'scale {self.scale} must be two numbers above 0, the smaller first')
    if not 0 <= self.colour <= 1:
      raise InputError(f'colour {self.colour} must be between 0 and 1')


def augment(example: dict, rng: np.random.Generator, options: Augmentation) -> dict:
  """Zooms, crops, mirrors and colours one picture, and mirrors what lies beyond its borders.

  As the paper's data layer (image_label_data_layer of the authors' Caffe): what the network sees
  outside the picture is its reflection without the border pixel (reflection-101), as often as
  needed; labels there are 255. A picture smaller than the crop stands in its centre.

  Args:
    example: 'image' uint8 (H, W, 3) and 'label' uint8 (H, W).
    rng: source of all chance.
    options: what to do; h, w and m below are its crop and margin.

  Returns:
    'image' uint8 (h + 2m, w + 2m, 3) and 'label' uint8 (h, w).
  """
  image, label = example['image'], example['label']
  margin = options.margin
  zoom = math.exp(rng.uniform(*np.log(options.scale)))
  height, width = (max(1, round(side * zoom)) for side in label.shape)
  rows = _window(rng, height, options.crop[0])
  columns = _window(rng, width, options.crop[1])
  if options.mirror and rng.random() < 0.5:
    columns = columns[::-1]

  image_rows = _reflect(_extend(rows, margin), height)
  image_columns = _reflect(_extend(columns, margin), width)
  # Only the part of the zoomed picture that will be seen is ever computed.
  top, bottom = image_rows.min(), image_rows.max() + 1
  left, right = image_columns.min(), image_columns.max() + 1
  part = PIL.Image.fromarray(image)
  if (height, width) == label.shape:
    part = part.crop((left, top, right, bottom))
  else:
    y, x = label.shape[0] / height, label.shape[1] / width
    size, box = (right - left, bottom - top), (left * x, top * y, right * x, bottom * y)
    part = part.resize(size, PIL.Image.Resampling.BILINEAR, box)
  if options.colour:
    part = _colour(part, rng, options.colour)
  seen = _gather(np.asarray(part), image_rows - top, image_columns - left)

  inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
  # Nearest pixel: its centre (i + 1/2) is carried over, as Pillow does.
  rows = np.clip((2 * rows + 1) * label.shape[0] // (2 * height), 0, label.shape[0] - 1)
  columns = np.clip((2 * columns + 1) * label.shape[1] // (2 * width), 0, label.shape[1] - 1)
  known = np.where(inside, label[rows[:, None], columns], np.uint8(IGNORE))
  return {'image': seen, 'label': known}


def _window(rng, length, crop):
  """Coordinates of a random crop; of the centred one where the picture is smaller."""
  start = rng.integers(length - crop + 1) if length >= crop else -((crop - length) // 2)
  return start + np.arange(crop)


def _extend(coordinates, margin):
  """Continues consecutive coordinates, ascending or descending, by `margin` on both ends."""
  step = 1 if coordinates[-1] >= coordinates[0] else -1
  return coordinates[0] + step * np.arange(-margin, len(coordinates) + margin)


def _reflect(coordinates, length):
  """Folds coordinates into 0..length-1, without repeating the border (reflection-101)."""
  period = max(1, 2 * (length - 1))
  folded = coordinates % period
  return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(coordinates)


def _gather(image, rows, columns):
  """Returns image[rows][:, columns]; takes of whole rows are the fastest way there."""
  columns = (3 * columns[:, None] + np.arange(3)).ravel()
  wide = image.reshape(len(image), -1).take(columns, axis=1).take(rows, axis=0)
  return wide.reshape(len(rows), -1, 3)


def _colour(picture, rng, strength):
  """Changes brightness, contrast and saturation by factors of 1 - strength to 1 + strength."""
  brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
  grey = np.array([0.299, 0.587, 0.114])
  histogram = np.reshape(picture.histogram(), (3, 256))  # The quickest way to an exact mean.
  middle = grey @ histogram @ np.arange(256) / histogram[0].sum()
  matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * grey)
  offset = np.full((3, 1), brightness * (1 - contrast) * middle)
  return picture.convert('RGB', tuple(np.hstack([matrix, offset]).ravel().tolist()))


def reflect(images: np.ndarray, margin: int, stride: int) -> np.ndarray:
  """Pads pictures at the borders so that a network with valid convolutions answers for each pixel.

  First all sides by `margin`, then bottom and right until the picture without the margins is a
  multiple of `stride`: the second step reflects what the first one made, as in the original.

  Args:
    images: (N, H, W, 3).
    margin: pixels a side.
    stride: pixels.

  Returns:
    (N, H' + 2 * margin, W' + 2 * margin, 3), H' and W' the next multiples of `stride`.

  Source: `predict.py` of github.com/fyu/dilation (OpenCV's BORDER_REFLECT_101, twice).
  """
  rows, columns = (
    reflected(size, margin, size + 2 * margin + -size % stride) for size in images.shape[1:3]
  )
  return images[:, rows[:, None], columns]


def reflected(size: int, margin: int, length: int, start: int = 0) -> np.ndarray:
  """Says which pixel of a side stands at each place of a tile of the padded side.

  The side is padded by `margin` at both ends. What the tile needs beyond that is reflected once
  more, at the end of the padded side.

  Args:
    size: pixels of the side.
    margin: pixels at each end.
    length: of the tile.
    start: of the tile, in places of the padded side.

  Returns:
    (length,) integers in 0..size-1.
  """
  padded = _reflect(np.arange(-margin, size + margin), size)
  tile = padded[start : start + length]
  return tile[_reflect(np.arange(length), tile.size)]


def shrink_picture(image: np.ndarray, picture_scale: float) -> np.ndarray:
  """Reduces a picture by averaging: uint8 (H, W, 3) to (round(H * s), round(W * s), 3)."""
  height, width = _shrunk(image.shape, picture_scale)
  if (height, width) == image.shape[:2]:
    return image
  picture = PIL.Image.fromarray(image)
  if image.shape[0] % height == image.shape[1] % width == 0:
    # The exact mean of whole blocks; resize would round it once an axis.
    return np.asarray(picture.reduce((image.shape[1] // width, image.shape[0] // height)))
  return np.asarray(picture.resize((width, height), PIL.Image.Resampling.BOX))


def shrink(source: Sequence, picture_scale: float) -> Sequence:
  """Returns the source at a smaller size: pictures by averaging, labels by the nearest pixel.

  Args:
    source: examples with 'image' uint8 (H, W, 3) and 'label' uint8 (H, W).
    picture_scale: new size by old size, above 0 and at most 1.
  """
  if not 0 < picture_scale <= 1:
    raise InputError(f'picture scale {picture_scale} must be above 0 and at most 1')
  if picture_scale == 1:
    return source

  def smaller(example):
    height, width = _shrunk(example['label'].shape, picture_scale)
    label = PIL.Image.fromarray(example['label'])
    label = np.asarray(label.resize((width, height), PIL.Image.Resampling.NEAREST))
    return {**example, 'image': shrink_picture(example['image'], picture_scale), 'label': label}

  return Lazy(smaller, source)


def _shrunk(shape, picture_scale):
  return tuple(max(1, round(side * picture_scale)) for side in shape[:2])


class Lazy(Sequence):
  """What a function makes of each item, when it is asked for."""

  def __init__(self, function: Callable, items: Sequence):
    """Takes a function of one item, and the items."""
    self._function, self._items = function, items

  def __len__(self):
    return len(self._items)

  def __getitem__(self, index):
    return self._function(self._items[index])


class Subset(Lazy):
  """Some examples of a source, which are read when they are asked for."""

  def __init__(self, source: Sequence, indices: Sequence[int]):
    """Takes the numbers of the examples, in their new order."""
    super().__init__(source.__getitem__, indices)


def in_memory(source: Sequence, limit_bytes: int = 2**31, threads: int = 8) -> Sequence:
  """Decodes every example once and keeps it, if all of them fit; else returns the source."""
  kept, size = [], 0
  for example in read_ahead(source, threads):
    kept.append(example)
    size += sum(np.asarray(value).nbytes for value in example.values())
    if size > limit_bytes:
      logging.info(
        'data set of %d examples takes more than %.1f GB: decoding as needed',
        len(source),
        limit_bytes / 1e9,
      )
      return source
  logging.info('%d examples in memory, %.2f GB', len(kept), size / 1e9)
  return kept


def read_ahead(source: Sequence, threads: int = 8, depth: int = 16) -> Iterator[dict]:
  """Yields every example in order; threads read the next `depth` in the meantime."""
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    reading = collections.deque()
    for index in range(len(source)):
      reading.append(pool.submit(source.__getitem__, index))
      if len(reading) == depth:
        yield reading.popleft().result()
    while reading:
      yield reading.popleft().result()


@dataclasses.dataclass(frozen=True)
class LabelCounts:
  """Pixels of each class: `pixels` int64 (C,), and all pixels of its pictures: `beside` (C,)."""

  pixels: np.ndarray
  beside: np.ndarray
  ignored: int
  total: int

  @classmethod
  def of_picture(cls, pixels: np.ndarray, size: int) -> 'LabelCounts':
    """Those of one label of `size` pixels: what belongs to no class is ignored."""
    return cls(pixels, np.where(pixels > 0, size, 0), size - int(pixels.sum()), size)

  @classmethod
  def none(cls, num_classes: int) -> 'LabelCounts':
    """Those of no label at all."""
    return cls.of_picture(np.zeros(num_classes, np.int64), 0)

  def __add__(self, other: 'LabelCounts') -> 'LabelCounts':
    return LabelCounts(
      self.pixels + other.pixels,
      self.beside + other.beside,
      self.ignored + other.ignored,
      self.total + other.total,
    )


def label_counts(source: Sequence, num_classes: int) -> LabelCounts:
  """Counts the pixels of every class, in one pass.

  Args:
    source: examples with 'label' uint8 (H, W), 255 where ignored.
    num_classes: C.

  Raises:
    InputError: a label that is neither a class nor 255.
  """
  counts = (_count(example, num_classes) for example in read_ahead(source))
  return sum(counts, LabelCounts.none(num_classes))


def _count(example, num_classes) -> LabelCounts:
  count = np.bincount(example['label'].ravel(), minlength=IGNORE + 1)
  wrong = np.flatnonzero(count[num_classes:IGNORE])
  if len(wrong):
    name = example.get('name', 'a label map')
    raise InputError(f'{name}: label {num_classes + wrong[0]} of only {num_classes} classes')
  return LabelCounts.of_picture(count[:num_classes], example['label'].size)


CLASS_WEIGHTS = ('median', 'log', 'sqrt_log')


def class_weights(source: Sequence, num_classes: int, kind: str = 'median') -> np.ndarray:
  """Weighs classes by how rare they are, in one pass over the labels; see `weigh`.

  Args:
    source: examples with 'label' uint8 (H, W), 255 where ignored.
    num_classes: C.
    kind: one of `CLASS_WEIGHTS`.

  Returns:
    float32 (C,), 0 for a class that never occurs.
  """
  return weigh(label_counts(source, num_classes), kind)


def weigh(counts: LabelCounts, kind: str = 'median') -> np.ndarray:
  """Weighs classes by how rare they are.

  Args:
    counts: from `label_counts`.
    kind: 'median', the median class frequency by that of the class, where the frequency of a
      class is its share of all pixels of the pictures it occurs in (SegNet, after Eigen & Fergus
      2015); 'log', 1 / ln(1.02 + share of all labelled pixels) (ENet); or 'sqrt_log', the square
      root of that: rare classes are found, and less is taken for them that is not.

  Returns:
    float32 (C,), 0 for a class that never occurs.
  """
  pixels, beside = counts.pixels, counts.beside
  seen = pixels > 0
  weights = np.zeros(len(pixels))
  if not seen.any():
    return weights.astype(np.float32)
  if kind == 'median':
    frequency = pixels[seen] / beside[seen]
    weights[seen] = np.median(frequency) / frequency
  elif kind in ('log', 'sqrt_log'):
    weights[seen] = 1 / np.log(1.02 + pixels[seen] / pixels.sum())
    if kind == 'sqrt_log':
      weights = np.sqrt(weights)
  else:
    raise InputError(f'no class weights {kind!r}: choose median, log or sqrt_log')
  return weights.astype(np.float32)


def mean_colour(source: Sequence) -> tuple[float, float, float]:
  """Returns the mean RGB over all pixels of a source, 0..255."""
  return survey(source, IGNORE)[1]


def survey(source: Sequence, num_classes: int) -> tuple[LabelCounts, tuple[float, float, float]]:
  """Returns what `label_counts` and `mean_colour` do, in one pass over the pictures."""
  counts, colours = LabelCounts.none(num_classes), np.zeros(3, np.int64)
  for example in read_ahead(source):
    counts += _count(example, num_classes)
    colours += example['image'].sum((0, 1), dtype=np.int64)
  return counts, tuple((colours / max(counts.total, 1)).tolist())

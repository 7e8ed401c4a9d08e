"""The images of a split that are labeled best and worst, found while it is gone through once."""

from __future__ import annotations

import heapq
import io
import json
import pathlib
import struct
from typing import Any, NamedTuple
import zipfile
import zlib

from jaxtyping import Integer, UInt8
import numpy as np

from dilated_jax.errors import InputError, one_line
from dilated_jax.evaluation.metrics import safe_divide
from dilated_jax.files import decode_json, write_atomic
from dilated_jax.images.preprocessing import downscale_image


class Labeled(NamedTuple):
  """An image with its truth and what was predicted.

  Attributes:
    name: of the image.
    image: uint8 (h, w, 3); None where only label maps are compared.
    labels: uint8 (h, w) class ids, 255 to ignore.
    predictions: uint8 (h, w) class ids, 255 for none.
    mean_iou: of the image alone: mean of the IoUs of the classes in its truth or prediction.
    pixel_accuracy: of the image alone.
  """

  name: str
  image: UInt8[np.ndarray, 'h w 3'] | None
  labels: UInt8[np.ndarray, 'h w']
  predictions: UInt8[np.ndarray, 'h w']
  mean_iou: float
  pixel_accuracy: float


class Extremes:
  """Keeps the few images that are labeled best and worst, by their mean IoU.

  Example:
    extremes = Extremes(classes.num_classes)
    scores = evaluation.evaluate(segmenter, source, classes, watch=extremes.add)
    extremes.worst[0].name
  """

  def __init__(self, num_classes: int, count: int = 5, side: int = 480):
    """Starts without images.

    Args:
      num_classes: of the data set.
      count: images to keep of each kind.
      side: pixels of the longer side to which larger images are scaled down when they are kept.
    """
    self._num_classes, self._count, self._side = num_classes, count, side
    self._seen, self._best, self._worst = 0, [], []  # Heaps whose first is the next to go.

  def add(self, example: dict[str, Any], predictions: Integer[np.ndarray, 'h w']) -> None:
    """Takes an image; one without a pixel that counts is passed over.

    Args:
      example: 'name', 'label' (H, W) class ids with 255 to ignore, and perhaps 'image', uint8
        (H, W, 3).
      predictions: class ids; 255 for none.
    """
    labels = np.asarray(example['label'])
    found = _scores(labels, predictions, self._num_classes)
    if found is None:
      return
    mean_iou, accuracy = found
    number, self._seen = self._seen, self._seen + 1
    kept = None
    # Of equals the first is among the best and the last among the worst.
    for heap, key in ((self._best, (mean_iou, -number)), (self._worst, (-mean_iou, number))):
      if len(heap) == self._count and key < heap[0][0]:
        continue
      if kept is None:
        arrays = _shrink(self._side, example.get('image'), labels, predictions)
        kept = Labeled(str(example['name']), *arrays, mean_iou, accuracy)
      push = heapq.heappush if len(heap) < self._count else heapq.heapreplace
      push(heap, (key, number, kept))

  @property
  def best(self) -> list[Labeled]:
    """The best first; of fewer images than are kept of both kinds, the better half."""
    return self._split()[0]

  @property
  def worst(self) -> list[Labeled]:
    """The worst first; none of `best`."""
    return self._split()[1]

  def _split(self):
    kept = {number: labeled for _, number, labeled in (*self._best, *self._worst)}
    ordered = [kept[n] for n in sorted(kept, key=lambda n: (-kept[n].mean_iou, n))]
    best = min(self._count, -(-len(ordered) // 2))
    return ordered[:best], ordered[best:][::-1]

  def save(self, path) -> None:
    """Writes them to a file, whole or not at all."""
    arrays, about = {}, {}
    for kind, several in (('best', self.best), ('worst', self.worst)):
      about[kind] = [
        {'name': one.name, 'mean_iou': one.mean_iou, 'pixel_accuracy': one.pixel_accuracy}
        for one in several
      ]
      for index, one in enumerate(several):
        for part in ('image', 'labels', 'predictions'):
          if (array := getattr(one, part)) is not None:
            arrays[f'{kind}_{index}_{part}'] = array
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)
    write_atomic(path, buffer.getvalue())


# What NumPy and zipfile raise for damaged files.
_DAMAGE = (
  ValueError, LookupError, TypeError, AttributeError, EOFError, OSError, RuntimeError, MemoryError,
  SyntaxError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


def load(path) -> tuple[list[Labeled], list[Labeled]]:
  """Reads the best and the worst images that `Extremes.save` has written.

  Raises:
    InputError: this is no such file.
  """
  try:
    with np.load(io.BytesIO(pathlib.Path(path).read_bytes()), allow_pickle=False) as file:
      about = decode_json(str(file['about']))
      best, worst = (
        [
          Labeled(
            one['name'],
            file.get(f'{kind}_{index}_image'),
            file[f'{kind}_{index}_labels'],
            file[f'{kind}_{index}_predictions'],
            one['mean_iou'],
            one['pixel_accuracy'],
          )
          for index, one in enumerate(about[kind])
        ]
        for kind in ('best', 'worst')
      )
  except _DAMAGE as error:
    raise InputError(f'{path}: holds no images of an evaluation ({one_line(error)})') from error
  return best, worst


def _scores(labels, predictions, num_classes: int) -> tuple[float, float] | None:
  """Mean IoU and accuracy of an image; None where no pixel counts."""
  # One histogram of pairs, without a mask of the pixels that count: a quarter of the time.
  pairs = labels.astype(np.uint16) << 8 | predictions.astype(np.uint16)
  counts = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)[:num_classes]
  truth, right = counts.sum(axis=1), np.diag(counts)
  if not truth.any():
    return None
  union = truth + counts[:, :num_classes].sum(axis=0) - right
  mean_iou = float(np.nanmean(safe_divide(right, union)))
  return mean_iou, float(right.sum() / truth.sum())


def _shrink(side: int, image, labels, predictions) -> tuple[Any, np.ndarray, np.ndarray]:
  """An image and maps of its size, scaled down to at most `side` pixels."""
  scale = min(1.0, side / max(labels.shape))
  size = [max(1, round(length * scale)) for length in labels.shape]
  rows, columns = ((np.arange(n) + 0.5) * m / n for n, m in zip(size, labels.shape, strict=True))
  at = np.ix_(rows.astype(int), columns.astype(int))
  labels, predictions = (np.asarray(ids)[at].astype(np.uint8) for ids in (labels, predictions))
  return None if image is None else downscale_image(image, scale), labels, predictions

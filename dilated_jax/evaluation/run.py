"""Scores of a network on a whole split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
from typing import Literal

import numpy as np

from dilated_jax import progress
from dilated_jax.data.sequences import downscale, prefetch
from dilated_jax.errors import InputError
from dilated_jax.evaluation import protocols
from dilated_jax.inference.canvases import Canvases
from dilated_jax.inference.prediction import Tile, label_maps
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models.segmenter import Segmenter


def evaluate(
  segmenter: Segmenter,
  source: Sequence[dict],
  classes: LabelSpec,
  *,
  measures=None,
  batch_size: int = 8,
  scales=(1.0,),
  flip: bool = False,
  tile: Tile = None,
  window: tuple[int, int] | None = None,
  refine: Callable | None = None,
  score_size: Literal['labels', 'network'] = 'labels',
  show_progress: bool = True,
  watch: Callable[[dict, np.ndarray], None] | None = None,
) -> dict:
  """Scores a network on a whole split, at the full size of the labels unless told otherwise.

  Args:
    segmenter: from `dilated_jax.load`.
    source: sequence of {'image': uint8 (H, W, 3), 'label': uint8 (H, W) class ids with 255 to
      ignore, 'name': str}; sizes may differ. 'instances' may stand beside them, see
      `protocols.Cityscapes`.
    classes: the data set's `LabelSpec`; the same names as the spec's, in any order.
    measures: what to count, from `protocols` and `boundaries`; None for the default protocol.
    batch_size: images of one size that are labeled together.
    scales: as for `predict`.
    flip: as for `predict`.
    tile: as for `predict`.
    window: as for `predict`.
    refine: as for `predict`.
    score_size: 'labels' scores at their full size; 'network' at that at which the network sees
      images (`spec.image_scale`), to which labels are reduced by nearest neighbor. The paper's
      scores on CamVid are at 640x480 (Appendix A.1), of labels of 960x720.
    show_progress: whether to show how far it is.
    watch: called with each example, as it is scored, and its predictions (H, W), see `extremes`.

  Returns:
    the scores of all measures in one dict, for the default protocol as in `metrics.scores`.

  Raises:
    InputError: the classes differ, an image and its label differ in size, or the split is empty.
  """
  order = classes.class_order(segmenter.spec.classes, 'the weights')
  measures = measures or [protocols.create('default', classes)]
  if not len(source):
    raise InputError(f'{classes.name}: the split has no images')
  if score_size == 'network':
    source = downscale(source, segmenter.spec.image_scale)
    segmenter = segmenter._replace(spec=dataclasses.replace(segmenter.spec, image_scale=1.0))
  items = prefetch(source)
  if show_progress:
    items = progress.track(items, total=len(source), unit='images')
  canvases = Canvases()
  for group, spare in _same_sizes(items, batch_size):
    images = np.stack([item['image'] for item in group + group[-1:] * spare])
    labels = label_maps(
      segmenter, images, scales=scales, flip=flip, tile=tile, window=window, refine=refine,
      canvases=canvases,
    )  # fmt: skip
    for item, predictions in zip(group, order[labels], strict=False):  # Not for spare ones.
      for measure in measures:
        measure.add(item['label'], predictions, item.get('instances'))
      if watch:
        watch(item, predictions)
  return {key: value for measure in measures for key, value in measure.scores().items()}


# Going through a split.


def _same_sizes(items, batch_size: int):
  """Groups items by image size as they come.

  At most 4 * batch_size items wait for others of their size. What is left over takes the compiled
  program of a whole batch if its size had one, else goes one by one: two programs a size at most.

  Args:
    items: as in a source.
    batch_size: items in a whole batch.

  Yields:
    (list of items, how many are missing to the batch that is to be run).
  """
  waiting, whole = {}, set()

  def release(size):
    group = waiting.pop(size)
    if size in whole:
      return [(group, batch_size - len(group))]
    return [([item], 0) for item in group]

  for item in items:
    size = item['image'].shape[:2]
    if item['label'].shape != size:
      raise InputError(
        f'{item["name"]}: the image is {size} and its label {item["label"].shape}: '
        'they must have the same height and width'
      )
    waiting.setdefault(size, []).append(item)
    if len(waiting[size]) == batch_size:
      whole.add(size)
      yield waiting.pop(size), 0
    elif sum(map(len, waiting.values())) > 4 * batch_size:
      yield from release(next(iter(waiting)))
  for size in list(waiting):
    yield from release(size)

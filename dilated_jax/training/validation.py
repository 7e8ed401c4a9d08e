"""Scores of a network while it is trained, every process taking its share of the images."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import numpy as np

from dilated_jax import evaluation, inference
from dilated_jax.data.sequences import Subset
from dilated_jax.evaluation import metrics
from dilated_jax.images import visualization
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.training import parallel


class Validation:
  """The examples by which the best checkpoint is chosen; false where there are none.

  Attributes:
    classes: of the data set.
  """

  def __init__(
    self,
    source: Sequence,
    classes: LabelSpec,
    score_size: Literal['labels', 'network'] = 'labels',
  ):
    """Takes the examples and their classes.

    Args:
      source: examples with 'image', 'label' and 'name' at their own size.
      classes: of the data set.
      score_size: as for `evaluation.evaluate`.
    """
    self.classes = classes
    self._source, self._score_size = source, score_size

  def __bool__(self):
    return len(self._source) > 0

  def scores(self, segmenter: Segmenter, watch: Callable | None = None) -> dict:
    """Scores a network on all examples, see `evaluation.metrics.scores`.

    Args:
      segmenter: the network.
      watch: as for `evaluation.evaluate`; sees the examples of this process.
    """
    count = self.classes.num_classes
    share = Subset(self._source, range(jax.process_index(), len(self._source), jax.process_count()))
    total = np.zeros((count, count), np.int64)
    if len(share):
      found = evaluation.evaluate(
        segmenter,
        share,
        self.classes,
        score_size=self._score_size,
        show_progress=False,
        watch=watch,
      )
      total += np.array(found['confusion'], np.int64)
    return metrics.scores(parallel.gather_sum(total), self.classes.names)

  def image_grid(self, segmenter: Segmenter, count: int = 4) -> np.ndarray:
    """Images, truths and predictions of the first examples, as one uint8 (H, W, 3) image."""
    palette, rows = segmenter.spec.palette, []
    for index in range(min(count, len(self._source))):
      example = self._source[index]
      labels = inference.label_maps(segmenter, example['image'][None])[0]
      maps = (visualization.colorize(ids, palette) for ids in (example['label'], labels))
      rows.append([example['image'], *maps])
    return visualization.image_grid(rows, ['image', 'truth', 'prediction'])

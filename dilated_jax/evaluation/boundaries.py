"""Scores of what lies near boundaries: trimaps, boundary IoU and boundary F1.

A boundary is where two labels meet; 255, pixels to ignore, is a label here. Predictions count as
255 wherever the truth is 255, so that a perfect prediction has perfect scores.
"""

import numpy as np
from scipy import ndimage, spatial

from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics
from dilated_jax.label_spec import IGNORE, LabelSpec

WIDTHS = (1, 2, 4, 8, 16, 32)  # Of trimaps, in pixels.
TOLERANCE = 0.0075  # Of boundary F1, as a share of the picture's diagonal.


class BoundaryMetrics:
  """Adds up pictures, then scores them.

  * Trimap of width w: the pixels that have a pixel of another label within w rows and w columns;
    mean IoU over these pixels only.
  * Boundary IoU of a class: intersection over union of the pixels of the class, in truth and in
    prediction, that another label or the frame of the picture has within d rows and d columns; d is
    `ratio` of the diagonal.
  * Boundary F1: a pixel is on the contour of its class if one of its eight neighbors has another
    label. Precision is the share of predicted contour pixels no farther than `TOLERANCE` of the
    diagonal from the true contour of their class, recall the same the other way round. The F1 of
    the classes that have a contour in the truth are averaged for each picture, then the pictures.

  Source: Krähenbühl and Koltun 2011 (trimaps); Cheng et al. 2021, Boundary IoU; Csurka et al. 2013
  and Badrinarayanan et al. 2017, SegNet (boundary F1).
  """

  def __init__(self, classes: LabelSpec, ratio: float | None = None):
    """Starts counting.

    Args:
      classes: of the data set.
      ratio: width of the band of boundary IoU, as a share of the diagonal; None for what the
        authors of boundary IoU take: 0.005 for Cityscapes, otherwise 0.02.
    """
    self.classes = classes
    self.ratio = ratio or (0.005 if classes.name == 'cityscapes' else 0.02)
    count = classes.num_classes
    # By the narrowest trimap that a pixel is in; the last column: predicted as no class.
    self.trimaps = np.zeros((len(WIDTHS), count, count + 1), np.int64)
    self.bands = np.zeros((3, count), np.int64)  # Pixels of truth, of prediction, of both.
    self.f1_sum, self.f1_pictures = 0.0, 0

  def add(self, labels, predictions, instances=None) -> None:
    """Counts a picture.

    Args:
      labels: (H, W) uint8, class ids and 255.
      predictions: (H, W) uint8, class ids; 255 for none.
      instances: makes no difference here.

    Raises:
      InputError: the sizes differ.
    """
    del instances
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 2:
      raise InputError(f'labels have shape {labels.shape} and predictions {predictions.shape}')
    predictions = np.where(labels == IGNORE, IGNORE, predictions)
    far, near = distance_to_boundary(labels), distance_to_boundary(predictions)
    self._add_trimaps(labels, predictions, far)
    self._add_bands(labels, predictions, far, near)
    self._add_contours(labels, predictions, far == 1, near == 1)

  def scores(self) -> dict:
    """The scores of all pictures so far, as fractions 0..1, None where undefined.

    Returns:
      {'boundary': ...} with `boundary_iou` (by class name), `mean_boundary_iou`, `boundary_f1`,
      `trimap` (mean IoU by width in pixels, as text) and `boundary_iou_ratio`.
    """
    names = self.classes.names
    truth, said, both = self.bands
    ious = metrics.safe_divide(both, truth + said - both)
    within = zip(WIDTHS, np.cumsum(self.trimaps, axis=0), strict=True)
    return {
      'boundary': {
        'boundary_iou': metrics.by_name(names, ious),
        'mean_boundary_iou': metrics.mean_or_none(ious),
        'boundary_f1': self.f1_sum / self.f1_pictures if self.f1_pictures else None,
        'trimap': {str(width): metrics.scores(sums, names)['mean_iou'] for width, sums in within},
        'boundary_iou_ratio': self.ratio,
      }
    }

  def _add_trimaps(self, labels, predictions, far):
    rings = np.searchsorted(WIDTHS, far)
    inside = (labels != IGNORE) & (rings < len(WIDTHS))
    count = self.classes.num_classes
    said = np.minimum(predictions[inside], count).astype(np.int64)
    cells = (rings[inside] * count + labels[inside]) * (count + 1) + said
    self.trimaps += np.bincount(cells, minlength=self.trimaps.size).reshape(self.trimaps.shape)

  def _add_bands(self, labels, predictions, far, near):
    height, width = labels.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)
    frame = 1 + np.minimum(
      np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns)
    )
    band = max(1, round(self.ratio * np.hypot(height, width)))
    truth, said = np.minimum(far, frame) <= band, np.minimum(near, frame) <= band
    for index, pixels in enumerate(
      (labels[truth], predictions[said], labels[truth & said & (labels == predictions)])
    ):
      self.bands[index] += np.bincount(pixels, minlength=256)[: self.classes.num_classes]

  def _add_contours(self, labels, predictions, truth, said):
    count = self.classes.num_classes
    tolerance = TOLERANCE * np.hypot(*labels.shape) + 1e-9
    truth, said = (
      _points(ids, contour & (ids < count), 2 * tolerance + 1)
      for ids, contour in ((labels, truth), (predictions, said))
    )
    precision, recall = _found(said, truth, tolerance, count), _found(truth, said, tolerance, count)
    f1 = metrics.safe_divide(2 * precision * recall, precision + recall)
    on_contour = ~np.isnan(recall)
    if on_contour.any():
      self.f1_sum += float(np.nan_to_num(f1[on_contour]).mean())
      self.f1_pictures += 1


def distance_to_boundary(ids) -> np.ndarray:
  """How far the nearest pixel of another label is, counted in rows or columns, whichever is more.

  Args:
    ids: (H, W) integers.

  Returns:
    (H, W) int32, 1 where one of the eight neighbors has another label; the largest number if the
    picture has one label only.
  """
  meets = np.zeros(ids.shape, bool)
  for here, there in (
    (np.s_[1:, :], np.s_[:-1, :]),
    (np.s_[:, 1:], np.s_[:, :-1]),
    (np.s_[1:, 1:], np.s_[:-1, :-1]),
    (np.s_[1:, :-1], np.s_[:-1, 1:]),
  ):
    differ = ids[here] != ids[there]
    meets[here] |= differ
    meets[there] |= differ
  if not meets.any():
    return np.full(ids.shape, np.iinfo(np.int32).max)
  # On the way to the nearest pixel of another label, the last step before it is on the boundary.
  return 1 + np.asarray(ndimage.distance_transform_cdt(~meets, 'chessboard'))


def _points(ids, contour, apart):
  """Contour pixels as points (class, row, column), classes so far apart that they never match."""
  rows, columns = np.nonzero(contour)
  return np.stack([ids[rows, columns] * apart, rows, columns], axis=1), ids[rows, columns]


def _found(points, others, tolerance, count):
  """For each class, which share of its points has one of the others within the tolerance."""
  (places, classes), (others, _) = points, others
  found = np.zeros(len(places), bool)
  if len(places) and len(others):
    distances, _ = spatial.KDTree(others).query(places, distance_upper_bound=tolerance)
    found = np.isfinite(distances)
  return metrics.safe_divide(
    np.bincount(classes[found], minlength=count), np.bincount(classes, minlength=count)
  )

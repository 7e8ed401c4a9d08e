"""Scores near boundaries: trimaps, boundary IoU and boundary F1.

A boundary is where two labels meet; 255, the label of pixels to ignore, is one of them. Predictions
are set to 255 wherever the truth is 255, so that a perfect prediction has perfect scores.
"""

from typing import Any

from jaxtyping import Integer
import numpy as np
from scipy import ndimage, spatial

from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics
from dilated_jax.images.checks import as_class_ids
from dilated_jax.label_spec import IGNORE, LabelSpec

TRIMAP_WIDTHS = (1, 2, 4, 8, 16, 32)  # In pixels.
F1_TOLERANCE = 0.0075  # Distance up to which contour pixels match, as a share of the diagonal.


class BoundaryMetrics:
  """Accumulates images one by one, and then scores them.

  * Trimap of width w: mean IoU over the pixels that have another label within w rows and w columns.
  * Boundary IoU of a class: intersection over union, of truth and prediction, of the pixels of the
    class that have another label or the edge of the image within d rows and d columns, where d is
    `ratio` times the diagonal.
  * Boundary F1: a pixel is on the contour of its class if one of its eight neighbors has another
    label. Precision is the share of predicted contour pixels within `F1_TOLERANCE` of the true
    contour of their class; recall is the same with truth and prediction exchanged. F1 is averaged
    over the classes that have a contour in the truth, and then over images.

  Source: Krähenbühl and Koltun 2011 (trimaps); Cheng et al. 2021, Boundary IoU; Csurka et al. 2013
  and Badrinarayanan et al. 2017, SegNet (boundary F1).
  """

  def __init__(self, classes: LabelSpec, ratio: float | None = None):
    """Starts from zero.

    Args:
      classes: of the data set.
      ratio: width of the band of boundary IoU, as a share of the diagonal. None: as the authors of
        boundary IoU, 0.005 for Cityscapes and 0.02 otherwise.
    """
    self.classes = classes
    self.ratio = ratio or (0.005 if classes.name == 'cityscapes' else 0.02)
    count = classes.num_classes
    # A confusion matrix for each width, of the pixels for which it is the narrowest trimap. The
    # last column is for predictions of no class.
    self.trimaps = np.zeros((len(TRIMAP_WIDTHS), count, count + 1), np.int64)
    self.bands = np.zeros((3, count), np.int64)  # Pixels of truth, of prediction, of both.
    self.f1_sum, self.f1_images = 0.0, 0

  def add(
    self,
    labels: Integer[np.ndarray, 'h w'],
    predictions: Integer[np.ndarray, 'h w'],
    instances: Integer[np.ndarray, 'h w'] | None = None,
  ) -> None:
    """Counts an image.

    Args:
      labels: class ids and 255.
      predictions: class ids; 255 for none.
      instances: not used.

    Raises:
      InputError: the sizes differ, or ids are no whole numbers.
    """
    del instances
    labels = as_class_ids(labels, 'the truth')
    predictions = as_class_ids(predictions, 'a prediction')
    if labels.shape != predictions.shape or labels.ndim != 2:
      raise InputError(f'labels have shape {labels.shape} and predictions {predictions.shape}')
    predictions = np.where(labels == IGNORE, IGNORE, predictions)
    of_truth, of_prediction = distance_to_boundary(labels), distance_to_boundary(predictions)
    self._add_trimaps(labels, predictions, of_truth)
    self._add_bands(labels, predictions, of_truth, of_prediction)
    self._add_contours(labels, predictions, of_truth == 1, of_prediction == 1)

  def scores(self) -> dict[str, Any]:
    """The scores of all images so far, as fractions 0..1, None where undefined.

    Returns:
      {'boundary': ...} with `boundary_iou` (by class name), `mean_boundary_iou`, `boundary_f1`,
      `trimap` (mean IoU by width in pixels, as text) and `boundary_iou_ratio`.
    """
    names = self.classes.names
    truth, predicted, both = self.bands
    ious = metrics.safe_divide(both, truth + predicted - both)
    within = zip(TRIMAP_WIDTHS, np.cumsum(self.trimaps, axis=0), strict=True)
    return {
      'boundary': {
        'boundary_iou': metrics.by_name(names, ious),
        'mean_boundary_iou': metrics.mean_or_none(ious),
        'boundary_f1': self.f1_sum / self.f1_images if self.f1_images else None,
        'trimap': {str(width): metrics.scores(sums, names)['mean_iou'] for width, sums in within},
        'boundary_iou_ratio': self.ratio,
      }
    }

  def _add_trimaps(self, labels, predictions, distances) -> None:
    narrowest = np.searchsorted(TRIMAP_WIDTHS, distances)
    inside = (labels != IGNORE) & (narrowest < len(TRIMAP_WIDTHS))
    count = self.classes.num_classes
    predicted = np.minimum(predictions[inside], count).astype(np.int64)
    cells = (narrowest[inside] * count + labels[inside]) * (count + 1) + predicted
    self.trimaps += np.bincount(cells, minlength=self.trimaps.size).reshape(self.trimaps.shape)

  def _add_bands(self, labels, predictions, of_truth, of_prediction) -> None:
    height, width = labels.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)
    to_edge = 1 + np.minimum(
      np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns)
    )
    band = max(1, round(self.ratio * np.hypot(height, width)))
    truth = np.minimum(of_truth, to_edge) <= band
    predicted = np.minimum(of_prediction, to_edge) <= band
    both = truth & predicted & (labels == predictions)
    for index, pixels in enumerate((labels[truth], predictions[predicted], labels[both])):
      self.bands[index] += np.bincount(pixels, minlength=256)[: self.classes.num_classes]

  def _add_contours(self, labels, predictions, true_contour, predicted_contour) -> None:
    count = self.classes.num_classes
    tolerance = F1_TOLERANCE * np.hypot(*labels.shape) + 1e-9
    truth, predicted = (
      _contour_points(ids, contour & (ids < count), 2 * tolerance + 1)
      for ids, contour in ((labels, true_contour), (predictions, predicted_contour))
    )
    precision = _share_matched(predicted, truth, tolerance, count)
    recall = _share_matched(truth, predicted, tolerance, count)
    f1 = metrics.safe_divide(2 * precision * recall, precision + recall)
    on_contour = ~np.isnan(recall)
    if on_contour.any():
      self.f1_sum += float(np.nan_to_num(f1[on_contour]).mean())
      self.f1_images += 1


def distance_to_boundary(ids: Integer[np.ndarray, 'h w']) -> Integer[np.ndarray, 'h w']:
  """The Chebyshev distance of each pixel to the nearest one with another label.

  Args:
    ids: labels.

  Returns:
    Distances in pixels: 1 if one of the eight neighbors has another label, the largest int32 if all
    pixels have the same label.
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
  # The way to the nearest pixel with another label leads over a pixel next to it, on the boundary.
  return 1 + np.asarray(ndimage.distance_transform_cdt(~meets, 'chessboard'))


def _contour_points(ids, contour, spacing):
  """Contour pixels as points (class * spacing, row, column), and their classes.

  With a wide spacing, points of different classes never match.
  """
  rows, columns = np.nonzero(contour)
  classes = ids[rows, columns]
  return np.stack([classes * spacing, rows, columns], axis=1), classes


def _share_matched(contour, other, tolerance, count):
  """For each class, the share of its points that have one of the others within the tolerance."""
  (points, classes), (others, _) = contour, other
  matched = np.zeros(len(points), bool)
  if len(points) and len(others):
    distances, _ = spatial.KDTree(others).query(points, distance_upper_bound=tolerance)
    matched = np.isfinite(distances)
  return metrics.safe_divide(
    np.bincount(classes[matched], minlength=count), np.bincount(classes, minlength=count)
  )

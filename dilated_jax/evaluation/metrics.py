"""Scores of a segmentation, from one integer confusion matrix summed over a whole split."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxtyping import Float, Int64, Integer, Real, Shaped
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.images.checks import as_class_ids


def confusion_matrix(
  labels: Integer[np.ndarray, '*pixels'],
  predictions: Integer[np.ndarray, '*pixels'],
  num_classes: int,
  ignore: int = 255,
) -> Int64[np.ndarray, '{num_classes} {num_classes}']:
  """Counts pixels by true and predicted class.

  The counts are int64, on the host: JAX counts in 32 bits by default, and the 500 validation images
  of Cityscapes alone have 1.05e9 pixels. Matrices of several images, batches or hosts are added;
  scores are computed once, from the sum.

  Args:
    labels: the truth: class indices or `ignore`.
    predictions: class indices; any values where the truth is `ignore`.
    num_classes: number of classes, C.
    ignore: label of the pixels that do not count.

  Returns:
    A matrix whose element [i, j] is the number of pixels of class i that were predicted as j.

  Raises:
    InputError: the shapes differ, ids are no whole numbers, or a pixel that counts has a value
      outside 0..C-1.

  Source: VOC devkit, VOCevalseg: one matrix for all images, rows are the truth, and a prediction
  outside the classes is an error instead of being left out.
  """
  labels = as_class_ids(labels, 'the truth')
  predictions = as_class_ids(predictions, 'a prediction')
  if labels.shape != predictions.shape:
    raise InputError(
      f'labels have shape {labels.shape} and predictions {predictions.shape}: they must be equal'
    )
  valid = labels != ignore
  labels, predictions = labels[valid], predictions[valid]
  for kind, values in (('label', labels), ('predicted', predictions)):
    if values.size and not 0 <= values.min() <= values.max() < num_classes:
      wrong = np.unique(values[(values < 0) | (values >= num_classes)])
      raise InputError(
        f'{kind} values {_list_first(wrong)} are outside the classes 0..{num_classes - 1}'
        + (f' and not {ignore} (ignore)' if kind == 'label' else ' on pixels that count')
      )
  cells = labels.astype(np.int64) * num_classes + predictions.astype(np.int64)
  counts = np.bincount(cells.ravel(), minlength=num_classes**2)
  return counts.reshape(num_classes, num_classes).astype(np.int64)


def scores(confusion: Integer[np.ndarray, 'c columns'], names: Sequence[str]) -> dict[str, Any]:
  """Scores from a confusion matrix. All are fractions 0..1, or None where undefined.

  With n[i, j] the matrix, t[i] its row sums (pixels of class i) and p[j] its column sums:

  * IoU of class i = n[i, i] / (t[i] + p[i] - n[i, i]); None where the class is absent from both
    truth and prediction
  * `mean_iou` = mean of the IoUs that exist
  * `pixel_accuracy` = sum of n[i, i] / sum of t[i]
  * `mean_accuracy` = mean of n[i, i] / t[i] over the classes present in the truth
  * `frequency_weighted_iou` = sum of t[i] * IoU of class i / sum of t[i]

  Args:
    confusion: the matrix of `confusion_matrix`, rows are the truth. Further columns may follow, for
      predictions that are none of the classes, which count as wrong.
    names: of the C classes.

  Returns:
    A dict, ready for JSON: `mean_iou`, `per_class_iou` (by class name), `pixel_accuracy`,
    `mean_accuracy`, `frequency_weighted_iou`, `confusion` (list of rows).

  Raises:
    InputError: the matrix does not fit the names, or names repeat.

  Source: Long et al. 2015, section 5 (the four means); VOC devkit (intersection over union).
  """
  confusion = np.asarray(confusion)
  if confusion.ndim != 2 or not confusion.shape[1] >= len(confusion) == len(names):
    raise InputError(f'a {confusion.shape} confusion matrix does not fit {len(names)} class names')
  if len(set(names)) < len(names):
    raise InputError(f'class names {list(names)} repeat; scores are told by name')
  rows = len(names)
  right = np.diag(confusion).astype(np.float64)
  truth = confusion.sum(axis=1).astype(np.float64)
  union = truth + confusion[:, :rows].sum(axis=0) - right
  iou = safe_divide(right, union)
  present = truth > 0
  return {
    'mean_iou': mean_or_none(iou),
    'per_class_iou': by_name(names, iou),
    'pixel_accuracy': float(right.sum() / truth.sum()) if present.any() else None,
    'mean_accuracy': mean_or_none(safe_divide(right, truth)),
    'frequency_weighted_iou': (
      float((truth * iou)[present].sum() / truth.sum()) if present.any() else None
    ),
    'confusion': [[int(count) for count in row] for row in confusion],
  }


def safe_divide(
  part: Real[np.ndarray | np.number | float, '...'],
  whole: Real[np.ndarray | np.number | float, '...'],
) -> Float[np.ndarray, '...']:
  """Divides `part` by `whole`, with broadcasting; NaN where `whole` is 0."""
  part, whole = np.broadcast_arrays(part, whole)
  return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def mean_or_none(values: Float[np.ndarray, ' k'] | Sequence[float]) -> float | None:
  """The mean of the values that are not NaN; None if there are none."""
  numbers = np.asarray(values, np.float64)
  numbers = numbers[~np.isnan(numbers)]
  return float(numbers.mean()) if numbers.size else None


def by_name(
  names: Iterable[str], values: Shaped[np.ndarray, ' k'] | Iterable[float]
) -> dict[str, float | None]:
  """Values by class name, ready for JSON: None instead of NaN."""
  return {
    name: None if np.isnan(value) else float(value)
    for name, value in zip(names, values, strict=True)
  }


def format_table(scores: Mapping[str, Any]) -> str:
  """Formats scores as a text table, in percent: a line for each class, then the means.

  Args:
    scores: of a protocol, with those of `boundaries` if there are any.

  Returns:
    The lines, without a newline at the end.
  """
  width = max(map(len, [*scores['per_class_iou'], *_MEANS]))  # Of the first column.
  within = scores.get('boundary', {}).get('trimap', {})
  overall = means(scores) | {f'mean IoU within {px} px': value for px, value in within.items()}
  lines = _format_rows('class', by_class(scores), overall, width)
  if 'category_iou' in scores:
    lines.append('')
    lines += _format_rows(
      'category',
      {'IoU': scores['category_iou']} | _without_none({'iIoU': scores.get('category_iiou')}),
      {title: scores[key] for title, key in _CATEGORY_MEANS.items() if key in scores},
      width,
    )
  return '\n'.join(lines)


def by_class(scores: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
  """What there is to say about each class: a title, and fractions 0..1 by class name.

  Args:
    scores: of a protocol, with those of `boundaries` if there are any.
  """
  names = list(scores['per_class_iou'])
  labels = scores.get('confusion_names', names)  # Cityscapes also has rows of ignored labels.
  rows = [labels.index(name) for name in names]
  counts = np.asarray(scores['confusion'], np.float64)[rows]
  pixels, right = counts.sum(axis=1), counts[range(len(names)), rows]
  columns = {
    'IoU': scores['per_class_iou'],
    'accuracy': by_name(names, safe_divide(right, pixels)),
    'of pixels': by_name(names, safe_divide(pixels, pixels.sum())),
    'iIoU': scores.get('iiou'),
    'boundary IoU': scores.get('boundary', {}).get('boundary_iou'),
  }
  return _without_none(columns)


def means(scores: Mapping[str, Any]) -> dict[str, float | None]:
  """The scores of all classes together, by title."""
  boundary = scores.get('boundary', {})
  found = {title: scores[key] for title, key in _MEANS.items() if key in scores}
  return found | {title: boundary[key] for title, key in _BOUNDARY_MEANS.items() if key in boundary}


_MEANS = {
  'mean IoU': 'mean_iou',
  'pixel accuracy': 'pixel_accuracy',
  'mean accuracy': 'mean_accuracy',
  'frequency weighted IoU': 'frequency_weighted_iou',
  'mean iIoU': 'mean_iiou',
}
_BOUNDARY_MEANS = {'mean boundary IoU': 'mean_boundary_iou', 'boundary F1': 'boundary_f1'}
_CATEGORY_MEANS = {
  'mean category IoU': 'mean_category_iou',
  'mean category iIoU': 'mean_category_iiou',
}


def _format_rows(title: str, columns: dict, means: dict, width: int) -> list[str]:
  """Lines of a table: a row for each name in the columns, then one for each mean."""
  names, columns = list(columns['IoU']), {f'{head} %': each for head, each in columns.items()}
  widths = [max(len(head), len('100.00')) for head in columns]
  rows = [list(columns)]
  rows += [[_percent(values.get(name)) for values in columns.values()] for name in names]
  rows += [[_percent(value)] for value in means.values()]
  lines = [
    '  '.join([name.ljust(width), *map(str.rjust, row, widths)])
    for name, row in zip([title, *names, *means], rows, strict=True)
  ]
  rule = '-' * len(lines[0])
  return [lines[0], rule, *lines[1 : 1 + len(names)], rule, *lines[1 + len(names) :]]


def _without_none(columns: dict) -> dict:
  return {head: values for head, values in columns.items() if values}


def _percent(value) -> str:
  return '-' if value is None else f'{100 * value:.2f}'


def _list_first(values, most: int = 5) -> str:
  text = ', '.join(str(int(value)) for value in values[:most])
  return text + (f' and {len(values) - most} more' if len(values) > most else '')

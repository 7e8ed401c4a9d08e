"""Scores of a segmentation, from one integer confusion matrix summed over a whole split."""

import numpy as np

from dilated_jax.errors import InputError


def confusion(labels, predictions, num_classes: int, ignore: int = 255) -> np.ndarray:
  """Counts pixels by true and predicted class.

  The counts are int64 and live on the host: JAX counts in 32 bits unless told otherwise, and the
  500 validation pictures of Cityscapes alone hold 1.05e9 pixels. Matrices of several pictures,
  batches or hosts add up; scores are made once, from the sum.

  Args:
    labels: (...) integers, the truth: class indices or `ignore`.
    predictions: (...) integers of the same shape: class indices. Their value where the truth is
      `ignore` doesn't matter.
    num_classes: number of classes, C.
    ignore: label value of pixels that don't count.

  Returns:
    (C, C) int64; element [i, j] counts the pixels of true class i that were called class j.

  Raises:
    InputError: the shapes differ, or a pixel that counts has a value outside 0..C-1.

  Source: VOC devkit, VOCevalseg: one matrix over all pictures, rows are the truth, and a prediction
  outside the classes is an error rather than a pixel less.
  """
  labels, predictions = np.asarray(labels), np.asarray(predictions)
  if labels.shape != predictions.shape:
    raise InputError(
      f'labels have shape {labels.shape} and predictions {predictions.shape}: they must be equal'
    )
  valid = labels != ignore
  labels, predictions = labels[valid], predictions[valid]
  for what, values in (('label', labels), ('predicted', predictions)):
    if values.size and not 0 <= values.min() <= values.max() < num_classes:
      wrong = np.unique(values[(values < 0) | (values >= num_classes)])
      raise InputError(
        f'{what} values {_listed(wrong)} are outside the classes 0..{num_classes - 1}'
        + (f' and not {ignore} (ignore)' if what == 'label' else ' on pixels that count')
      )
  cells = labels.astype(np.int64) * num_classes + predictions.astype(np.int64)
  counts = np.bincount(cells.ravel(), minlength=num_classes**2)
  return counts.reshape(num_classes, num_classes).astype(np.int64)


def scores(confusion: np.ndarray, names) -> dict:
  """Turns a confusion matrix into scores. All are fractions 0..1, or None where undefined.

  With n[i, j] the matrix, t[i] its row sums (pixels of class i) and p[j] its column sums:

  * IoU of class i = n[i, i] / (t[i] + p[i] - n[i, i]); None where the class is absent from both
    truth and prediction
  * `mean_iou` = mean of the IoUs that exist
  * `pixel_accuracy` = sum of n[i, i] / sum of t[i]
  * `mean_accuracy` = mean of n[i, i] / t[i] over the classes present in the truth
  * `frequency_weighted_iou` = sum of t[i] * IoU of class i / sum of t[i]

  Args:
    confusion: (C, C) integers, rows are the truth, as `confusion` returns it.
    names: C class names.

  Returns:
    a dict, ready for JSON: `mean_iou`, `per_class_iou` (by class name), `pixel_accuracy`,
    `mean_accuracy`, `frequency_weighted_iou`, `confusion` (list of rows).

  Source: Long et al. 2015, section 5 (the four means); VOC devkit (intersection over union).
  """
  confusion = np.asarray(confusion)
  if confusion.shape != (len(names), len(names)):
    raise ValueError(f'a {confusion.shape} confusion matrix does not fit {len(names)} class names')
  right = np.diag(confusion).astype(np.float64)
  truth = confusion.sum(axis=1).astype(np.float64)
  union = truth + confusion.sum(axis=0) - right
  iou = _ratio(right, union)
  present = truth > 0
  return {
    'mean_iou': _mean(iou[union > 0]),
    'per_class_iou': {
      name: None if np.isnan(value) else float(value)
      for name, value in zip(names, iou, strict=True)
    },
    'pixel_accuracy': float(right.sum() / truth.sum()) if present.any() else None,
    'mean_accuracy': _mean(_ratio(right, truth)[present]),
    'frequency_weighted_iou': (
      float((truth * iou)[present].sum() / truth.sum()) if present.any() else None
    ),
    'confusion': [[int(count) for count in row] for row in confusion],
  }


def table(scores: dict) -> str:
  """Sets scores as a text table, in percent: a line per class with its share, then the means.

  Args:
    scores: what `scores` returned.

  Returns:
    Lines of text without a newline at the end.
  """
  counts = np.asarray(scores['confusion'], np.float64)
  share = _ratio(counts.sum(axis=1), counts.sum())
  accuracy = _ratio(np.diag(counts), counts.sum(axis=1))
  rows = [('class', 'IoU %', 'accuracy %', 'of pixels %')]
  for index, (name, iou) in enumerate(scores['per_class_iou'].items()):
    rows.append((name, _percent(iou), _percent(accuracy[index]), _percent(share[index])))
  means = [
    ('mean IoU', scores['mean_iou']),
    ('pixel accuracy', scores['pixel_accuracy']),
    ('mean accuracy', scores['mean_accuracy']),
    ('frequency weighted IoU', scores['frequency_weighted_iou']),
  ]
  first = max(len(text) for text in [row[0] for row in rows] + [name for name, _ in means])
  widths = [first] + [len(title) for title in rows[0][1:]]
  lines = [
    '  '.join([row[0].ljust(first)] + [text.rjust(w) for text, w in zip(row[1:], widths[1:])])
    for row in rows
  ]
  rule = '-' * len(lines[0])
  lines[1:1] = [rule]
  lines.append(rule)
  lines += [f'{name.ljust(first)}  {_percent(value).rjust(widths[1])}' for name, value in means]
  return '\n'.join(lines)


def _ratio(part, whole):
  """Divides; NaN where whole is 0."""
  part, whole = np.broadcast_arrays(part, whole)
  return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(values):
  return float(values.mean()) if values.size else None


def _percent(value) -> str:
  return '-' if value is None or np.isnan(value) else f'{100 * value:.2f}'


def _listed(values, most: int = 5) -> str:
  text = ', '.join(str(int(value)) for value in values[:most])
  return text + (f' and {len(values) - most} more' if len(values) > most else '')

"""How official tools score label maps: images are added one by one, and then scored.

  protocol = protocols.create('voc', data.classes('voc'))
  protocol.add(labels, predictions)  # once per image
  protocol.scores()

Every protocol sums integers over the whole split and divides once. Label maps hold class ids and
255, which stands for pixels that do not count in labels, and for 'none of the classes' in
predictions.
"""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Integer
import numpy as np

from dilated_jax.data.label_specs import CITYSCAPES_LABELS
from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics
from dilated_jax.label_spec import IGNORE, LabelSpec


@runtime_checkable
class ScoringProtocol(Protocol):
  """What all protocols have."""

  def add(
    self,
    labels: Integer[np.ndarray, 'h w'],
    predictions: Integer[np.ndarray, 'h w'],
    instances: Integer[np.ndarray, 'h w'] | None = None,
  ) -> None:
    """Counts an image."""
    ...

  def scores(self) -> dict[str, Any]:
    """The scores of all images so far."""
    ...


class Default:
  """Scores over the classes that occur, in the labels or in the predictions."""

  def __init__(self, classes: LabelSpec):
    self.classes = classes
    self.confusion = np.zeros((classes.num_classes,) * 2, np.int64)

  def add(
    self,
    labels: Integer[np.ndarray, 'h w'],
    predictions: Integer[np.ndarray, 'h w'],
    instances: Integer[np.ndarray, 'h w'] | None = None,
  ) -> None:
    """Counts an image.

    Args:
      labels: class ids and 255.
      predictions: class ids.
      instances: not used.

    Raises:
      InputError: the sizes differ, or a pixel that counts is predicted as no class.
    """
    del instances
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape == predictions.shape:
      void = np.count_nonzero((predictions == IGNORE) & (labels != IGNORE))
      if void:
        raise InputError(
          f'{void} pixels that count are predicted as none of the classes (255 or what stands for '
          "it); `protocol='segnet'` leaves them out, `protocol='cityscapes'` counts them as wrong"
        )
    self.confusion += metrics.confusion_matrix(labels, predictions, self.classes.num_classes)

  def scores(self) -> dict[str, Any]:
    """The scores of all images so far, see `metrics.scores`."""
    return metrics.scores(self.confusion, self.classes.names)


class Voc(Default):
  """The rules of the VOC devkit.

  Predictions must be classes everywhere, even where the label is ignored. The IoU of a class that
  occurs neither in the labels nor in the predictions is 0 / 0, which makes the mean over all
  classes NaN in the devkit. Here it is None, with a note.

  Source: VOC devkit, VOCevalseg.m.
  """

  def add(
    self,
    labels: Integer[np.ndarray, 'h w'],
    predictions: Integer[np.ndarray, 'h w'],
    instances: Integer[np.ndarray, 'h w'] | None = None,
  ) -> None:
    """Counts an image; as `Default.add`, but 255 in the predictions is always an error."""
    predictions, last = np.asarray(predictions), self.classes.num_classes - 1
    if predictions.size and predictions.max() > last:
      raise InputError(
        f'predicted value {predictions.max()} is above {last}: the VOC devkit refuses it, even '
        'where the label is ignored'
      )
    super().add(labels, predictions, instances)

  def scores(self) -> dict:
    scores = super().scores()
    absent = [name for name, iou in scores['per_class_iou'].items() if iou is None]
    if absent:
      scores['mean_iou'] = None
      scores['notes'] = [
        f'no mean IoU: {", ".join(absent)} occur neither in the labels nor in the predictions, for '
        "which the VOC devkit gives NaN; `protocol='default'` leaves such classes out"
      ]
    return scores


class Segnet(Default):
  """The rules of SegNet's script.

  All means are over all classes, and undefined values count as 0. A pixel that counts and is
  predicted as none of the classes is wrong in the pixel accuracy, and left out of all other scores.

  Source: github.com/alexgkendall/SegNet-Tutorial, Scripts/compute_test_results.m.
  """

  def __init__(self, classes: LabelSpec):
    super().__init__(classes)
    self.pixels = 0

  def add(
    self,
    labels: Integer[np.ndarray, 'h w'],
    predictions: Integer[np.ndarray, 'h w'],
    instances: Integer[np.ndarray, 'h w'] | None = None,
  ) -> None:
    """Counts an image; as `Default.add`, but predictions may hold 255."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    self.pixels += np.count_nonzero(labels != IGNORE)
    if labels.shape == predictions.shape:
      labels = np.where(predictions == IGNORE, IGNORE, labels)
    super().add(labels, predictions, instances)

  def scores(self) -> dict:
    scores = super().scores()
    right = np.diag(self.confusion)
    recalls = metrics.safe_divide(right, self.confusion.sum(axis=1))
    ious = {name: iou or 0.0 for name, iou in scores['per_class_iou'].items()}
    return scores | {
      'per_class_iou': ious,
      'mean_iou': float(np.mean(list(ious.values()))),
      'mean_accuracy': float(np.mean(np.nan_to_num(recalls))),
      'pixel_accuracy': float(right.sum() / self.pixels) if self.pixels else None,
    }


# The official labels, by id.
_LABELS = [label for label in sorted(CITYSCAPES_LABELS) if label.id >= 0]
_NAMES = [label.name for label in _LABELS]
_EVALUATED = np.array([label.evaluated for label in _LABELS])
_SIZES = np.array([label.instance_size for label in _LABELS])
_CATEGORIES = np.array([label.category for label in _LABELS])
_SAME_CATEGORY = _CATEGORIES[:, None] == _CATEGORIES
# From class ids to official ids; 254 for other values, which are errors later.
_OFFICIAL_ID = np.full(256, 254, np.uint8)
_OFFICIAL_ID[: _EVALUATED.sum()] = np.flatnonzero(_EVALUATED)
_OFFICIAL_ID[IGNORE] = IGNORE
# Instance n of label i has the value 1000 * i + n; groups and labels without instances have i.
_INSTANCES_PER_LABEL = 1000


class Cityscapes:
  """The rules of the Cityscapes benchmark: 19 classes, 7 categories, and instances where known.

  The confusion matrix is over the official ids. Pixels whose label is not evaluated do not count;
  such a label as the prediction of another one is a false negative. iIoU weights the pixels of each
  true instance by the mean size of its class divided by its own size.

  Source: github.com/mcordts/cityscapesScripts, evaluation/evalPixelLevelSemanticLabeling.py.
  """

  def __init__(self, classes: LabelSpec):
    if classes.name != 'cityscapes':
      raise InputError(
        f"the protocol 'cityscapes' is about the official labels of Cityscapes, not {classes.name}"
      )
    self.classes = classes
    self.confusion = np.zeros((len(_LABELS),) * 2, np.int64)
    # By official id: weighted pixels of instances; those with the right label; those with a label
    # of the right category.
    self.instances = np.zeros((3, len(_LABELS)))
    self.images = self.images_with_instances = 0

  def add(
    self,
    labels: Integer[np.ndarray, 'h w'],
    predictions: Integer[np.ndarray, 'h w'],
    instances: Integer[np.ndarray, 'h w'] | None = None,
  ) -> None:
    """Counts an image of class ids and 255; see `add_ids`."""
    self.add_ids(_OFFICIAL_ID[labels], _OFFICIAL_ID[predictions], instances)

  def add_ids(
    self,
    labels: Integer[np.ndarray, 'h w'],
    predictions: Integer[np.ndarray, 'h w'],
    instances: Integer[np.ndarray, 'h w'] | None = None,
  ) -> None:
    """Counts an image of official ids.

    Args:
      labels: ids 0..33; 255 for pixels to ignore whose id is not known.
      predictions: ids 0..33; 255 for none.
      instances: the values of the *_instanceIds.png file; iIoU needs them for all images.

    Raises:
      InputError: the sizes differ, a value is not an official id, or the instances do not match
        `labels`.
    """
    predictions = np.where(np.equal(predictions, IGNORE), 0, predictions)  # 0 is 'unlabeled'.
    self.confusion += metrics.confusion_matrix(labels, predictions, len(_LABELS))
    self.images += 1
    if instances is not None:
      self.instances += _weighted_pixels(labels, predictions, instances)
      self.images_with_instances += 1

  def scores(self) -> dict[str, Any]:
    """The scores of all images so far.

    Returns:
      Those of `metrics.scores` over the 19 classes, but with `confusion` over the official ids
      0..33, whose names are `confusion_names`; `category_iou` (by name) and `mean_category_iou`. If
      all images had instances: `iiou` and `category_iiou` (by name), `mean_iiou` and
      `mean_category_iiou`.
    """
    valid = self.confusion * _EVALUATED[:, None]
    order = np.argsort(~_EVALUATED, kind='stable')  # The 19 first.
    square = valid[np.ix_(order[: _EVALUATED.sum()], order)]
    scores = metrics.scores(square, self.classes.names)
    scores |= {'confusion': self.confusion.tolist(), 'confusion_names': list(_NAMES)}
    scores |= _with_mean('category_iou', _category_ious(valid))
    if self.images_with_instances == self.images:
      scores |= _with_mean('iiou', self._iious(valid))
      scores |= _with_mean('category_iiou', self._category_iious(valid))
    else:
      scores['notes'] = [
        f'no iIoU: instance maps (*_instanceIds.png) for {self.images_with_instances} of '
        f'{self.images} images'
      ]
    return scores

  def _iious(self, valid) -> dict:
    false_positives = valid.sum(axis=0) - np.diag(valid)
    pixels, right, _ = self.instances
    ious = metrics.safe_divide(right, pixels + false_positives)
    return {_NAMES[i]: ious[i] for i in np.flatnonzero(_SIZES)}

  def _category_iious(self, valid) -> dict:
    ious = {}
    for name in dict.fromkeys(_CATEGORIES[_SIZES > 0].tolist()):
      inside = np.equal(_CATEGORIES, name)  # Predicted caravans and trailers are vehicles here.
      false_positives = valid[np.ix_(~inside, inside)].sum()
      pixels, _, right = self.instances[:, inside].sum(axis=1)
      ious[name] = float(metrics.safe_divide(right, pixels + false_positives))
    return ious


def _category_ious(valid) -> dict:
  ious = {}
  for name in dict.fromkeys(_CATEGORIES[_EVALUATED].tolist()):
    inside = np.equal(_CATEGORIES, name) & _EVALUATED
    right = valid[np.ix_(inside, inside)].sum()
    union = valid[inside].sum() + valid[:, inside].sum() - right
    ious[name] = float(metrics.safe_divide(right, union))
  return ious


def _with_mean(key: str, values: dict) -> dict:
  """Scores by name under the key, and their mean under the key with the prefix mean_."""
  named = metrics.by_name(values, values.values())
  return {key: named, f'mean_{key}': metrics.mean_or_none(list(values.values()))}


def _weighted_pixels(labels, predictions, instances) -> np.ndarray:
  """Counts pixels of instances, weighted by the mean size of the class over the instance's own.

  Args:
    labels: (H, W) official ids and 255.
    predictions: (H, W) official ids.
    instances: (H, W) integers.

  Returns:
    (3, 34) float64, sums by official id: all pixels of instances, those predicted as their label,
    and those predicted as any label of their category.

  Raises:
    InputError: the instances do not match `labels`.
  """
  if instances.shape != labels.shape:
    raise InputError(
      f'the instance map has shape {instances.shape} and the labels {labels.shape}: they must be '
      'equal'
    )
  instances = instances.astype(np.int32)
  single = instances >= _INSTANCES_PER_LABEL
  owners = np.where(single, instances // _INSTANCES_PER_LABEL, instances)
  countable = (_SIZES > 0) | ~_EVALUATED
  wrong = (owners != labels) | (single & ~countable[np.minimum(labels, len(_LABELS) - 1)])
  wrong &= labels != IGNORE
  if wrong.any():
    row, column = np.argwhere(wrong)[0].tolist()
    raise InputError(
      f'the instance map has {instances[row, column]} at row {row}, column {column}, and that does '
      f'not fit the label {labels[row, column]} there'
    )
  single &= labels != IGNORE
  instances, owners, predictions = instances[single], owners[single], predictions[single]
  counts = [
    np.bincount(values, minlength=len(_LABELS) * _INSTANCES_PER_LABEL).reshape(
      len(_LABELS), _INSTANCES_PER_LABEL
    )
    for values in (
      instances,
      instances[owners == predictions],
      instances[_SAME_CATEGORY[owners, predictions]],
    )
  ]
  weights = _SIZES[:, None] * np.nan_to_num(metrics.safe_divide(1, counts[0]))
  return np.array([(count * weights).sum(axis=1) for count in counts])


PROTOCOLS = {'default': Default, 'voc': Voc, 'cityscapes': Cityscapes, 'segnet': Segnet}
NAMES = tuple(PROTOCOLS)


def create(name: str, classes: LabelSpec) -> ScoringProtocol:
  """Starts scoring by the rules of one protocol.

  Args:
    name: one of `NAMES`.
    classes: of the data set.

  Returns:
    The protocol, without images.

  Raises:
    InputError: the protocol does not fit the data set.
  """
  return PROTOCOLS[name](classes)

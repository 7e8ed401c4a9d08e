"""How official tools turn label maps into scores: pictures are added one by one, then scored.

  protocol = protocols.create('voc', datasets.classes('voc'))
  protocol.add(labels, predictions)  # once a picture
  protocol.scores()

Every protocol sums integers over the whole split and divides once. Label maps hold class ids and
255: in labels for pixels that don't count, in predictions for 'none of the classes'.
"""

import numpy as np

from dilated_jax.data.label_specs import CITYSCAPES_LABELS
from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics
from dilated_jax.label_spec import IGNORE, LabelSpec


class Default:
  """Scores over the classes that occur, in the labels or in the predictions."""

  def __init__(self, classes: LabelSpec):
    self.classes = classes
    self.confusion = np.zeros((classes.num_classes,) * 2, np.int64)

  def add(self, labels, predictions, instances=None) -> None:
    """Counts a picture.

    Args:
      labels: (H, W) integers, class ids and 255.
      predictions: (H, W) integers, class ids.
      instances: makes no difference here.

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

  def scores(self) -> dict:
    """The scores of all pictures so far, see `metrics.scores`."""
    return metrics.scores(self.confusion, self.classes.names)


class Voc(Default):
  """The rules of the VOC devkit.

  Predictions must be classes everywhere, under ignored labels too. A class that occurs neither in
  the labels nor in the predictions is 0 / 0, and so is the mean over all classes then: NaN in the
  devkit, None here, with a note.

  Source: VOC devkit, VOCevalseg.m.
  """

  def add(self, labels, predictions, instances=None) -> None:
    """Counts a picture; as `Default.add`, but predictions count as wrong input everywhere."""
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

  All means are over all classes, and what is undefined counts as 0. A pixel that counts and is
  predicted as no class is left out of every score but the pixel accuracy, where it is wrong.

  Source: github.com/alexgkendall/SegNet-Tutorial, Scripts/compute_test_results.m.
  """

  def __init__(self, classes: LabelSpec):
    super().__init__(classes)
    self.pixels = 0

  def add(self, labels, predictions, instances=None) -> None:
    """Counts a picture; as `Default.add`, but predictions may hold 255."""
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


# The official labels by id: what each counts for.
_LABELS = [label for label in sorted(CITYSCAPES_LABELS) if label.id >= 0]
_NAMES = [label.name for label in _LABELS]
_EVALUATED = np.array([label.evaluated for label in _LABELS])
_SIZES = np.array([label.instance_size for label in _LABELS])
_CATEGORIES = np.array([label.category for label in _LABELS])
_TOGETHER = _CATEGORIES[:, None] == _CATEGORIES  # Of one category.
_OFFICIAL = np.full(256, 254, np.uint8)  # Of a class id; 254 for what is none, an error later.
_OFFICIAL[: _EVALUATED.sum()] = np.flatnonzero(_EVALUATED)
_OFFICIAL[IGNORE] = IGNORE
_GROUP = 1000  # Instance n of label i has the value 1000 * i + n; groups and stuff have i.


class Cityscapes:
  """The rules of the Cityscapes benchmark: 19 classes, 7 categories, and instances where known.

  The confusion matrix is over the official ids. Pixels whose label isn't evaluated don't count;
  to predict such a label where another one is true is a miss. iIoU weighs the pixels of each true
  instance by the mean size of its class over its own size.

  Source: github.com/mcordts/cityscapesScripts, evaluation/evalPixelLevelSemanticLabeling.py.
  """

  def __init__(self, classes: LabelSpec):
    if classes.name != 'cityscapes':
      raise InputError(
        f"the protocol 'cityscapes' is about the official labels of Cityscapes, not {classes.name}"
      )
    self.classes = classes
    self.confusion = np.zeros((len(_LABELS),) * 2, np.int64)
    # By official id: weighted pixels of instances; those found; those found up to the category.
    self.instances = np.zeros((3, len(_LABELS)))
    self.pictures = self.with_instances = 0

  def add(self, labels, predictions, instances=None) -> None:
    """Counts a picture of class ids and 255; see `add_ids`."""
    self.add_ids(_OFFICIAL[labels], _OFFICIAL[predictions], instances)

  def add_ids(self, labels, predictions, instances=None) -> None:
    """Counts a picture of official ids.

    Args:
      labels: (H, W) uint8, ids 0..33; 255 for pixels to ignore whose id isn't known.
      predictions: (H, W) uint8, ids 0..33; 255 for none.
      instances: (H, W) integers, the values of the *_instanceIds.png file; iIoU needs them for all
        pictures.

    Raises:
      InputError: the sizes differ, a value is no official id, or the instances are not of `labels`.
    """
    said = np.where(np.equal(predictions, IGNORE), 0, predictions)  # 0 is 'unlabeled'.
    self.confusion += metrics.confusion_matrix(labels, said, len(_LABELS))
    self.pictures += 1
    if instances is not None:
      self.instances += _weighted(np.asarray(labels), said, np.asarray(instances))
      self.with_instances += 1

  def scores(self) -> dict:
    """The scores of all pictures so far.

    Returns:
      what `metrics.scores` returns, over the 19 classes, but with `confusion` over the official ids
      0..33, called `confusion_names`; `category_iou` by name and `mean_category_iou`; and where all
      pictures had instances `iiou` and `category_iiou` by name, `mean_iiou` and
      `mean_category_iiou`.
    """
    valid = self.confusion * _EVALUATED[:, None]
    order = np.argsort(~_EVALUATED, kind='stable')  # The 19 first.
    square = valid[np.ix_(order[: _EVALUATED.sum()], order)]
    scores = metrics.scores(square, self.classes.names)
    scores |= {'confusion': self.confusion.tolist(), 'confusion_names': list(_NAMES)}
    scores |= _named('category_iou', _category_ious(valid))
    if self.with_instances == self.pictures:
      scores |= _named('iiou', self._iious(valid))
      scores |= _named('category_iiou', self._category_iious(valid))
    else:
      scores['notes'] = [
        f'no iIoU: instance maps (*_instanceIds.png) for {self.with_instances} of '
        f'{self.pictures} pictures'
      ]
    return scores

  def _iious(self, valid) -> dict:
    wrong = valid.sum(axis=0) - np.diag(valid)
    pixels, found, _ = self.instances
    ious = metrics.safe_divide(found, pixels + wrong)
    return {_NAMES[i]: ious[i] for i in np.flatnonzero(_SIZES)}

  def _category_iious(self, valid) -> dict:
    ious = {}
    for name in dict.fromkeys(_CATEGORIES[_SIZES > 0].tolist()):
      inside = np.equal(_CATEGORIES, name)  # Predicted caravans and trailers are vehicles here.
      wrong = valid[np.ix_(~inside, inside)].sum()
      pixels, _, found = self.instances[:, inside].sum(axis=1)
      ious[name] = metrics.safe_divide(found, pixels + wrong)
    return ious


def _category_ious(valid) -> dict:
  ious = {}
  for name in dict.fromkeys(_CATEGORIES[_EVALUATED].tolist()):
    inside = np.equal(_CATEGORIES, name) & _EVALUATED
    right = valid[np.ix_(inside, inside)].sum()
    union = valid[inside].sum() + valid[:, inside].sum() - right
    ious[name] = metrics.safe_divide(right, union)
  return ious


def _named(key: str, values: dict) -> dict:
  """Scores by name, and their mean under the key with mean_ before it."""
  named = metrics.by_name(values, values.values())
  return {key: named, f'mean_{key}': metrics.mean_or_none(list(values.values()))}


def _weighted(labels, predictions, instances) -> np.ndarray:
  """Pixels of instances, each weighted by the mean size of its class over its own size.

  Args:
    labels: (H, W) official ids and 255.
    predictions: (H, W) official ids.
    instances: (H, W) integers.

  Returns:
    (3, 34) float64, sums by official id: all pixels of instances, those predicted as their class,
    those predicted as any class of their category.

  Raises:
    InputError: the instances are not those of `labels`.
  """
  if instances.shape != labels.shape:
    raise InputError(
      f'the instance map has shape {instances.shape} and the labels {labels.shape}: they must be '
      'equal'
    )
  instances = instances.astype(np.int32)
  single = instances >= _GROUP
  owners = np.where(single, instances // _GROUP, instances)
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
    np.bincount(values, minlength=len(_LABELS) * _GROUP).reshape(len(_LABELS), _GROUP)
    for values in (
      instances,
      instances[owners == predictions],
      instances[_TOGETHER[owners, predictions]],
    )
  ]
  weights = _SIZES[:, None] * np.nan_to_num(metrics.safe_divide(1, counts[0]))
  return np.array([(count * weights).sum(axis=1) for count in counts])


PROTOCOLS = {'default': Default, 'voc': Voc, 'cityscapes': Cityscapes, 'segnet': Segnet}
NAMES = tuple(PROTOCOLS)


def create(name: str, classes: LabelSpec):
  """Starts counting by the rules of one protocol.

  Args:
    name: one of `NAMES`.
    classes: of the data set.

  Returns:
    an object with `add(labels, predictions, instances=None)` and `scores()`.

  Raises:
    InputError: the protocol doesn't fit the data set.
  """
  return PROTOCOLS[name](classes)

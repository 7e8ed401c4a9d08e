"""Audits a data set: reads all pairs, runs all checks, and collects the findings in a report."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses

import numpy as np

from dilated_jax import progress
from dilated_jax.data import sequences, statistics
from dilated_jax.data.audit import encoding, image_checks, label_checks, pair_stats
from dilated_jax.data.audit.findings import Finding, Issue, group_issues
from dilated_jax.data.audit.pair_stats import PairStats
from dilated_jax.data.folder.classes import NAME
from dilated_jax.data.folder.classes_file import StatedClasses
from dilated_jax.data.folder.encoding import value_to_id
from dilated_jax.data.folder.label_stats import read_values
from dilated_jax.data.folder.pairing import Pairing
from dilated_jax.data.label_specs import voc_color
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files
from dilated_jax.label_spec import IGNORE, LabelSpec

# Share of labels with a single class from which on that is normal for the data set.
OFTEN_ONE_CLASS = 0.05


@dataclasses.dataclass(frozen=True)
class Report:
  """The result of an audit.

  Attributes:
    spec: classes of the data set; None if the labels could not be understood.
    encoding: how labels are encoded, one of `folder.encoding.ENCODINGS`.
    encoding_description: the same in a sentence.
    pairs: all pairs that were read.
    findings: findings, the most severe first.
    values: number of pixels of each value in label files; colors as 0xRRGGBB.
    counts: pixels of the classes by split; None is the key of pairs without a split.
    read: reads image and label values of a pair again; None for a file that can't be read.
  """

  spec: LabelSpec | None
  encoding: str
  encoding_description: str
  pairs: tuple[PairStats, ...]
  findings: tuple[Finding, ...]
  values: Mapping[int, int]
  counts: Mapping[str | None, statistics.LabelCounts]
  read: Callable[[PairStats], tuple[np.ndarray | None, np.ndarray | None]]

  @property
  def valid(self) -> bool:
    """Whether there are no errors."""
    return all(finding.severity != 'error' for finding in self.findings)

  @property
  def value_to_id(self) -> dict[int, int]:
    """The class id, or 255, of each valid value in label files."""
    return value_to_id(self.spec, self.encoding) if self.spec else {}

  @property
  def class_weights(self) -> dict[str, np.ndarray]:
    """Class weights by kind, from the train split, or from all pairs if there are no splits."""
    counts = self.counts.get('train') or next(iter(self.counts.values()), None)
    if not counts:
      return {}
    return {kind: statistics.weights_from_counts(counts, kind) for kind in statistics.CLASS_WEIGHTS}


def numbered_classes(count: int) -> LabelSpec:
  """Returns a spec of classes without names, whose ids are 0 to count - 1."""
  if not 2 <= count < IGNORE:
    raise InputError(
      f'`num_classes={count}`: choose 2 to {IGNORE - 1}; the id {IGNORE} means ignored'
    )
  names = tuple(f'class {index}' for index in range(count))
  palette = tuple(voc_color(index + 1) for index in range(count))
  return LabelSpec(NAME, names, palette, (0.0, 0.0, 0.0))


def audit_files(
  pairing: Pairing,
  *,
  classes: LabelSpec | None = None,
  stated: StatedClasses = StatedClasses(),  # noqa: B008 (frozen)
  root='',
  threads: int = 4,
) -> Report:
  """Audits images and labels in files.

  Args:
    pairing: pairs of files, and problems of the pairing.
    classes: classes that the labels should have. Labels of a published data set may have its class
      ids, its raw ids or its colors, if all labels have the same. None infers the classes.
    stated: classes that `classes.json` states, if `classes` is None.
    root: folder of `classes.json`, for messages.
    threads: number of threads that read.
  """
  issues = [Issue(kind, str(path), detail) for kind, path, detail in pairing.problems]
  issues += [Issue(kind, str(path), detail) for kind, path, detail in pairing.remarks]
  issues += [Issue('in no list', name, 'no list names it') for name in pairing.unlisted]
  pairs = _read_all(pairing.pairs, pair_stats.read_pair, threads)
  return _make_report(pairs, issues, classes, stated, root, _read_files)


def audit_prepared(
  sources: Mapping[str, Sequence], classes: LabelSpec, *, threads: int = 4
) -> Report:
  """Audits the examples of a prepared data set; its raw files were checked when it was prepared.

  Args:
    sources: examples of each split, from `data.load`.
    classes: classes of the data set.
    threads: number of threads that read.
  """
  places = [(split, source, i) for split, source in sources.items() for i in range(len(source))]

  def read_stats(place):
    split, source, index = place
    return pair_stats.from_example(classes.name, split, source[index])

  def read(pair):
    _, source, index = places[pairs.index(pair)]
    example = source[index]
    return example['image'], example['label']

  classes = dataclasses.replace(classes, raw_ids=(), void=())
  pairs = _read_all(places, read_stats, threads)
  return _make_report(pairs, [], classes, StatedClasses(), '', read)


def _read_files(pair: PairStats):
  """Reads the image and the label values of a pair; None for a file that can't be read."""
  image = label = None
  with contextlib.suppress(InputError):
    image = image_files.read_image(pair.image)
  with contextlib.suppress(InputError):
    label = read_values(pair.label)[-1]
  return image, label


def _read_all(places, read, threads) -> tuple[PairStats, ...]:
  results = sequences.prefetch(sequences.MappedSequence(read, places), threads)
  return tuple(progress.track(results, len(places)))


def _make_report(pairs, issues, classes, stated, root, read) -> Report:
  issues = [*issues, *(issue for pair in pairs for issue in pair.issues)]
  labels = {pair.label: pair.label_stats for pair in pairs if pair.label_stats}
  found, values, counts, severities = None, {}, {}, {}
  if labels:
    if classes:
      found, encoding_issues = encoding.match_encoding(labels, classes)
    else:
      found, encoding_issues = encoding.infer_encoding(labels, stated, root)
    issues += encoding_issues
    for label in found.labels.values():
      for value, count in label.counts.items():
        values[value] = values.get(value, 0) + count
  if found and found.spec and found.labels:
    value_issues = list(label_checks.check_values(found, found.spec))
    with_one_class = sum(issue.kind == 'one class only' for issue in value_issues)
    if with_one_class > OFTEN_ONE_CLASS * len(labels):
      severities['one class only'] = 'note'
    counts = label_checks.count_by_split(pairs, found, found.spec)
    issues += [*value_issues, *label_checks.check_classes(found.spec, counts)]
  issues += label_checks.check_borders(pairs)
  issues += image_checks.check_gray(pairs)
  issues += image_checks.check_duplicates(pairs)
  issues += image_checks.check_similar(pairs)
  return Report(
    spec=found.spec if found else classes,
    encoding=found.encoding if found else 'ids',
    encoding_description=found.description if found else 'labels: none could be read',
    pairs=pairs,
    findings=group_issues(issues, severities),
    values=dict(sorted(values.items())),
    counts=counts,
    read=read,
  )

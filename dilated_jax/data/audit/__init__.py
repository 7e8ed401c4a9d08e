"""Is a data set legal? Every picture and label is looked at; what is wrong is told file by file.

report = audit.of_files(pairing.of_folders('images', 'labels'), classes=audit.numbered(11))
report.legal, report.findings
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

import numpy as np

from dilated_jax import progress
from dilated_jax.data import sequences, statistics
from dilated_jax.data.audit import checks, pair_stats
from dilated_jax.data.audit.findings import Finding, Issue, gathered
from dilated_jax.data.audit.pair_stats import PairStats
from dilated_jax.data.folder import labels, pairing
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files
from dilated_jax.label_spec import IGNORE, LabelSpec, bitwise_color


@dataclasses.dataclass(frozen=True)
class Report:
  """What an audit has found.

  Attributes:
    classes: of the data set; None if the labels could not be understood.
    form: how label files are read, see `folder.Found`.
    how: the same in words.
    pairs: all pairs that were looked at.
    findings: the worst first.
    values: pixels of each value in label files, of colors as 0xRRGGBB.
    counts: pixels of the classes by split; the key None stands for pairs in no split.
    read: gives picture and label values of a pair again, None for what can't be read.
  """

  classes: LabelSpec | None
  form: str
  how: str
  pairs: tuple[PairStats, ...]
  findings: tuple[Finding, ...]
  values: Mapping[int, int]
  counts: Mapping[str | None, statistics.LabelCounts]
  read: Callable[[PairStats], tuple[np.ndarray | None, np.ndarray | None]]

  @property
  def valid(self) -> bool:
    """Whether nothing that was found is an error."""
    return all(finding.severity != 'error' for finding in self.findings)

  @property
  def valid_values(self) -> dict[int, int]:
    """The class id, or 255, of each value of label files."""
    return labels.valid_values(self.classes, self.form) if self.classes else {}

  @property
  def weights(self) -> dict[str, np.ndarray]:
    """Class weights by kind, from the training split, or from all pairs if there are no splits."""
    counts = self.counts.get('train') or next(iter(self.counts.values()), None)
    return (
      {kind: statistics.weights_from_counts(counts, kind) for kind in statistics.CLASS_WEIGHTS}
      if counts
      else {}
    )


def numbered_classes(count: int) -> LabelSpec:
  """Classes without names, 0 to count - 1."""
  if not 2 <= count < IGNORE:
    raise InputError(f'{count} classes: 2 to {IGNORE - 1} are possible; {IGNORE} means ignored')
  names = tuple(f'class {index}' for index in range(count))
  palette = tuple(bitwise_color(index + 1) for index in range(count))
  return LabelSpec(labels.NAME, names, palette, (0.0, 0.0, 0.0))


def of_files(
  paired: pairing.Pairing,
  *,
  classes: LabelSpec | None = None,
  spec: labels.FolderSpec = labels.FolderSpec(),  # noqa: B008 (frozen)
  threads: int = 4,
) -> Report:
  """Looks at pictures and labels in files.

  Args:
    paired: which belong together.
    classes: what the labels must hold. Labels of a published data set may be its class ids, the ids
      of its label files or its colors, as long as all are of one kind. None finds the classes.
    spec: what is known of the classes where `classes` is None.
    threads: that read.

  Returns:
    a Report.
  """
  faults = [Issue(kind, str(path), found) for kind, path, found in paired.problems]
  faults += [Issue('in no list', name, 'no list names it') for name in paired.unlisted]
  seen = _read(paired.pairs, pair_stats.files, threads)
  return _judged(seen, faults, classes, spec, _read_files)


def of_prepared(sources: Mapping[str, Sequence], classes: LabelSpec, *, threads: int = 4) -> Report:
  """Looks at the examples of a prepared data set.

  Args:
    sources: from `datasets.load`, by split.
    classes: of the data set.
    threads: that read.

  Returns:
    a Report; the raw files themselves were checked when the data set was prepared.
  """
  places = [(split, source, i) for split, source in sources.items() for i in range(len(source))]

  def look(place):
    split, source, index = place
    return pair_stats.example(classes.name, split, source[index])

  def read(pair):
    split, source, index = places[seen.index(pair)]
    example = source[index]
    return example['image'], example['label']

  classes = dataclasses.replace(classes, raw_ids=(), void=())
  seen = _read(places, look, threads)
  return _judged(seen, [], classes, labels.FolderSpec(), read)


def _read_files(pair: PairStats):
  """Picture and label values of a pair, None for what can't be read."""
  found = []
  for read, path in ((image_files.read_image, pair.image), (labels.read_codes, pair.label)):
    try:
      found.append(read(path))
    except InputError:
      found.append(None)
  image, label = found
  return image, label and label[-1]


def _read(places, look, threads) -> tuple[PairStats, ...]:
  reading = sequences.read_ahead(sequences.MappedSequence(look, places), threads)
  return tuple(progress.track(reading, len(places)))


def _judged(pairs, faults, classes, spec, read) -> Report:
  faults = [*faults, *(fault for pair in pairs for fault in pair.faults)]
  stored = {pair.label: pair.stored for pair in pairs if pair.stored}
  meaning, values, counts, milder = None, {}, {}, {}
  if stored:
    meaning, found = checks.expected(stored, classes) if classes else checks.found(stored, spec)
    faults += found
    for label in meaning.labels.values():
      for value, count in label.values.items():
        values[value] = values.get(value, 0) + count
  if meaning and meaning.classes and meaning.labels:
    of_labels = list(checks.of_values(meaning))
    alone = sum(fault.kind == 'one class only' for fault in of_labels)
    if alone > checks.USUAL * len(stored):
      milder['one class only'] = 'note'  # Then it is how this data is.
    counts = checks.counts(pairs, meaning)
    faults += [*of_labels, *checks.of_classes(meaning.classes, counts)]
  for look in (checks.of_borders, checks.of_colors, checks.of_copies, checks.of_looks):
    faults += look(pairs)
  return Report(
    meaning.classes if meaning else classes,
    meaning.form if meaning else 'numbers',
    meaning.how if meaning else 'labels: none could be read',
    pairs,
    tuple(gathered(faults, milder)),
    dict(sorted(values.items())),
    counts,
    read,
  )

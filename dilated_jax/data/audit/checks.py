"""From all pairs that were looked at to faults: what only shows in the data set as a whole."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import pathlib

import numpy as np

from dilated_jax.data.audit import duplicates
from dilated_jax.data.audit.findings import Issue
from dilated_jax.data.audit.pair_stats import PairStats
from dilated_jax.data.folder import labels as labels_lib
from dilated_jax.data.statistics import LabelCounts
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE, LabelSpec

MOSTLY = 0.9  # Share of a label to ignore from which on it is told.
HALF = 0.5  # The same of all labels; and the share of gray pictures from which on they are usual.
USUAL = 0.05  # Share of labels of one class from which on that is no accident but the data.
# Limits of `measure.roughness`: below the first nothing is told, nor below four times the median of
# the data set, since thin shapes and reduced labels are torn by themselves; above the last always.
TORN, TIMES, ALWAYS = 0.06, 4, 0.14
TRACES = 5  # As many wrong values in one label are no classes but traces of smoothing.
FEW = 5  # Labels below which a value that only one of them has is nothing special.
NEAR_PAIRS = 10_000  # More near duplicates within a split are not listed.


@dataclasses.dataclass(frozen=True)
class LabelEncoding:
  """How the labels of a data set are read.

  Attributes:
    classes: None if they can't be understood.
    form: as in `folder.Found`.
    found: whether the classes were found from the labels and not said.
    how: all that in words.
    labels: what each label holds, by place, without those of another form.
  """

  classes: LabelSpec | None
  form: str
  found: bool
  how: str
  labels: Mapping[str, labels_lib.Stored]

  @property
  def valid(self) -> dict[int, int]:
    """The class id, or 255, of each value."""
    return labels_lib.valid_values(self.classes, self.form)


def expected(
  stored: Mapping[str, labels_lib.Stored], classes: LabelSpec
) -> tuple[LabelEncoding, list[Issue]]:
  """Chooses the way to read labels in which most of them hold what a known data set has.

  Args:
    stored: what the labels hold, by place.
    classes: of the data set.

  Returns:
    the meaning, and labels of another form.
  """
  ways = [('numbers', classes, 'ids of the label files' if classes.raw_ids else 'class ids')]
  if classes.raw_ids:
    ways.append(('numbers', dataclasses.replace(classes, raw_ids=(), void=()), 'class ids'))
  if classes.name != labels_lib.NAME:
    ways.append(('colors', classes, 'colors'))

  def valid(form, table):
    valid = labels_lib.valid_values(table, form).keys()
    suited = (label.in_form(form) for label in stored.values() if _suits(label, form))
    return sum(set(label.values) <= valid for label in suited)

  def suited(form):
    return sum(_suits(label, form) for label in stored.values())

  def meant(form, table):
    suited = (label.in_form(form) for label in stored.values() if _suits(label, form))
    return sum(int(labels_lib.class_pixels(label, table, form).sum()) for label in suited)

  # Class ids can be legal as ids of label files, too, and most of them would mean 'ignore' then.
  form, table, words = max(ways, key=lambda way: (valid(*way[:2]), suited(way[0]), meant(*way[:2])))
  faults, chosen = _of_form(stored, form)
  how = (
    f'labels: {words} of {table.name}' if classes.name != labels_lib.NAME else f'labels: {words}'
  )
  return LabelEncoding(table, form, False, how, chosen), faults


def found(
  stored: Mapping[str, labels_lib.Stored], spec: labels_lib.FolderSpec
) -> tuple[LabelEncoding, list[Issue]]:
  """Finds the classes from the labels, like `folder.look`, but by values that several labels have.

  Args:
    stored: what the labels hold, by place.
    spec: what is known of the classes.

  Returns:
    the meaning, and labels of another form.
  """
  colored = sum(label.form == 'colors' for label in stored.values())
  faults, chosen = _of_form(stored, 'colors' if 2 * colored > len(stored) else 'numbers')
  odd, faults = {fault.file for fault in faults if fault.kind == 'other palette'}, list(faults)
  form, _ = labels_lib.find_form({at: each for at, each in chosen.items() if at not in odd}, spec)
  chosen = {place: label.in_form(form) for place, label in chosen.items()}
  if form == 'channels':
    faults = [fault for fault in faults if fault.kind != 'three channels']
  common = collections.Counter(value for label in chosen.values() for value in label.values)
  several = 2 if len(chosen) >= FEW and spec == labels_lib.FolderSpec() else 1
  reduced = {
    place: dataclasses.replace(
      label, values={v: n for v, n in label.values.items() if common[v] >= several}
    )
    for place, label in chosen.items()
  }
  try:
    classes, notes = labels_lib.find_classes(reduced, form, spec, pathlib.Path())
  except InputError as error:
    faults.append(Issue('labels not understood', 'labels', str(error)))
    return LabelEncoding(None, form, True, 'labels: not understood', chosen), faults
  return LabelEncoding(classes, form, True, '; '.join(notes), chosen), faults


def _suits(label, form):
  return label.form != ('colors' if form == 'numbers' else 'gray')


def _of_form(stored, form):
  """Labels of another form than the data set has, and the rest."""
  faults = []
  for place, label in stored.items():
    if not _suits(label, form):
      if form == 'colors':
        faults.append(Issue('numbers among colors', place, f'mode {label.form}'))
      elif label.grays:
        faults.append(Issue('three channels', place, 'RGB with three equal channels'))
      else:
        faults.append(Issue('color mask', place, f'RGB, {len(label.values)} colors'))
  if form == 'numbers':
    faults += _palettes(stored)
  return faults, {
    place: label.in_form(form) for place, label in stored.items() if _suits(label, form)
  }


def _palettes(stored) -> Iterator[Issue]:
  """Labels whose palette differs from that of most, in the numbers that they use."""
  colored = {place: label for place, label in stored.items() if label.form == 'palette'}
  seen = collections.Counter(
    (value, label.palette[value])
    for label in colored.values()
    for value in label.values
    if value < len(label.palette)
  )
  usual = {}
  for (value, color), _ in seen.most_common():
    usual.setdefault(value, color)
  odd = [place for place, label in colored.items() if not labels_lib.agrees(label, usual)]
  if 2 * len(odd) < len(colored):
    for place in odd:
      yield Issue('other palette', place, 'its palette is not that of the other labels')


# Values and classes.


def of_values(meaning: LabelEncoding) -> Iterator[Issue]:
  """Values that are no class, labels that say little, and mistakes that most labels share."""
  classes, valid = meaning.classes, meaning.valid
  total = set().union(*(label.values for label in meaning.labels.values()))
  numbers, count = meaning.form != 'colors', len(meaning.labels)
  plain = numbers and not classes.raw_ids
  if numbers and total == {0, IGNORE}:
    kind = 'masks of 0 and 255' if IGNORE in classes.raw_ids else 'only 0 and 255'
    yield Issue(kind, 'labels', f'no other value occurs in {count} labels')
    return
  from_one = plain and 0 not in total and total - valid.keys() == {classes.num_classes}
  if from_one:
    found = f'values 1..{classes.num_classes} and no 0 in {count} labels'
    yield Issue('counted from one', 'labels', found)
  elif plain and meaning.found and 0 not in total:
    yield Issue('nothing is 0', 'labels', f'the smallest value of {count} labels is {min(total)}')
  for place, label in meaning.labels.items():
    wrong = {value: n for value, n in label.values.items() if value not in valid}
    pixels, size = sum(wrong.values()), sum(label.values.values())
    if wrong and not from_one:
      kind = 'value in one file only' if meaning.found else 'values outside the classes'
      if not numbers and pixels <= classes.stray_colors * size:
        kind = 'stray colors'
      yield Issue(kind, place, f'{_listed(wrong, numbers)} on {pixels} of {size} pixels')
    counts = labels_lib.class_pixels(label, classes, meaning.form)
    ignored = size - pixels - int(counts.sum())
    if ignored == size:
      yield Issue('empty label', place, f'all {size} pixels are ignored')
    elif ignored >= MOSTLY * size:
      yield Issue('mostly ignored', place, f'{ignored / size:.1%} of the pixels are ignored')
    elif not wrong and np.count_nonzero(counts) == 1:
      yield Issue('one class only', place, classes.names[int(counts.argmax())])


def _listed(wrong, numbers):
  most = sorted(wrong, key=lambda value: (-wrong[value], value))
  texts = [str(value) if numbers else f'#{value:06x}' for value in most[:TRACES]]
  more = (
    f', ... ({len(wrong)} values, as smoothing or JPEG make them)' if len(wrong) > TRACES else ''
  )
  return ('value ' if len(wrong) == 1 else 'values ') + ', '.join(texts) + more


def counts(pairs: Sequence[PairStats], meaning: LabelEncoding) -> dict[str | None, LabelCounts]:
  """Pixels of the classes by split; None stands for pairs in no split."""
  found, number = {}, meaning.classes.num_classes
  for pair in pairs:
    label = meaning.labels.get(pair.label)
    if label is None:
      continue
    count = labels_lib.counts(label, meaning.classes, meaning.form)
    found[pair.split] = found.get(pair.split, LabelCounts.none(number)) + count
  return found


def of_classes(classes: LabelSpec, by_split: Mapping[str | None, LabelCounts]) -> Iterator[Issue]:
  """Classes that are missing, and too much that is ignored."""
  occurs = sum(count.pixels for count in by_split.values())
  train = by_split.get('train')
  for index, name in enumerate(classes.names):
    if not occurs[index]:
      yield Issue('class never occurs', name, 'in no label')
    elif train and not train.pixels[index]:
      where = [str(split) for split, count in by_split.items() if count.pixels[index]]
      yield Issue('class not in train', name, f'only in {" and ".join(where)}')
  ignored = sum(count.ignored for count in by_split.values())
  total = sum(count.total for count in by_split.values())
  if ignored > HALF * total:
    yield Issue('much is ignored', 'labels', f'{ignored / total:.1%} of all pixels are ignored')


def of_borders(pairs: Sequence[PairStats]) -> Iterator[Issue]:
  """Labels whose borders are torn more than those of the others."""
  rough = [pair.rough for pair in pairs if pair.stored]
  limit = max(TORN, min(TIMES * float(np.median(rough)), ALWAYS)) if rough else ALWAYS
  for pair in pairs:
    if pair.rough > limit:
      found = f'{pair.rough:.0%} of the border pixels stand alone (median {np.median(rough):.0%})'
      yield Issue('torn borders', pair.label, found)


# Pictures.


def of_colors(pairs: Sequence[PairStats]) -> Iterator[Issue]:
  """Pictures without colors."""
  gray = [pair for pair in pairs if pair.gray]
  readable = sum(pair.shape is not None for pair in pairs)
  if gray and len(gray) >= HALF * readable:
    yield Issue('gray pictures', 'pictures', f'{len(gray)} of {readable}')
  else:
    for pair in gray:
      yield Issue('gray among colors', pair.image, 'its three channels are equal')


def of_copies(pairs: Sequence[PairStats]) -> Iterator[Issue]:
  """Pictures and labels that are there more than once, pixel by pixel."""
  for group in duplicates.exact([pair.pixels for pair in pairs]):
    first = pairs[group[0]]
    for other in (pairs[index] for index in group[1:]):
      same = 'the same file' if first.file and first.file == other.file else 'the same pixels'
      both = f'{same} as {_where(first)}'
      across = 'duplicate across splits' if other.split != first.split else 'duplicate'
      shown = other.image, first.image
      yield Issue(across, other.image, both, shown)
      if first.label_pixels and other.label_pixels and first.label_pixels != other.label_pixels:
        shown = other.label, first.label
        yield Issue('same picture, other label', other.label, both, shown)
  for group in duplicates.exact([pair.label_pixels for pair in pairs]):
    first = pairs[group[0]]
    if len(first.stored.values) < 2:
      continue  # Labels of one value are equal by themselves.
    for other in (pairs[index] for index in group[1:]):
      if first.thumb is None or other.thumb is None or first.pixels == other.pixels:
        continue
      one, two = duplicates.signatures(np.stack([first.thumb, other.thumb]))
      if one @ two < duplicates.NEAR:
        found = f'the same as {first.label}'
        yield Issue('same label, other picture', other.label, found, (other.image, first.image))


def of_looks(pairs: Sequence[PairStats]) -> Iterator[Issue]:
  """Pictures that look alike, and films that are in several splits."""
  pairs = [pair for pair in pairs if pair.thumb is not None]
  if len(pairs) < 2:
    return
  thumbs = np.stack([pair.thumb for pair in pairs])
  usual = duplicates.at_random(thumbs)
  if usual >= duplicates.ALL_ALIKE:
    found = f'pictures at random correlate by {usual:.2f}'
    yield Issue('all alike', 'pictures', found)
  else:
    listed = 0
    for first, second, alike, turned in duplicates.near(thumbs):
      one, other = pairs[first], pairs[second]
      if one.pixels == other.pixels:
        continue
      across = one.split != other.split
      listed += not across
      if listed > NEAR_PAIRS and not across:
        continue
      kind = 'near duplicate across splits' if across else 'near duplicate'
      found = f'like {_where(one)}, {"mirrored, " if turned else ""}correlation {alike:.2f}'
      yield Issue(kind, other.image, found, (other.image, one.image))
  names, splits = [pair.name for pair in pairs], [pair.split for pair in pairs]
  for prefix, places, film in duplicates.films(names, splits, thumbs):
    in_splits = collections.Counter(str(splits[index]) for index in places)
    listed = ', '.join(f'{count} in {split}' for split, count in in_splits.items())
    found = f'{listed}, {names[places[0]]} to {names[places[-1]]}'
    nearest = min(
      itertools.pairwise(places), key=lambda two: (splits[two[0]] == splits[two[1]], two)
    )
    kind = 'sequence in two splits' if film else 'name in two splits'
    yield Issue(kind, prefix, found, tuple(pairs[index].image for index in nearest))


def _where(pair):
  return f'{pair.image} ({pair.split})' if pair.split else pair.image

"""Matches files whose names are nearly equal, and finds the nearest name for a message."""

from collections.abc import Callable, Collection
import difflib
import pathlib
import re
from typing import NamedTuple
import unicodedata

# Ends of names that say what a file is.
_ENDINGS = re.compile(
  r'[_ .-](masks?|labels?|gt|ground_?truth|seg|segmentation|annotations?|annot|images?|img|rgb|'
  r'sat)$',
  re.IGNORECASE,
)
_SECOND_SUFFIX = re.compile(r'\.(bmp|gif|jpe?g|png|tiff?|webp)$', re.IGNORECASE)  # x.jpg.png
_MAX_CANDIDATES = 5000  # Names among which the nearest one is searched.


class Matches(NamedTuple):
  """Names that belong together.

  Attributes:
    pairs: (first, second) names.
    notes: how names that are not equal were matched, in sentences for people.
  """

  pairs: list[tuple[str, str]]
  notes: list[str]


def match(first: Collection[str], second: Collection[str]) -> Matches:
  """Matches the names of two folders, from equal names to less and less similar ones.

  Names that differ are matched where that is unambiguous: one name on each side. In this order,
  they may differ in an ending that says what the file is (x_mask, x.jpg), in upper and lower case
  and in Unicode form (systems store é as one character or as two), in zeros before numbers and in
  separators. If nothing matches so far, a prefix or suffix that all names of a side have in common
  (image_000 and mask_000) is left out.

  Args:
    first: distinct names without extension.
    second: distinct names without extension.
  """
  first_left, second_left = dict.fromkeys(first), dict.fromkeys(second)
  pairs, notes = [], []
  for difference, simplify in _STEPS:
    matched = _match_by(simplify, first_left, second_left)
    for one, other in matched:
      del first_left[one], second_left[other]
    pairs += matched
    if difference and matched:
      notes.append(_note(difference, matched))
  if not pairs and (matched := _match_without_affixes(first_left, second_left)):
    pairs += matched
    notes.append(_note('a prefix or suffix that all names of a folder share', matched))
  return Matches(pairs, notes)


def nearest(name: str, names: Collection[str]) -> str | None:
  """Returns the most similar of some names, or None if none is similar.

  Where both look the same, because they only differ in Unicode form, the text shows the difference.
  """
  if len(names) > _MAX_CANDIDATES:
    return None
  simple = {}
  for each in names:
    simple.setdefault(_without_zeros(each), each)
  found = difflib.get_close_matches(_without_zeros(name), simple, 1)
  if not found:
    return None
  similar = simple[found[0]]
  looks_the_same = _compose(similar) == _compose(name) and similar != name
  return f'{similar} (in another Unicode form: {similar!a})' if looks_the_same else similar


def simplify(name: str) -> str:
  """Returns a name without case, Unicode form, and what its ending says of the file."""
  return _compose(without_endings(name)).casefold()


def _note(difference, matched) -> str:
  one, other = map(pathlib.PurePosixPath, matched[0])
  return f'{len(matched)} matched although they differ in {difference}: {one} and {other}'


def _match_by(simplify: Callable[[str], str], first, second) -> list[tuple[str, str]]:
  """Matches names that become the same, if nothing else on either side does."""
  sides = []
  for names in (first, second):
    groups = {}
    for name in names:
      groups.setdefault(simplify(name), []).append(name)
    sides.append(groups)
  ours, theirs = sides
  return [
    (ours[key][0], theirs[key][0])
    for key in ours
    if key in theirs and len(ours[key]) == len(theirs[key]) == 1
  ]


def without_endings(name: str) -> str:
  """Returns a name without an ending that says what the file is, such as _mask or .jpg."""
  return _ENDINGS.sub('', _SECOND_SUFFIX.sub('', name))


def _compose(name: str) -> str:
  return unicodedata.normalize('NFC', name)


def _without_zeros(name: str) -> str:
  """Also without separators."""
  return re.sub(r'(?<!\d)0+(?=\d)', '', re.sub(r'[^\w/]+|_+', '_', simplify(name)))


_STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
  ('', str),
  ('', without_endings),
  ('case or Unicode form', simplify),
  ('zeros or separators', _without_zeros),
)


def _match_without_affixes(first, second) -> list[tuple[str, str]]:
  """Matches names by what differs within each side, if that leaves nothing over on one of them."""
  ours, theirs = _by_core(first), _by_core(second)
  common = ours.keys() & theirs.keys()
  if not common or len(common) < min(len(ours), len(theirs)):
    return []
  return [(ours[core], theirs[core]) for core in ours if core in common]


def _by_core(names) -> dict[str, str]:
  """Returns names by what is left without their common prefix and suffix; {} if not unique."""
  names = list(names)
  if len(names) < 2:
    return {}
  prefix = _common_prefix(names)
  suffix = _common_prefix([name[::-1] for name in names])
  cores = {name[len(prefix) : len(name) - len(suffix)]: name for name in names}
  return cores if len(cores) == len(names) and '' not in cores else {}


def _common_prefix(names) -> str:
  """Returns the common prefix up to a number or a separator; letters may be equal by chance."""
  first, last = min(names), max(names)
  length = 0
  while length < len(first) and first[length] == last[length]:
    length += 1
  prefix = first[:length].rstrip('0123456789')
  if any(name[len(prefix) : len(prefix) + 1].isalpha() for name in names):
    prefix = re.sub(r'[^\W\d_]+$', '', prefix)
  return prefix

"""Pairs the images of one folder with the labels of another by file name.

Subfolders and official suffixes are understood. Files that don't fit are reported as problems,
never dropped silently.
"""

from collections.abc import Callable, Sequence
import dataclasses
import pathlib
import re
from typing import NamedTuple

from dilated_jax.data.folder import names
from dilated_jax.data.folder.names import SPLITS
from dilated_jax.errors import InputError
from dilated_jax.images import matching, similar_names

PROBLEMS = (
  'no label', 'no image', 'duplicate name', 'listed but missing', 'in two splits', 'in no split',
  'no train split', 'unreadable folder', 'broken link', 'swapped columns',
)  # fmt: skip
# What is good to know, but no problem.
REMARKS = ('passed over', 'similar names', 'no splits')
_NEAREST = 20  # Files without partner whose nearest name is searched.


class Pair(NamedTuple):
  """An image file and its label file; `split` is one of `SPLITS`, or None if unknown."""

  name: str
  image: pathlib.Path
  label: pathlib.Path
  split: str | None


class Problem(NamedTuple):
  """A file or folder that doesn't fit, and what is wrong: `kind` is of `PROBLEMS` or `REMARKS`."""

  kind: str
  path: pathlib.Path
  detail: str


@dataclasses.dataclass(frozen=True)
class Pairing:
  """All pairs of a data set.

  Attributes:
    pairs: pairs of existing files, sorted by split and name.
    problems: files that don't fit.
    unlisted: names of images in no list file, if there are lists; they are not among `pairs`.
    layout: where images and labels were found, for messages.
    remarks: what was passed over, and how names were understood.
  """

  pairs: tuple[Pair, ...]
  problems: tuple[Problem, ...]
  unlisted: tuple[str, ...]
  layout: str
  remarks: tuple[Problem, ...] = ()

  @classmethod
  def sorted(
    cls,
    pairs: Sequence[Pair],
    problems: Sequence[Problem],
    unlisted: Sequence[str],
    layout: str,
    remarks: Sequence[Problem] = (),
  ) -> 'Pairing':
    """Makes a pairing of unsorted pairs."""
    order: dict[str | None, int] = {split: index for index, split in enumerate(SPLITS)}
    pairs = sorted(pairs, key=lambda pair: (order.get(pair.split, len(SPLITS)), pair.name))
    return cls(tuple(pairs), tuple(problems), tuple(unlisted), layout, tuple(remarks))


def match_files(image_folder, label_folder) -> tuple[list[Pair], list[Problem], list[Problem]]:
  """Pairs the images in one folder with the labels in another, subfolders included.

  If a name occurs in several subfolders, the subfolders must be the same too. If an image has
  several label files, label maps are preferred to colors, as in `images.matching.pair_by_name`.
  Names that nearly match are matched where that is unambiguous.

  Returns:
    pairs; problems; remarks on what was passed over, and on how names were matched.

  Raises:
    InputError: a folder has no images.
  """
  image_folder, label_folder = pathlib.Path(image_folder), pathlib.Path(label_folder)
  images, problems, remarks = _list(image_folder, label_folder)
  labels, label_problems, label_remarks = _list(label_folder, image_folder)
  problems, remarks = problems + label_problems, remarks + label_remarks
  subfolder = _choose_subfolder(images, image_folder, labels, label_folder)
  images, image_problems = _unique_files(images, image_folder, subfolder)
  labels, label_problems = _unique_files(labels, label_folder, subfolder)
  problems += [*image_problems, *label_problems]

  matches = similar_names.match(images, labels)
  remarks += [Problem('similar names', label_folder, note) for note in matches.notes]
  pairs, names_so_far = [], set()
  for image_key, label_key in matches.pairs:
    image, label = images.pop(image_key), labels.pop(label_key)
    split, other = _split_of(image, image_folder), _split_of(label, label_folder)
    if split and other and split != other:
      detail = f'{image.name} is in {split} and its label {label.name} in {other}'
      problems.append(Problem('in two splits', image, detail))
    # x_sat and x_mask belong to x.
    short = similar_names.without_endings(image_key)
    shared = short == similar_names.without_endings(label_key) and image_key != label_key
    name = short if shared and short not in names_so_far else image_key
    names_so_far.add(name)
    pairs.append(Pair(name, image, label, split or other))
  matched = [image for image, _ in matches.pairs], [label for _, label in matches.pairs]
  problems += _without_partner('label', images, labels, matched[1], label_folder)
  problems += _without_partner('image', labels, images, matched[0], image_folder)
  return pairs, problems, remarks


def _list(folder, other) -> tuple[list[pathlib.Path], list[Problem], list[Problem]]:
  """Lists the images of a folder, without those of `other`; and says what was passed over."""
  found = matching.list_images(folder)
  images = [path for path in found.images if other not in path.parents]
  others = matching.describe_others([path for path in found.others if other not in path.parents])
  if not images:
    unread = ''.join(f'; {path}: {reason}' for path, reason in found.unread[:3])
    endings = ', '.join(matching.SUFFIXES)
    only = f', only {others}' if others else ''
    raise InputError(f'{folder}: no images in this folder ({endings}){only}{unread}')
  problems, remarks = [], []
  for path, reason in found.unread:
    if path.suffix.lower() in matching.SUFFIXES:
      problems.append(Problem('broken link', path, reason))
    elif 'read' in reason:
      problems.append(Problem('unreadable folder', path, reason))
    else:
      remarks.append(Problem('passed over', path, reason))
  if others:
    remarks.append(Problem('passed over', folder, others))
  folders = {path.relative_to(folder).parts[:-1] for path in images}
  unknown = sorted({parts[0] for parts in folders if parts and not _split_of_parts(parts)})
  if unknown:
    names_of = ', '.join(unknown[:5]) + (', ...' if len(unknown) > 5 else '')
    detail = f'subfolders whose names are no splits (train, val, test): {names_of}'
    remarks.append(Problem('no splits', folder, detail))
  return images, problems, remarks


def _without_partner(what, files, others, matched, folder) -> list[Problem]:
  """Returns a problem for each file, the first of which name the nearest file of the others."""
  problems = []
  unknown = {path.stem: path for path in matching.list_images(folder).others} if files else {}
  for index, (key, path) in enumerate(files.items()):
    detail = f'{path.name} has no {what}'
    if path.stem in unknown:
      detail += f', but {unknown[path.stem].name} is there, whose ending is not read'
    elif index < _NEAREST:
      free = similar_names.nearest(key, others)
      taken = None if free else similar_names.nearest(key, matched)
      if free or taken:
        detail += f' (nearest: {free}' if free else f' (nearest: {taken}, which has a partner'
        detail += ')'
    problems.append(Problem(f'no {what}', path, detail))
  return problems


def _choose_subfolder(images, image_folder, labels, label_folder) -> Callable:
  """Returns what of a file's subfolder belongs to its name: nothing, if names are unique.

  Otherwise the subfolder, with one name for each split (train2017/ is train/) if that is unique.
  """

  def nothing(path, folder):
    return pathlib.PurePath()

  def as_split(path, folder):
    parts = path.relative_to(folder).parts[:-1]
    return pathlib.PurePath(*(names.parse(part).split or part for part in parts))

  def as_it_is(path, folder):
    return path.relative_to(folder).parent

  def number(files, folder, subfolder):
    return len({(subfolder(path, folder), path.stem) for path in files})

  def distinct(subfolder):
    return number(images, image_folder, subfolder), number(labels, label_folder, subfolder)

  if distinct(nothing)[0] == distinct(as_it_is)[0]:
    return nothing
  return as_split if distinct(as_split) == distinct(as_it_is) else as_it_is


def _unique_files(files, folder, subfolder) -> tuple[dict, list[Problem]]:
  """Returns the preferred file of each name, and the other files of its kind as problems."""
  ranked = {}
  for path in files:
    name = matching.image_name(path)
    key = (subfolder(path, folder) / name).as_posix()
    kind = matching.label_kind(path)
    rank = matching.LABEL_KINDS.index(kind) if kind else 0
    ranked.setdefault(key, []).append((rank, path))
  unique, problems = {}, []
  for key, candidates in ranked.items():
    best = min(rank for rank, _ in candidates)
    unique[key], *others = [path for rank, path in candidates if rank == best]
    problems += [
      Problem('duplicate name', path, f'{path.name} and {unique[key].name}') for path in others
    ]
  return unique, problems


def _split_of(path, folder) -> str | None:
  """Returns the split that a subfolder of `folder` is named after, if any."""
  return _split_of_parts(path.relative_to(folder).parts[:-1])


def _split_of_parts(parts) -> str | None:
  return next((split for split in (names.parse(part).split for part in parts) if split), None)


def split_frame_number(name: str) -> tuple[str, int] | None:
  """Splits the name of a video frame into sequence and number: '0016E5_07959' has 7959."""
  numbered = re.fullmatch(r'(.*?)[_-]?([0-9]+)', name)
  return (numbered[1], int(numbered[2])) if numbered else None

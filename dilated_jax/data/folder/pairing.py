"""Pairs the images of one folder with the labels of another by file name.

Subfolders and official suffixes are understood. Files that don't fit are reported as problems,
never dropped silently.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import re
from typing import NamedTuple

from dilated_jax.errors import InputError
from dilated_jax.images import matching

SPLITS = ('train', 'val', 'test')
# Names that people give to the folders and lists of splits, in lower case.
SPLIT_NAMES = {
  'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val',
  'test': 'test', 'testing': 'test',
}  # fmt: skip
PROBLEMS = (
  'no label', 'no image', 'duplicate name', 'listed but missing', 'in two splits',
)  # fmt: skip

# Ends of names that say what a file is. They are ignored for files that have no partner otherwise.
_ENDINGS = re.compile(
  r'[_-](masks?|labels?|gt|seg|segmentation|annotations?|annot|image|img|rgb|sat)$', re.IGNORECASE
)


class Pair(NamedTuple):
  """An image file and its label file; `split` is one of `SPLITS`, or None if unknown."""

  name: str
  image: pathlib.Path
  label: pathlib.Path
  split: str | None


class Problem(NamedTuple):
  """A file that doesn't fit; `kind` is one of `PROBLEMS`, `detail` says what is wrong."""

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
  """

  pairs: tuple[Pair, ...]
  problems: tuple[Problem, ...]
  unlisted: tuple[str, ...]
  layout: str

  @classmethod
  def sorted(
    cls, pairs: Sequence[Pair], problems: Sequence[Problem], unlisted: Sequence[str], layout: str
  ) -> 'Pairing':
    """Makes a pairing of unsorted pairs."""
    order: dict[str | None, int] = {split: index for index, split in enumerate(SPLITS)}
    pairs = sorted(pairs, key=lambda pair: (order.get(pair.split, len(SPLITS)), pair.name))
    return cls(tuple(pairs), tuple(problems), tuple(unlisted), layout)


def match_files(image_folder, label_folder) -> tuple[list[Pair], list[Problem]]:
  """Pairs the images in one folder with the labels in another, subfolders included.

  If a name occurs in several subfolders, the subfolders must be the same too. If an image has
  several label files, label maps are preferred to colors, as in `images.matching.pair_by_name`.

  Raises:
    InputError: a folder has no images.
  """
  image_folder, label_folder = pathlib.Path(image_folder), pathlib.Path(label_folder)
  images = [path for path in matching.list_images(image_folder) if label_folder not in path.parents]
  labels = [path for path in matching.list_images(label_folder) if image_folder not in path.parents]
  for folder, files in ((image_folder, images), (label_folder, labels)):
    if not files:
      raise InputError(f'{folder}: no images in this folder ({", ".join(matching.SUFFIXES)})')
  names = [matching.image_name(path) for path in images]
  by_subfolder = len(set(names)) < len(names)
  images, image_problems = _unique_files(images, image_folder, by_subfolder)
  labels, label_problems = _unique_files(labels, label_folder, by_subfolder)

  # Full names are matched first, so that only files without a partner lose their endings.
  pairs = [(key, images.pop(key), labels.pop(key)) for key in list(images) if key in labels]
  short_names = {_ENDINGS.sub('', key): key for key in labels}
  for key in list(images):
    short = _ENDINGS.sub('', key)
    if short in short_names:
      pairs.append((short, images.pop(key), labels.pop(short_names.pop(short))))
  problems = [
    *image_problems,
    *label_problems,
    *(Problem('no label', path, f'{path.name} has no label') for path in images.values()),
    *(Problem('no image', path, f'{path.name} has no image') for path in labels.values()),
  ]
  return [
    Pair(name, image, label, _split_of(image, image_folder)) for name, image, label in pairs
  ], problems


def _unique_files(files, folder, by_subfolder) -> tuple[dict, list[Problem]]:
  """Returns the preferred file of each name, and the other files of its kind as problems."""
  ranked = {}
  for path in files:
    name = matching.image_name(path)
    key = (path.relative_to(folder).parent / name).as_posix() if by_subfolder else name
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
  """Returns the split that the first subfolder of `folder` is named after, if any."""
  parts = path.relative_to(folder).parts
  return SPLIT_NAMES.get(parts[0].lower()) if len(parts) > 1 else None


def split_frame_number(name: str) -> tuple[str, int] | None:
  """Splits the name of a video frame into sequence and number: '0016E5_07959' has 7959."""
  numbered = re.fullmatch(r'(.*?)[_-]?([0-9]+)', name)
  return (numbered[1], int(numbered[2])) if numbered else None

"""Scans a folder of images and labels, and reads examples from it."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import hashlib
import pathlib

import numpy as np

from dilated_jax import progress
from dilated_jax.data.folder.classes import understand
from dilated_jax.data.folder.classes_file import CLASSES_FILE, read_classes_file
from dilated_jax.data.folder.encoding import invalid_labels, label_counts
from dilated_jax.data.folder.label_stats import read_label_stats
from dilated_jax.data.folder.layouts import find_pairs
from dilated_jax.data.folder.notes import excluded_notes, size_notes
from dilated_jax.data.folder.pairing import Pair, Pairing
from dilated_jax.data.folder.splits import FILE_NAME_CODEC, assign_splits
from dilated_jax.data.sequences import MappedSequence, prefetch
from dilated_jax.data.slices import resolve_slice
from dilated_jax.data.statistics import LabelCounts
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files
from dilated_jax.label_spec import IGNORE, LabelSpec


@dataclasses.dataclass(frozen=True)
class FolderDataset:
  """A folder that was scanned.

  Attributes:
    root: the folder.
    spec: its classes; `mean` is that of the training images.
    encoding: how labels store classes, one of `encoding.ENCODINGS`.
    splits: pairs of 'train', 'val' and 'test', without empty splits.
    counts: pixels of each class in train.
    notes: what was found and decided, in sentences for people.
    fingerprint: hash of the content of all files of the data set.
    stamp: hash of when they were changed.
  """

  root: pathlib.Path
  spec: LabelSpec
  encoding: str
  splits: Mapping[str, tuple[Pair, ...]]
  counts: LabelCounts
  notes: tuple[str, ...]
  fingerprint: str
  stamp: str

  def to_json(self) -> dict:
    """Returns a dict for a JSON file, which can serve as the folder's `classes.json`."""
    spec = self.spec
    ignored_colors = [list(color) for color, name in spec.other_colors if name is None]
    content = {
      'names': spec.names,
      'palette': spec.palette,
      'ids': spec.raw_ids or tuple(range(spec.num_classes)),
      'ignore': [*spec.void, *({IGNORE} - {*spec.void, *spec.raw_ids}), *ignored_colors],
      'mean': spec.mean,
    }
    if self.encoding == 'colors':
      del content['ids']
    content['detected'] = {
      'folder': str(self.root.resolve()),
      'notes': self.notes,
      'encoding': self.encoding,
      'images': {split: [pair.name for pair in pairs] for split, pairs in self.splits.items()},
      'train_pixels': self.counts.pixels.tolist(),
      'train_image_pixels': self.counts.image_pixels.tolist(),
      'fingerprint': self.fingerprint,
      'stamp': self.stamp,
    }
    return content


def load_split(dataset: FolderDataset, split: str) -> Sequence[dict]:
  """Returns the examples of a split, as `data.load` does; they are read when they are needed.

  Args:
    dataset: from `scan`.
    split: name of a split, or a slice of one as in TFDS: 'train[:10%]'.

  Raises:
    InputError: there is no such split or slice.
  """
  name = split.split('[')[0]
  if name not in dataset.splits:
    raise InputError(
      f'{dataset.root}: no split {split!r}: choose one of {", ".join(dataset.splits)}'
    )
  pairs = dataset.splits[name]
  if split != name:
    pairs = pairs[resolve_slice(split, len(pairs), dataset.root)]
  return MappedSequence(functools.partial(_read_example, dataset), pairs)


def _read_example(dataset: FolderDataset, pair: Pair) -> dict:
  image, label = image_files.read_image(pair.image), read_label(dataset, pair.label)
  if image.shape[:2] != label.shape:
    raise InputError(_size_mismatch(pair, image.shape, label.shape))
  return {'image': image, 'label': label, 'name': pair.name}


def read_label(dataset: FolderDataset, path) -> np.ndarray:
  """Reads a label image: uint8 (H, W) class ids, 255 for pixels to ignore."""
  if dataset.encoding == 'colors':
    return dataset.spec.colors_to_train_ids(image_files.read_colors(path), path)
  if dataset.encoding == 'channels':
    return dataset.spec.to_train_ids(image_files.read_colors(path)[..., 0], path)
  return dataset.spec.to_train_ids(image_files.read_label(path), path)


def scan(root) -> FolderDataset:
  """Reads every file of a folder and finds out its classes and splits.

  Args:
    root: folder with one of `layouts.LAYOUTS`; nothing is written to it.

  Returns:
    a FolderDataset; the same object again until a file changes.

  Raises:
    InputError: the folder has no known layout, files are damaged, or the labels are ambiguous; the
      message names the first few files.
  """
  root = pathlib.Path(root).expanduser()
  pairing = find_pairs(root)
  return _scan(root, pairing, stamp(root, pairing))


def stamp(root: pathlib.Path, pairing: Pairing) -> str:
  """Returns a hash of when a folder's files were last changed; no file is read.

  An equal one tells that nothing has changed. Another one tells nothing: a copy has another, too.
  """
  digest = hashlib.sha256()
  for path in _files(root, pairing):
    about = path.stat()
    # The time of the last change of state can't be set back, as that of the content can.
    about = about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
    digest.update(f'{path} {about}\n'.encode(*FILE_NAME_CODEC))
  for pair in pairing.pairs:
    digest.update(f'{pair.name} {pair.split}\n'.encode(*FILE_NAME_CODEC))
  return digest.hexdigest()[:16]


def fingerprint(root: pathlib.Path, pairing: Pairing) -> str:
  """Returns a hash of the content of a folder's files and of their names and splits.

  It does not have their paths, so that the folder may be moved.
  """
  return _fingerprint(root, pairing, stamp(root, pairing))


@functools.lru_cache(maxsize=4)
def _fingerprint(root, pairing, when) -> str:
  del when  # Part of the cache key.
  files = prefetch(MappedSequence(_hash, _files(root, pairing)))
  digest = hashlib.sha256(b''.join(files))
  for pair in pairing.pairs:
    names = pair.name, pair.image.name, pair.label.name, pair.split
    digest.update(f'{names}\n'.encode(*FILE_NAME_CODEC))
  return digest.hexdigest()[:16]


def _files(root, pairing) -> list[pathlib.Path]:
  """What a folder's data set is made of."""
  stated = [root / CLASSES_FILE] if (root / CLASSES_FILE).exists() else []
  return stated + [path for pair in pairing.pairs for path in (pair.image, pair.label)]


def _hash(path) -> bytes:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').digest()


@functools.lru_cache(maxsize=4)
def _scan(root, pairing, when) -> FolderDataset:
  unlabeled = [problem.path for problem in pairing.problems if problem.kind == 'no label']
  problems = [
    f'{problem.path}: {problem.detail}'
    for problem in pairing.problems
    if problem.kind != 'no label'
  ]
  by_list = any(each.kind in ('listed but missing', 'swapped columns') for each in pairing.problems)
  if not pairing.pairs and not by_list:
    problems.insert(0, f'{root}: no image has a label of the same name')
  _raise_problems(problems, len(pairing.pairs))
  stated = read_classes_file(root / CLASSES_FILE)
  results = prefetch(MappedSequence(_read_pair, pairing.pairs))
  results = list(progress.track(results, len(pairing.pairs)))
  _raise_problems([each for each in results if isinstance(each, str)], len(results))

  splits, split_note = assign_splits(pairing.pairs)
  labels = {str(pair.label): label for pair, (_, label) in zip(pairing.pairs, results, strict=True)}
  spec, encoding, labels, label_notes, *_ = understand(labels, stated, root)
  _raise_problems(invalid_labels(labels, spec, encoding), len(results))

  train = {pair.image for pair in splits['train']}
  color_sum, counts = np.zeros(3), LabelCounts.zeros(spec.num_classes)
  for pair, (image_sum, _) in zip(pairing.pairs, results, strict=True):
    if pair.image in train:
      color_sum += image_sum
      counts += label_counts(labels[str(pair.label)], spec, encoding)
  mean = stated.mean or tuple(round(value, 2) for value in (color_sum / counts.total).tolist())
  notes = (
    f'{root}: {len(pairing.pairs)} images with labels ({pairing.layout})',
    *excluded_notes(unlabeled, pairing.unlisted),
    *(f'{remark.path}: {remark.kind}: {remark.detail}' for remark in pairing.remarks),
    split_note,
    *label_notes,
    *size_notes(label.shape for label in labels.values()),
  )
  spec = dataclasses.replace(spec, mean=mean)
  about = fingerprint(root, pairing), when
  return FolderDataset(root, spec, encoding, splits, counts, notes, *about)


def _raise_problems(problems, count):
  """Raises an error of one line that names the first few files with problems, if there are any."""
  if not problems:
    return
  more = f'; and {len(problems) - 3} more' if len(problems) > 3 else ''
  raise InputError(
    f'{"; ".join(problems[:3])}{more} (of {count} pairs; `data.audit` lists all problems)'
  )


def _read_pair(pair):
  """Returns the sum of colors and the LabelStats of a pair, or a message on what is wrong."""
  try:
    image, label = image_files.read_image(pair.image), read_label_stats(pair.label)
  except InputError as error:
    return str(error)
  if image.shape[:2] != label.shape:
    return _size_mismatch(pair, image.shape, label.shape)
  return image.sum((0, 1), dtype=np.int64), label


def _size_mismatch(pair, image, label) -> str:
  rotated = image[:2] == label[::-1]
  hint = ''
  if rotated:
    hint = ': rotated by 90 degrees; an EXIF orientation was lost, or copied to a file without need'
  return (
    f'{pair.label}: {label[1]}x{label[0]} for an image of {image[1]}x{image[0]} (width x height)'
    f'{hint}'
  )

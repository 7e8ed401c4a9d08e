"""A folder of one's own pictures and labels, read where it is; nothing is written to it.

What a published data set has in `classes.py` is found from the labels here, or said by a small
`classes.json` in the folder, all of it optional:

  {"names": ["road", "car"], "palette": [[128, 64, 128], [0, 0, 142]], "ids": [0, 1],
   "ignore": [255, [0, 0, 0]], "mean": [105, 108, 110]}

`names` and `palette` (RGB) are in the order of the class ids. Label pictures that hold numbers have
`ids`, by default 0, 1, 2, ...; `ignore` are the numbers or colors of pixels that don't count.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
import pathlib

from absl import logging
import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from dilated_jax import progress
from dilated_jax.data import records
from dilated_jax.data.folder import pairing
from dilated_jax.data.folder.labels import (
  CLASSES_FILE,
  NAME,
  counts,
  find_classes,
  find_form,
  illegal,
  read_spec,
  read_stored,
  some,
)
from dilated_jax.data.sequences import MappedSequence, read_ahead
from dilated_jax.data.statistics import LabelCounts
from dilated_jax.errors import InputError
from dilated_jax.files import json_by_key, write_atomic
from dilated_jax.images import files as image_files
from dilated_jax.label_spec import IGNORE, LabelSpec

HELD_OUT = 0.15  # Share of the pictures that becomes val where the folder has no val.
_ANY_NAME = 'utf-8', 'surrogateescape'  # File names are bytes.
_LARGE = 1000  # Pixels of a side from which on a smaller --image_scale is advised.


@dataclasses.dataclass(frozen=True)
class Found:
  """A folder, looked through.

  Attributes:
    root: the folder.
    classes: its classes; `mean` is that of the training pictures.
    form: how labels are read: 'numbers', 'channels' (numbers in three equal channels) or 'colors'.
    splits: the pairs of 'train', 'val' and 'test', as far as there are any.
    pixels: of each class in train.
    beside: all pixels of the pictures of train in which a class occurs.
    notes: what was found and decided, in plain sentences.
    fingerprint: changes when a file of the data set does.
  """

  root: pathlib.Path
  classes: LabelSpec
  form: str
  splits: Mapping[str, tuple[pairing.Pair, ...]]
  pixels: tuple[int, ...]
  beside: tuple[int, ...]
  notes: tuple[str, ...]
  fingerprint: str

  def about(self) -> dict:
    """All of it for a JSON file that can serve as `classes.json` of the folder."""
    classes = self.classes
    ignored = [list(color) for color, name in classes.other_colors if name is None]
    about = {
      'names': classes.names,
      'palette': classes.palette,
      'ids': classes.raw_ids or tuple(range(classes.num_classes)),
      'ignore': [*classes.void, *({IGNORE} - {*classes.void, *classes.raw_ids}), *ignored],
      'mean': classes.mean,
    }
    if self.form == 'colors':
      del about['ids']
    about['found'] = {
      'folder': str(self.root.resolve()),
      'notes': self.notes,
      'form': self.form,
      'pictures': {split: [pair.name for pair in pairs] for split, pairs in self.splits.items()},
      'train_pixels': self.pixels,
      'train_image_pixels': self.beside,
      'fingerprint': self.fingerprint,
    }
    return about


def _example(found: Found, pair: pairing.Pair) -> dict:
  image, label = image_files.read_image(pair.image), read_label(found, pair.label)
  if image.shape[:2] != label.shape:
    raise InputError(_other_size(pair, image.shape, label.shape))
  return {'image': image, 'label': label, 'name': pair.name}


def split(found: Found, name: str) -> Sequence[dict]:
  """Returns the pictures of a split of a folder; slices as in TFDS, 'train[:10%]', work too.

  Examples are {'image', 'label', 'name'}, as `datasets.Source` gives them.

  Raises:
    InputError: there is no such split or slice.
  """
  base = name.split('[')[0]
  if base not in found.splits:
    raise InputError(f'{found.root}: no split {name!r}: choose one of {", ".join(found.splits)}')
  pairs, read = found.splits[base], functools.partial(_example, found)
  if base == name:
    return MappedSequence(read, pairs)
  infos = {base: tfds.core.SplitInfo(base, [len(pairs)], 0, None)}
  try:
    (part,) = tfds.core.ReadInstruction.from_spec(name).to_absolute(infos)
  except Exception as error:  # TFDS has several, for a wrong form and for a wrong place.
    raise InputError(
      f'{found.root}: {name!r} is no slice; write train[:10%] or train[5:20]'
    ) from error
  if not pairs[part.from_ : part.to]:
    raise InputError(f'{found.root}: the slice {name!r} holds no picture')
  return MappedSequence(read, pairs[part.from_ : part.to])


def read_label(found: Found, path) -> np.ndarray:
  """Reads a label picture: uint8 (H, W) class ids, 255 for pixels to ignore."""
  if found.form == 'colors':
    return found.classes.from_colors(image_files.read_colors(path), path)
  numbers = found.form == 'numbers'
  ids = image_files.read_label(path) if numbers else image_files.read_colors(path)[..., 0]
  return found.classes.to_train_ids(ids, path)


def find(root) -> pathlib.Path:
  """Returns `root`; an InputError says what is wrong if there are no pictures and labels in it."""
  pairing.find(root)
  return pathlib.Path(root)


def look(root) -> Found:
  """Looks at every file of a folder and finds out what it holds.

  Args:
    root: folder, see `pairing.LAYOUTS`.

  Returns:
    a Found; the same one again while no file changes.

  Raises:
    InputError: the folder isn't laid out so, files are damaged, or labels can't be understood; the
      first few by name.
  """
  root = pathlib.Path(root).expanduser()
  paired = pairing.find(root)
  return _look(root, paired, *_state(root, paired))


def _state(root, paired) -> tuple[str, int]:
  """The fingerprint of a folder, and when one of its files changed last."""
  digest, newest = hashlib.sha256(), 0
  said = root / CLASSES_FILE
  if said.exists():
    digest.update(said.read_bytes())
  for pair in paired.pairs:
    for path in (pair.image, pair.label):
      state = path.stat()
      newest = max(newest, state.st_mtime_ns)
      # Names of files only, so that the folder may move.
      digest.update(f'{pair.name} {path.name} {pair.split} {state.st_size}\n'.encode(*_ANY_NAME))
  return digest.hexdigest()[:16], newest


@functools.lru_cache(maxsize=4)
def _look(root, paired, mark, newest) -> Found:
  del newest  # Tells the cache of files that changed and kept their size.
  wrong = [
    f'{problem.path}: {problem.found}' for problem in paired.problems if problem.kind != 'no label'
  ]
  unlabeled = [problem.path for problem in paired.problems if problem.kind == 'no label']
  if not paired.pairs:
    wrong.insert(0, f'{root}: no picture has a label of its name')
  _refuse(wrong, root, len(paired.pairs))
  spec = read_spec(root / CLASSES_FILE)
  seen = list(progress.track(read_ahead(MappedSequence(_looked, paired.pairs)), len(paired.pairs)))
  _refuse([text for text in seen if isinstance(text, str)], root, len(seen))

  splits, split_note = _splits(paired.pairs)
  stored = {pair.label: label for pair, (_, label) in zip(paired.pairs, seen, strict=True)}
  form, stored = find_form(stored, spec)
  classes, label_notes = find_classes(stored, form, spec, root)
  _refuse(illegal(stored, classes, form), root, len(seen))

  train = {pair.image for pair in splits['train']}
  colors, count = np.zeros(3), LabelCounts.none(classes.num_classes)
  for pair, (color, _) in zip(paired.pairs, seen, strict=True):
    if pair.image in train:
      colors += color
      count += counts(stored[pair.label], classes, form)
  mean = spec.mean or tuple(round(value, 2) for value in (colors / count.total).tolist())
  classes = dataclasses.replace(classes, mean=mean)
  notes = (
    f'{root}: {len(paired.pairs)} pictures with labels ({paired.where})',
    *_left_out(unlabeled, paired.unlisted),
    split_note,
    *label_notes,
    *_sizes(label.shape for label in stored.values()),
  )
  return Found(
    root,
    classes,
    form,
    splits,
    tuple(count.pixels.tolist()),
    tuple(count.image_pixels.tolist()),
    notes,
    mark,
  )


def _refuse(wrong, root, count):
  """Ends in one line that names the first few files."""
  if not wrong:
    return
  more = f'; and {len(wrong) - 3} more' if len(wrong) > 3 else ''
  raise InputError(
    f'{"; ".join(wrong[:3])}{more} (of {count} pairs; python -m experiments.audit '
    f'--dataset={NAME} --data_dir={root} tells about all)'
  )


def _looked(pair):
  """(sum of colors, label) of a pair, or a sentence about what is wrong with it."""
  try:
    image, label = image_files.read_image(pair.image), read_stored(pair.label)
  except InputError as error:
    return str(error)
  if image.shape[:2] != label.shape:
    return _other_size(pair, image.shape, label.shape)
  return image.sum((0, 1), dtype=np.int64), label


def _other_size(pair, image, label) -> str:
  turned = image[:2] == label[::-1]
  hint = ': turned by 90 degrees, so the EXIF rotation of the picture was lost' if turned else ''
  return (
    f'{pair.label}: {label[1]}x{label[0]} for a picture of {image[1]}x{image[0]} (width x height)'
    f'{hint}'
  )


# Splits.


def _splits(pairs) -> tuple[dict, str]:
  """The pairs of each split, and a sentence about it."""
  splits = {split: tuple(p for p in pairs if p.split == split) for split in pairing.SPLITS}
  rest = tuple(pair for pair in pairs if pair.split is None)
  if rest and any(splits.values()):
    raise InputError(
      f'{rest[0].image}: in no split, and others are; put it into train/, val/ or test/'
    )
  splits['train'] += rest
  if not splits['train']:
    raise InputError(f'{pairs[0].image.parent}: there is no train split to learn from')
  note = ''
  if not splits['val']:
    val, how = hold_out([pair.name for pair in splits['train']])
    splits['val'] = tuple(pair for pair in splits['train'] if pair.name in val)
    splits['train'] = tuple(pair for pair in splits['train'] if pair.name not in val)
    note = f'; there is no val split, so {how}; these are never learnt from'
    if not val:
      note = '; there is no val split, and nothing to hold out'
  splits = {split: chosen for split, chosen in splits.items() if chosen}
  counts = ', '.join(f'{len(chosen)} {split}' for split, chosen in splits.items())
  return splits, f'splits: {counts}{note}'


def hold_out(names: Sequence[str]) -> tuple[set[str], str]:
  """Chooses pictures for validation, always the same ones.

  Whole sequences where names tell some ('0016E5_07959' is of 0016E5) and enough is left: frames of
  one sequence on both sides would flatter the scores. Else single pictures.

  Args:
    names: of all pictures.

  Returns:
    about `HELD_OUT` of the names, and how they were chosen, in words.
  """
  wanted = max(1, round(HELD_OUT * len(names))) if len(names) > 1 else 0
  groups = {}
  for name in names:
    groups.setdefault((pairing.sequence(name) or (name,))[0], []).append(name)
  chosen = set()
  if 1 < len(groups) < len(names):
    for group in sorted(groups, key=_hashed):
      if len(chosen) + len(groups[group]) <= 1.5 * wanted and len(chosen) < wanted:
        chosen.update(groups[group])
  if 2 * len(chosen) >= wanted > 0:
    held = sorted({(pairing.sequence(name) or (name,))[0] for name in chosen})
    return chosen, f'{len(chosen)} pictures are held out, all of {some(held)}'
  chosen = set(sorted(names, key=_hashed)[:wanted])
  return chosen, f'{len(chosen)} pictures, chosen by a hash of their names, are held out'


def _hashed(name) -> bytes:
  return hashlib.sha256(name.encode(*_ANY_NAME)).digest()


# Sentences.


def _left_out(unlabeled, unlisted) -> list[str]:
  notes = []
  if unlabeled:
    listed = some([path.name for path in unlabeled])
    notes.append(f'{len(unlabeled)} pictures have no label and are left out: {listed}')
  if unlisted:
    notes.append(f'{len(unlisted)} pictures are in no list and are left out: {some(unlisted)}')
  return notes


def _sizes(shapes) -> list[str]:
  shapes = sorted(set(shapes))
  sizes = [f'{width}x{height}' for height, width in shapes]
  text = sizes[0] if len(sizes) == 1 else f'{len(sizes)}, from {sizes[0]} to {sizes[-1]}'
  notes = [f'size (width x height): {text}']
  longest = int(np.median([max(shape) for shape in shapes]))
  if longest > _LARGE:
    notes.append(
      f'these are large: with --image_scale={480 / longest:.2f} the network would see a longer '
      'side of 480 pixels; predictions have full size all the same'
    )
  return notes


# The same, prepared.


class Folder(tfds.core.ShardBasedBuilder):
  """A folder of one's own pictures and labels."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = pairing.LAYOUTS

  def _info(self):
    return records.info(self)

  def _shard_iterators_per_split(self, dl_manager):
    found = look(dl_manager.manual_dir)
    for note in found.notes:
      logging.info('%s', note)
    # Beside the records, in the folder that TFDS renames when all is there.
    write_atomic(self.data_path / CLASSES_FILE, json_by_key(found.about()))
    write = functools.partial(_generate, found)
    return {split: records.shards(pairs, write) for split, pairs in found.splits.items()}


def _generate(found, pairs):
  logging.info('folder: writing %d pictures', len(pairs))
  for pair in pairs:
    image, head = image_files.read_image_and_info(pair.image)
    image = str(pair.image) if head.plain else PIL.Image.fromarray(image)
    label = PIL.Image.fromarray(read_label(found, pair.label))
    yield pair.name, {'image': image, 'label': label, 'name': pair.name}


def about_prepared(path) -> dict:
  """Returns what `Found.about` said when a folder was prepared in `path`.

  Raises:
    InputError: it is damaged.
  """
  try:
    about = json.loads((path / CLASSES_FILE).read_text())
    _ = about['found']['folder'], about['found']['fingerprint']
  except (OSError, ValueError, LookupError, TypeError):
    raise InputError(
      f'{path}: the prepared data set is damaged ({CLASSES_FILE}); delete it and prepare it again'
    ) from None
  return about


def prepared_classes(path) -> LabelSpec:
  """Returns the classes of a folder that was prepared in `path`."""
  about_prepared(path)
  spec = read_spec(pathlib.Path(path) / CLASSES_FILE)
  return LabelSpec(NAME, spec.names, spec.palette, spec.mean)


def check_source(path, root) -> None:
  """Ends if what is prepared in `path` is not made of folder `root` as it is now; None is any."""
  about = about_prepared(path)['found']
  if root is None:
    return
  root = pathlib.Path(root).expanduser()
  if root.is_dir() and _state(root, pairing.find(root))[0] != about['fingerprint']:
    raise InputError(
      f'{path}: was prepared from {about["folder"]}, and {root} is another folder or has changed '
      'since; delete it to prepare it again, or take another --data_dir'
    )

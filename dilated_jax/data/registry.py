"""All data sets by name: their classes, preparing them, and their examples by index."""

from collections.abc import Sequence
import hashlib
import pathlib
import re

from etils import epath

from dilated_jax.data import folder
from dilated_jax.data.label_specs import CAMVID, CAMVID_DILATION8, CITYSCAPES, KITTI, SCENES, VOC
from dilated_jax.data.prepared import (
  default_dir,
  is_prepared,
  load_prepared,
  prepare_builder,
  prepared_path,
)
from dilated_jax.data.sequences import ConcatSequence
from dilated_jax.errors import InputError
from dilated_jax.label_spec import LabelSpec

_SPECS = {spec.name: spec for spec in (SCENES, CAMVID, VOC, KITTI, CITYSCAPES)}
# Data sets with the classes of another one.
_SPECS |= {'camvid_full': CAMVID, 'kitti2015': CITYSCAPES, 'coco': VOC}
# The classes of a data set in the order of published weights.
_PUBLISHED_ORDERS = {CAMVID_DILATION8.name: CAMVID_DILATION8}

NAMES = (*_SPECS, 'folder')  # All data sets.
ORDERS = (*_SPECS, *_PUBLISHED_ORDERS)  # All orders of classes that label maps may have.


def classes(name: str, data_dir=None, manual_dir=None) -> LabelSpec:
  """Returns the classes of a data set, or of a published order of classes.

  Args:
    name: one of `NAMES` or `ORDERS`.
    data_dir: as in `prepare`; needed for 'folder' only, whose classes are found from its labels.
    manual_dir: as in `prepare`; needed for 'folder' only.

  Raises:
    InputError: there is no such data set, or the labels of the folder are ambiguous.
  """
  if name == 'folder':
    if dataset := _scan_in_place(name, data_dir, manual_dir):
      return dataset.spec
    return folder.builder.prepared_classes(prepare_builder(name, data_dir, manual_dir).data_path)
  if name not in ORDERS:
    raise InputError(f'no data set {name!r}: choose one of {", ".join((*ORDERS, "folder"))}')
  return (_SPECS | _PUBLISHED_ORDERS)[name]


def describe_folder(name: str, data_dir=None, manual_dir=None) -> dict | None:
  """Returns a description of the data set 'folder' for a JSON file; None for other data sets.

  Args:
    name: one of `NAMES`.
    data_dir: as in `prepare`.
    manual_dir: as in `prepare`.

  Returns:
    classes, mean, splits, and how they were found; it can serve as the folder's `classes.json`.

  Raises:
    InputError: as in `classes`.
  """
  if name != 'folder':
    return None
  if dataset := _scan_in_place(name, data_dir, manual_dir):
    return dataset.to_json()
  return folder.builder.read_description(prepare_builder(name, data_dir, manual_dir).data_path)


def fingerprint(name: str, data_dir=None, manual_dir=None) -> str:
  """Returns a digest of the records of a data set, which reads all of them; prepares it if needed.

  Args:
    name: one of `NAMES`.
    data_dir: as in `prepare`.
    manual_dir: as in `prepare`.

  Raises:
    InputError: as in `prepare`.
  """
  if dataset := _scan_in_place(name, data_dir, manual_dir):
    return dataset.fingerprint
  digest = hashlib.sha256()
  folder = prepare(name, data_dir, manual_dir)
  for path in sorted(folder.iterdir(), key=lambda path: path.name):
    if 'array_record' in path.name:
      with path.open('rb') as file:
        inner = hashlib.sha256()
        while piece := file.read(1 << 20):
          inner.update(piece)
      digest.update(f'{path.name} {inner.hexdigest()}\n'.encode())
  return digest.hexdigest()[:16]


def prepare(name: str, data_dir=None, manual_dir=None, **options) -> epath.Path:
  """Writes a data set to `data_dir`, completely or not at all, unless it is there already.

  Args:
    name: one of `NAMES`.
    data_dir: folder of prepared data sets; None for `default_dir()`. For 'folder', also the folder
      of images and labels itself, which is then used without copying it.
    manual_dir: folder of the raw data, as its publisher distributes it; None looks in `data_dir`
      and in `data_dir/downloads/manual`. Data sets that are drawn need none. For 'folder', the
      folder of images and labels.
    **options: arguments of the builder, such as `counts` of 'scenes'.

  Returns:
    the folder of the prepared data set.

  Raises:
    InputError: the raw data is missing or wrong. Nothing has been written.
  """
  dataset = _scan_in_place(name, data_dir or (manual_dir and default_dir()), manual_dir)
  if dataset:
    return epath.Path(dataset.root)
  return prepare_builder(name, data_dir, manual_dir, **options).data_path


def load(
  name: str, split: str, data_dir=None, manual_dir=None, instances: bool = False
) -> Sequence[dict]:
  """Opens a split of a data set, after preparing the data set if that is possible.

  Args:
    name: one of `NAMES`.
    split: 'train', 'val' or 'test', or a slice as in TFDS: 'train[:10%]'. Several are joined by +,
      also with splits of other data sets that have the same classes: the paper's front end is
      first trained on 'trainaug+coco:train' of 'voc'.
    data_dir: as in `prepare`; 'folder' is read where it is if only one of the two folders is given.
    manual_dir: as in `prepare`.
    instances: whether to read instance maps too, if the data set has them.

  Returns:
    examples by index, dicts of 'image', 'label' and 'name' as in `Source`, sorted by name; those of
    several splits one after the other.

  Raises:
    InputError: there is no such data set or split, no raw data to prepare it from, or a file is
      damaged.
  """
  sources = []
  for other, own_split in parts(name, split):
    same = other == name or (
      classes(other, data_dir, manual_dir).names == classes(name, data_dir, manual_dir).names
    )
    if not same:
      part = f'{other}:{own_split}'
      raise InputError(f'{name}: {part!r} has other classes than {name} and cannot be joined to it')
    sources.append(_load_split(other, own_split, data_dir, manual_dir, instances))
  return sources[0] if len(sources) == 1 else ConcatSequence(sources)


def parts(name: str, split: str) -> list[tuple[str, str]]:
  """The data sets of a split of `load`, and what is taken of each.

  >>> parts('voc', 'trainaug+coco:train')
  [('voc', 'trainaug'), ('coco', 'train')]
  """
  found = []
  for part in split.split('+'):
    prefix = re.match(r'(\w+):', part)
    found.append((prefix[1], part[prefix.end() :]) if prefix else (name, part))
  return found


def _load_split(name, split, data_dir, manual_dir, instances):
  if dataset := _scan_in_place(name, data_dir, manual_dir):
    return folder.load_split(dataset, split)
  return load_prepared(name, split, data_dir, manual_dir, instances)


def splits(name: str, data_dir=None, manual_dir=None) -> tuple[str, ...]:
  """Returns the names of a data set's splits, after preparing it if that is possible."""
  if dataset := _scan_in_place(name, data_dir, manual_dir):
    return tuple(dataset.splits)
  return tuple(prepare_builder(name, data_dir, manual_dir).info.splits)


def _are_same(*folders) -> bool:
  first, second = (pathlib.Path(each).expanduser().resolve() for each in folders)
  return first == second


def _scan_in_place(name, data_dir, manual_dir) -> 'folder.FolderDataset | None':
  """Scans a 'folder' that is used without copying it; None for data sets that are prepared."""
  if name != 'folder':
    return None
  if manual_dir and not data_dir:
    return folder.scan(manual_dir)
  if is_prepared(name, data_dir):
    folder.builder.check_unchanged(prepared_path(name, data_dir), manual_dir)
    return None
  if manual_dir and not (data_dir and _are_same(data_dir, manual_dir)):
    return None  # Two folders are given, so the one is prepared in the other.
  if not data_dir:
    raise InputError(
      f'folder: give the folder of your images and labels as `data_dir`; it has {folder.LAYOUTS}'
    )
  return folder.scan(data_dir)

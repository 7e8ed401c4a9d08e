"""Data sets: the tables of their classes, and pictures with labels by number.

  source = datasets.load('scenes', 'train')
  source[0]  # {'image': uint8 (H, W, 3), 'label': uint8 (H, W), 'name': str}

Labels are class ids of `classes(name)`, 255 for pixels to ignore. Data sets are prepared once, by
TFDS without TensorFlow, into `data_dir`; a file is read when its picture is asked for. A folder of
one's own, 'folder', is read where it is, and may be prepared too.
"""

from collections.abc import Sequence
import contextlib
import importlib
import io
import os
import pathlib
import re
import sys

from absl import logging
from etils import epath
import numpy as np
import PIL.Image

from dilated_jax.errors import InputError
from dilated_jax.label_spec import (
  CAMVID,
  CAMVID_DILATION8,
  CITYSCAPES,
  KITTI,
  SCENES,
  VOC,
  LabelSpec,
)

__all__ = [
  'NAMES', 'ORDERS', 'Source', 'classes', 'default_dir', 'describe_folder', 'is_prepared', 'load',
  'prepare', 'splits',
]  # fmt: skip

_TABLES = {table.name: table for table in (SCENES, CAMVID, VOC, KITTI, CITYSCAPES)}
# Other pictures of the same classes.
_TABLES |= {'camvid_full': CAMVID, 'kitti2015': CITYSCAPES, 'coco': VOC}
_PUBLISHED = {CAMVID_DILATION8.name: CAMVID_DILATION8}  # Other orders of the same classes.
_BUILDERS = {  # Module of this package and its class.
  'scenes': 'Scenes',
  'camvid': 'Camvid',
  'camvid_full': 'CamvidFull',
  'kitti': 'Kitti',
  'kitti2015': 'Kitti2015',
  'cityscapes': 'Cityscapes',
  'voc': 'Voc',
  'coco': 'Coco',
  'folder': 'Folder',
}
NAMES = (*_TABLES, 'folder')
ORDERS = (*_TABLES, *_PUBLISHED)

# What a damaged file makes array_record, TFDS or Pillow raise.
_DAMAGE = (OSError, ValueError, RuntimeError, LookupError, SyntaxError, AssertionError, TypeError)


def classes(name: str, data_dir=None, manual_dir=None) -> LabelSpec:
  """Returns the classes of a data set, or those of a published order.

  Args:
    name: one of `NAMES` or `ORDERS`.
    data_dir: as in `prepare`; only 'folder' needs it, whose classes are found from its labels.
    manual_dir: likewise.

  Returns:
    its table.

  Raises:
    InputError: no such data set, or a folder that can't be understood.
  """
  if name == 'folder':
    own = _own(name, data_dir, manual_dir)
    if own:
      return own.classes
    return _module(name).prepared_classes(_prepared(name, data_dir, manual_dir).data_path)
  if name not in ORDERS:
    raise InputError(f'no data set {name!r}: choose one of {", ".join((*ORDERS, "folder"))}')
  return (_TABLES | _PUBLISHED)[name]


def describe_folder(name: str, data_dir=None, manual_dir=None) -> dict | None:
  """Returns what was found out about a 'folder', for a JSON file; None for other data sets.

  Args:
    name: one of `NAMES`.
    data_dir: as in `prepare`.
    manual_dir: likewise.

  Returns:
    classes, mean, splits and how they were found; usable as `classes.json` of the folder.

  Raises:
    InputError: as in `classes`.
  """
  if name != 'folder':
    return None
  own = _own(name, data_dir, manual_dir)
  if own:
    return own.about()
  return _module(name).about_prepared(_prepared(name, data_dir, manual_dir).data_path)


def is_prepared(name: str, data_dir=None) -> bool:
  """Returns whether a data set is prepared in `data_dir`."""
  return _path(name, data_dir).exists()


def default_dir() -> str:
  """Returns where prepared data sets live unless told otherwise: TFDS_DATA_DIR, or as in TFDS."""
  return os.path.expanduser(os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')


def prepare(name: str, data_dir=None, manual_dir=None, **options) -> epath.Path:
  """Writes data set `name` into `data_dir`, whole or not at all; does nothing if it is there.

  Args:
    name: one of `NAMES`.
    data_dir: folder of prepared data sets; None for `default_dir()`. For 'folder' also the folder
      with one's own pictures and labels itself, which is then read where it is.
    manual_dir: folder that holds the raw data set, as its publisher packs it; None looks in
      `data_dir` and in `data_dir/downloads/manual`. Drawn data sets need none. Of 'folder' it is
      read where it is, unless `data_dir` is given too, or `prepare` called.
    **options: for the builder, such as `counts` of `scenes`.

  Returns:
    The folder of the prepared data set.

  Raises:
    InputError: the raw data is missing or wrong. Nothing has been written.
  """
  if own := _own(name, data_dir or (manual_dir and default_dir()), manual_dir):
    return epath.Path(own.root)
  return _prepared(name, data_dir, manual_dir, **options).data_path


def load(
  name: str, split: str, data_dir=None, manual_dir=None, instances: bool = False
) -> 'Source':
  """Opens one split of a data set, and prepares the data set first where that is possible.

  Args:
    name: one of `NAMES`.
    split: 'train', 'val' or 'test'; slices as in TFDS, 'train[:10%]', work too. Several are joined
      by +, also with splits of other data sets that have the same classes: 'trainaug+coco:train' of
      'voc' is what the paper's front end learns from first.
    data_dir: as in `prepare`.
    manual_dir: as in `prepare`.
    instances: whether to read instance maps too, where the data set has some.

  Returns:
    The pictures and labels of the split, sorted by name; of several splits one after the other.

  Raises:
    InputError: no such data set or split, no raw data to prepare it from, or damaged files.
  """
  sources = []
  for part in split.split('+'):
    other, own = re.fullmatch(r'(?:(\w+):)?(.*)', part, re.DOTALL).groups()
    if other and classes(other).names != classes(name).names:
      raise InputError(f'{name}: {part!r} has other classes than {name} and cannot be joined to it')
    sources.append(_load_one(other or name, own, data_dir, manual_dir, instances))
  return sources[0] if len(sources) == 1 else Joined(sources)


def _load_one(name, split, data_dir, manual_dir, instances) -> 'Source':
  import tensorflow_datasets as tfds

  if own := _own(name, data_dir, manual_dir):
    return _module(name).split(own, split)
  builder = _prepared(name, data_dir, manual_dir)
  folder = builder.data_path
  if not builder.info.splits:
    raise _damaged(folder, 'no dataset_info.json')
  if split.split('[')[0] not in builder.info.splits:
    needs = getattr(_module(name), 'NEEDS', {}).get(split.split('[')[0])
    raise InputError(
      f'{name}: no split {split!r}: choose one of {", ".join(builder.info.splits)}'
      + (f'; it needs {needs}: get that, delete {folder} and prepare it again' if needs else '')
    )
  if '[' in split:
    try:
      count = builder.info.splits[split].num_examples
    except Exception as error:  # TFDS has several, for a wrong form and for a wrong place.
      raise InputError(
        f'{name}: {split!r} is no slice; write train[:10%] or train[5:20]'
      ) from error
    if not count:
      raise InputError(f'{name}: the slice {split!r} holds no picture')
  decoders = {key: tfds.decode.SkipDecoding() for key in ('image', 'label')}
  try:
    records = builder.as_data_source(split, decoders=decoders)
  except _DAMAGE as error:
    raise _damaged(folder, error) from error
  source = Source(records, folder, instances)
  if len(source):
    _ = source[0], source[-1]  # A truncated file has lost its index and fails at any record.
  return source


def splits(name: str, data_dir=None, manual_dir=None) -> tuple[str, ...]:
  """Returns the splits of a data set that `prepare` has made or would have nothing to do for."""
  if own := _own(name, data_dir, manual_dir):
    return tuple(own.splits)
  return tuple(_prepared(name, data_dir, manual_dir).info.splits)


class Source(Sequence):
  """Prepared pictures by number: `source[i] -> {'image', 'label', 'name'}`.

  image is uint8 (H, W, 3) RGB; label is uint8 (H, W), class ids and 255; name is a string. With
  `instances`, examples that have an instance map give it too: 'instances' uint16 (H, W).
  """

  def __init__(self, records, folder, instances=False):
    self._records = records
    self._folder = folder
    self._instances = instances

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict:
    position = range(len(self))[index]  # Raises IndexError; resolves negative numbers.
    try:
      record = self._records[position]
      # Our own decoding: OpenCV, which TFDS would use where it is installed, reads palettes as RGB.
      image = np.asarray(PIL.Image.open(io.BytesIO(record['image'])).convert('RGB'))
      label = np.asarray(PIL.Image.open(io.BytesIO(record['label'])))
      example = {'image': image, 'label': label, 'name': record['name'].decode()}
      if self._instances and record.get('instances'):
        example['instances'] = np.asarray(PIL.Image.open(io.BytesIO(record['instances'])))
      return example
    except _DAMAGE as error:
      raise _damaged(self._folder, error) from error


class Joined(Sequence):
  """Sources one after the other; examples are read when they are asked for."""

  def __init__(self, sources: Sequence[Sequence]):
    self._sources = tuple(sources)
    self._ends = np.cumsum([len(source) for source in self._sources])

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> dict:
    position = range(len(self))[index]
    number = int(np.searchsorted(self._ends, position, side='right'))
    return self._sources[number][position - int(self._ends[number])]


def _own(name, data_dir, manual_dir):
  """A folder of one's own that is read where it is, looked through; None for what is prepared."""
  if name != 'folder':
    return None
  folder = _module(name)
  if not manual_dir or data_dir:
    path = _path(name, data_dir)
    if path.exists():
      folder.check_source(path, manual_dir)
      return None
    if manual_dir:
      return None  # Both are given: to be prepared.
  if not (manual_dir or data_dir):
    raise InputError(
      'folder: give --data_dir=DIR, the folder with your pictures and labels: '
      f'{folder.Folder.MANUAL_DOWNLOAD_INSTRUCTIONS}'
    )
  return folder.look(manual_dir or data_dir)


def _prepared(name, data_dir, manual_dir, **options):
  """Returns the TFDS builder of `name`, prepared."""
  import tensorflow_datasets as tfds

  builder = _builder(name, data_dir, **options)
  if builder.data_path.exists():
    if options:
      logging.warning(
        '%s is there already; to prepare it with %s, delete it', builder.data_path, options
      )
    return builder
  raw = _find_raw(name, builder, manual_dir)
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()  # Its carriage returns would fill a log; ours are plain lines.
  config = tfds.download.DownloadConfig(manual_dir=raw)
  logging.info('%s: preparing %s', name, builder.data_path)
  try:
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints sizes it does not know.
      builder.download_and_prepare(download_config=config)
  except OSError:
    # Another process may have finished first: then its folder is as good as ours.
    if not (builder.data_path / 'dataset_info.json').exists():
      raise
    builder = _builder(name, data_dir, **options)
  return builder


def _module(name):
  """The module with the builder of a data set, which imports TFDS."""
  room = 'dilated_jax.data' if name == 'folder' else 'dilated_jax.data.builders'
  return importlib.import_module(f'{room}.{name}')


def _damaged(folder, reason) -> InputError:
  reason = ' '.join(str(reason).split())[:120]
  return InputError(
    f'{folder}: the prepared data set is damaged ({reason}); delete it and prepare it again'
  )


def _path(name, data_dir) -> epath.Path:
  """Where a data set is when it is prepared."""
  if name not in _BUILDERS:
    raise InputError(f'no data set {name!r}: choose one of {", ".join(NAMES)}')
  version = getattr(_module(name), _BUILDERS[name]).VERSION
  return epath.Path(os.path.expanduser(data_dir or default_dir())) / name / str(version)


def _builder(name, data_dir, **options):
  folder = _path(name, data_dir)
  data_dir = default_dir() if data_dir is None else os.path.expanduser(data_dir)
  constructor = getattr(_module(name), _BUILDERS[name])
  verbosity = logging.get_verbosity()
  logging.set_verbosity(min(verbosity, logging.WARNING))  # TFDS tells of every file that it opens.
  try:
    return constructor(data_dir=data_dir, file_format='array_record', **options)
  except Exception as error:  # Whatever TFDS makes of a damaged description.
    if not folder.exists():
      raise
    raise _damaged(folder, error) from error
  finally:
    logging.set_verbosity(verbosity)


def _find_raw(name, builder, manual_dir):
  """Returns the folder with the raw data set; None for a data set that needs none."""
  find = getattr(_module(name), 'find', None)
  if find is None:
    return None
  root = pathlib.Path(builder.data_path).parents[1]
  folders = [root, root / 'downloads' / 'manual']
  if manual_dir is not None:
    folders = [pathlib.Path(manual_dir).expanduser()]
  for folder in folders:
    if raw := find(folder):
      return raw
  missing = ' or '.join(map(str, folders))
  raise InputError(
    f'{name}: neither prepared in {root} nor found in {missing}; get it and run python -m '
    f'experiments.prepare --dataset={name} --manual_dir=FOLDER --data_dir={root} '
    f'({builder.MANUAL_DOWNLOAD_INSTRUCTIONS})'
  )

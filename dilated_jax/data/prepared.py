"""Data sets that TFDS has written to `data_dir`: preparing them, and reading examples back."""

from collections.abc import Sequence
import contextlib
import importlib
import io
import os
import pathlib
import sys
import warnings

from absl import logging
from etils import epath
import numpy as np
import PIL.Image

from dilated_jax import checksums, files
from dilated_jax.data.slices import resolve_slice
from dilated_jax.errors import InputError, one_line
from dilated_jax.temporary import remove_leftovers, temporary_folder

BUILDERS = {  # Module and class of the builder of each data set.
  'scenes': 'builders.scenes.Scenes',
  'camvid': 'builders.camvid.Camvid',
  'voc': 'builders.voc.Voc',
  'kitti': 'builders.kitti.Kitti',
  'cityscapes': 'builders.cityscapes.Cityscapes',
  'camvid_full': 'builders.camvid_full.CamvidFull',
  'kitti2015': 'builders.kitti2015.Kitti2015',
  'coco': 'builders.coco.Coco',
  'folder': 'folder.builder.Folder',
}
_RECORDS = '.array_record'  # They have checksums of their own, checked when a record is read.
# What array_record, TFDS and Pillow raise for damaged files.
_DAMAGE = (
  OSError, ValueError, RuntimeError, LookupError, SyntaxError, AssertionError, TypeError,
  ArithmeticError, AttributeError, MemoryError, PIL.Image.DecompressionBombError,
)  # fmt: skip


class Source(Sequence):
  """The examples of a prepared split by index: `source[i] -> {'image', 'label', 'name'}`.

  'image' is uint8 (H, W, 3) RGB; 'label' is uint8 (H, W), class ids and 255 to ignore; 'name' is a
  string. With `instances`, examples that have an instance map also have 'instances' uint16 (H, W).
  """

  def __init__(self, records, folder, instances=False):
    """Takes the records of TFDS, the folder of the data set, and whether to read instances."""
    self._records = records
    self._folder = folder
    self._instances = instances

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict:
    index = range(len(self))[index]  # Raises IndexError; resolves negative indices.
    try:
      record = self._records[index]
      # Not decoded by TFDS: it uses OpenCV where that is installed, which turns palettes into RGB.
      image = np.asarray(_decoded(record['image']).convert('RGB'))
      label = np.asarray(_decoded(record['label']))
      name = record['name'].decode('utf-8', 'surrogateescape')  # A file's may be any bytes.
      example = {'image': image, 'label': label, 'name': name}
      if self._instances and record.get('instances'):
        example['instances'] = np.asarray(_decoded(record['instances']))
      return example
    except _DAMAGE as error:
      raise _damaged(self._folder, error) from error


def _decoded(content: bytes) -> PIL.Image.Image:
  """An image of a record: `records` keeps PNG and JPEG."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # About large images, which are read anyway.
    image = PIL.Image.open(io.BytesIO(content), formats=('PNG', 'JPEG'))
    image.load()
  return image


def default_dir() -> str:
  """Returns the default folder of prepared data sets: $TFDS_DATA_DIR, or ~/tensorflow_datasets."""
  return os.path.expanduser(os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')


def prepared_path(name: str, data_dir=None) -> epath.Path:
  """Returns the folder that a data set has when it is prepared.

  Raises:
    InputError: there is no such data set.
  """
  return _versions_path(name, data_dir) / str(_builder_class(name).VERSION)


def is_prepared(name: str, data_dir=None) -> bool:
  """Returns whether a data set is prepared in `data_dir`.

  Raises:
    InputError: there is no such data set.
  """
  # Where there is no version at all, TFDS need not be asked, or installed, for the current one.
  return _versions_path(name, data_dir).exists() and prepared_path(name, data_dir).exists()


def _versions_path(name, data_dir) -> epath.Path:
  """The folder of all versions of a data set."""
  if name not in BUILDERS:
    raise InputError(f'no data set {name!r}: choose one of {", ".join(BUILDERS)}')
  return epath.Path(os.path.expanduser(data_dir or default_dir())) / name


def prepare_builder(name: str, data_dir=None, manual_dir=None, **options):
  """Returns the TFDS builder of a data set, after writing the data set if it is not there yet.

  Args:
    name: data set.
    data_dir: folder of prepared data sets; None for `default_dir()`.
    manual_dir: folder of the raw data; None looks in `data_dir`.
    **options: arguments of the builder.

  Raises:
    InputError: the raw data is missing or wrong, or the prepared data set is damaged.
  """
  import tensorflow_datasets as tfds

  builder = _make_builder(name, data_dir, **options)
  remove_leftovers(pathlib.Path(builder.data_path).parent)
  if builder.data_path.exists():
    if options:
      logging.warning(
        '%s exists already; to prepare it with %s, delete it first', builder.data_path, options
      )
    return builder
  raw_dir = _find_raw_dir(name, builder, manual_dir)
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()  # Its carriage returns would fill a log file.
  config = tfds.download.DownloadConfig(manual_dir=raw_dir)
  logging.info('%s: preparing %s', name, builder.data_path)
  place = pathlib.Path(builder.data_path)
  made = [path for path in place.parents if not path.exists()]
  try:
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints sizes that it doesn't know.
      if '://' in str(builder.data_path):
        builder.download_and_prepare(download_config=config)
      else:
        # TFDS would leave for ever what it has written when it is killed.
        with temporary_folder(place) as temporary:
          writer = _make_builder(name, temporary, **options)
          writer.download_and_prepare(download_config=config)
          _finish(pathlib.Path(writer.data_path), place)
  except OSError:
    # Another process may have finished first, with the same result.
    if not (place / 'dataset_info.json').exists():
      raise
  finally:
    for path in made:  # Those that were left empty.
      with contextlib.suppress(OSError):
        path.rmdir()
  return _make_builder(name, data_dir, **options)


def _finish(written: pathlib.Path, place: pathlib.Path) -> None:
  """Gives a data set that is written its checksums and its place."""
  records = [path.name for path in written.glob(f'*{_RECORDS}*')]
  checksums.write_checksums(written, records)
  files.sync_folder(written)
  written.rename(place)


def load_prepared(name: str, split: str, data_dir, manual_dir, instances: bool) -> Source:
  """Opens a split of a data set, after preparing the data set if necessary.

  Args:
    name: data set.
    split: name of a split, or a slice of one.
    data_dir: as in `prepare_builder`.
    manual_dir: as in `prepare_builder`.
    instances: whether to read instance maps.

  Raises:
    InputError: there is no such split, or as in `prepare_builder`.
  """
  import tensorflow_datasets as tfds

  builder = prepare_builder(name, data_dir, manual_dir)
  folder = builder.data_path
  if not builder.info.splits:
    raise _damaged(folder, 'no dataset_info.json')
  base = split.split('[')[0]
  if base not in builder.info.splits:
    needs = getattr(_builder_module(name), 'SPLIT_REQUIREMENTS', {}).get(base)
    raise InputError(
      f'{name}: no split {split!r}: choose one of {", ".join(builder.info.splits)}'
      + (f'; it needs {needs}: get that, delete {folder} and prepare it again' if needs else '')
    )
  if split != base:
    resolve_slice(split, builder.info.splits[base].num_examples, name)
  decoders = {key: tfds.decode.SkipDecoding() for key in ('image', 'label')}
  try:
    records = builder.as_data_source(split, decoders=decoders)
  except _DAMAGE as error:
    raise _damaged(folder, error) from error
  source = Source(records, folder, instances)
  if len(source):
    _ = source[0], source[-1]  # A truncated file has lost its index: reading any record fails.
  return source


def _builder_module(name):
  """Imports the module of a builder, and TFDS with it."""
  return importlib.import_module(f'{__package__}.{BUILDERS[name].rpartition(".")[0]}')


def _builder_class(name):
  return getattr(_builder_module(name), BUILDERS[name].rpartition('.')[2])


def _make_builder(name, data_dir, **options):
  folder = prepared_path(name, data_dir)
  data_dir = default_dir() if data_dir is None else os.path.expanduser(data_dir)
  checksums.check_checksums(folder, advice=_ADVICE)
  verbosity = logging.get_verbosity()
  logging.set_verbosity(min(verbosity, logging.WARNING))  # TFDS logs every file that it opens.
  try:
    return _builder_class(name)(data_dir=data_dir, file_format='array_record', **options)
  except Exception as error:  # TFDS raises almost anything for a damaged description.
    if not folder.exists():
      raise
    raise _damaged(folder, error) from error
  finally:
    logging.set_verbosity(verbosity)


def _find_raw_dir(name, builder, manual_dir):
  """Returns the folder of the raw data, or None for a data set that needs none."""
  has_raw_files = getattr(_builder_module(name), 'has_raw_files', None)
  if has_raw_files is None:
    return None
  root = pathlib.Path(builder.data_path).parents[1]
  folders = [root, root / 'downloads' / 'manual']
  if manual_dir is not None:
    folders = [pathlib.Path(manual_dir).expanduser()]
  for folder in folders:
    if has_raw_files(folder):
      return folder
  searched = ' or '.join(map(str, folders))
  raise InputError(
    f'{name}: neither prepared in {root} nor found in {searched}; download it, and call '
    f'`data.prepare` for {name} with its folder as `manual_dir` and {root} as `data_dir` '
    f'({builder.MANUAL_DOWNLOAD_INSTRUCTIONS})'
  )


def _damaged(folder, reason) -> InputError:
  return InputError(
    f'{folder}: the prepared data set is damaged ({one_line(reason, 120)}); {_ADVICE}'
  )


_ADVICE = 'delete the prepared data set and prepare it again'

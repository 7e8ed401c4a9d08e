"""Writes a folder of images and labels to `data_dir`, as the builders of published data sets do."""

import functools
import pathlib

from absl import logging
import PIL.Image
import tensorflow_datasets as tfds

from dilated_jax.checksums import check_checksums
from dilated_jax.data import records
from dilated_jax.data.folder.classes import NAME
from dilated_jax.data.folder.classes_file import CLASSES_FILE, read_classes_file
from dilated_jax.data.folder.dataset import FolderDataset, fingerprint, read_label, scan, stamp
from dilated_jax.data.folder.layouts import LAYOUTS, find_pairs
from dilated_jax.data.folder.splits import FILE_NAME_CODEC
from dilated_jax.errors import InputError
from dilated_jax.files import decode_json, format_json, write_atomic
from dilated_jax.images import files as image_files
from dilated_jax.label_spec import LabelSpec


class Folder(tfds.core.ShardBasedBuilder):
  """A folder of your own images and labels."""

  VERSION = tfds.core.Version('1.1.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUTS

  def _info(self):
    return records.info(self)

  def _shard_iterators_per_split(self, dl_manager):
    dataset = scan(dl_manager.manual_dir)
    for note in dataset.notes:
      logging.info('%s', note)
    # In the folder of the records, which TFDS renames when everything is written.
    write_atomic(self.data_path / CLASSES_FILE, format_json(dataset.to_json()))
    write = functools.partial(_generate_features, dataset)
    return {split: records.shards(pairs, write) for split, pairs in dataset.splits.items()}


def _generate_features(dataset: FolderDataset, pairs):
  logging.info('folder: writing %d images', len(pairs))
  for pair in pairs:
    image, info = image_files.read_image_and_info(pair.image)
    image = str(pair.image) if info.is_plain_rgb else PIL.Image.fromarray(image)
    label = PIL.Image.fromarray(read_label(dataset, pair.label))
    name = pair.name.encode(*FILE_NAME_CODEC)
    yield pair.name, {'image': image, 'label': label, 'name': name}


def has_raw_files(root) -> bool:
  """Returns True for a folder of images and labels; raises an InputError for any other."""
  find_pairs(root)
  return True


def read_description(path) -> dict:
  """Returns `FolderDataset.to_json` of the folder that was prepared in `path`.

  Raises:
    InputError: the prepared data set is damaged.
  """
  check_checksums(path, {CLASSES_FILE}, advice='delete the folder and prepare it again')
  try:
    content = decode_json((path / CLASSES_FILE).read_text())
    _ = content['detected']['folder'], content['detected']['fingerprint']
  except (OSError, ValueError, LookupError, TypeError):
    raise _damaged(path) from None
  return content


def prepared_classes(path) -> LabelSpec:
  """Returns the classes of the folder that was prepared in `path`.

  Raises:
    InputError: the prepared data set is damaged.
  """
  read_description(path)
  stated = read_classes_file(pathlib.Path(path) / CLASSES_FILE)
  if not (stated.names and stated.palette and stated.mean):
    raise _damaged(path)
  return LabelSpec(NAME, stated.names, stated.palette, stated.mean)


def _damaged(path) -> InputError:
  return InputError(
    f'{path}: the prepared data set is damaged ({CLASSES_FILE}); delete it and prepare it again'
  )


def check_unchanged(path, root) -> None:
  """Raises an InputError if `path` was prepared from another folder than `root` as it is now.

  Args:
    path: prepared data set.
    root: folder of images and labels; None, or a missing folder, skips the check.
  """
  detected = read_description(path)['detected']
  if root is None:
    return
  root = pathlib.Path(root).expanduser()
  if not root.is_dir():
    return
  pairing = find_pairs(root)
  if stamp(root, pairing) == detected.get('stamp'):
    return
  if fingerprint(root, pairing) != detected['fingerprint']:
    raise InputError(
      f'{path}: was prepared from {detected["folder"]}, and {root} is another folder or has '
      'changed since; delete it to prepare it again, or choose another `data_dir`'
    )

"""The base of all builders that read raw files: every file is checked before anything is written.

A builder knows the file names of its publisher. It pairs images with labels, reads label files,
and passes both to `check_splits`; `PairBuilder` writes the result with TFDS.
"""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from absl import logging
import numpy as np
import tensorflow_datasets as tfds

from dilated_jax import progress
from dilated_jax.data import records
from dilated_jax.data.archives import Tree
from dilated_jax.data.builders import raw_images
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files
from dilated_jax.label_spec import IGNORE


class FilePair(NamedTuple):
  """The raw files of an example, by their names in a `Tree`; '' where there is no file.

  Attributes:
    name: name of the example.
    image: image file.
    label: label file.
    instances: file of the instance map.
  """

  name: str
  image: str
  label: str = ''
  instances: str = ''


class CheckedExample(NamedTuple):
  """An example whose files are valid. Labels are in memory (Cityscapes: 100 MB), images are not.

  Attributes:
    name: name of the example.
    image: image file, by its name in a `Tree`.
    label: PNG of class ids.
    instances: PNG of the publisher's instance map, or None.
  """

  name: str
  image: str
  label: bytes
  instances: bytes | None


def png_files(tree: Tree, folder: str, suffix: str = '.png') -> dict[str, str]:
  """Returns the files in a folder of a tree that end in `suffix`, by their names without it."""
  return by_name(
    (file.rpartition('/')[2].removesuffix(suffix), file)
    for file in tree.names()
    # Names that start with a dot are metadata of macOS.
    if file.startswith(f'{folder}/') and file.endswith(suffix) and '/.' not in file
  )


def by_name(named_files: Iterable[tuple[str, str]]) -> dict[str, str]:
  """Makes a dict of (name of the example, file).

  Raises:
    InputError: two files have the same name.
  """
  files = {}
  for name, file in named_files:
    if name in files:
      raise InputError(f'{files[name]} and {file} belong to the same image; remove one of them')
    files[name] = file
  return files


def match_files(tree: Tree, images: Mapping[str, str], labels: Mapping[str, str]) -> list[FilePair]:
  """Pairs images and labels of the same name, sorted by name.

  Args:
    tree: tree of the files, for messages.
    images: image files by name.
    labels: label files by name.

  Raises:
    InputError: a file has no partner.
  """
  for files, others, missing in ((images, labels, 'label'), (labels, images, 'image')):
    unpaired = [files[name] for name in sorted(files) if name not in others]
    if unpaired:
      raise InputError(
        f'{tree.location}: no {missing} for {len(unpaired)} of {len(files)} files: '
        f'{_join_first(unpaired, ", ")}; get the data set again'
      )
  return [FilePair(name, images[name], labels[name]) for name in sorted(images)]


def check_splits(
  tree: Tree,
  splits: Mapping[str, list[FilePair]],
  read_label: Callable[[Tree, FilePair, tuple[int, int]], tuple[np.ndarray, bytes | None]],
  official_counts: Mapping[str, int],
) -> dict[str, list[CheckedExample]]:
  """Checks every file of a data set.

  Args:
    tree: tree of the files.
    splits: pairs of each split.
    read_label: takes the tree, a pair, and the height and width of its image; returns class ids
      uint8 (H, W), and the PNG of the instance map or None.
    official_counts: number of examples in each split of the full release; other numbers only give
      a warning.

  Returns:
    the examples of each split.

  Raises:
    InputError: a split is empty, or files are missing, damaged or wrong; lists the first three.
  """
  for split, pairs in splits.items():
    if not pairs:
      raise InputError(f'{tree.location}: no {split} images here; get the data set again')
  examples, labeled_splits, problems = {split: [] for split in splits}, set(), []
  work = [(split, pair) for split, pairs in splits.items() for pair in pairs]
  for split, pair in progress.track(work):
    try:
      height, width = raw_images.check_image(tree, pair.image)
      ids, instances = read_label(tree, pair, (height, width))
      if ids.shape != (height, width):
        raise InputError(
          f'{tree.locate(pair.label)}: label of {ids.shape[1]}x{ids.shape[0]} for an image of '
          f'{width}x{height} (width x height); get both files again'
        )
      label = image_files.encode_png(ids)
      examples[split].append(CheckedExample(pair.name, pair.image, label, instances))
      if (ids != IGNORE).any():
        labeled_splits.add(split)
    except InputError as error:
      problems.append(str(error))
  if len(problems) > 1:
    problems.insert(0, f'{len(problems)} of {len(work)} examples have wrong files')
  if problems:
    raise InputError(_join_first(problems, ' | ', 4))
  for split, checked in examples.items():
    if len(checked) != official_counts[split]:
      logging.warning(
        '%s: %d %s images, the full release has %d: scores can not be compared with published ones',
        tree.location, len(checked), split, official_counts[split],
      )  # fmt: skip
    if split not in labeled_splits:
      logging.warning(
        '%s: the %s images have no labels, so all their pixels are ignored and no score can be '
        'computed on them',
        tree.location, split,
      )  # fmt: skip
  return examples


class PairBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Writes the checked examples of a raw data set."""

  VERSION = tfds.core.Version('1.0.0')
  HAS_INSTANCES = False  # Whether the data set has instance maps.

  @abc.abstractmethod
  def check_raw(self, folder) -> tuple[Tree, dict[str, list[CheckedExample]]]:
    """Opens the raw data set in a folder; returns its files and what `check_splits` returns."""

  def _info(self):
    return records.info(self, instances=self.HAS_INSTANCES)

  def _shard_iterators_per_split(self, dl_manager):
    tree, splits = self.check_raw(dl_manager.manual_dir)

    def write(examples):
      return generate_features(tree, examples, self.HAS_INSTANCES)

    return {split: records.shards(examples, write) for split, examples in splits.items()}


def generate_features(
  tree: Tree, examples: Iterable[CheckedExample], instances: bool = False
) -> Iterator[tuple[str, dict]]:
  """Yields (name, features) for TFDS; RGB images keep the bytes of their files."""
  for example in examples:
    content = tree.read(example.image)
    with raw_images.open_image(tree, example.image, content) as image:
      encoded = content if image.mode == 'RGB' else image.convert('RGB')
    features = {'image': encoded, 'label': example.label, 'name': example.name}
    if instances:
      features['instances'] = example.instances
    yield example.name, features


def _join_first(texts, separator, count=3) -> str:
  """Joins the first few texts, and says how many more there are."""
  more = len(texts) - count
  return separator.join(texts[:count]) + (f'{separator}and {more} more' if more > 0 else '')

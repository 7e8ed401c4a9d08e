"""Pictures with label files, in a tree of files: all are looked at before any is written.

What a publisher calls its files, the modules of the data sets know. They pair them, tell how a
label file is read, and write what `check` has found to be whole.
"""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import io
from typing import NamedTuple

from absl import logging
import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from dilated_jax import progress
from dilated_jax.data import records
from dilated_jax.data.archives import Tree
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files
from dilated_jax.label_spec import IGNORE


class Pair(NamedTuple):
  """Files that belong together, as their tree names them; '' where there is none.

  Attributes:
    name: of the example.
    picture: a photograph.
    label: its labels.
    instances: its instances.
  """

  name: str
  picture: str
  label: str = ''
  instances: str = ''


class Example(NamedTuple):
  """What is stored of a pair. Labels wait in memory as PNG (Cityscapes: 100 MB), pictures don't.

  Attributes:
    name: of the example.
    picture: its file.
    label: PNG of class ids.
    instances: PNG, as the publisher has it, or None.
  """

  name: str
  picture: str
  label: bytes
  instances: bytes | None


def pngs(tree: Tree, folder: str, end: str = '.png') -> dict[str, str]:
  """Returns the files in a folder of a tree whose names have such an end, by name without it."""
  return by_name(
    (file.rpartition('/')[2].removesuffix(end), file)
    for file in tree.names()
    if file.startswith(f'{folder}/') and file.endswith(end) and '/.' not in file  # Of macOS.
  )


def by_name(files: Iterable[tuple[str, str]]) -> dict[str, str]:
  """Returns files by the name of their picture.

  Args:
    files: pairs of such a name and a file.

  Raises:
    InputError: two files have one name.
  """
  named = {}
  for name, file in files:
    if name in named:
      raise InputError(f'{named[name]} and {file} stand for the same picture; remove one of them')
    named[name] = file
  return named


def match(tree: Tree, pictures: Mapping[str, str], labels: Mapping[str, str]) -> list[Pair]:
  """Pairs pictures and labels of the same name, sorted by name.

  Args:
    tree: that holds them.
    pictures: files by name.
    labels: likewise.

  Raises:
    InputError: a file has no partner.
  """
  for files, others, missing in ((pictures, labels, 'label'), (labels, pictures, 'picture')):
    alone = [files[name] for name in sorted(files) if name not in others]
    if alone:
      raise InputError(
        f'{tree.place}: no {missing} for {len(alone)} of {len(files)} files: {_some(alone, ", ")}; '
        'get the data set again'
      )
  return [Pair(name, pictures[name], labels[name]) for name in sorted(pictures)]


def check(
  tree: Tree,
  splits: Mapping[str, list[Pair]],
  read: Callable[[Tree, Pair, tuple[int, int]], tuple[np.ndarray, bytes | None]],
  official: Mapping[str, int],
) -> dict[str, list[Example]]:
  """Looks at every file of a data set.

  Args:
    tree: that holds them.
    splits: the pairs of each split.
    read: from a tree, a pair and the height and width of its picture to class ids, uint8 (H, W),
      and the PNG of the instances, if any.
    official: how many pictures the release has in each split; other numbers are only warned of.

  Returns:
    The examples of each split.

  Raises:
    InputError: what is wrong, file by file, the first three of them.
  """
  for split, found in splits.items():
    if not found:
      raise InputError(f'{tree.place}: no {split} pictures here; get the data set again')
  examples, labeled, problems = {split: [] for split in splits}, set(), []
  work = [(split, pair) for split, found in splits.items() for pair in found]
  for split, pair in progress.track(work, what='pictures'):
    try:
      height, width = _whole(tree, pair.picture)
      ids, instances = read(tree, pair, (height, width))
      if ids.shape != (height, width):
        raise InputError(
          f'{tree.where(pair.label)}: label of {ids.shape[1]}x{ids.shape[0]} for a picture of '
          f'{width}x{height} (width x height)'
        )
      examples[split].append(Example(pair.name, pair.picture, _png(ids), instances))
      if (ids != IGNORE).any():
        labeled.add(split)
    except InputError as error:
      problems.append(str(error))
  if len(problems) > 1:
    problems.insert(0, f'{len(problems)} of {len(work)} pictures have wrong files')
  if problems:
    raise InputError(_some(problems, ' | ', 4))
  for split, found in examples.items():
    if len(found) != official[split]:
      logging.warning(
        '%s: %d %s pictures, the full release has %d: scores will not compare',
        tree.place, len(found), split, official[split],
      )  # fmt: skip
    if split not in labeled:
      logging.warning(
        '%s: the %s pictures have no labels: all their pixels are ignored, and nothing can be '
        'scored on them',
        tree.place, split,
      )  # fmt: skip
  return examples


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Writes what `check` has found to be whole."""

  VERSION = tfds.core.Version('1.0.0')
  INSTANCES = False  # Whether the data set has instance maps.

  @abc.abstractmethod
  def checked(self, folder) -> tuple[Tree, dict[str, list[Example]]]:
    """Opens the raw data set in a folder and returns it with what `check` says of its splits."""

  def _info(self):
    return records.info(self, instances=self.INSTANCES)

  def _shard_iterators_per_split(self, dl_manager):
    tree, splits = self.checked(dl_manager.manual_dir)

    def write(examples):
      return generate(tree, examples, self.INSTANCES)

    return {split: records.shards(examples, write) for split, examples in splits.items()}


def generate(
  tree: Tree, examples: Iterable[Example], instances: bool = False
) -> Iterator[tuple[str, dict]]:
  """Yields what TFDS writes, with pictures as they are stored."""
  for example in examples:
    content = tree.read(example.picture)
    with _opened(tree, example.picture, content) as picture:
      image = content if picture.mode == 'RGB' else picture.convert('RGB')
    features = {'image': image, 'label': example.label, 'name': example.name}
    if instances:
      features['instances'] = example.instances
    yield example.name, features


# Reading label files.


def read_ids(tree: Tree, file: str) -> np.ndarray:
  """Returns the numbers that a label picture stores: gray values, or indices of its palette.

  Args:
    tree: that holds it.
    file: its name in the tree.

  Returns:
    (H, W) integers; three dimensions if these are colors.

  Raises:
    InputError: the file is damaged.
  """
  content = tree.read(file)
  with _opened(tree, file, content) as picture:
    ids = np.asarray(picture)
    if picture.format == 'PNG' and picture.mode == 'L':
      ids = image_files.unstretched(ids, image_files.png_bits(content))
  return ids.astype(np.uint8) if ids.dtype == bool else ids


def read_colors(tree: Tree, file: str) -> np.ndarray:
  """Returns the colors of a label picture.

  Args:
    tree: that holds it.
    file: its name in the tree.

  Returns:
    uint8 (H, W, 3), RGB.

  Raises:
    InputError: the file is damaged, or has no colors, or transparent ones.
  """
  with _opened(tree, file, tree.read(file)) as picture:
    if picture.mode not in ('P', 'RGB', 'RGBA'):
      raise InputError(
        f'{tree.where(file)}: the labels of this data set are colors, and this is a picture of '
        f'mode {picture.mode}'
      )
    if picture.mode == 'RGBA' and picture.getextrema()[3] != (255, 255):
      raise InputError(f'{tree.where(file)}: a label picture with transparent pixels')
    return np.asarray(picture.convert('RGB'))


def _whole(tree, file) -> tuple[int, int]:
  """Returns height and width of a picture whose file is whole."""
  with _opened(tree, file, tree.read(file)) as picture:
    width, height = picture.size
    if picture.format != 'PNG':
      picture.load()
  return height, width


@contextlib.contextmanager
def _opened(tree, file, content):
  """A picture, after a look at every checksum up to its end if it is PNG; not decoded."""
  try:
    with PIL.Image.open(io.BytesIO(content)) as picture:
      if picture.format == 'PNG':
        picture.verify()
    with PIL.Image.open(io.BytesIO(content)) as picture:
      yield picture
  except InputError:
    raise
  except (*image_files.DECODING_ERRORS, PIL.Image.DecompressionBombError) as error:
    unknown = isinstance(error, PIL.UnidentifiedImageError)
    words = 'no picture at all' if unknown else ' '.join(str(error).split())[:120]
    raise tree.fail(file, f'not a whole picture ({words})') from error


def _png(ids) -> bytes:
  content = io.BytesIO()
  PIL.Image.fromarray(ids).save(content, 'PNG')
  return content.getvalue()


def _some(texts, separator, count=3) -> str:
  more = len(texts) - count
  return separator.join(texts[:count]) + (f'{separator}and {more} more' if more > 0 else '')

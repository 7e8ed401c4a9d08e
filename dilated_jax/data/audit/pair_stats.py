"""Reads one image and its label, and keeps what the checks need in a few kilobytes."""

from collections.abc import Iterator
import dataclasses
import hashlib
import pathlib

import numpy as np
from PIL import Image

from dilated_jax.data.audit.borders import edge_alignment, roughness
from dilated_jax.data.audit.findings import Issue
from dilated_jax.data.folder.label_stats import LabelStats, count_values, read_values
from dilated_jax.data.folder.pairing import Pair
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files, label_images

THUMBNAIL_SIZE = 32  # Pixels of a side; thumbnails show near duplicates.


@dataclasses.dataclass(frozen=True, eq=False)
class PairStats:
  """What the checks need of an image and its label.

  Attributes:
    name: name of the pair.
    split: split of the pair, or None.
    image: image file, or its name in a prepared data set.
    label: label file, or its name in a prepared data set.
    issues: issues of these two files.
    shape: (H, W) of the image; None if it can't be read.
    gray: whether the image has three equal channels.
    file_hash: hash of the image file; empty if there is no file.
    image_hash: hash of the image's pixels; empty if it can't be read.
    thumbnail: (32, 32) uint8, gray; None if the image can't be read.
    label_stats: values of the label; None if it can't be read.
    label_hash: hash of the label's pixels; empty if it can't be read.
    roughness: see `borders.roughness`.
  """

  name: str
  split: str | None
  image: str
  label: str
  issues: tuple[Issue, ...]
  shape: tuple[int, int] | None
  gray: bool
  file_hash: bytes
  image_hash: bytes
  thumbnail: np.ndarray | None
  label_stats: LabelStats | None
  label_hash: bytes
  roughness: float


def read_pair(pair: Pair) -> PairStats:
  """Reads an image file and its label file; issues are collected, and no error is raised."""
  issues, image, info, values, label_stats = [], None, None, None, None
  try:
    image, info = image_files.read_image_and_info(pair.image)
  except InputError as error:
    issues.append(Issue('unreadable image', str(pair.image), _reason(error, pair.image)))
  try:
    mode, palette, values = read_values(pair.label)
    label_stats = count_values(mode, palette, values)
    if _has_16_bits(pair.label):
      issues.append(Issue('16-bit label', str(pair.label), 'no value is above 255'))
  except InputError as error:
    kind = _unreadable_label_kind(pair.label)
    issues.append(Issue(kind, str(pair.label), _reason(error, pair.label)))
  if info:
    issues += _check_info(info, str(pair.image))
  if image is not None and values is not None:
    rotated = list(_check_rotated_label(pair, image, values))
    issues += rotated or _check_size_and_rotation(pair, image, info, values)
  file_hash = b'' if image is None else _hash(pair.image.read_bytes())
  return _make_stats(pair, issues, image, label_stats, values, file_hash)


def from_example(dataset: str, split: str, example: dict) -> PairStats:
  """Makes the PairStats of an example of a prepared data set, which has no files.

  Args:
    dataset: name of the data set.
    split: split of the example.
    example: 'image' uint8 (H, W, 3), 'label' uint8 (H, W) and 'name'.
  """
  path = pathlib.Path(f'{dataset} {split}', example['name'])
  pair = Pair(example['name'], path, path, split)
  values = example['label']
  label_stats = count_values('gray', None, values)
  return _make_stats(pair, [], example['image'], label_stats, values, b'')


def _make_stats(pair, issues, image, label_stats, values, file_hash):
  thumbnail = None
  if image is not None:
    gray = Image.fromarray(image).convert('L')
    size = THUMBNAIL_SIZE, THUMBNAIL_SIZE
    thumbnail = np.asarray(gray.resize(size, Image.Resampling.BOX))
    if image.min() == image.max():
      issues.append(Issue('blank image', str(pair.image), f'every value is {image.max()}'))
  return PairStats(
    name=pair.name,
    split=pair.split,
    image=str(pair.image),
    label=str(pair.label),
    issues=tuple(issues),
    shape=None if image is None else image.shape[:2],
    gray=image is not None and bool((image[..., :1] == image).all()),
    file_hash=file_hash,
    image_hash=b'' if image is None else _hash(image),
    thumbnail=thumbnail,
    label_stats=label_stats,
    label_hash=b'' if values is None else _hash(values),
    roughness=0.0 if values is None else roughness(values),
  )


def _hash(content) -> bytes:
  digest = hashlib.blake2b(digest_size=16)
  digest.update(str(np.shape(content)).encode())
  digest.update(np.ascontiguousarray(content) if isinstance(content, np.ndarray) else content)
  return digest.digest()


def _reason(error, path) -> str:
  return str(error).removeprefix(f'{path}: ')


def _unreadable_label_kind(path) -> str:
  """Returns the kind of issue of a label file that can't be read as a label."""
  try:
    with image_files.open_image(path, decode=False) as image:
      if label_images.lossy_codec(image, path):
        return 'lossy label'
      if label_images.count_frames(image) > 1:
        return 'several frames in a label'
      if image_files.label_problem(image, path):
        return 'label values above 255'
      image.load()
      if image.mode == 'F' or image.mode.startswith('I'):
        return 'label values above 255'
      return 'transparent label' if image.has_transparency_data else 'unreadable label'
  except InputError:
    return 'unreadable label'


def _has_16_bits(path) -> bool:
  with image_files.open_image(path, decode=False) as image:
    return image.mode.startswith('I')


def _check_info(info: image_files.ImageInfo, path) -> Iterator[Issue]:
  if info.transparent:
    yield Issue('transparent image', path, f'mode {info.mode}, with transparent pixels')
  elif info.mode in ('RGBA', 'LA', 'PA'):
    yield Issue('alpha channel', path, f'mode {info.mode}, opaque everywhere')
  if info.frames > 1:
    yield Issue('several frames', path, f'{info.frames} frames or pages')
  if info.bits == 16:
    yield Issue('16-bit image', path, f'mode {info.mode}')
  if info.mode == 'CMYK':
    yield Issue('print color space', path, f'mode {info.mode}')


def _check_size_and_rotation(pair, image, info, values) -> Iterator[Issue]:
  """Checks that the label has the size and the rotation of the image as a viewer shows it."""
  height, width = image.shape[:2]
  sizes = f'label {values.shape[1]}x{values.shape[0]}, image {width}x{height} (width x height)'
  if info.orientation == 1:
    if values.shape != (height, width):
      yield Issue('size mismatch', str(pair.label), sizes)
    return
  with image_files.open_image(pair.image) as stored:
    unrotated = np.asarray(stored.convert('L'))
  orientation = f'EXIF orientation {info.orientation}'
  if values.shape != (height, width):
    if values.shape == unrotated.shape:
      yield Issue('rotation mismatch', str(pair.label), f'{orientation}; {sizes}')
    else:
      yield Issue('size mismatch', str(pair.label), f'{sizes}; {orientation}')
  elif values.shape == unrotated.shape:
    rotated = np.asarray(Image.fromarray(image).convert('L'))
    if edge_alignment(unrotated, values) > edge_alignment(rotated, values):
      detail = f'{orientation}; the label fits the stored image, not the rotated one that is shown'
      yield Issue('rotation mismatch', str(pair.label), detail)


def _check_rotated_label(pair, image, values) -> Iterator[Issue]:
  """Checks a label with an EXIF orientation, which tools copy from photographs they have turned."""
  content = pair.label.read_bytes()
  if not any(mark in content for mark in (b'eXIf', b'Exif', b'EXIF', b'Orientation')):
    return
  with image_files.open_image(pair.label) as label:
    orientation = image_files.orientation_of(label)
    stored = np.asarray(label)
  size = image.shape[:2]
  if orientation == 1 or stored.shape[:2] != size:
    return
  fits = values.shape != size
  if not fits and stored.ndim == 2:
    gray = np.asarray(Image.fromarray(image).convert('L'))
    fits = edge_alignment(gray, stored) > edge_alignment(gray, values)
  if fits:
    detail = f'EXIF orientation {orientation} of the label; it fits its image without that'
    yield Issue('rotation mismatch', str(pair.label), detail)

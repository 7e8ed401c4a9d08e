"""Outputs of a frozen network for a whole data set, computed once and kept on disk.

The context module is trained on class scores of a front end that does not change (paper, section
5), so that each step costs a hundredth of what it would cost through the front end.
"""

import collections
from collections.abc import Sequence
import hashlib
import os
import pathlib

from absl import logging
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from dilated_jax import progress
from dilated_jax.files import naming, write_atomic
from dilated_jax.images.preprocessing import reflect_pad
from dilated_jax.inference import tiling
from dilated_jax.label_spec import IGNORE
from dilated_jax.models import weights_folder
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.models.segmenter import select_parts
from dilated_jax.nn import geometry
from dilated_jax.temporary import temporary_file
from dilated_jax.training import parallel


def cached_features(
  model: SegmentationModel,
  variables,
  mean,
  source: Sequence,
  folder,
  *,
  method: str = 'apply_front_end',
  with_images: bool = False,
  batch_size: int = 8,
) -> Sequence:
  """The output of a frozen network for every image, with its labels.

  Each image has the features that prediction computes for it alone. Batches need one size: beyond
  an image's own cells, up to those of the largest, features are zero and labels are 255. The
  features are kept in `folder` under a name that is a digest of the weights, the network and the
  images. When any of them changes, or the file does not match the checksum beside it, the
  features are computed again.

  Args:
    model: the frozen network.
    variables: its variables; those of other parts are ignored.
    mean: (3,) RGB, 0..255.
    source: examples with 'image' uint8 (H, W, 3) and 'label' uint8 (H, W).
    folder: path of the folder for the features.
    method: name of the model's method whose output is wanted.
    with_images: whether the examples hold the images too, as a CRF-RNN needs them.
    batch_size: number of images computed together.

  Returns:
    Examples with 'features' float32 (h, w, C), 'inside' bool (h, w), which of them are the image's
    own, and 'label' uint8 (h * stride, w * stride); if asked for, 'image' uint8 (h * stride,
    w * stride, 3). Where the features are of pixels, the stride is 1. In front of its upsampling, a
    network that pads inside may have features beyond the labels.

  Source: test.py of github.com/fyu/dilation, which crops the features to the image and pads them by
  zeros, but does so in prediction alone.
  """
  variables = select_parts(variables, model.parts)
  shapes = []
  network = (model.table, method, model.scales, str(jnp.dtype(model.dtype)), tuple(mean))
  digest = weights_folder.fingerprint(variables, repr((_FORMAT, with_images, network)))
  for index in range(len(source)):
    example = source[index]
    shapes.append(example['label'].shape)
    digest.update(repr(shapes[-1]).encode())
    digest.update(np.ascontiguousarray(example['image']))
  largest = tuple(map(max, zip(*shapes, strict=True)))
  frozen = _Frozen(model, variables, mean, method, with_images)
  path = pathlib.Path(folder) / f'features-{digest.hexdigest()[:24]}.npy'
  for process in range(jax.process_count()):
    # One host after the other: they may share the folder.
    if process == jax.process_index() and not _is_intact(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      _compute(frozen, source, shapes, largest, path, batch_size)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f'features of process {process}')
  size = frozen.padded(largest)
  if not model.full_size:  # So that all cells have labels.
    size = tuple(model.stride * n for n in frozen.cells(largest))
  own = [frozen.cells(shape) for shape in shapes]
  return _Features(np.load(path, mmap_mode='r'), source, size, own, with_images, model.stride)


_FORMAT = 'own cells, then zeros'  # Of the files: others have other names.


class _Frozen:
  """A frozen network, and how many cells it makes of an image.

  Attributes:
    whole: whether a feature depends on where the image ends, so that each image is to be computed
      by itself and not on an area of another size.
  """

  def __init__(self, model, variables, mean, method, with_images):
    self.model, self.with_images = model, with_images
    mean = jnp.asarray(mean, jnp.float32)
    # As precisely as in prediction.
    self._apply = jax.jit(lambda v, images: tiling.applied(model, v, mean, images, method))
    # On a device of this process: the others are not computing.
    self._variables = parallel.local(variables)
    table = model.table if method == '__call__' else model.front_end_table
    self.whole = geometry.depends_on_border(table)
    self.channels, self._cells = 0, {}

  def padded(self, shape) -> tuple[int, int]:
    """Height and width of whole cells that hold an image."""
    height, width = (-(-side // self.model.stride) * self.model.stride for side in shape)
    return height, width

  def cells(self, shape) -> tuple[int, int]:
    """Rows and columns of the features of an image, as prediction makes them."""
    size = self.padded(shape)
    if size not in self._cells:
      fed = (1, *(side + 2 * self.model.margin for side in size), 3)
      found = jax.eval_shape(self._apply, self._variables, jax.ShapeDtypeStruct(fed, 'uint8')).shape
      self.channels = found[-1]
      step = 1 if self.model.full_size else self.model.stride
      # A CRF-RNN refines those that have pixels.
      limit = [n // step for n in size] if self.with_images else found[1:3]
      self._cells[size] = tuple(map(min, found[1:3], limit))
    return self._cells[size]

  def features(self, images, size) -> np.ndarray:
    """Features of images that are reflected to a size, in whole cells, and its margin."""
    padded = [_pad(image, size, self.model.margin, self.model.stride) for image in images]
    return np.asarray(self._apply(self._variables, np.stack(padded)))


class _Features(Sequence):
  """Features from the file; labels and images from the source, padded to one size."""

  def __init__(self, features, source, size, own, with_images, stride):
    self._features, self._source = features, source
    self._size, self._own, self._with_images, self._stride = size, own, with_images, stride

  def __len__(self):
    return len(self._features)

  def __getitem__(self, index):
    given = self._source[index]
    rest = [(0, n - side) for n, side in zip(self._size, given['label'].shape, strict=True)]
    label = np.pad(given['label'], rest, constant_values=IGNORE)
    features = self._features[index]
    inside = np.zeros(features.shape[:2], bool)
    rows, columns = self._own[index]
    inside[:rows, :columns] = True
    example = {'features': features, 'inside': inside, 'label': label}
    if self._with_images:
      # Up to whole cells as in prediction; what lies beyond has no part in the mean field.
      image = reflect_pad(given['image'][None], 0, self._stride)[0]
      rest = [(0, n - side) for n, side in zip(self._size, image.shape)]
      example['image'] = np.pad(image, (*rest, (0, 0)))
    return example


def _compute(frozen, source, shapes, largest, path, batch_size):
  """Writes the features to `path`, under another name until all are there."""
  rows, columns = frozen.cells(largest)
  # Images that are computed together have one size, so that few programs are compiled: the largest,
  # or where that makes a difference, their own.
  groups = collections.defaultdict(list)
  for index, shape in enumerate(shapes):
    groups[frozen.padded(shape if frozen.whole else largest)].append(index)
  batches = [
    (size, indices[start : start + batch_size])
    for size, indices in groups.items()
    for start in range(0, len(indices), batch_size)
  ]
  with temporary_file(path) as partial:  # Two runs may share the folder.
    shape = (len(source), rows, columns, frozen.channels)
    features = np.lib.format.open_memmap(partial, 'w+', np.float32, shape)  # Of zeros.
    _reserve(partial)
    for size, indices in progress.track(batches, unit='batches of features'):
      images = [source[index]['image'] for index in indices]
      images += images[-1:] * (min(batch_size, len(groups[size])) - len(images))
      found = frozen.features(images, size)
      for index, one in zip(indices, found):
        height, width = frozen.cells(shapes[index])
        features[index, :height, :width] = one[:height, :width]
    features.flush()
    write_atomic(_checksum_file(path), _checksum(partial).encode())
    os.replace(partial, path)


def _reserve(path) -> None:
  """Takes the room of a file on disk: filling a mapped file on a full disk kills a process."""
  if hasattr(os, 'posix_fallocate'):
    with naming(path), open(path, 'r+b') as file:
      os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))


def _is_intact(path) -> bool:
  """Whether the features are there, as they were written."""
  if not path.exists():
    return False
  expected = _checksum_file(path)
  intact = expected.exists() and expected.read_bytes() == _checksum(path).encode()
  if not intact:
    logging.warning('%s: damaged or incomplete: the features are computed again', path)
  return intact


def _checksum_file(path):
  return path.with_suffix('.sha256')


def _checksum(path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _pad(image, size, margin, stride):
  """An image with the margin that prediction gives it, reflected up to `size` and its margin."""
  padded = reflect_pad(image[None], margin, stride)[0]
  rest = [(0, side + 2 * margin - n) for side, n in zip(size, padded.shape[:2], strict=True)]
  return np.pad(padded, (*rest, (0, 0)), mode='reflect')

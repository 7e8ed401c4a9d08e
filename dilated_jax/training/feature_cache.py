"""Outputs of a frozen network for a whole data set, computed once and kept on disk.

The context module is trained on class scores of a front end that does not change (paper, section
5), so that each step costs a hundredth of what it would cost through the front end.
"""

from collections.abc import Sequence
from fractions import Fraction
import hashlib
import os
import pathlib
import tempfile

from absl import logging
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from dilated_jax import progress
from dilated_jax.files import write_atomic
from dilated_jax.images.preprocessing import reflect_pad
from dilated_jax.inference import tiling
from dilated_jax.label_spec import IGNORE
from dilated_jax.models import weights_folder
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.models.segmenter import select_parts
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
  fill: np.ndarray | None = None,
  batch_size: int = 8,
) -> Sequence:
  """The output of a frozen network for every image, with its labels.

  All images are padded at the bottom and right to the size of the largest (images by reflection,
  labels by 255), since batches need one size. The features are kept in `folder` under a name that
  is a digest of the weights, the network and the images. When any of them changes, or the file
  does not match the checksum beside it, the features are computed again.

  Args:
    model: the frozen network.
    variables: its variables; those of other parts are ignored.
    mean: (3,) RGB, 0..255.
    source: examples with 'image' uint8 (H, W, 3) and 'label' uint8 (H, W).
    folder: path of the folder for the features.
    method: name of the model's method whose output is wanted.
    with_images: whether the examples hold the images too, as a CRF-RNN needs them.
    fill: (3,) uint8 RGB beyond the images, see `Augmentation.fill`; None reflects them.
    batch_size: number of images computed together.

  Returns:
    Examples with 'features' float32 (h, w, C) and 'label' uint8 (h * stride, w * stride), and if
    asked for 'image' uint8 (h * stride, w * stride, 3). Networks that pad inside may have features
    beyond the labels.
  """
  variables = select_parts(variables, model.parts)
  stride, shapes = model.stride, []
  network = (model.table, method, model.scales, str(jnp.dtype(model.dtype)), tuple(mean))
  network += (None if fill is None else tuple(fill.tolist()),)
  digest = weights_folder.fingerprint(variables, repr(network))
  for index in range(len(source)):
    example = source[index]
    shapes.append(example['label'].shape)
    digest.update(np.ascontiguousarray(example['image']))
  size = tuple(-(-max(sides) // stride) * stride for sides in zip(*shapes, strict=True))
  path = pathlib.Path(folder) / f'features-{digest.hexdigest()[:24]}.npy'
  for process in range(jax.process_count()):
    # One host after the other: they may share the folder.
    if process == jax.process_index() and not _is_intact(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      _compute(model, variables, mean, source, size, path, method, fill, batch_size)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f'features of process {process}')
  return _Features(np.load(path, mmap_mode='r'), source, size, with_images, fill)


class _Features(Sequence):
  """Features from the file; labels and images from the source, padded to one size."""

  def __init__(self, features, source, size, with_images, fill):
    self._features, self._source = features, source
    self._size, self._with_images, self._fill = size, with_images, fill

  def __len__(self):
    return len(self._features)

  def __getitem__(self, index):
    given = self._source[index]
    rest = [(0, n - side) for n, side in zip(self._size, given['label'].shape, strict=True)]
    label = np.pad(given['label'], rest, constant_values=IGNORE)
    example = {'features': self._features[index], 'label': label}
    if self._with_images:
      image = np.pad(given['image'], (*rest, (0, 0)), mode='edge')
      example['image'] = _filled(image, given['image'].shape, self._fill)
    return example


def random_flip(
  example: dict,
  rng: np.random.Generator,
  *,
  stride: int = 1,
  label_offset: Fraction = Fraction(0),
  image_offset: Fraction = Fraction(0),
) -> dict:
  """Mirrors every other example left to right, cell by cell.

  Of W cells, cell W - 1 - j takes the place of cell j, and pixels move with them: where cell j lies
  at pixel stride j + p, pixel x shows what was at stride (W - 1) + 2 p - x. Beyond the old borders
  that is 255 in labels, and the border pixel in images. With p = 0 the labels at 0, stride, 2
  stride, ... are mirrored among themselves; with p = (stride - 1) / 2 it is the plain flip.

  Args:
    example: of `cached_features`.
    rng: decides.
    stride: pixels between cells of the features.
    label_offset: p of the labels, see `models.upsampling.cell_offset`.
    image_offset: p of the images.

  Returns:
    The example, mirrored or not.

  Source: bin_label_data_layer.cpp of the authors' Caffe, which samples labels before it mirrors.
  """
  if rng.random() < 0.5:
    return example

  def mirrored(array, offset):
    """Each column from its mirrored place or the border next to it, and whether it has one."""
    wanted = stride * (cells - 1) + int(2 * offset) - np.arange(array.shape[1])
    columns = np.clip(wanted, 0, array.shape[1] - 1)
    return array[:, columns], wanted == columns

  cells = example['features'].shape[1]
  label, known = mirrored(example['label'], label_offset)
  label = np.where(known, label, np.uint8(IGNORE))
  found = {'features': example['features'][:, ::-1], 'label': label}
  if 'image' in example:
    found['image'], _ = mirrored(example['image'], image_offset)
  return found


def unchanged(example: dict, rng: np.random.Generator) -> dict:
  """The example as it is."""
  del rng
  return example


def _compute(model, variables, mean, source, size, path, method, fill, batch_size):
  """Writes the features to `path`, under another name until all are there."""
  mean = jnp.asarray(mean, jnp.float32)

  @jax.jit
  def features_of(variables, images):
    return tiling.applied(model, variables, mean, images, method)  # As precisely as in prediction.

  padded = tuple(side + 2 * model.margin for side in size)
  one = jax.eval_shape(features_of, variables, jax.ShapeDtypeStruct((1, *padded, 3), 'uint8'))
  # On a device of this process: the others are not computing.
  variables = parallel.local(variables)
  # A name of its own: two runs may share the folder.
  handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  os.close(handle)
  try:
    shape = (len(source), *one.shape[1:])
    features = np.lib.format.open_memmap(partial, 'w+', np.float32, shape)
    starts = range(0, len(source), batch_size)
    for start in progress.track(starts, unit='batches of features'):
      batch = [source[i]['image'] for i in range(start, min(start + batch_size, len(source)))]
      batch += batch[-1:] * (batch_size - len(batch))  # One shape, one compiled program.
      images = np.stack([_pad(image, size, model.margin, model.stride, fill) for image in batch])
      features[start : start + batch_size] = features_of(variables, images)[: len(source) - start]
    features.flush()
    write_atomic(_checksum_file(path), _checksum(partial).encode())
    os.replace(partial, path)
  except BaseException:
    os.unlink(partial)
    raise


def _is_intact(path) -> bool:
  """Whether the features are there, as they were written."""
  if not path.exists():
    return False
  expected = _checksum_file(path)
  intact = expected.exists() and expected.read_text() == _checksum(path)
  if not intact:
    logging.warning('%s: damaged or incomplete: the features are computed again', path)
  return intact


def _checksum_file(path):
  return path.with_suffix('.sha256')


def _checksum(path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _pad(image, size, margin, stride, fill):
  """An image with the margin that prediction gives it, extended up to `size` and its margin."""
  padded = reflect_pad(image[None], margin, stride)[0]
  rest = [(0, side + 2 * margin - n) for side, n in zip(size, padded.shape[:2], strict=True)]
  return _filled(np.pad(padded, (*rest, (0, 0)), mode='reflect'), image.shape, fill, margin)


def _filled(padded, shape, fill, margin=0):
  """A padded image of a color wherever the image of that shape is not; None changes nothing."""
  if fill is None:
    return padded
  inside = tuple(slice(margin, margin + side) for side in shape[:2])
  filled = np.full_like(padded, fill)
  filled[inside] = padded[inside]
  return filled

"""The front end's maps of a whole data set, computed once and kept on disk (paper, section 5).

The context module is trained on maps that do not change, so each step then costs a hundredth of
what it costs through the front end.
"""

from collections.abc import Sequence
import functools
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
from dilated_jax.images.preprocessing import reflect
from dilated_jax.label_spec import IGNORE
from dilated_jax.models import weights_folder


def cached_features(
  model,
  variables,
  mean,
  pictures: Sequence,
  folder,
  *,
  whole: bool = False,
  batch_size: int = 8,
) -> Sequence:
  """The front end's class scores of every picture, with its labels.

  All pictures are padded at the bottom and right to the size of the largest (pictures by
  reflection, labels by 255), since batches need one size. The maps are kept in `folder` under a
  name that is a digest of the weights, the network and the pictures: when any of them changes, they
  are computed anew; so they are when the file is not what was written (a checksum lies beside it).

  Args:
    model: from `models.create`.
    variables: of the whole network.
    mean: RGB mean, 0..255.
    pictures: examples with 'image' uint8 (H, W, 3) and 'label' uint8 (H, W).
    folder: where the maps are kept.
    whole: the logits of the whole network, with the pictures beside them, for a CRF-RNN.
    batch_size: pictures computed together.

  Returns:
    Examples with 'features' float32 (h, w, C) and 'label' uint8 (h * stride, w * stride), and with
    `whole` 'image' uint8 (h * stride, w * stride, 3); networks that pad inside may have features
    beyond the labels.
  """
  stride, digest, shapes = model.stride, _digest(model, variables, mean, whole), []
  for index in range(len(pictures)):
    example = pictures[index]
    shapes.append(example['label'].shape)
    digest.update(np.ascontiguousarray(example['image']))
  height, width = (-(-max(sides) // stride) * stride for sides in zip(*shapes, strict=True))
  method = '__call__' if whole else 'scores'
  fed = jax.ShapeDtypeStruct((1, height + 2 * model.margin, width + 2 * model.margin, 3), 'float32')
  one = jax.eval_shape(functools.partial(model.apply, method=method), variables, fed)
  shape = (len(pictures), *one.shape[1:])
  path = pathlib.Path(folder) / f'features-{digest.hexdigest()[:24]}.npy'
  for process in range(jax.process_count()):
    # One host after the other: they may share the folder.
    if process == jax.process_index() and not _is_whole(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      _compute(model, variables, mean, pictures, (height, width), shape, path, batch_size, method)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f'features of process {process}')
  return _Features(np.load(path, mmap_mode='r'), pictures, (height, width), whole)


class _Features(Sequence):
  def __init__(self, maps, pictures, size, images):
    self._maps, self._pictures, self._size, self._images = maps, pictures, size, images

  def __len__(self):
    return len(self._maps)

  def __getitem__(self, index):
    picture = self._pictures[index]
    rest = [(0, n - side) for n, side in zip(self._size, picture['label'].shape, strict=True)]
    label = np.pad(picture['label'], rest, constant_values=IGNORE)
    example = {'features': self._maps[index], 'label': label}
    if self._images:
      example['image'] = np.pad(picture['image'], (*rest, (0, 0)), mode='edge')
    return example


def random_flip(example: dict, rng: np.random.Generator) -> dict:
  """Turns every other example left to right, as the authors' data layer for features does."""
  if rng.random() < 0.5:
    return example
  return {name: array[:, ::-1] for name, array in example.items()}


def unchanged(example: dict, rng: np.random.Generator) -> dict:
  """The example as it is."""
  del rng
  return example


def _compute(model, variables, mean, pictures, size, shape, path, batch_size, method):
  """Writes the maps to `path`, under another name until all are there."""

  @jax.jit
  def scores(images):
    images = images.astype(jnp.float32) - jnp.asarray(mean, jnp.float32).reshape(1, 1, 1, 3)
    return model.apply(variables, images, method=method)

  # A name of its own: two runs may share the folder.
  handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  os.close(handle)
  try:
    maps = np.lib.format.open_memmap(partial, 'w+', np.float32, shape)
    starts = range(0, len(pictures), batch_size)
    for start in progress.track(starts, what='batches of feature maps'):
      batch = [pictures[i]['image'] for i in range(start, min(start + batch_size, len(pictures)))]
      batch += batch[-1:] * (batch_size - len(batch))  # One shape, one compiled program.
      images = np.stack([_fed(image, size, model.margin, model.stride) for image in batch])
      maps[start : start + batch_size] = np.asarray(scores(images))[: len(pictures) - start]
    maps.flush()
    write_atomic(_beside(path), _checksum(partial).encode())
    os.replace(partial, path)
  except BaseException:
    os.unlink(partial)
    raise


def _is_whole(path) -> bool:
  """Whether the maps are there, as they were written."""
  if not path.exists():
    return False
  beside = _beside(path)
  whole = beside.exists() and beside.read_text() == _checksum(path)
  if not whole:
    logging.warning('%s: damaged, or not finished: the maps are computed again', path)
  return whole


def _beside(path):
  return path.with_suffix('.sha256')


def _checksum(path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _fed(image, size, margin, stride):
  """A picture with the margin that prediction gives it, continued to the size of the canvas."""
  padded = reflect(image[None], margin, stride)[0]
  rest = [(0, side + 2 * margin - n) for side, n in zip(size, padded.shape[:2], strict=True)]
  return np.pad(padded, (*rest, (0, 0)), mode='reflect')


def _digest(model, variables, mean, whole):
  """A hash of the front end or the whole network, to be continued with the pictures."""
  table = model.table if whole else model.front_end_table
  network = (table, model.scales, str(jnp.dtype(model.dtype)), tuple(mean))
  parts = ('front_end', 'context') if whole else ('front_end',)
  weights = {kind: {part: tree.get(part) for part in parts} for kind, tree in variables.items()}
  return weights_folder.fingerprint(weights, repr(network))

"""Reads images, label maps and color masks from the raw files of a data set."""

import contextlib
import io

import numpy as np
import PIL.Image

from dilated_jax.data.archives import Tree
from dilated_jax.errors import InputError, one_line
from dilated_jax.images import files as image_files


def read_ids(tree: Tree, file: str) -> np.ndarray:
  """Reads the raw ids of a label image: gray values, or palette indices.

  Args:
    tree: tree of the file.
    file: name in the tree.

  Returns:
    integers (H, W), or (H, W, channels) if the file has colors.

  Raises:
    InputError: the file is damaged, or its values can't be trusted: see `image_files.read_label`.
  """
  with _open_label(tree, file) as image:
    ids = np.asarray(image)
  return ids.astype(np.uint8) if ids.dtype == bool else ids


def read_colors(tree: Tree, file: str) -> np.ndarray:
  """Reads a color mask.

  Args:
    tree: tree of the file.
    file: name in the tree.

  Returns:
    uint8 (H, W, 3), RGB.

  Raises:
    InputError: the file is damaged, is gray, or has transparent pixels; or as in `read_ids`.
  """
  with _open_label(tree, file) as image:
    if image.mode not in ('P', 'RGB', 'RGBA'):
      raise tree.error(file, f'is an image of mode {image.mode}, and labels here are color masks')
    if image.mode == 'RGBA' and image.getchannel('A').getextrema() != (255, 255):
      raise tree.error(file, 'is a label image with transparent pixels')
    return np.asarray(image.convert('RGB'))


@contextlib.contextmanager
def _open_label(tree, file):
  """Opens a label image with the values that are stored, for `with`.

  Published images and labels are both read as they are stored, without EXIF rotation.
  """
  content = tree.read(file)
  with open_image(tree, file, content) as image:
    if problem := image_files.label_problem(image, content):
      raise tree.error(file, problem)
    image.load()
    yield image_files.stored_label(image, content)


def check_image(tree: Tree, file: str) -> tuple[int, int]:
  """Returns the height and width of an image, after a check that its file is complete."""
  with open_image(tree, file, tree.read(file)) as image:
    width, height = image.size
    if image.format != 'PNG':
      image.load()
  return height, width


@contextlib.contextmanager
def open_image(tree: Tree, file: str, content: bytes):
  """Opens an image of a tree without decoding it, after a check of all checksums of a PNG.

  Args:
    tree: tree of the file, for messages.
    file: name in the tree.
    content: bytes of the file.

  Yields:
    a Pillow image.

  Raises:
    InputError: the file is damaged, or not an image.
  """
  try:
    with PIL.Image.open(io.BytesIO(content), formats=image_files.formats()) as image:
      if image.format == 'PNG':
        image.verify()
    with PIL.Image.open(io.BytesIO(content), formats=image_files.formats()) as image:
      yield image
  except InputError:
    raise
  except (*image_files.DECODING_ERRORS, PIL.Image.DecompressionBombError) as error:
    unknown = isinstance(error, PIL.UnidentifiedImageError)
    reason = 'not an image format' if unknown else one_line(error, 120)
    raise tree.error(file, f'is not a complete image ({reason})') from error
